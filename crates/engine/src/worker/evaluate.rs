//! Working out what a rule does with the messages that came.

use super::Tools;
use crate::action::PlanError;
use crate::plan::{Plan, plan_delivery};
use crate::pool::EvaluationError;
use crate::topology::Rule;
use millpond_broker::{Delivery, DeliveryId};
use millpond_events::Origin;
use std::sync::Arc;
use std::time::SystemTime;

/// Evaluations that may be lost before the rule waits for somebody: each may have cost a thread.
const LOST_MAX: u32 = 3;

/// A message with what the rule makes of it.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) id: DeliveryId,
    pub(super) delivery: Delivery,
    pub(super) plan: Result<Plan, PlanError>,
}

/// A rule's share of the pool: one batch at a time, so that a slow rule holds one thread.
#[derive(Debug)]
pub(super) struct Evaluator {
    tools: Tools,
    work: Arc<Work>,
    lost: u32,
}

#[derive(Debug)]
struct Work {
    rule: Arc<Rule>,
    queue: String,
    vhost: String,
}

impl Evaluator {
    pub(super) fn new(rule: &Arc<Rule>, tools: &Tools) -> Self {
        let (queue, vhost) = (rule.queue().as_str().to_owned(), tools.vhost.as_str().to_owned());
        let work = Work { rule: rule.clone(), queue, vhost };
        Self { tools: tools.clone(), work: Arc::new(work), lost: 0 }
    }

    /// Whether so many evaluations did not end that the rule should have no further threads.
    pub(super) fn is_harmful(&self) -> bool {
        self.lost >= LOST_MAX
    }

    pub(super) async fn evaluate(&mut self, batch: Vec<(DeliveryId, Delivery)>) -> Vec<Evaluated> {
        let work = self.work.clone();
        let now = SystemTime::now();
        let evaluate = move |(_, delivery): &(DeliveryId, Delivery)| {
            let origin = Origin { vhost: &work.vhost, queue: &work.queue, seq: delivery.seq, now };
            plan_delivery(&work.rule, delivery, origin)
        };
        let evaluated = self.tools.pool.each(batch, evaluate).await;
        let evaluated = evaluated.into_iter().map(|((id, delivery), result)| {
            self.lost += u32::from(matches!(result, Err(EvaluationError::Lost)));
            let plan = result.unwrap_or_else(|error| Err(error.into()));
            Evaluated { id, delivery, plan }
        });
        evaluated.collect()
    }
}
