//! What a rule makes of a message, as members that can be compared.

use crate::action::Step;
use crate::plan::{Plan, Todo, advance_delivery, plan_delivery};
use crate::topology::Rule;
use millpond_broker::Delivery;
use millpond_events::Origin;
use serde_json::{Map, Value};

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

/// Works it out; nothing is done. The outside is taken to succeed, with an answer that says nothing.
pub(crate) fn would(rule: &Rule, delivery: &Delivery, origin: Origin<'_>) -> Would {
    let (mut todo, mut progress) = match plan_delivery(rule, delivery, origin) {
        Ok(Plan::Skip) => return Would::Nothing,
        Ok(Plan::Act(act)) => (act.todo, act.progress),
        Err(error) => return Would::Fails(error.to_string()),
    };
    let mut actions = Vec::new();
    loop {
        for Todo { step, place } in todo {
            actions.push(step.facts());
            let answer = match &step {
                Step::Publish(_) => Value::Null,
                step => step.pretend(&Value::Object(Map::new())).unwrap_or_default(),
            };
            progress.done(&place, answer);
        }
        if progress.is_at_end(rule) {
            return Would::Acts(actions);
        }
        todo = match advance_delivery(rule, delivery, origin, &mut progress) {
            Ok(todo) => todo,
            Err(error) => return Would::Fails(error.to_string()),
        };
    }
}
