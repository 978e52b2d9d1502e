//! Rules as the file says them.

use super::action::{Doing, read_actions};
use super::expression::jq;
use super::memory::read_memory;
use super::read::{Fields, Report, entries};
use super::trigger::{Trigger, read_trigger};
use super::yaml::{Node, shorten};
use crate::action::Action;
use crate::jq::{Jq, Needs};
use crate::window::Memory;
use millpond_broker::{Binding, Destination};
use millpond_model::table::Table;
use millpond_model::{ExchangeName, QueueName};
use std::sync::Arc;
use std::time::Duration;

/// Longest name of a rule, so that the names of its queues fit. Bytes.
const RULE_NAME_MAX_BYTES: usize = 200;

/// Longest wait between attempts.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(3600);

/// Actions of a rule that wait for one target's answer at once, unless the rule says else.
const CONCURRENCY_DEFAULT: i64 = 32;

/// The same, at most: what a rule has in hand.
const CONCURRENCY_MAX: i64 = crate::worker::IN_HAND_MAX as i64;

fn all_of(actions: &[Doing]) -> impl Iterator<Item = &Doing> {
    actions.iter().flat_map(|doing| std::iter::once(doing).chain(&doing.on_error))
}

/// A rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// `FILE:LINE`.
    pub(crate) place: String,
    pub(crate) on: Trigger,
    pub(crate) when: Option<Jq>,
    /// What it remembers of earlier events.
    pub(crate) memory: Option<Memory>,
    pub(crate) actions: Arc<Vec<Doing>>,
    /// Events with the same result are acted on one after the other.
    pub(crate) order_by: Option<Jq>,
    /// Actions under way at once for one target.
    pub(crate) concurrency: usize,
    pub(crate) retry: Retry,
    /// What its expressions look at of an event.
    pub(crate) needs: Needs,
    /// As written, to see whether another file says the same.
    pub(crate) definition: Node,
}

/// How often and when a failed action is tried again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Retry {
    pub(crate) attempts_max: u32,
    pub(crate) first: Duration,
    pub(crate) factor: f64,
    pub(crate) max: Duration,
    pub(crate) jitter: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            first: Duration::from_millis(100),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.2,
        }
    }
}

impl Retry {
    /// How long to wait after `attempts` failed ones; `random` is from 0 to 1.
    pub(crate) fn wait(&self, attempts: u32, random: f64) -> Duration {
        let grown = self.first.as_secs_f64() * self.factor.powi(attempts.saturating_sub(1).min(1000) as i32);
        let spread = 1.0 + self.jitter * (2.0 * random - 1.0);
        Duration::try_from_secs_f64(grown.min(self.max.as_secs_f64()) * spread).unwrap_or(self.max)
    }
}

impl Rule {
    /// The queue it consumes.
    pub(crate) fn queue(&self) -> QueueName {
        match self.on.taken_from() {
            Some(queue) => queue.clone(),
            None => QueueName::new(&format!("rule.{}", self.name)).expect("rule names are limited"),
        }
    }

    /// What its consumer asks for.
    pub(crate) fn consume_arguments(&self) -> Table {
        match &self.on {
            Trigger::Stream(_) => [("x-stream-automatic-offset-tracking", true)].into_iter().collect(),
            // A rule holds messages as long as its attempts take: no lease of the queue's ends that.
            _ => [("x-consumer-timeout", 0)].into_iter().collect(),
        }
    }

    /// Where messages go that it cannot act on.
    pub(crate) fn parking_queue(&self) -> QueueName {
        QueueName::new(&format!("{}.failed", self.name)).expect("rule names are limited")
    }

    /// What binds its own queue.
    pub(crate) fn bindings(&self) -> Vec<Binding> {
        let bind = |source: &ExchangeName, key: &[u8], arguments: &Table| Binding {
            source: source.clone(),
            destination: Destination::Queue(self.queue()),
            key: key.into(),
            arguments: arguments.clone(),
        };
        match &self.on {
            Trigger::Events { bus, any_of } => {
                any_of.iter().map(|conditions| bind(bus, b"", conditions)).collect()
            }
            Trigger::Exchange { exchange, key, headers } => {
                vec![bind(exchange, key.as_deref().unwrap_or_default(), headers)]
            }
            Trigger::Queue(_) | Trigger::Stream(_) => Vec::new(),
        }
    }

    /// Exchanges that it publishes to, with the places that say so.
    pub(crate) fn publishes_to(&self) -> impl Iterator<Item = (&str, &ExchangeName)> {
        self.all_actions().filter_map(Action::publishes_to)
    }

