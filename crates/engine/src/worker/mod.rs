//! A running rule: a task with a session of its own, which consumes the rule's queue.

mod commit;
mod evaluate;
mod held;
mod ledger;
mod order;
mod outcome;
mod outside;
pub(crate) mod parking;
mod retry;
mod vitals;

use crate::action::Step;
use crate::plan::{Act, Plan};
use crate::topology::{Rule, Trigger};
use commit::Commits;
pub(crate) use commit::{NO_PROPERTIES, parking_queue};
pub(crate) use evaluate::LOST_MAX;
use evaluate::{Evaluated, Evaluator};
use held::{Held, Now};
use ledger::Ledger;
pub(crate) use ledger::{RECORDS_PREFIX, records_under};
use millpond_broker::{
    Clock, ConsumeRequest, ConsumerId, DeliveryId, OpenSession, Outcome, Session, SessionEvent,
};
use millpond_model::ConsumerTag;
use order::Order;
use outside::Outside;
use retry::Retries;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
pub use vitals::RuleState;
pub(crate) use vitals::{Tools, Vitals, add};

/// Messages a rule has in hand, those waiting for another attempt included. While all of them wait, no others flow.
pub(crate) const IN_HAND_MAX: u32 = 1000;

/// Messages beyond, that wait for a target which is paused, hangs or is slow: the others are to flow meanwhile.
const WAITING_MAX: usize = 10_000;

/// Bytes of them.
const WAITING_MAX_BYTES: usize = 64 * 1024 * 1024;

/// The rule takes more in hand by so many at a time.
const WAITING_STEP: usize = 500;

/// Messages evaluated in one go.
const EVALUATE_MAX: usize = 256;

/// How long a rule that cannot work waits before it tries again.
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How long a rule that is stopped waits for actions that are under way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why a rule waits that lost too many evaluations.
pub(crate) const HARMFUL: &str =
    "several evaluations did not end: see its parking queue; stop and start it to go on";

/// Why a rule's work ended.
enum End {
    /// It is to stop.
    Stopped,
    /// It cannot go on now.
    Broken(String),
    /// It must not go on until somebody has looked at it.
    Harmful,
}

/// Runs a rule until `stop` says true, or until it has nothing in hand after [`Vitals::finish`] said so.
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
                tracing::error!(rule = %rule.name, reason = HARMFUL, "the rule waits");
                *vitals.state.lock() = RuleState::Waiting { reason: HARMFUL.to_owned() };
                told_to_end(&mut stop, &vitals).await;
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
        let stopped = tokio::time::timeout(TRY_AGAIN_AFTER, told_to_end(&mut stop, &vitals)).await;
        if stopped.is_ok() {
            break;
        }
    }
    *vitals.state.lock() = RuleState::Stopped;
}

/// Begins to take from the rule's queue.
pub(crate) fn consume(session: &mut Session, rule: &Rule) -> Result<ConsumerId, String> {
    let tag = format!("rule.{}", rule.name);
    let request = ConsumeRequest {
        queue: rule.queue(),
        tag: ConsumerTag::new(&tag).map_err(|error| error.to_string())?,
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch: IN_HAND_MAX,
        prefetch_shared: false,
        cookie: 0,
        channel: 0,
        arguments: rule.consume_arguments(),
    };
    session.consume(request).map_err(|error| error.to_string())
}

/// A stream remembers the place of a reader that it has seen: one comes and goes, so that a rule gets all that is
/// published when this has returned, also before its task reads. Nothing for other queues, which keep what comes.
pub(crate) fn take_place(rule: &Rule, tools: &Tools) {
    let request = OpenSession {
        login: tools.broker.internal_login(),
        vhost: tools.vhost.clone(),
        name: format!("rule {} (its place)", rule.name).into(),
    };
    if matches!(rule.on, Trigger::Stream(_))
        && let Ok(mut session) = tools.broker.open_session(request)
        && let Err(reason) = consume(&mut session, rule)
    {
        // The rule's own task tries again and says so.
        tracing::debug!(rule = %rule.name, reason, "a stream does not take a rule as its reader");
    }
}

/// Ready when the rule is to stop, or nobody is there any more to say so.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ready when the rule is to come to an end, one way or the other.
async fn told_to_end(stop: &mut watch::Receiver<bool>, vitals: &Vitals) {
    let mut finish = vitals.finish.subscribe();
    tokio::select! {
        () = told_to_stop(stop) => {}
        () = told_to_stop(&mut finish) => {}
    }
}

