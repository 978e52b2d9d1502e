//! What a rule would do, shown and not done.

use crate::action::PlanError;
use crate::event::Event;
use crate::jq::with_deep_stack;
use crate::plan::{Act, Plan, Todo, plan};
use crate::topology::{Rule, Topology, did_you_mean};
use serde_json::{Value as Json, json};
use std::fmt;
use std::time::SystemTime;

/// What a rule would do with an event.
#[derive(Debug)]
pub struct DryRun {
    rule: String,
    place: String,
    has_condition: bool,
    result: Result<Plan, PlanError>,
    /// The kind of the first action that is not known yet.
    rest: Option<&'static str>,
    parking_queue: String,
}

/// Why a rule could not be tried, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// There is none of that name.
    #[error("no rule '{rule}' in the topology{guess}")]
    Missing {
        /// As asked.
        rule: String,
        /// `; did you mean 'receipt'?`, or empty.
        guess: String,
    },
    /// That it is stopped or started could not be kept.
    #[error("rule '{rule}': its state could not be kept: {reason}")]
    NotKept {
        /// Which.
        rule: String,
        /// Why.
        reason: String,
    },
    /// It takes from a queue that is not its own.
    #[error(
        "rule '{rule}' takes from queue '{queue}', which others fill: it cannot be drained; pause it, or stop who publishes"
    )]
    NotItsQueue {
        /// Which.
        rule: String,
        /// The queue.
        queue: String,
    },
    /// The bindings of its queue could not be changed.
    #[error("rule '{rule}': the bindings of its queue could not be changed: {reason}")]
    NotBound {
        /// Which.
        rule: String,
        /// Why.
        reason: String,
    },
    /// The engine has shut down.
    #[error("the engine has shut down")]
    ShutDown,
}

impl RuleError {
    pub(crate) fn missing<'r>(rule: &str, known: impl IntoIterator<Item = &'r str>) -> Self {
        Self::Missing { rule: rule.to_owned(), guess: did_you_mean(rule, known) }
    }
}

/// What a rule would do with an event, without doing it. `event` is a CloudEvent, or an object with `data`; members
/// that are missing get defaults.
pub fn dry_run(topology: &Topology, rule: &str, event: &Json) -> Result<DryRun, RuleError> {
    match topology.rule(rule) {
        Some(rule) => Ok(DryRun::of(rule, event)),
        None => Err(RuleError::missing(rule, topology.rules.iter().map(|rule| rule.name.as_str()))),
    }
}

impl DryRun {
    fn of(rule: &Rule, event: &Json) -> Self {
        let event = Event::of_json(event, SystemTime::now());
        let result = with_deep_stack(|| plan(rule, &event));
        let rest = match &result {
            Ok(Plan::Act(act)) => act.progress.next_kind(rule),
            _ => None,
        };
        Self {
            rule: rule.name.clone(),
            place: rule.place.clone(),
            has_condition: rule.when.is_some(),
            result,
            rest,
            parking_queue: rule.parking_queue().as_str().to_owned(),
        }
    }

    /// Whether the event would be acted on.
    pub fn would_act(&self) -> bool {
        matches!(self.result, Ok(Plan::Act(_)))
    }
}

impl DryRun {
    /// For programs. `result` is `acts`, `skips` or `fails`; each of the actions, as far as they are known before
    /// anything is done, is its kind with its members and the same in words; `rest` is the kind of the first that is not.
    pub fn to_json(&self) -> Json {
        let mut shown = json!({"rule": self.rule, "place": self.place, "actions": [], "rest": self.rest});
        match &self.result {
            Err(error) => {
                shown["result"] = "fails".into();
                shown["error"] = error.to_string().into();
                shown["parking_queue"] = self.parking_queue.as_str().into();
            }
            Ok(Plan::Skip) => shown["result"] = "skips".into(),
            Ok(Plan::Act(Act { todo, .. })) => {
                shown["result"] = "acts".into();
                let action = |Todo { step, .. }: &Todo| {
                    let (kind, members) = step.facts();
                    json!({"kind": kind, "members": members, "text": step.to_string()})
                };
                shown["actions"] = todo.iter().map(action).collect();
            }
        }
        shown
    }
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rule {} ({})", self.rule, self.place)?;
        match &self.result {
            Err(error) => {
                writeln!(f, "fails: {error}")?;
                write!(f, "the message would be parked in queue {}", self.parking_queue)
            }
            Ok(Plan::Skip) => write!(f, "when: does not match; nothing would be done"),
            Ok(Plan::Act(Act { todo, .. })) => {
                write!(
                    f,
                    "when: {}",
                    if self.has_condition { "matches" } else { "none, every event matches" }
                )?;
                for (number, Todo { step, .. }) in todo.iter().enumerate() {
                    write!(f, "\n{}. {step}", number + 1)?;
                }
                if let Some(kind) = self.rest {
                    let number = todo.len() + 1;
                    write!(
                        f,
                        "\n{number}. {kind}, and what follows, when the answers of those before are there"
                    )?;
                }
                Ok(())
            }
        }
    }
}
