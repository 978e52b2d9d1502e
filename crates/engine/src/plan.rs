//! What a rule does with an event, worked out in full before anything is done.

use crate::action::{Context, HOPS_MAX, PlanError, Step};
use crate::event::Event;
use crate::topology::Rule;
use millpond_broker::Delivery;
use millpond_events::Origin;

/// A rule's answer to an event.
#[derive(Debug)]
pub(crate) enum Plan {
    /// `when` does not hold.
    Skip,
    /// These, in this order.
    Act(Vec<Step>),
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
        return act(rule, &Event::of_delivery(delivery, origin, rule.needs));
    }
    plan(rule, &Event::of_delivery(delivery, origin, rule.needs))
}

/// Works out what `rule` does with `event`.
pub(crate) fn plan(rule: &Rule, event: &Event) -> Result<Plan, PlanError> {
    match &rule.when {
        Some(when) if !when.is_true(&event.val)? => Ok(Plan::Skip),
        _ => act(rule, event),
    }
}

fn act(rule: &Rule, event: &Event) -> Result<Plan, PlanError> {
    if event.hops >= HOPS_MAX {
        return Err(PlanError::Loop { hops: event.hops });
    }
    let mut steps = Vec::with_capacity(rule.actions.len());
    for (number, action) in rule.actions.iter().enumerate() {
        let context = Context { rule, event, val: &event.val, number };
        steps.push(action.fill(&context)?);
    }
    Ok(Plan::Act(steps))
}
