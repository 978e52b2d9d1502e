//! One task a user and queue: holds what clients have taken and not settled, and serves those who wait, in turn.
//!
//! HTTP has no connection that deliveries could belong to, so a session of the task holds them. A request is served
//! by a consumer that lives as long as it waits, with a prefetch of what it wants and a lease for what it gets; when
//! the first deliveries come, the consumer is cancelled and the answer leaves. A delivery whose lease ends is the
//! queue's again. A task that holds nothing and is not asked ends after a while, and with it its session.

use crate::http::refusal::Refusal;
use axum::http::StatusCode;
use millpond_broker::{
    Broker, ConsumeError, ConsumeRequest, ConsumerId, Delivery, DeliveryId, Login, OpenSession, Outcome,
    QueueError, QueueRef, Session, SessionEvent,
};
use millpond_events::Origin;
use millpond_model::table::Table;
use millpond_model::{ConsumerTag, QueueName, UserName, VhostName};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Requests that wait for one queue; more are asked to come later.
const WAITING_MAX: usize = 1000;

/// Pullers of a server.
const PULLERS_MAX: usize = 10_000;

/// How long a puller lives that is not asked.
const IDLE: Duration = Duration::from_secs(60);

/// Even a request that does not wait gives a backlog this time to come from the disk.
const LOOK_MIN: Duration = Duration::from_millis(20);

type Key = (UserName, u64, VhostName, QueueName);

/// What a request wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// How long it waits for the first event.
    pub(super) wait: Duration,
    /// How many it takes at most.
    pub(super) max: usize,
    /// How long they are its own.
    pub(super) lease: Duration,
}

/// What became of receipts.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) settled: usize,
    /// Those that are not held: never given, settled before, or their lease has ended.
    pub(super) unknown: Vec<String>,
}

#[derive(Debug)]
enum Ask {
    Take(Wish, oneshot::Sender<Result<Vec<Value>, Refusal>>),
    Settle(Vec<String>, Outcome, oneshot::Sender<Settled>),
}

/// Asks a puller's task; cloning counts a reference.
#[derive(Debug, Clone)]
pub(super) struct Puller(mpsc::Sender<Ask>);

impl Puller {
    pub(super) async fn take(&self, wish: Wish) -> Result<Vec<Value>, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Ask::Take(wish, answer)).map_err(|_| busy())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(super) async fn settle(&self, receipts: Vec<String>, outcome: Outcome) -> Result<Settled, Refusal> {
        let (answer, answered) = oneshot::channel();
        match self.0.send(Ask::Settle(receipts, outcome, answer)).await {
            // It ends only when nothing is held.
            Err(mpsc::error::SendError(Ask::Settle(unknown, ..))) => Ok(Settled { settled: 0, unknown }),
            _ => answered.await.map_err(|_| gone()),
        }
    }
}

fn busy() -> Refusal {
    Refusal::too_fast(format!(
        "{WAITING_MAX} requests wait for events of this queue already: come again later"
    ))
}

fn gone() -> Refusal {
    Refusal::unavailable("the broker let go of this queue's events: ask again")
}

/// All pullers of a server.
#[derive(Debug, Default)]
pub(super) struct Pullers {
    running: Mutex<HashMap<Key, Puller>>,
}

impl Pullers {
    /// The puller of a user and queue; starts one if there is none.
    pub(super) fn find(
        &self,
        broker: &Broker,
        login: &Login,
        vhost: &VhostName,
        queue: &QueueName,
    ) -> Result<Puller, Refusal> {
        let key = (login.user.clone(), login.identity(), vhost.clone(), queue.clone());
        let mut running = self.running.lock();
        if let Some(puller) = running.get(&key).filter(|puller| !puller.0.is_closed()) {
            return Ok(puller.clone());
        }
        running.retain(|_, puller| !puller.0.is_closed());
        if running.len() >= PULLERS_MAX {
            let reason = format!("events of {PULLERS_MAX} queues are being taken already: come again later");
            return Err(Refusal::too_fast(reason));
        }
        let request = OpenSession {
            login: login.clone(),
            vhost: vhost.clone(),
            name: format!("http {} {queue}", login.user).into(),
        };
        let session = broker.open_session(request)?;
        let (sender, asks) = mpsc::channel(WAITING_MAX);
        let task = Task::new(session, vhost, queue);
        tokio::spawn(task.run(asks));
        let puller = Puller(sender);
        running.insert(key, puller.clone());
        Ok(puller)
    }

    /// The puller of a user and queue, if it runs.
    pub(super) fn known(&self, login: &Login, vhost: &VhostName, queue: &QueueName) -> Option<Puller> {
        let running = self.running.lock();
        running.get(&(login.user.clone(), login.identity(), vhost.clone(), queue.clone())).cloned()
    }
}

/// A request that waits.
#[derive(Debug)]
struct Waiting {
    wish: Wish,
    until: Instant,
    answer: oneshot::Sender<Result<Vec<Value>, Refusal>>,
}