    /// Files of authorities that its requests trust, with the places that say so.
    pub(crate) fn ca_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all_actions().filter_map(Action::ca_file)
    }

    /// Its actions, those of `on_error`, and those done when time is up.
    pub(crate) fn all_actions(&self) -> impl Iterator<Item = &Action> {
        let late = self.memory.iter().flat_map(|memory| all_of(&memory.on_timeout));
        all_of(&self.actions).chain(late).map(|doing| &doing.action)
    }

    /// Whether an action has a name, so that others may look at its answer.
    pub(crate) fn has_names(&self) -> bool {
        all_of(&self.actions).any(|doing| doing.name.is_some())
    }

    /// Whether an action reaches out of the broker.
    pub(crate) fn has_outside(&self) -> bool {
        all_of(&self.actions).any(|doing| !matches!(doing.action, Action::Publish(_)))
    }

    /// The rule with other actions and trigger, without condition and memory.
    pub(crate) fn acting(&self, on: Trigger, actions: &Arc<Vec<Doing>>) -> Self {
        let needs = all_of(actions).map(Doing::needs).chain(self.order_by.as_ref().map(Jq::needs)).collect();
        Self { on, when: None, memory: None, actions: actions.clone(), needs, ..self.clone() }
    }
}

pub(super) fn read_rules(node: &Node, report: &mut Report) -> Vec<Arc<Rule>> {
    let mut rules = Vec::new();
    for entry in entries(node, "rules", "a mapping from names to rules", report) {
        let path = format!("rules.{}", entry.key);
        let plain = !entry.key.is_empty()
            && entry.key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !plain || entry.key.len() > RULE_NAME_MAX_BYTES {
            let text = format!(
                "found the rule name '{}', expected letters, digits, '.', '_' and '-', at most {RULE_NAME_MAX_BYTES}",
                shorten(&entry.key)
            );
            report.add(entry.line, &path, text);
            continue;
        }
        if let Some(rule) = read_rule(&entry.key, entry.line, &entry.value, &path, report) {
            rules.push(Arc::new(rule));
        }
    }
    rules
}

fn read_rule(name: &str, line: usize, node: &Node, path: &str, report: &mut Report) -> Option<Rule> {
    let fields = Fields::read(
        node,
        path,
        &["on", "when", "all_of", "count", "debounce", "throttle", "do", "retry", "order_by", "concurrency"],
        report,
    );
    let (memory, joined) = read_memory(&fields, report);
    let on = match (fields.get("on"), fields.get("all_of")) {
        (Some(_), Some(node)) => {
            let text =
                "found 'on' beside 'all_of', expected 'all_of' alone: its events are what it listens to";
            report.add(node.line, path, text);
            None
        }
        (_, Some(_)) => joined,
        _ => {
            let on = fields.required("on", "'on': which messages it acts on", report);
            on.and_then(|node| read_trigger(node, &fields.path_of("on"), report))
        }
    };
    let when = fields.get("when").and_then(|node| jq(node, &fields.path_of("when"), report));
    let actions = match fields.required("do", "'do': a list of actions", report) {
        Some(node) => read_actions(node, &fields.path_of("do"), report),
        None => Vec::new(),
    };
    let retry = fields
        .get("retry")
        .map_or_else(Retry::default, |node| read_retry(node, &fields.path_of("retry"), report));
    let order_by = fields.get("order_by").and_then(|node| jq(node, &fields.path_of("order_by"), report));
    let late = memory.iter().flat_map(|memory| all_of(&memory.on_timeout));
    let waits = all_of(&actions).chain(late).any(|doing| doing.action.waits_for_others());
    // Files are written in batches: the more lines wait, the better.
    let default = if waits { CONCURRENCY_DEFAULT } else { CONCURRENCY_MAX };
    let concurrency = fields.integer("concurrency", default, 1..=CONCURRENCY_MAX, report) as usize;
    let conditions = [&when, &order_by].into_iter().flatten().map(Jq::needs);
    let needs = all_of(&actions).map(Doing::needs).chain(conditions).collect();
    Some(Rule {
        name: name.to_owned(),
        line,
        place: format!("{}:{line}", report.file),
        on: on?,
        when,
        memory,
        order_by,
        concurrency,
        actions: Arc::new(actions),
        retry,
        needs,
        definition: node.clone(),
    })
}

fn read_retry(node: &Node, path: &str, report: &mut Report) -> Retry {
    let default = Retry::default();
    let known = ["max_attempts", "first", "factor", "max", "jitter"];
    let fields = Fields::read(node, path, &known, report);
    Retry {
        attempts_max: fields.integer("max_attempts", default.attempts_max.into(), 1..=1000, report) as u32,
        first: fields.duration("first", default.first, RETRY_WAIT_MAX, report),
        factor: fields.number("factor", default.factor, 1.0..=100.0, report),
        max: fields.duration("max", default.max, RETRY_WAIT_MAX, report),
        jitter: fields.number("jitter", default.jitter, 0.0..=1.0, report),
    }
}
