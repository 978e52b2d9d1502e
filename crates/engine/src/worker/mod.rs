//! A running rule: a task with a session of its own, which consumes the rule's queue.

mod commit;
mod evaluate;
mod outside;
pub(crate) mod parking;
mod retry;

use crate::action::{ActionTools, Answer, PublishStep, Step};
use crate::plan::Plan;
use crate::pool::Pool;
use crate::topology::Rule;
use commit::Commits;
pub(crate) use commit::parking_queue;
use evaluate::{Evaluated, Evaluator};
use millpond_broker::{
    Broker, ConsumeRequest, ConsumerId, Delivery, DeliveryId, OpenSession, Outcome, Session, SessionEvent,
};
use millpond_model::{ConsumerTag, VhostName};
use outside::Outside;
use parking_lot::Mutex;
use retry::Retries;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Messages a rule has in hand, those waiting for another attempt included. While all of them wait, no others flow.
pub(crate) const IN_HAND_MAX: u32 = 1000;

/// Messages evaluated in one go.
const EVALUATE_MAX: usize = 256;

/// How long a rule that cannot work waits before it tries again.
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How long a rule that is stopped waits for actions that are under way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What a rule is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleState {
    /// It acts.
    Running,
    /// It was stopped; its queue collects.
    Stopped,
    /// It was paused: it takes no more messages, and finishes those in hand.
    Pausing,
    /// It was paused, and has nothing in hand; its queue collects.
    Paused,
    /// Nothing new comes to its queue; what is there is worked off.
    Draining,
    /// It was drained: its queue is empty, and nothing comes.
    Drained,
    /// It cannot act now and tries again by itself.
    Waiting {
        /// What for.
        reason: String,
    },
}

impl std::fmt::Display for RuleState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running => f.pad("running"),
            Self::Stopped => f.pad("stopped"),
            Self::Pausing => f.pad("pausing"),
            Self::Paused => f.pad("paused"),
            Self::Draining => f.pad("draining"),
            Self::Drained => f.pad("drained"),
            Self::Waiting { reason } => write!(f, "waiting: {reason}"),
        }
    }
}

/// What others see of a rule.
#[derive(Debug)]
pub(crate) struct Vitals {
    pub(crate) state: Mutex<RuleState>,
    /// It is to take no more messages, and to end when it has finished those in hand.
    pub(crate) finish: watch::Sender<bool>,
    pub(crate) seen: AtomicU64,
    pub(crate) acted: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            state: Mutex::new(RuleState::Stopped),
            finish: watch::Sender::new(false),
            seen: AtomicU64::new(0),
            acted: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// What every rule works with.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) broker: Broker,
    pub(crate) vhost: VhostName,
    pub(crate) actions: ActionTools,
    pub(crate) data_dir: Arc<std::path::Path>,
    pub(crate) pool: Pool,
}

/// A message that the rule has in hand.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: DeliveryId,
    pub(crate) delivery: Delivery,
    /// What is still to be done on the outside, the next first.
    pub(crate) outside: std::collections::VecDeque<Arc<Step>>,
    /// What is published at the end.
    pub(crate) publishes: Vec<PublishStep>,
    /// How many failed.
    pub(crate) attempts: u32,
}

/// Why a rule's work ended.
enum End {
    /// It is to stop.
    Stopped,
    /// It cannot go on now.
    Broken(String),
    /// It must not go on until somebody has looked at it.
    Harmful,
}

/// Runs a rule until `stop` says true.
pub(crate) async fn run(rule: Arc<Rule>, tools: Tools, vitals: Arc<Vitals>, mut stop: watch::Receiver<bool>) {
    loop {
        if *vitals.finish.borrow() {
            // What it had in hand it has lost.
            break;
        }
        let worker = match Worker::new(&rule, &tools, &vitals) {
            Ok(worker) => Ok(worker),
            Err(reason) => Err(End::Broken(reason)),
        };
        let end = match worker {
            Ok(mut worker) => {
                *vitals.state.lock() = RuleState::Running;
                let end = worker.work(&mut stop).await;
                worker.finish().await;
                end
            }
            Err(end) => end,
        };
        match end {
            End::Stopped => break,
            End::Harmful => {
                let reason =
                    "several evaluations did not end: see its parking queue; stop and start it to go on";
                tracing::error!(rule = %rule.name, reason, "the rule waits");
                *vitals.state.lock() = RuleState::Waiting { reason: reason.to_owned() };
                told_to_stop(&mut stop).await;
                break;
            }
            End::Broken(reason) => {
                let known = *vitals.state.lock() == RuleState::Waiting { reason: reason.clone() };
                if !known {
                    tracing::warn!(rule = %rule.name, %reason, "the rule waits");
                }
                *vitals.state.lock() = RuleState::Waiting { reason };
            }
        }
        let stopped = tokio::time::timeout(TRY_AGAIN_AFTER, told_to_stop(&mut stop)).await;
        if stopped.is_ok() {
            break;
        }
    }
    *vitals.state.lock() = RuleState::Stopped;
}