#[derive(Debug)]
struct Task {
    session: Session,
    vhost: VhostName,
    queue: QueueName,
    /// Tells this puller's receipts from those of an earlier one.
    mark: u32,
    waiting: VecDeque<Waiting>,
    /// Serves the first of those who wait.
    consumer: Option<ConsumerId>,
    /// What is out and not settled, each with the number of its delivery: a receipt of an earlier one settles nothing.
    held: HashMap<(QueueRef, u64), u64>,
    /// When the last lease of what is held ends. Of a queue that is deleted no end of a lease is told.
    held_until: Instant,
    /// Deliveries given out.
    given: u64,
    /// What the broker said and nobody has looked at.
    told: Vec<SessionEvent>,
    /// Deliveries for the first of those who wait.
    taken: Vec<(QueueRef, Delivery)>,
    /// The broker has ended the session or the queue went; why.
    ended: Option<Ended>,
}

#[derive(Debug)]
enum Ended {
    Queue,
    Session,
}

impl Task {
    fn new(session: Session, vhost: &VhostName, queue: &QueueName) -> Self {
        Self {
            session,
            vhost: vhost.clone(),
            queue: queue.clone(),
            mark: rand::random(),
            waiting: VecDeque::new(),
            consumer: None,
            held: HashMap::new(),
            held_until: Instant::now(),
            given: 0,
            told: Vec::new(),
            taken: Vec::new(),
            ended: None,
        }
    }

