//! Rules and sources in figures: sums for everybody, one by one for those who may see their names.

use super::write::{Page, label};
use crate::engine_door::{EngineDoor, EngineRequest};
use serde_json::Value;

/// Families as `/metrics/detailed` knows them.
const RULES: &str = "millpond_rules";
const SOURCES: &str = "millpond_sources";

/// Name of the metric, where the value stands in the engine's answer, help, whether it only grows.
type Column = (&'static str, &'static str, &'static str, bool);

static OF_RULES: &[Column] = &[
    ("millpond_rule_messages_ready", "ready", "Messages that wait for a rule", false),
    ("millpond_rule_messages_unacked", "unacked", "Messages that a rule has in hand", false),
    ("millpond_rule_messages_parked", "parked", "Messages that a rule gave up", false),
    ("millpond_rule_messages_seen_total", "seen", "Messages that a rule took", true),
    ("millpond_rule_messages_acted_total", "acted", "Messages whose actions were all done", true),
    ("millpond_rule_attempts_retried_total", "retried", "Attempts that failed and were made again", true),
    ("millpond_rule_messages_failed_total", "failed", "Messages that were given up", true),
];

static OF_SOURCES: &[Column] = &[
    ("millpond_source_events_total", "events", "Events that a source published", true),
    ("millpond_source_items_dropped_total", "dropped", "Items without a result", true),
    ("millpond_source_items_failed_total", "failed", "Items that could not become events", true),
    ("millpond_source_errors_total", "errors", "Times that a source could not look or publish", true),
];

/// The rules and sources of a moment.
#[derive(Default)]
pub(super) struct EngineFigures {
    rules: Vec<Value>,
    sources: Vec<Value>,
}

impl EngineFigures {
    /// Nothing where there is no engine, or where it has shut down.
    pub(super) async fn of(engine: Option<&dyn EngineDoor>) -> Self {
        let Some(engine) = engine else { return Self::default() };
        let list = async |request| match engine.ask(request).await {
            Ok(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        Self { rules: list(EngineRequest::Rules).await, sources: list(EngineRequest::Sources).await }
    }

    /// What names no rule and no source.
    pub(super) fn sums(&self, page: &mut Page) {
        for (kind, family, things, columns) in self.kinds() {
            if !page.wants_family(family) {
                continue;
            }
            page.lines(&format!("millpond_{kind}s"), "How many there are, by state", states(things));
            for (name, member, help, only_grows) in columns {
                let sum = things.iter().map(|it| value(it, member)).sum();
                page.one(name, help, *only_grows, "", sum);
            }
        }
    }

    /// Thing by thing.
    pub(super) fn each(&self, page: &mut Page) {
        for (kind, family, things, columns) in self.kinds() {
            if !page.wants_family(family) {
                continue;
            }
            let labels =
                |it: &Value| format!("{kind}=\"{}\"", label(it["name"].as_str().unwrap_or_default()));
            let running = things.iter().map(|it| (labels(it), u64::from(it["state"] == "running")));
            page.lines(&format!("millpond_{kind}_running"), "1: it runs", running);
            for (name, member, help, only_grows) in columns {
                let lines = things.iter().map(|it| (labels(it), value(it, member)));
                page.lines_of(name, help, *only_grows, lines);
            }
        }
    }

    fn kinds(&self) -> [(&'static str, &'static str, &[Value], &'static [Column]); 2] {
        [("rule", RULES, &self.rules, OF_RULES), ("source", SOURCES, &self.sources, OF_SOURCES)]
    }
}

fn value(thing: &Value, member: &str) -> u64 {
    thing[member].as_u64().unwrap_or_default()
}

fn states(things: &[Value]) -> impl Iterator<Item = (String, u64)> {
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for thing in things {
        *counts.entry(thing["state"].as_str().unwrap_or_default()).or_default() += 1;
    }
    counts.into_iter().map(|(state, count)| (format!("state=\"{}\"", label(state)), count))
}