/// Ready when the rule is to stop, or nobody is there any more to say so.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

struct Worker<'r> {
    rule: &'r Arc<Rule>,
    vitals: &'r Arc<Vitals>,
    session: Session,
    /// None: it takes no more.
    consumer: Option<ConsumerId>,
    evaluator: Evaluator,
    commits: Commits,
    outside: Outside,
    retries: Retries,
    events: Vec<SessionEvent>,
}

impl<'r> Worker<'r> {
    fn new(rule: &'r Arc<Rule>, tools: &Tools, vitals: &'r Arc<Vitals>) -> Result<Self, String> {
        let request = OpenSession {
            login: tools.broker.internal_login(),
            vhost: tools.vhost.clone(),
            name: format!("rule {}", rule.name).into(),
        };
        let mut session = tools.broker.open_session(request).map_err(|error| error.to_string())?;
        let tag = format!("rule.{}", rule.name);
        let consume = ConsumeRequest {
            queue: rule.queue(),
            tag: ConsumerTag::new(&tag).map_err(|error| error.to_string())?,
            no_ack: false,
            exclusive: false,
            priority: 0,
            prefetch: IN_HAND_MAX,
            prefetch_shared: false,
            cookie: 0,
            arguments: rule.consume_arguments(),
        };
        let consumer = session.consume(consume).map_err(|error| error.to_string())?;
        Ok(Self {
            consumer: Some(consumer),
            rule,
            vitals,
            session,
            evaluator: Evaluator::new(rule, tools),
            commits: Commits::default(),
            outside: Outside::new(rule, tools),
            retries: Retries::default(),
            events: Vec::new(),
        })
    }

