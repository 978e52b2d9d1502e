//! A run: the stage is built, producers and consumers work, the stage is removed.

use crate::consumer::{Consumer, Received};
use crate::histogram::Histogram;
use crate::plan::{BadPlan, Plan, Scenario};
use crate::producer::{Producer, Published};
use crate::report::{Report, Tally};
use crate::stage::Stage;
use crate::{backlog, pingpong};
use millpond_amqp_client::{ClientError, ConnectError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long deliveries are waited for after the last publish while none comes.
pub(crate) const DRAIN_IDLE: Duration = Duration::from_secs(2);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// It makes no sense.
    #[error(transparent)]
    Plan(#[from] BadPlan),
    /// No broker.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A connection broke, or the broker refused something.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A channel was closed in the middle.
    #[error("the broker closed the channel of a {who}: {code} {text}")]
    Channel {
        /// `producer`
        who: &'static str,
        /// The reply code.
        code: u16,
        /// The reply text.
        text: String,
    },
    /// A message that this run has not sent.
    #[error("a message came that is none of this run's: {reason}")]
    Foreign {
        /// Why.
        reason: &'static str,
    },
    /// A task of ours failed.
    #[error("a part of the run failed: {0}")]
    Task(String),
}

/// How far a run is, for whoever watches: cheap to write, cheap to read.
#[derive(Debug, Default)]
pub struct Progress {
    pub(crate) published: AtomicU64,
    pub(crate) received: AtomicU64,
}

impl Progress {
    /// Messages published so far.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Messages received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// What every party of a run knows.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) plan: Arc<Plan>,
    pub(crate) progress: Arc<Progress>,
    /// Times count from here.
    pub(crate) base: Instant,
    /// Nobody publishes any more.
    pub(crate) stop: watch::Receiver<bool>,
    /// Nobody consumes any more.
    pub(crate) end: watch::Receiver<bool>,
}

impl Common {
    pub(crate) fn now_ns(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }
}

/// Carries a plan out. When `interrupt` says true, publishing ends and what was measured so far is the report. What
/// was made on the broker is removed in any case.
pub async fn run(
    plan: &Plan,
    progress: &Arc<Progress>,
    interrupt: watch::Receiver<bool>,
) -> Result<Report, BenchError> {
    plan.check()?;
    let mut stage = Stage::build(plan).await?;
    let product = stage.product().to_owned();
    let (exchange, queues) = (stage.exchange.clone(), stage.queues.clone());
    let work = async {
        match plan.scenario {
            Scenario::PingPong => pingpong::measure(plan, progress, &queues[0], interrupt).await,
            Scenario::Backlog => backlog::measure(plan, progress, &exchange, &queues, interrupt).await,
            _ => throughput(plan, progress, &exchange, &queues, interrupt).await,
        }
    };
    let tally = tokio::select! {
        tally = work => tally,
        error = stage.idle() => Err(error),
    };
    stage.remove().await;
    Ok(tally?.report(plan, &product))
}

/// Producers and consumers at once.
async fn throughput(
    plan: &Plan,
    progress: &Arc<Progress>,
    exchange: &str,
    queues: &[String],
    mut interrupt: watch::Receiver<bool>,
) -> Result<Tally, BenchError> {
    let (stop, stopped) = watch::channel(false);
    let (end, ended) = watch::channel(false);
    let common = Common {
        plan: Arc::new(plan.clone()),
        progress: progress.clone(),
        base: Instant::now(),
        stop: stopped,
        end: ended,
    };
    let mut consumers = start_consumers(&common, queues).await?;
    let mut producers = start_producers(&common, exchange, queues).await?;
    let began = Instant::now();
    let mut tally = Tally::default();
    tokio::select! {
        () = tokio::time::sleep(plan.duration) => {}
        _ = interrupt.wait_for(|it| *it) => tally.interrupted = true,
        Some(early) = producers.join_next() => return Err(early_end(early)),
        Some(early) = consumers.join_next() => return Err(early_end(early)),
    }
    // Both are counted up to the same moment; what comes later is not lost, but not of this time either.
    tally.publish = began.elapsed();
    tally.receive = tally.publish;
    (tally.published, tally.received) = (progress.published(), progress.received());
    stop.send_replace(true);
    let published = collect_published(producers, &mut tally).await?;
    drain(progress, published * plan.copies()).await;
    end.send_replace(true);
    let received = collect_received(consumers, &mut tally.latency).await?;
    tally.missing = (published * plan.copies()).saturating_sub(received + tally.refused * plan.copies());
    Ok(tally)
}

fn early_end<T>(ended: Result<Result<T, BenchError>, tokio::task::JoinError>) -> BenchError {
    match ended {
        Ok(Ok(_)) => BenchError::Task("it ended too early".to_owned()),
        Ok(Err(error)) => error,
        Err(error) => BenchError::Task(error.to_string()),
    }
}

/// Waits until that many came, or none comes any more.
pub(crate) async fn drain(progress: &Progress, wanted: u64) {
    let (mut last, mut since) = (progress.received(), Instant::now());
    while last < wanted {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = progress.received();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > DRAIN_IDLE {
            return;
        }
    }
}

pub(crate) type Consumers = JoinSet<Result<Received, BenchError>>;
pub(crate) type Producers = JoinSet<Result<Published, BenchError>>;

pub(crate) async fn start_consumers(common: &Common, queues: &[String]) -> Result<Consumers, BenchError> {
    let mut set = JoinSet::new();
    for number in 0..common.plan.consumers {
        let queue = &queues[number % queues.len()];
        let consumer = Consumer::start(common.clone(), queue).await?;
        set.spawn(consumer.run());
    }
    Ok(set)
}

pub(crate) async fn start_producers(
    common: &Common,
    exchange: &str,
    queues: &[String],
) -> Result<Producers, BenchError> {
    let mut ready = Vec::new();
    for number in 0..common.plan.producers {
        let key = &queues[number % queues.len()];
        ready.push(Producer::start(common.clone(), exchange, key).await?);
    }
    let mut set = JoinSet::new();
    for producer in ready {
        set.spawn(producer.run());
    }
    Ok(set)
}

/// How many were published in all.
pub(crate) async fn collect_published(mut set: Producers, tally: &mut Tally) -> Result<u64, BenchError> {
    let mut published = 0;
    while let Some(ended) = set.join_next().await {
        let one = ended.map_err(|error| BenchError::Task(error.to_string()))??;
        published += one.published;
        tally.confirmed += one.confirmed;
        tally.refused += one.refused;
        tally.confirm_latency.add(&one.latency);
    }
    Ok(published)
}

/// How many were received in all.
pub(crate) async fn collect_received(mut set: Consumers, latency: &mut Histogram) -> Result<u64, BenchError> {
    let mut received = 0;
    while let Some(ended) = set.join_next().await {
        let one = ended.map_err(|error| BenchError::Task(error.to_string()))??;
        received += one.received;
        latency.add(&one.latency);
    }
    Ok(received)
}
