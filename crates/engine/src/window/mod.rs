//! Rules with memory: what they do depends on more than one event. See docs/guide/windows.md.
//!
//! - `machine`: what is remembered of each key, and what follows from an event or from time passing. Pure: no clock,
//!   no store, no broker.
//! - `record`: what is remembered as bytes, one keyed value `state/RULE/KEY` each.
//! - `look`: what of an event the machine is told, worked out with jq.
//! - `front`: the task between the rule's queue and its actions. What it remembers is committed with the ack of the
//!   event that it remembers; what it acts on goes, in the same commit, to the queue `rule.NAME.due`, whose messages
//!   the rule's actions work on as on those of any queue. So retries, parking and order are those of every rule, and a
//!   kill loses nothing and does nothing twice that a plain rule would not.

mod front;
mod look;
mod machine;
mod outgoing;
mod pretend;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use front::run;
pub(crate) use machine::Kind;
pub(crate) use pretend::{Acted, Pretended};
pub(crate) use record::{PREFIX, prefix as kept_under};

use crate::jq::Jq;
use crate::topology::{Doing, Rule, Trigger};
use millpond_model::QueueName;
use millpond_model::table::Table;
use std::sync::Arc;

/// What a rule remembers, and of what.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) kind: Kind,
    /// Gives the key whose events belong together; without it all do.
    pub(crate) by: Option<Jq>,
    /// The events that are waited for, by name; for `all_of`.
    pub(crate) wanted: Vec<Wanted>,
    /// What is done if they did not all come in time.
    pub(crate) on_timeout: Arc<Vec<Doing>>,
}

/// An event that `all_of` waits for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) name: Box<str>,
    /// Conditions on attributes, as the arguments of a binding say them.
    pub(crate) conditions: Table,
}

impl Memory {
    /// Whether what this one remembers means the same to another.
    pub(crate) fn is_readable_by(&self, other: &Self) -> bool {
        self.name() == other.name() && self.wanted == other.wanted
    }

    /// What the kind is called in the file.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::AllOf { .. } => "all_of",
            Kind::Count { .. } => "count",
            Kind::Debounce { .. } => "debounce",
            Kind::Throttle { .. } => "throttle",
        }
    }
}

/// The rule's queue of events that its actions work on.
pub(crate) fn due_queue(rule: &Rule) -> QueueName {
    QueueName::new(&format!("rule.{}.due", rule.name)).expect("rule names are limited")
}

/// The rule's queue of what did not come in time.
pub(crate) fn late_queue(rule: &Rule) -> QueueName {
    QueueName::new(&format!("rule.{}.late", rule.name)).expect("rule names are limited")
}

/// All queues from which a rule works.
pub(crate) fn worked_queues(rule: &Rule) -> Vec<QueueName> {
    std::iter::once(rule.queue()).chain(own_queues(rule)).collect()
}

/// The queues that a rule with memory has beside those of every rule.
pub(crate) fn own_queues(rule: &Rule) -> Vec<QueueName> {
    match &rule.memory {
        None => Vec::new(),
        Some(memory) if memory.on_timeout.is_empty() => vec![due_queue(rule)],
        Some(_) => vec![due_queue(rule), late_queue(rule)],
    }
}

/// The rule without memory that works on a queue with the given actions.
fn acting(rule: &Rule, queue: QueueName, actions: &Arc<Vec<Doing>>) -> Rule {
    rule.acting(Trigger::Queue(queue), actions)
}
