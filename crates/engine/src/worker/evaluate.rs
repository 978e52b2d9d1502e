//! Working out what a rule does with the messages that came.

use super::{Held, Tools};
use crate::action::PlanError;
use crate::plan::{Plan, Progress, Todo, advance_delivery, plan_delivery};
use crate::pool::EvaluationError;
use crate::topology::Rule;
use millpond_broker::{Delivery, DeliveryId};
use millpond_events::Origin;
use std::sync::Arc;
use std::time::SystemTime;

/// Evaluations that may be lost before the rule waits for somebody: each may have cost a thread.
pub(crate) const LOST_MAX: u32 = 3;

/// A message with what the rule makes of it.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) id: DeliveryId,
    pub(super) delivery: Delivery,
    pub(super) plan: Result<Plan, PlanError>,
}

/// A message under way with what comes next.
pub(super) type Advanced = (Held, Result<(Vec<Todo>, Progress), PlanError>);

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

impl Work {
    fn origin(&self, delivery: &Delivery, now: SystemTime) -> Origin<'_> {
        Origin { vhost: &self.vhost, queue: &self.queue, seq: delivery.seq, now }
    }
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

    /// Works out what is done for new messages.
    pub(super) async fn evaluate(&mut self, batch: Vec<(DeliveryId, Delivery)>) -> Vec<Evaluated> {
        let (work, now) = (self.work.clone(), SystemTime::now());
        let evaluate = move |(_, delivery): &(DeliveryId, Delivery)| {
            plan_delivery(&work.rule, delivery, work.origin(delivery, now))
        };
        let evaluated = self.tools.pool.each(batch, evaluate).await;
        let evaluated = evaluated.into_iter().map(|((id, delivery), result)| {
            let plan = self.unlost(result);
            Evaluated { id, delivery, plan }
        });
        evaluated.collect()
    }

    /// Works out what comes next for messages under way.
    pub(super) async fn advance(&mut self, batch: Vec<Held>) -> Vec<Advanced> {
        let (work, now) = (self.work.clone(), SystemTime::now());
        let items: Vec<_> = batch.iter().map(|held| (held.delivery.clone(), held.progress.clone())).collect();
        let advance = move |(delivery, progress): &(Delivery, Progress)| {
            let mut progress = progress.clone();
            let origin = work.origin(delivery, now);
            let todo = advance_delivery(&work.rule, delivery, origin, &mut progress)?;
            Ok((todo, progress))
        };
        let advanced = self.tools.pool.each(items, advance).await;
        let advanced = batch.into_iter().zip(advanced).map(|(held, (_, result))| (held, self.unlost(result)));
        advanced.collect()
    }

    fn unlost<T>(&mut self, result: Result<Result<T, PlanError>, EvaluationError>) -> Result<T, PlanError> {
        self.lost += u32::from(matches!(result, Err(EvaluationError::Lost)));
        result.unwrap_or_else(|error| Err(error.into()))
    }
}
