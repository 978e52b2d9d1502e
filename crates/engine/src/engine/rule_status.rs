//! Rules as they are shown, to people and to programs.

use crate::failures::Failure;
use crate::topology::{Doing, Rule};
use crate::worker::RuleState;
use serde_json::{Value, json};

/// A rule, with its counts since the start of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: RuleState,
    /// The number of its definition, from 1; 0: it was never applied.
    pub version: u64,
    /// Messages that wait in its queue.
    pub ready: u64,
    /// Messages that it has in hand.
    pub unacked: u64,
    /// Messages in its parking queue.
    pub parked: u64,
    /// Messages taken from its queue.
    pub seen: u64,
    /// Messages whose actions were all done.
    pub acted: u64,
    /// Attempts that failed and were made again.
    pub retried: u64,
    /// Messages moved to the parking queue.
    pub failed: u64,
    /// The queue that it takes from.
    pub queue: String,
    /// Where messages go that it gives up.
    pub parking_queue: String,
    /// What it does, in its order; what it does on errors behind.
    pub actions: Vec<RuleAction>,
    /// What went wrong last.
    pub last_failure: Option<Failure>,
}

/// An action of a rule, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleAction {
    /// `publish`, `http`, ...
    pub kind: &'static str,
    /// As the file names it.
    pub name: Option<String>,
    /// The exchange that it publishes to.
    pub exchange: Option<String>,
    /// Done only if another failed.
    pub on_error: bool,
}

/// A rule with its definition.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleDetail {
    /// As in the list.
    pub status: RuleStatus,
    /// `FILE:LINE`.
    pub place: String,
    /// As YAML, by lines.
    pub definition: Vec<String>,
    /// The same as JSON.
    pub rule: Value,
    /// What went wrong last, newest first; at most 10.
    pub failures: Vec<Failure>,
}

impl RuleAction {
    pub(super) fn all_of(rule: &Rule) -> Vec<Self> {
        let shown = |doing: &Doing, on_error| Self {
            kind: doing.kind,
            name: doing.name.as_deref().map(str::to_owned),
            exchange: doing.action.publishes_to().map(|(_, exchange)| exchange.as_str().to_owned()),
            on_error,
        };
        let actions = rule.actions.iter().map(|doing| shown(doing, false));
        let failed = rule.actions.iter().flat_map(|doing| &doing.on_error).map(|doing| shown(doing, true));
        actions.chain(failed).collect()
    }
}

impl RuleStatus {
    /// For programs.
    pub fn to_json(&self) -> Value {
        let action = |it: &RuleAction| json!({"kind": it.kind, "name": it.name, "exchange": it.exchange, "on_error": it.on_error});
        json!({
            "name": self.name, "state": self.state.word(), "reason": self.state.reason(), "version": self.version,
            "ready": self.ready, "unacked": self.unacked, "parked": self.parked, "seen": self.seen,
            "acted": self.acted, "retried": self.retried, "failed": self.failed,
            "queue": self.queue, "parking_queue": self.parking_queue,
            "actions": self.actions.iter().map(action).collect::<Vec<_>>(),
            "last_failure": self.last_failure.as_ref().map(Failure::to_json),
        })
    }
}

impl RuleDetail {
    /// For programs: [`RuleStatus::to_json`] and more.
    pub fn to_json(&self) -> Value {
        let mut shown = self.status.to_json();
        shown["place"] = self.place.as_str().into();
        shown["definition"] = self.definition.join("\n").into();
        shown["rule"] = self.rule.clone();
        shown["failures"] = self.failures.iter().map(Failure::to_json).collect();
        shown
    }
}
