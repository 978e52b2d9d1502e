//! What a rule does with an event: its list of actions, worked out as far as is known.
//!
//! An action is worked out when its turn comes, and so is everything behind it that does not look at answers which are
//! still to come: a rule whose actions do not look at each other's answers is worked out in full before anything is
//! done.

use crate::action::{Context, HOPS_MAX, PlanError, Step};
use crate::event::Event;
use crate::jq::Needs;
use crate::topology::{Doing, Rule};
use millpond_broker::Delivery;
use millpond_events::Origin;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A rule's answer to an event.
#[derive(Debug)]
pub(crate) enum Plan {
    /// `when` does not hold.
    Skip,
    /// This is to be done.
    Act(Act),
}

/// What is to be done for an event.
#[derive(Debug)]
pub(crate) struct Act {
    /// The steps that are known, in their order.
    pub(crate) todo: Vec<Todo>,
    /// Where to go on behind them.
    pub(crate) progress: Progress,
    /// Events of the same key are acted on one after the other.
    pub(crate) order: Option<Box<str>>,
}

/// A step of a rule.
#[derive(Debug)]
pub(crate) struct Todo {
    pub(crate) step: Step,
    pub(crate) place: Place,
}

/// Which action a step is of.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Which of its list.
    item: usize,
    /// Of the `on_error` of which, if not of `do`.
    branch: Option<usize>,
    name: Option<Arc<str>>,

    /// A part of the keys of the ledger.
    pub(crate) step: Arc<str>,
    /// The same for every attempt: event, rule, step. Empty for a publish.
    pub(crate) key: Box<str>,
    /// Tells whether the action is still the same.
    pub(crate) digest: u64,
}

/// How far a message has come in a rule's list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    next: usize,
    branch: Option<usize>,
    results: Map<String, Value>,
    error: Option<Value>,
}

impl Progress {
    fn list<'r>(&self, rule: &'r Rule) -> &'r [Doing] {
        match self.branch.and_then(|item| rule.actions.get(item)) {
            Some(failed) => &failed.on_error,
            None => &rule.actions,
        }
    }

    /// Whether nothing is left to be worked out.
    pub(crate) fn is_at_end(&self, rule: &Rule) -> bool {
        self.next >= self.list(rule).len()
    }

    /// The kind of the next action, if there is one.
    pub(crate) fn next_kind(&self, rule: &Rule) -> Option<&'static str> {
        self.list(rule).get(self.next).map(|doing| doing.kind)
    }

    /// An action has been done.
    pub(crate) fn done(&mut self, place: &Place, answer: Value) {
        if let Some(name) = &place.name {
            self.results.insert(name.to_string(), answer);
        }
    }

    /// An action has failed for good. Whether the rule says what to do then; the steps that were known are not done.
    pub(crate) fn failed(&mut self, rule: &Rule, place: &Place, reason: &str, attempts: u32) -> bool {
        self.branch_off(rule, (place.branch, place.item), reason, attempts)
    }

    fn branch_off(
        &mut self,
        rule: &Rule,
        (branch, item): (Option<usize>, usize),
        reason: &str,
        attempts: u32,
    ) -> bool {
        let Some(doing) = rule.actions.get(item).filter(|it| branch.is_none() && !it.on_error.is_empty())
        else {
            return false;
        };
        let action = doing.name.as_deref().unwrap_or(doing.kind);
        self.error = Some(json!({"message": reason, "action": action, "attempts": attempts}));
        (self.branch, self.next) = (Some(item), 0);
        true
    }
}

/// Works out what `rule` does with a message.
pub(crate) fn plan_delivery(rule: &Rule, delivery: &Delivery, origin: Origin<'_>) -> Result<Plan, PlanError> {
    // What is looked at for nothing but `when`: most messages of a rule with a condition go no further.
    if let Some(when) = &rule.when
        && !when.needs().all_of(rule.needs)
    {
        if !when.is_true(&Event::glance(delivery, origin, when.needs()))? {
            return Ok(Plan::Skip);
        }
        return begin(rule, &Event::of_delivery(delivery, origin, rule.needs));
    }
    plan(rule, &Event::of_delivery(delivery, origin, rule.needs))
}

