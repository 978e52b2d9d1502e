//! What a rule remembers: `all_of`, `count`, `debounce`, `throttle`.

use super::action::read_actions;
use super::expression::{jq, jq_of};
use super::read::{Fields, Report, entries};
use super::trigger::{Trigger, read_bus, read_conditions};
use super::yaml::{Entry, Kind as Yaml, Node, shorten};
use crate::window::{Kind, Memory, Wanted};
use std::sync::Arc;
use std::time::Duration;

/// The keys of a rule that give it a memory.
pub(super) const KINDS: [&str; 4] = ["all_of", "count", "debounce", "throttle"];

/// Longest time that a rule waits or counts.
const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Events that `all_of` may wait for.
const WANTED_MAX: usize = 16;

/// Most events that a sliding `count` counts to; their times are kept.
const NUMBER_MAX: i64 = 10_000;

/// Reads the memory of a rule, and what `all_of` listens to.
pub(super) fn read_memory(rule: &Fields<'_>, report: &mut Report) -> (Option<Memory>, Option<Trigger>) {
    let mut kinds = KINDS.into_iter().filter(|kind| rule.get(kind).is_some());
    let Some(kind) = kinds.next() else { return (None, None) };
    if let Some(other) = kinds.next() {
        let text = format!("found both '{kind}' and '{other}', expected one of them");
        report.add(rule.line, &rule.path, text);
    }
    let (Some(node), path) = (rule.get(kind), rule.path_of(kind)) else { return (None, None) };
    if kind == "all_of" {
        return read_all_of(node, &path, report);
    }
    let read = match kind {
        "count" => read_count(node, &path, report),
        "debounce" => read_debounce(node, &path, report),
        _ => read_throttle(node, &path, report),
    };
    let memory = read.map(|(kind, by)| Memory { kind, by, wanted: Vec::new(), on_timeout: Arc::default() });
    (memory, None)
}

type Read = Option<(Kind, Option<crate::jq::Jq>)>;

/// A time that must be said. Milliseconds.
fn time(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<u64> {
    fields.required(key, &format!("'{key}': a time such as 5s, 1m, 1h or 7d"), report)?;
    let time = fields.duration(key, Duration::ZERO, TIME_MAX, report);
    (!time.is_zero()).then_some((time.as_millis() as u64).max(1))
}

fn read_count(node: &Node, path: &str, report: &mut Report) -> Read {
    let fields = Fields::read(node, path, &["at_least", "every", "within", "window", "by"], report);
    let by = jq_of(&fields, "by", report);
    let (at_least, every) = (fields.get("at_least").is_some(), fields.get("every").is_some());
    if at_least == every {
        let text = match at_least {
            true => "found both 'at_least' and 'every', expected one of them",
            false => "found neither 'at_least' nor 'every', expected one of them: a number of events",
        };
        report.add(node.line, path, text);
    }
    let key = if every { "every" } else { "at_least" };
    let number = fields.integer(key, 1, 1..=NUMBER_MAX, report);
    let within_ms = time(&fields, "within", report)?;
    let sliding = match fields.text("window", "sliding or tumbling", report) {
        None | Some("sliding") => true,
        Some("tumbling") => false,
        Some(other) => {
            let line = fields.get("window").map_or(node.line, |node| node.line);
            let text = format!("found '{}', expected sliding or tumbling", shorten(other));
            report.add(line, &fields.path_of("window"), text);
            return None;
        }
    };
    let number = u64::try_from(number).ok()?;
    (at_least != every).then_some((Kind::Count { number, every, within_ms, sliding }, by))
}

fn read_debounce(node: &Node, path: &str, report: &mut Report) -> Read {
    let fields = Fields::read(node, path, &["wait", "max", "by"], report);
    let by = jq_of(&fields, "by", report);
    let max_ms = match fields.get("max") {
        None => None,
        Some(_) => Some(time(&fields, "max", report)?),
    };
    let wait_ms = time(&fields, "wait", report)?;
    Some((Kind::Debounce { wait_ms, max_ms }, by))
}

fn read_throttle(node: &Node, path: &str, report: &mut Report) -> Read {
    let fields = Fields::read(node, path, &["every", "by"], report);
    let by = jq_of(&fields, "by", report);
    Some((Kind::Throttle { every_ms: time(&fields, "every", report)? }, by))
}

fn read_all_of(node: &Node, path: &str, report: &mut Report) -> (Option<Memory>, Option<Trigger>) {
    let known = ["bus", "events", "correlate", "within", "on_timeout"];
    let fields = Fields::read(node, path, &known, report);
    let bus = read_bus(&fields, report);
    let by = fields
        .required(
            "correlate",
            "'correlate': a jq expression that gives what the events have in common",
            report,
        )
        .and_then(|node| jq(node, &fields.path_of("correlate"), report));
    let within_ms = time(&fields, "within", report);
    let on_timeout = fields.get("on_timeout");
    let on_timeout =
        on_timeout.map(|node| read_actions(node, &fields.path_of("on_timeout"), report)).unwrap_or_default();
    let wanted = read_wanted(&fields, report);
    let (Some(bus), Some(by), Some(within_ms), Some(wanted)) = (bus, by, within_ms, wanted) else {
        return (None, None);
    };
    let mut any_of = Vec::new();
    for one in &wanted {
        if !any_of.contains(&one.conditions) {
            any_of.push(one.conditions.clone());
        }
    }
    let kind = Kind::AllOf { wanted: wanted.len(), within_ms };
    let memory = Memory { kind, by: Some(by), wanted, on_timeout: Arc::new(on_timeout) };
    (Some(memory), Some(Trigger::Events { bus, any_of }))
}

fn read_wanted(fields: &Fields<'_>, report: &mut Report) -> Option<Vec<Wanted>> {
    let expected = "'events': a mapping from names to attributes of the events that are waited for";
    let node = fields.required("events", expected, report)?;
    let path = fields.path_of("events");
    let all = entries(node, &path, "a mapping from names to attributes of events", report);
    if !(2..=WANTED_MAX).contains(&all.len()) {
        let text = format!("found {} events, expected from 2 to {WANTED_MAX}", all.len());
        report.add(node.line, &path, text);
        return None;
    }
    let wanted: Vec<_> = all.iter().map(|entry| read_one(entry, &path, report)).collect();
    wanted.into_iter().collect()
}

fn read_one(entry: &Entry, path: &str, report: &mut Report) -> Option<Wanted> {
    let path = format!("{path}.{}", entry.key);
    let is_name = entry.key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && entry.key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !is_name {
        let text = format!(
            "found the name '{}', expected letters, digits and '_', as in jq's .events.NAME",
            shorten(&entry.key)
        );
        report.add(entry.line, &path, text);
        return None;
    }
    let Yaml::Map(attributes) = &entry.value.kind else {
        report.expected(&entry.value, &path, "attributes of an event, such as {type: order.paid}");
        return None;
    };
    if attributes.is_empty() {
        report.expected(&entry.value, &path, "attributes of an event, such as {type: order.paid}");
        return None;
    }
    let conditions = read_conditions(attributes, entry.value.line, &path, report)?;
    Some(Wanted { name: entry.key.clone(), conditions })
}