    /// Until the broker ends it, or nobody has asked for a while and nothing is held.
    async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        let mut is_closing = false;
        let mut asked_last = Instant::now();
        loop {
            self.serve();
            if self.ended.is_some() || (is_closing && self.waiting.is_empty() && self.held.is_empty()) {
                return self.send_away();
            }
            let until = self.waiting.iter().map(|waiting| waiting.until).min();
            let Self { session, told, waiting, .. } = &mut self;
            let first_left = async {
                match waiting.front_mut() {
                    Some(first) => first.answer.closed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ask = asks.recv(), if !is_closing => match ask {
                    Some(ask) => {
                        asked_last = Instant::now();
                        self.asked(ask);
                    }
                    None => is_closing = true,
                },
                () = poll_fn(|cx| session.poll_events(cx, told)) => {}
                () = first_left => self.end_first(),
                () = tokio::time::sleep_until(until.unwrap_or(asked_last + IDLE)) => match until {
                    Some(_) => self.end_late(),
                    None if self.held.is_empty() || self.held_until + IDLE < Instant::now() => {
                        self.held.clear();
                        // Who asks in this moment is answered still.
                        asks.close();
                    }
                    None => asked_last = Instant::now(),
                },
            }
        }
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Take(wish, answer) => {
                let until = Instant::now() + wish.wait.max(LOOK_MIN);
                let one = Waiting { wish, until, answer };
                if self.waiting.len() >= WAITING_MAX {
                    // Of those behind the first nobody has seen whether they went away. The first has its turn.
                    let mut place = 0..;
                    self.waiting.retain(|one| place.next() == Some(0) || !one.answer.is_closed());
                }
                match self.waiting.len() < WAITING_MAX {
                    true => self.waiting.push_back(one),
                    // One that went away needs no answer.
                    false => drop(one.answer.send(Err(busy()))),
                }
            }
            Ask::Settle(receipts, outcome, answer) => {
                let mut unknown = Vec::new();
                let mut known = Vec::new();
                for receipt in receipts {
                    match self.take_back(&receipt) {
                        Some(id) => known.push(id),
                        None => unknown.push(receipt),
                    }
                }
                self.session.settle(&known, outcome);
                // A client that went away has settled all the same.
                let _ = answer.send(Settled { settled: known.len(), unknown });
            }
        }
    }

    /// Serves those who wait as far as there is something for them, the first first.
    fn serve(&mut self) {
        loop {
            self.look();
            if !self.taken.is_empty() {
                self.end_first();
                continue;
            }
            let Some(first) = self.waiting.front() else { return };
            if self.consumer.is_some() || self.ended.is_some() {
                return;
            }
            match self.session.consume(request(&self.queue, &first.wish)) {
                Ok(consumer) => {
                    self.consumer = Some(consumer);
                    // What is in memory came with it.
                    self.session.try_events(&mut self.told);
                }
                Err(error) => self.refuse_first(refusal(error)),
            }
        }
    }

    /// Looks at what the broker said.
    fn look(&mut self) {
        for event in self.told.drain(..) {
            match event {
                SessionEvent::Deliveries(deliveries) => {
                    let queue = deliveries.queue;
                    self.taken.extend(deliveries.items.into_iter().map(|delivery| (queue, delivery)));
                }
                SessionEvent::LeasesEnded { queue, seqs } => {
                    for seq in seqs.into_iter().flatten() {
                        self.held.remove(&(queue, seq));
                    }
                }
                SessionEvent::ConsumerCancelled { .. } => self.ended = Some(Ended::Queue),
                SessionEvent::Shutdown | SessionEvent::Closed { .. } => self.ended = Some(Ended::Session),
                // Acks come by requests of their own, for as long as HTTP is served: to the end.
                SessionEvent::Drain | SessionEvent::Reply { .. } | SessionEvent::Committed { .. } => {}
            }
        }
    }

    /// Ends the turn of the first of those who wait: it gets what came for it.
    fn end_first(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            self.session.cancel(consumer);
            self.session.try_events(&mut self.told);
            self.look();
        }
        let taken = std::mem::take(&mut self.taken);
        let size_bytes = taken.iter().map(|(_, delivery)| delivery.message.size_bytes()).sum();
        let mut ids = Vec::with_capacity(taken.len());
        let mut events = Vec::with_capacity(taken.len());
        for (queue, delivery) in &taken {
            self.given += 1;
            self.held.insert((*queue, delivery.seq), self.given);
            ids.push(DeliveryId { queue: *queue, seq: delivery.seq });
            events.push(self.event(*queue, delivery));
        }
        self.session.deliveries_written(size_bytes);
        let first = self.waiting.pop_front();
        if let Some(first) = &first {
            self.held_until = self.held_until.max(Instant::now() + first.wish.lease);
        }
        if first.is_none_or(|first| first.answer.send(Ok(events)).is_err()) {
            // It went away: others get them.
            for id in &ids {
                self.held.remove(&(id.queue, id.seq));
            }
            self.session.settle(&ids, Outcome::Requeue);
        }
    }

    /// Ends the turns of those whose time is over.
    fn end_late(&mut self) {
        let now = Instant::now();
        if self.waiting.front().is_some_and(|first| first.until <= now) {
            self.end_first();
        }
        let (late, waiting) = self.waiting.drain(..).enumerate().fold(
            (Vec::new(), VecDeque::new()),
            |(mut late, mut waiting), (place, one)| {
                // The first is served now, with what it wished.
                match place > 0 && one.until <= now {
                    true => late.push(one),
                    false => waiting.push_back(one),
                }
                (late, waiting)
            },
        );
        self.waiting = waiting;
        for one in late {
            // One that went away needs no answer.
            let _ = one.answer.send(Ok(Vec::new()));
        }
    }

    fn refuse_first(&mut self, refusal: Refusal) {
        if let Some(first) = self.waiting.pop_front() {
            // As above.
            let _ = first.answer.send(Err(refusal));
        }
    }

    /// Answers those who still wait when it ends.
    fn send_away(mut self) {
        while !self.waiting.is_empty() {
            self.refuse_first(match self.ended {
                Some(Ended::Queue) => {
                    Refusal::new(StatusCode::NOT_FOUND, format!("the queue '{}' was deleted", self.queue))
                }
                _ => gone(),
            });
        }
    }

    /// An event as the client sees it: with what settles it.
    fn event(&self, queue: QueueRef, delivery: &Delivery) -> Value {
        let (vhost, name) = (self.vhost.as_str(), self.queue.as_str());
        let origin = Origin { vhost, queue: name, seq: delivery.seq, now: SystemTime::now() };
        let mut event = origin.read(&delivery.message);
        event.insert("receipt".to_owned(), self.receipt(queue, delivery.seq, self.given).into());
        if delivery.redelivered {
            event.insert("redelivered".to_owned(), true.into());
        }
        Value::Object(event)
    }

    fn receipt(&self, queue: QueueRef, seq: u64, given: u64) -> String {
        format!("{:08x}-{:x}-{seq:x}-{given:x}", self.mark, queue.0)
    }

    /// The delivery of a receipt, which is not held any more then; none if it was not.
    fn take_back(&mut self, receipt: &str) -> Option<DeliveryId> {
        let rest = receipt.strip_prefix(&format!("{:08x}-", self.mark))?;
        let mut numbers = rest.split('-').map(|number| u64::from_str_radix(number, 16).ok());
        let (queue, seq, given) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let queue = QueueRef(u32::try_from(queue).ok()?);
        if self.held.get(&(queue, seq)) != Some(&given) {
            return None;
        }
        self.held.remove(&(queue, seq));
        Some(DeliveryId { queue, seq })
    }
}

fn request(queue: &QueueName, wish: &Wish) -> ConsumeRequest {
    let mut arguments = Table::new();
    arguments.push("x-consumer-timeout", wish.lease.as_millis() as i64);
    ConsumeRequest {
        queue: queue.clone(),
        tag: ConsumerTag::new("http").expect("a short tag"),
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch: wish.max as u32,
        // A stream is read by one who keeps a place in it: it refuses this, and says so.
        prefetch_shared: true,
        cookie: 0,
        channel: 0,
        arguments,
    }
}

fn refusal(error: ConsumeError) -> Refusal {
    match error {
        ConsumeError::Queue(QueueError::NotForStreams { queue, .. }) => {
            let reason =
                format!("'{queue}' is a stream: events are taken from queues; bind one, or consume by AMQP");
            Refusal::new(StatusCode::CONFLICT, reason)
        }
        other => other.into(),
    }
}
