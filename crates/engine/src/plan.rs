//! What a rule does with an event, worked out in full before anything is done.

use crate::action::{Context, HOPS_MAX, PlanError, Step};
use crate::event::Event;
use crate::jq::to_val;
use crate::topology::Rule;

/// A rule's answer to an event.
#[derive(Debug)]
pub(crate) enum Plan {
    /// `when` does not hold.
    Skip,
    /// These, in this order.
    Act(Vec<Step>),
}

/// Works out what `rule` does with `event`.
pub(crate) fn plan(rule: &Rule, event: &Event) -> Result<Plan, PlanError> {
    let val = to_val(&event.json);
    if let Some(when) = &rule.when
        && !when.is_true(&val)?
    {
        return Ok(Plan::Skip);
    }
    if event.hops >= HOPS_MAX {
        return Err(PlanError::Loop { hops: event.hops });
    }
    let mut steps = Vec::with_capacity(rule.actions.len());
    for (number, action) in rule.actions.iter().enumerate() {
        let context = Context { rule, event, val: &val, number };
        steps.push(action.fill(&context)?);
    }
    Ok(Plan::Act(steps))
}