/// Works out what `rule` does with `event`.
pub(crate) fn plan(rule: &Rule, event: &Event) -> Result<Plan, PlanError> {
    match &rule.when {
        Some(when) if !when.is_true(&event.val)? => Ok(Plan::Skip),
        _ => begin(rule, event),
    }
}

fn begin(rule: &Rule, event: &Event) -> Result<Plan, PlanError> {
    if event.hops >= HOPS_MAX {
        return Err(PlanError::Loop { hops: event.hops });
    }
    let order = match &rule.order_by {
        Some(jq) => match jq.one(&event.val)? {
            Value::String(text) => Some(text.into()),
            other => Some(other.to_string().into()),
        },
        None => None,
    };
    let mut progress = Progress::default();
    let todo = advance(rule, event, &mut progress)?;
    Ok(Plan::Act(Act { todo, progress, order }))
}

/// As [`advance`], for a message that is under way.
pub(crate) fn advance_delivery(
    rule: &Rule,
    delivery: &Delivery,
    origin: Origin<'_>,
    progress: &mut Progress,
) -> Result<Vec<Todo>, PlanError> {
    advance(rule, &Event::of_delivery(delivery, origin, rule.needs), progress)
}

/// Works out what comes next, as far as that is known, at least one step unless the list is at its end.
pub(crate) fn advance(rule: &Rule, event: &Event, progress: &mut Progress) -> Result<Vec<Todo>, PlanError> {
    let mut todo = Vec::new();
    let mut answers_to_come = false;
    let mut seen = view(rule, event, progress);
    while let Some(doing) = progress.list(rule).get(progress.next) {
        if answers_to_come && doing.needs().some_of(Needs::RESULTS) {
            break;
        }
        let event = seen.as_ref().unwrap_or(event);
        let place = (progress.branch, progress.next);
        match fill(rule, doing, event) {
            Ok(Some(step)) => {
                let mut key = Box::default();
                if !matches!(step, Step::Publish(_)) {
                    answers_to_come |= doing.name.is_some();
                    key = Context { rule, event, val: &event.val, step: &doing.step }.step_id().into();
                }
                let (branch, item) = place;
                let (name, step_id) = (doing.name.clone(), doing.step.clone());
                let place = Place { item, branch, name, step: step_id, key, digest: doing.digest };
                todo.push(Todo { step, place });
            }
            Ok(None) => {
                if let Some(name) = &doing.name {
                    progress.results.insert(name.to_string(), Value::Null);
                    seen = view(rule, event, progress);
                }
            }
            Err(error) => {
                if !progress.branch_off(rule, place, &error.to_string(), 1) {
                    return Err(error);
                }
                seen = view(rule, event, progress);
                continue;
            }
        }
        progress.next += 1;
    }
    Ok(todo)
}

/// The event with what came of the actions so far, if the rule may look at that.
fn view(rule: &Rule, event: &Event, progress: &Progress) -> Option<Event> {
    if !rule.has_names() && progress.error.is_none() {
        return None;
    }
    let mut event = event.clone();
    if rule.has_names() {
        event = event.with_member("results", &Value::Object(progress.results.clone()));
    }
    if let Some(error) = &progress.error {
        event = event.with_member("error", error);
    }
    Some(event)
}

fn fill(rule: &Rule, doing: &Doing, event: &Event) -> Result<Option<Step>, PlanError> {
    if let Some(condition) = &doing.condition
        && !condition.is_true(&event.val)?
    {
        return Ok(None);
    }
    doing.action.fill(&Context { rule, event, val: &event.val, step: &doing.step }).map(Some)
}