struct Worker<'r> {
    rule: &'r Arc<Rule>,
    vitals: &'r Arc<Vitals>,
    clock: Clock,
    session: Session,
    consumer: ConsumerId,
    evaluator: Evaluator,
    commits: Commits,
    outside: Outside,
    retries: Retries,
    order: Order,
    ledger: Ledger,
    events: Vec<SessionEvent>,
    /// Messages whose next step may begin.
    ready: VecDeque<Held>,
    /// Messages whose next steps are to be worked out.
    unknown: Vec<Held>,
    in_hand: usize,
    /// Bytes of messages that wait and that the inbox does not count.
    released_bytes: usize,
    /// Messages the consumer may have in hand beyond [`IN_HAND_MAX`].
    extra: usize,
    finishing: bool,
}

impl<'r> Worker<'r> {
    fn new(rule: &'r Arc<Rule>, tools: &Tools, vitals: &'r Arc<Vitals>) -> Result<Self, String> {
        let request = OpenSession {
            login: tools.broker.internal_login(),
            vhost: tools.vhost.clone(),
            name: format!("rule {}", rule.name).into(),
        };
        let ledger = Ledger::open(&tools.broker, rule)?;
        let mut session = tools.broker.open_session(request).map_err(|error| error.to_string())?;
        let consumer = consume(&mut session, rule)?;
        Ok(Self {
            rule,
            vitals,
            clock: tools.broker.options().clock.clone(),
            session,
            consumer,
            evaluator: Evaluator::new(rule, tools),
            commits: Commits::default(),
            outside: Outside::new(rule, tools),
            retries: Retries::default(),
            order: Order::default(),
            ledger,
            events: Vec::new(),
            ready: VecDeque::new(),
            unknown: Vec::new(),
            in_hand: 0,
            released_bytes: 0,
            extra: 0,
            finishing: false,
        })
    }

