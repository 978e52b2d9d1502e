//! What a rule makes of a message, as members that can be compared.

use crate::action::{PlanError, Step};
use crate::event::Event;
use crate::plan::{Plan, Progress, Todo, advance, advance_delivery, plan, plan_delivery};
use crate::topology::Rule;
use millpond_broker::Delivery;
use millpond_events::Origin;
use serde_json::{Map, Value};

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Would {
    /// `when` does not hold, or what it remembers leads to nothing yet.
    Nothing,
    /// These actions, with their members.
    Acts(Vec<(String, Value)>),
    /// The message would be parked with this error.
    Fails(String),
}

impl Would {
    /// This, then that. A failure stands for both.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Acts(mut all), Self::Acts(more)) => {
                all.extend(more);
                Self::Acts(all)
            }
            (Self::Nothing, other) => other,
            (it, Self::Nothing) | (it @ Self::Fails(_), _) => it,
            (_, failed) => failed,
        }
    }
}

/// Works it out; nothing is done. The outside is taken to succeed, with an answer that says nothing.
pub(crate) fn would(rule: &Rule, delivery: &Delivery, origin: Origin<'_>) -> Would {
    let begun = plan_delivery(rule, delivery, origin);
    through(rule, begun, |progress| advance_delivery(rule, delivery, origin, progress))
}

/// The same with an event.
pub(super) fn would_with(rule: &Rule, event: &Event) -> Would {
    through(rule, plan(rule, event), |progress| advance(rule, event, progress))
}

fn through(
    rule: &Rule,
    begun: Result<Plan, PlanError>,
    mut on: impl FnMut(&mut Progress) -> Result<Vec<Todo>, PlanError>,
) -> Would {
    let (mut todo, mut progress) = match begun {
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
        todo = match on(&mut progress) {
            Ok(todo) => todo,
            Err(error) => return Would::Fails(error.to_string()),
        };
    }
}
