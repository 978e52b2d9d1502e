//! What a rule makes of a message, as members that can be compared.

use crate::plan::{Plan, plan_delivery};
use crate::topology::Rule;
use millpond_broker::Delivery;
use millpond_events::Origin;
use serde_json::Value;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Would {
    /// `when` does not hold.
    Nothing,
    /// These actions, with their members.
    Acts(Vec<(String, Value)>),
    /// The message would be parked with this error.
    Fails(String),
}

/// Works it out; nothing is done.
pub(crate) fn would(rule: &Rule, delivery: &Delivery, origin: Origin<'_>) -> Would {
    match plan_delivery(rule, delivery, origin) {
        Ok(Plan::Skip) => Would::Nothing,
        Ok(Plan::Act(act)) => Would::Acts(act.todo.iter().map(|todo| todo.step.facts()).collect()),
        Err(error) => Would::Fails(error.to_string()),
    }
}