    async fn work(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        let mut finish = self.vitals.finish.subscribe();
        loop {
            if self.finishing && self.in_hand == 0 {
                return End::Stopped;
            }
            let due = self.retries.next().into_iter().chain(self.outside.due()).min();
            let wait = async move {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let Self { session, events, outside, finishing, .. } = &mut *self;
            tokio::select! {
                biased;
                () = told_to_stop(stop) => return End::Stopped,
                () = told_to_stop(&mut finish), if !*finishing => self.finish_up(),
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
            self.ready.extend(self.retries.take_due());
            self.outside.probe();
            tokio::select! {
                biased;
                () = told_to_stop(stop) => return End::Stopped,
                result = self.take_all_events() => if let Err(end) = result {
                    return end;
                },
            }
            self.make_room();
        }
    }

    /// Takes nothing new.
    fn finish_up(&mut self) {
        self.finishing = true;
        self.session.cancel(self.consumer);
    }

    /// Takes more in hand while many wait for a target.
    fn make_room(&mut self) {
        let waiting = self.outside.waiting().min(WAITING_MAX) / WAITING_STEP * WAITING_STEP;
        let extra = if self.released_bytes < WAITING_MAX_BYTES { waiting } else { waiting.min(self.extra) };
        if extra != self.extra {
            self.extra = extra;
            self.session.set_prefetch(self.consumer, IN_HAND_MAX + extra as u32);
        }
    }

    /// Deals with what the broker said, also while it was dealt with.
    async fn take_all_events(&mut self) -> Result<(), End> {
        loop {
            self.take_events().await?;
            if self.events.is_empty() && self.ready.is_empty() {
                return Ok(());
            }
        }
    }

    /// Deals with what the broker said, does what may be done, and commits what is done.
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
                SessionEvent::Committed { result, token } => {
                    self.commits.committed(token);
                    if let Err(error) = result {
                        return Err(End::Broken(format!("a commit failed: {error}")));
                    }
                }
                SessionEvent::Shutdown => return Err(End::Broken("the broker shuts down".to_owned())),
                SessionEvent::Closed { reason } => return Err(End::Broken(reason.to_string())),
                // What is under way goes on, and its end settles the later delivery too, if that came here.
                SessionEvent::Drain | SessionEvent::Reply { .. } | SessionEvent::LeasesEnded { .. } => {}
            }
        }
        if !fresh.is_empty() {
            add(&self.vitals.seen, fresh.len() as u64);
            self.in_hand += fresh.len();
        }
        let mut fresh = fresh.into_iter();
        loop {
            let batch: Vec<_> = fresh.by_ref().take(EVALUATE_MAX).collect();
            let last = batch.is_empty();
            if !last {
                for evaluated in self.evaluator.evaluate(batch).await {
                    self.begin(evaluated);
                }
            }
            self.advance().await?;
            if last {
                return Ok(());
            }
        }
    }

    /// Does what may be done, and commits what is done.
    async fn advance(&mut self) -> Result<(), End> {
        loop {
            self.ready.extend(self.commits.take_committed());
            while let Some(held) = self.ready.pop_front() {
                self.proceed(held);
            }
            self.commit().await?;
            if self.unknown.is_empty() {
                break;
            }
            let unknown = std::mem::take(&mut self.unknown);
            for (mut held, result) in self.evaluator.advance(unknown).await {
                match result {
                    Ok((todo, progress)) => {
                        held.todo.extend(todo);
                        held.progress = progress;
                        self.ready.push_back(held);
                    }
                    Err(error) => self.give_up(held, &error),
                }
            }
        }
        if self.evaluator.is_harmful() { Err(End::Harmful) } else { Ok(()) }
    }

    fn begin(&mut self, Evaluated { id, delivery, plan }: Evaluated) {
        let record = self.ledger.take(id.seq, delivery.redelivered);
        match plan {
            Ok(Plan::Skip) => {
                self.in_hand -= 1;
                self.commits.settle(id, delivery.message.size_bytes(), record.keys);
            }
            Err(error) => self.park(id, &delivery, 1, &error, delivery.message.size_bytes(), record),
            Ok(Plan::Act(Act { todo, progress, order })) => {
                let held = Held {
                    id,
                    delivery,
                    now: None,
                    todo: todo.into(),
                    progress,
                    publishes: Vec::new(),
                    record,
                    unrecorded: None,
                    attempts: 0,
                    order,
                    released: false,
                };
                self.ready.extend(self.order.enter(held));
            }
        }
    }

    /// Does what comes next: each action in its turn, and publishes and ack at the end.
    fn proceed(&mut self, mut held: Held) {
        while held.now.is_none() {
            let Some(todo) = held.todo.pop_front() else { break };
            if let Step::Publish(step) = todo.step {
                held.progress.done(&todo.place, serde_json::Value::Null);
                held.publishes.push((step, todo.place));
            } else if let Some(answer) = held.record.answer(&todo.place) {
                held.progress.done(&todo.place, answer);
            } else {
                held.now = Some(Now { step: Arc::new(todo.step), place: todo.place });
            }
        }
        if held.now.is_some() {
            return self.start(held, false);
        }
        match held.progress.is_at_end(self.rule) {
            true => self.end(held),
            false => self.unknown.push(held),
        }
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
                    Ok((held, Ok(answer))) => self.keep(held, answer),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            // What is not committed is handed out again.
            let _ = self.commit().await;
            while self.commits.is_busy() {
                let Self { session, events, .. } = &mut *self;
                poll_fn(|cx| session.poll_events(cx, events)).await;
                for event in std::mem::take(&mut self.events) {
                    match event {
                        SessionEvent::Committed { token, .. } => self.commits.committed(token),
                        SessionEvent::Closed { .. } => return,
                        _ => {}
                    }
                }
            }
        };
        let _ = tokio::time::timeout(STOP_GRACE, all).await;
    }

    /// Keeps what was done for a message that goes back to the queue, or lets it end if it was the last.
    fn keep(&mut self, mut held: Held, answer: serde_json::Value) {
        let Some(Now { place, .. }) = held.now.take() else { return };
        let answer = ledger::bounded(answer);
        let entry = ledger::entry(self.rule, &held, &place, &answer);
        let is_publish = |todo: &crate::plan::Todo| matches!(todo.step, Step::Publish(_));
        if !held.progress.is_at_end(self.rule) || !held.todo.iter().all(is_publish) {
            return self.commits.keep(entry);
        }
        held.unrecorded = Some(entry);
        self.proceed(held);
    }
}

/// What the deliveries of a batch become.
pub(crate) type Settle = (DeliveryId, Outcome);