    async fn work(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        let mut finish = self.vitals.finish.subscribe();
        loop {
            if self.consumer.is_none() && self.outside.is_idle() && self.retries.next().is_none() {
                return End::Stopped;
            }
            let takes = self.consumer.is_some();
            let due = self.retries.next();
            let wait = async move {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let Self { session, events, outside, consumer, .. } = &mut *self;
            tokio::select! {
                biased;
                () = told_to_stop(stop) => return End::Stopped,
                _ = finish.wait_for(|finish| *finish), if takes => {
                    if let Some(consumer) = consumer.take() {
                        session.cancel(consumer);
                    }
                }
                done = outside.next() => match done {
                    Ok((held, result)) => self.outside_done(held, result),
                    Err(reason) => return End::Broken(reason),
                },
                () = wait => {}
                () = poll_fn(|cx| session.poll_events(cx, events)) => {}
            }
            while let Some(done) = self.outside.try_next() {
                match done {
                    Ok((held, result)) => self.outside_done(held, result),
                    Err(reason) => return End::Broken(reason),
                }
            }
            for held in self.retries.take_due() {
                self.proceed(held);
            }
            tokio::select! {
                biased;
                () = told_to_stop(stop) => return End::Stopped,
                result = self.take_all_events() => if let Err(end) = result {
                    return end;
                },
            }
        }
    }

    /// Deals with what the broker said, also while it was dealt with.
    async fn take_all_events(&mut self) -> Result<(), End> {
        self.take_events().await?;
        while !self.events.is_empty() {
            self.take_events().await?;
        }
        Ok(())
    }

    /// Deals with what the broker said, and commits what is done.
    async fn take_events(&mut self) -> Result<(), End> {
        let mut fresh = Vec::new();
        for event in std::mem::take(&mut self.events) {
            match event {
                SessionEvent::Deliveries(deliveries) => {
                    for delivery in deliveries.items {
                        let id = DeliveryId { queue: deliveries.queue, seq: delivery.seq };
                        fresh.push((id, delivery));
                    }
                }
                SessionEvent::ConsumerCancelled { queue, .. } => {
                    return Err(End::Broken(format!("queue '{queue}' was deleted")));
                }
                SessionEvent::Committed { result, .. } => {
                    self.commits.committed();
                    if let Err(error) = result {
                        return Err(End::Broken(format!("a commit failed: {error}")));
                    }
                }
                SessionEvent::Shutdown => return Err(End::Broken("the broker shuts down".to_owned())),
                SessionEvent::Closed { reason } => return Err(End::Broken(reason.to_string())),
                // What is under way goes on, and its end settles the later delivery too, if that came here.
                SessionEvent::Reply { .. } | SessionEvent::LeasesEnded { .. } => {}
            }
        }
        if !fresh.is_empty() {
            add(&self.vitals.seen, fresh.len() as u64);
        }
        let mut fresh = fresh.into_iter();
        loop {
            let batch: Vec<_> = fresh.by_ref().take(EVALUATE_MAX).collect();
            if batch.is_empty() {
                break;
            }
            for evaluated in self.evaluator.evaluate(batch).await {
                self.begin(evaluated);
            }
            self.commit().await?;
            if self.evaluator.is_harmful() {
                return Err(End::Harmful);
            }
        }
        self.commit().await
    }

    fn begin(&mut self, Evaluated { id, delivery, plan }: Evaluated) {
        match plan {
            Ok(Plan::Skip) => self.commits.settle(id, delivery.message.size_bytes()),
            Err(error) => self.park(id, &delivery, 1, &error),
            Ok(Plan::Act(steps)) => {
                let mut held =
                    Held { id, delivery, outside: Default::default(), publishes: Vec::new(), attempts: 0 };
                for step in steps {
                    match step {
                        Step::Publish(step) => held.publishes.push(step),
                        step => held.outside.push_back(Arc::new(step)),
                    }
                }
                self.proceed(held);
            }
        }
    }

    /// Does what comes next: the outside first, then publishes and ack.
    fn proceed(&mut self, held: Held) {
        if !held.outside.is_empty() {
            self.outside.start(held);
            return;
        }
        match self.commits.publish(&mut self.session, &held) {
            Ok(()) => add(&self.vitals.acted, 1),
            Err(error) if error.is_retryable() => self.failed(held, &error.to_string()),
            Err(error) => self.park(held.id, &held.delivery, held.attempts + 1, &error),
        }
    }

    fn outside_done(&mut self, held: Held, result: Answer) {
        match result {
            Ok(_) => self.proceed(held),
            Err(error) if error.is_retryable() => self.failed(held, &error.to_string()),
            Err(error) => self.park(held.id, &held.delivery, held.attempts + 1, &error),
        }
    }

    /// An attempt failed: again later, or parked.
    fn failed(&mut self, mut held: Held, reason: &str) {
        held.attempts += 1;
        if held.attempts >= self.rule.retry.attempts_max {
            return self.park(held.id, &held.delivery, held.attempts, &reason);
        }
        add(&self.vitals.retried, 1);
        let wait = self.rule.retry.wait(held.attempts, rand::random());
        let (attempts, wait_ms) = (held.attempts, wait.as_millis() as u64);
        tracing::debug!(rule = %self.rule.name, attempts, wait_ms, reason, "an action failed and is tried again");
        self.retries.put(tokio::time::Instant::now() + wait, held);
    }

    fn park(&mut self, id: DeliveryId, delivery: &Delivery, attempts: u32, reason: &dyn std::fmt::Display) {
        let reason = reason.to_string();
        tracing::warn!(rule = %self.rule.name, attempts, reason, "the rule gives a message up: it is parked");
        add(&self.vitals.failed, 1);
        let parked = parking::message(self.rule, delivery, attempts, &reason);
        self.commits.park(parked, id, delivery.message.size_bytes());
    }

    /// Commits what is done. Waits while the store takes no writes.
    async fn commit(&mut self) -> Result<(), End> {
        self.commits.commit(&mut self.session, self.rule, &mut self.events).await.map_err(End::Broken)
    }

    /// Lets actions that are under way come to their end, and keeps what they did.
    async fn finish(&mut self) {
        self.outside.close();
        let all = async {
            while self.outside.is_busy() {
                match self.outside.next().await {
                    Ok((held, Ok(_))) if held.outside.is_empty() => self.proceed(held),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
            // What is not committed is handed out again.
            let _ = self.commit().await;
        };
        let _ = tokio::time::timeout(STOP_GRACE, all).await;
    }
}

/// What the deliveries of a batch become.
pub(crate) type Settle = (DeliveryId, Outcome);
