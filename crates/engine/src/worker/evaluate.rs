//! Working out what a rule does, on a thread of the rule's own.
//!
//! An expression can take long, and needs a deep stack; the runtime's threads serve everybody. One thread a rule, and
//! not a shared pool, so that an expression that never ends holds up its own rule only.

use super::Tools;
use crate::action::PlanError;
use crate::event::Event;
use crate::jq::STACK_BYTES;
use crate::plan::{Plan, plan};
use crate::topology::Rule;
use millpond_broker::{Delivery, DeliveryId};
use millpond_events::Origin;
use std::sync::{Arc, mpsc};
use std::time::SystemTime;
use tokio::sync::oneshot;

/// A message with what the rule makes of it.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) id: DeliveryId,
    pub(super) delivery: Delivery,
    pub(super) plan: Result<Plan, PlanError>,
}

type Batch = Vec<(DeliveryId, Delivery)>;
type Job = (Batch, oneshot::Sender<Vec<Evaluated>>);

/// The thread; it ends when this is dropped and its batch is done.
#[derive(Debug)]
pub(super) struct Evaluator(mpsc::Sender<Job>);

impl Evaluator {
    pub(super) fn start(rule: &Arc<Rule>, tools: &Tools) -> Result<Self, String> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let (rule, vhost) = (rule.clone(), tools.vhost.clone());
        let work = move || {
            let queue = rule.queue();
            for (batch, done) in jobs {
                let now = SystemTime::now();
                let evaluated = batch.into_iter().map(|(id, delivery)| {
                    let origin =
                        Origin { vhost: vhost.as_str(), queue: queue.as_str(), seq: delivery.seq, now };
                    let plan = plan(&rule, &Event::of_delivery(&delivery, origin));
                    Evaluated { id, delivery, plan }
                });
                // The rule may have been stopped meanwhile.
                let _ = done.send(evaluated.collect());
            }
        };
        let thread = std::thread::Builder::new().name("millpond-rule".into()).stack_size(STACK_BYTES);
        thread.spawn(work).map_err(|error| format!("no thread for the rule: {error}"))?;
        Ok(Self(sender))
    }

    /// One batch at a time.
    pub(super) async fn evaluate(&self, batch: Batch) -> Result<Vec<Evaluated>, String> {
        let broken = || "the evaluation of a message broke off".to_owned();
        let (done, evaluated) = oneshot::channel();
        self.0.send((batch, done)).map_err(|_| broken())?;
        evaluated.await.map_err(|_| broken())
    }
}
