//! A queue is filled while nobody consumes, then drained.

use crate::plan::Plan;
use crate::producer::Producer;
use crate::report::Tally;
use crate::run::{BenchError, Common, Progress, collect_published, collect_received, drain, start_consumers};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) async fn measure(
    plan: &Plan,
    progress: &Arc<Progress>,
    exchange: &str,
    queues: &[String],
    interrupt: watch::Receiver<bool>,
) -> Result<Tally, BenchError> {
    let (end, ended) = watch::channel(false);
    let common = Common {
        plan: Arc::new(plan.clone()),
        progress: progress.clone(),
        base: Instant::now(),
        // Who interrupts the filling gets the drain of what is there.
        stop: interrupt.clone(),
        end: ended,
    };
    let mut tally = Tally::default();
    let mut ready = Vec::new();
    for number in 0..plan.producers {
        let share = plan.count / plan.producers as u64
            + u64::from((number as u64) < plan.count % plan.producers as u64);
        let producer = Producer::start(common.clone(), exchange, &queues[number % queues.len()]).await?;
        ready.push(producer.with_limit(share));
    }
    let began = Instant::now();
    let mut producers = JoinSet::new();
    for producer in ready {
        producers.spawn(producer.run());
    }
    tally.published = collect_published(producers, &mut tally).await?;
    tally.publish = began.elapsed();

    let began = Instant::now();
    let consumers = start_consumers(&common, queues).await?;
    drain(progress, tally.published - tally.refused).await;
    tally.receive = began.elapsed();
    end.send_replace(true);
    tally.received = collect_received(consumers, &mut tally.latency).await?;
    tally.missing = (tally.published - tally.refused).saturating_sub(tally.received);
    tally.interrupted = *interrupt.borrow();
    Ok(tally)
}
