//! The task between a rule's queue and its actions.

use super::look::{Look, LookError, look};
use super::machine::{Effect, Machine};
use super::outgoing;
use super::record::{decode, encode, prefix};
use super::{Memory, acting, due_queue, late_queue};
use crate::commit;
use crate::pool::EvaluationError;
use crate::topology::Rule;
use crate::values::ROOM;
use crate::worker::{
    self, HARMFUL, LOST_MAX, NO_PROPERTIES, RuleState, TRY_AGAIN_AFTER, Tools, Vitals, add, parking,
    told_to_stop,
};
use bytes::Bytes;
use millpond_broker::{
    DeclareQueue, Delivery, DeliveryId, Durability, OpenSession, Outcome, Publish, Session, SessionEvent,
    ValueChange,
};
use millpond_events::Origin;
use millpond_model::properties::RawProperties;
use millpond_model::table::Table;
use millpond_model::{Message, QueueName};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Events dealt with in one commit.
const BATCH_MAX: usize = 256;

/// Commits on their way to the disk, at most.
const COMMITS_IN_FLIGHT_MAX: usize = 16;

/// How long a rule that is stopped waits for its commits.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Longest sleep: a clock may have been set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(1);

enum End {
    Stopped,
    Broken(String),
    /// As that of a worker: it must not go on until somebody has looked at it.
    Harmful,
}

/// Runs a rule with memory until `stop` says true: what it remembers, and the workers of its actions, whose counts go
/// into `inner`.
pub(crate) async fn run(
    rule: Arc<Rule>,
    memory: Memory,
    tools: Tools,
    (vitals, inner): (Arc<Vitals>, Arc<Vitals>),
    stop: watch::Receiver<bool>,
) {
    // It keeps nothing in hand for long: to finish is to stop, for what remembers.
    let (front_stop, front_stopped) = watch::channel(false);
    let mut finish = vitals.finish.subscribe();
    let mut stopping = stop.clone();
    let tell = async move {
        tokio::select! {
            () = told_to_stop(&mut stopping) => {}
            () = told_to_stop(&mut finish) => {}
        }
        let _ = front_stop.send(true);
    };
    let due = Arc::new(acting(&rule, due_queue(&rule), &rule.actions));
    let due = worker::run(due, tools.clone(), inner.clone(), stop.clone());
    let late = Arc::new(acting(&rule, late_queue(&rule), &memory.on_timeout));
    let has_late = !memory.on_timeout.is_empty();
    let late = async {
        if has_late {
            worker::run(late, tools.clone(), inner.clone(), stop.clone()).await;
        }
    };
    tokio::join!(tell, remember(&rule, &memory, &tools, &vitals, front_stopped), due, late);
}

async fn remember(
    rule: &Arc<Rule>,
    memory: &Memory,
    tools: &Tools,
    vitals: &Arc<Vitals>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let end = match Front::open(rule, memory, tools, vitals) {
            Ok(mut front) => {
                *vitals.state.lock() = RuleState::Running;
                let end = front.work(&mut stop).await;
                front.finish().await;
                end
            }
            Err(reason) => End::Broken(reason),
        };
        let reason = match end {
            End::Stopped => break,
            End::Broken(reason) => reason,
            End::Harmful => {
                tracing::error!(rule = %rule.name, reason = HARMFUL, "the rule waits");
                *vitals.state.lock() = RuleState::Waiting { reason: HARMFUL.to_owned() };
                told_to_stop(&mut stop).await;
                break;
            }
        };
        let waiting = RuleState::Waiting { reason: reason.clone() };
        if *vitals.state.lock() != waiting {
            tracing::warn!(rule = %rule.name, %reason, "the rule waits");
        }
        *vitals.state.lock() = waiting;
        if tokio::time::timeout(TRY_AGAIN_AFTER, told_to_stop(&mut stop)).await.is_ok() {
            break;
        }
    }
    *vitals.state.lock() = RuleState::Stopped;
}

/// What one commit holds.
#[derive(Default)]
struct Batch {
    publishes: Vec<Publish>,
    settles: Vec<(DeliveryId, Outcome)>,
    /// Keys whose memory changed.
    keys: BTreeMap<Box<str>, ()>,
    held_bytes: usize,
}

struct Front<'r> {
    rule: &'r Arc<Rule>,
    memory: &'r Memory,
    tools: &'r Tools,
    vitals: &'r Arc<Vitals>,
    session: Session,
    machine: Machine,
    prefix: String,
    in_flight: usize,
    /// Evaluations that did not end: each may have cost a thread.
    lost: u32,
    events: Vec<SessionEvent>,
}

impl<'r> Front<'r> {
    fn open(
        rule: &'r Arc<Rule>,
        memory: &'r Memory,
        tools: &'r Tools,
        vitals: &'r Arc<Vitals>,
    ) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let request = OpenSession {
            login: tools.broker.internal_login(),
            vhost: tools.vhost.clone(),
            name: format!("rule {} ({})", rule.name, memory.name()).into(),
        };
        let mut session = tools.broker.open_session(request).map_err(|error| said(&error))?;
        let prefix = prefix(&rule.name);
        let kept = tools.broker.values_under(ROOM, prefix.as_bytes()).map_err(|error| said(&error))?;
        let mut strange = Vec::new();
        let mut known = Vec::new();
        for (full_key, value) in kept {
            let key = std::str::from_utf8(&full_key).ok().and_then(|it| it.strip_prefix(&prefix));
            match (key, decode(value)) {
                (Some(key), Some(state)) => known.push((Box::from(key), state)),
                _ => strange.push(full_key),
            }
        }
        let (machine, of_others) = Machine::new(memory.kind.clone(), known);
        strange.extend(of_others.iter().map(|key| Bytes::from(format!("{prefix}{key}"))));
        for key in strange {
            // The rule was another one when it remembered this.
            tools.broker.put_value(ROOM, &key, None, None);
        }
        worker::consume(&mut session, rule)?;
        let (in_flight, lost, events) = (0, 0, Vec::new());
        Ok(Self { rule, memory, tools, vitals, session, machine, prefix, in_flight, lost, events })
    }

    async fn work(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        loop {
            let sleep = self.machine.due_ms().map(|due_ms| {
                Duration::from_millis(due_ms.saturating_sub(self.session.now_ms())).min(SLEEP_MAX)
            });
            let wait = async move {
                match sleep {
                    Some(sleep) => tokio::time::sleep(sleep).await,
                    None => std::future::pending().await,
                }
            };
            let Self { session, events, .. } = &mut *self;
            tokio::select! {
                biased;
                () = told_to_stop(stop) => return End::Stopped,
                () = wait => {}
                () = poll_fn(|cx| session.poll_events(cx, events)) => {}
            }
            tokio::select! {
                biased;
                () = told_to_stop(stop) => return End::Stopped,
                done = self.deal() => if let Err(reason) = done {
                    return End::Broken(reason);
                },
            }
            if self.lost >= LOST_MAX {
                return End::Harmful;
            }
        }
    }

    /// Deals with what is due and what came.
    async fn deal(&mut self) -> Result<(), String> {
        self.fire().await?;
        let mut fresh = Vec::new();
        for event in std::mem::take(&mut self.events) {
            if let SessionEvent::Deliveries(deliveries) = event {
                let queue = deliveries.queue;
                let items = deliveries.items.into_iter();
                fresh.extend(items.map(|it| (DeliveryId { queue, seq: it.seq }, it)));
            } else {
                self.note(event)?;
            }
        }
        add(&self.vitals.seen, fresh.len() as u64);
        let mut fresh = fresh.into_iter();
        loop {
            let deliveries: Vec<_> = fresh.by_ref().take(BATCH_MAX).collect();
            if deliveries.is_empty() {
                return Ok(());
            }
            let looked = self.look(deliveries).await;
            let is_lost = |it: &&Looked| matches!(&it.2, Err(LookError::Evaluation(EvaluationError::Lost)));
            self.lost += looked.iter().filter(is_lost).count() as u32;
            let mut batch = Batch::default();
            for (id, delivery, look) in looked {
                self.take(id, &delivery, look, &mut batch)?;
            }
            self.commit(batch).await?;
        }
    }

    fn note(&mut self, event: SessionEvent) -> Result<(), String> {
        match event {
            SessionEvent::Committed { result, .. } => {
                self.in_flight = self.in_flight.saturating_sub(1);
                result.map_err(|error| format!("a commit failed: {error}"))
            }
            SessionEvent::ConsumerCancelled { queue, .. } => Err(format!("queue '{queue}' was deleted")),
            SessionEvent::Shutdown => Err("the broker shuts down".to_owned()),
            SessionEvent::Closed { reason } => Err(reason.to_string()),
            SessionEvent::Deliveries(_)
            | SessionEvent::Drain
            | SessionEvent::Reply { .. }
            | SessionEvent::LeasesEnded { .. } => Ok(()),
        }
    }

    /// Works out what messages mean.
    async fn look(&self, deliveries: Vec<(DeliveryId, Delivery)>) -> Vec<Looked> {
        let (rule, memory, vhost) = (self.rule.clone(), self.memory.clone(), self.tools.vhost.clone());
        let queue = rule.queue();
        let now = SystemTime::now();
        let work = move |(_, delivery): &(DeliveryId, Delivery)| {
            let (vhost, queue) = (vhost.as_str(), queue.as_str());
            look(&rule, &memory, delivery, Origin { vhost, queue, seq: delivery.seq, now })
        };
        let looked = self.tools.pool.each(deliveries, work).await;
        let looked = looked
            .into_iter()
            .map(|((id, delivery), look)| (id, delivery, look.unwrap_or_else(|error| Err(error.into()))));
        looked.collect()
    }

    fn take(
        &mut self,
        id: DeliveryId,
        delivery: &Delivery,
        look: Result<Look, LookError>,
        batch: &mut Batch,
    ) -> Result<(), String> {
        batch.settles.push((id, Outcome::Accept));
        batch.held_bytes += delivery.message.size_bytes();
        let fact = match look {
            Ok(Look::Skip) => return Ok(()),
            Ok(Look::Fact(fact)) => fact,
            Err(error) => return self.park(delivery, &error, batch),
        };
        let now_ms = self.session.now_ms();
        let (before, taken) = self.machine.take(&fact, now_ms);
        if let Some(effect) = before {
            self.follow(effect, None, now_ms, batch)?;
        }
        match taken {
            Ok(effect) => self.follow(effect, Some(&delivery.message), now_ms, batch),
            Err(full) => self.park(delivery, &full, batch),
        }
    }

    /// What is due, a few keys a commit.
    async fn fire(&mut self) -> Result<(), String> {
        loop {
            let now_ms = self.session.now_ms();
            let effects = self.machine.fire(now_ms);
            if effects.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::default();
            for effect in effects {
                self.follow(effect, None, now_ms, &mut batch)?;
            }
            self.commit(batch).await?;
        }
    }

    fn follow(
        &mut self,
        effect: Effect,
        in_hand: Option<&Message>,
        now_ms: u64,
        batch: &mut Batch,
    ) -> Result<(), String> {
        if let Some(act) = effect.act
            && let Some((queue, message)) =
                outgoing::message(self.rule, self.memory, &effect.key, act, in_hand, now_ms)
        {
            let publish = self.route(&queue, message)?;
            batch.publishes.push(publish);
        }
        batch.keys.insert(effect.key, ());
        Ok(())
    }

    fn park(
        &mut self,
        delivery: &Delivery,
        reason: &dyn std::fmt::Display,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let reason = reason.to_string();
        tracing::warn!(rule = %self.rule.name, reason, "the rule gives a message up: it is parked");
        add(&self.vitals.failed, 1);
        self.vitals.failures.add(self.tools.now_ms(), &reason, 1, true);
        let message = parking::message(self.rule, delivery, 1, &reason);
        let publish = self.route(&self.rule.parking_queue(), message)?;
        batch.publishes.push(publish);
        Ok(())
    }

    /// To one of the rule's own queues, whatever the message's own properties ask for: that was acted on when it was
    /// published.
    fn route(&mut self, queue: &QueueName, message: Message) -> Result<Publish, String> {
        let no_properties = RawProperties::from_checked(&NO_PROPERTIES);
        let key = queue.as_str().as_bytes();
        let mut route = self.session.route(b"", key, &no_properties, 0).map_err(|error| error.to_string())?;
        if route.is_unroutable() {
            // Somebody deleted it; nothing may be lost for that.
            let request = DeclareQueue {
                name: queue.clone(),
                passive: false,
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: Table::new(),
            };
            self.session.declare_queue(&request).map_err(|error| error.to_string())?;
            route = self.session.route(b"", key, &no_properties, 0).map_err(|error| error.to_string())?;
        }
        Ok((message, route))
    }

    /// Publishes, acks and remembers at once; waits while the store is full or the disk is far behind.
    async fn commit(&mut self, mut batch: Batch) -> Result<(), String> {
        while self.in_flight >= COMMITS_IN_FLIGHT_MAX {
            self.wait_for_commits().await?;
        }
        let changes: Vec<_> = batch
            .keys
            .keys()
            .map(|key| ValueChange {
                room: ROOM,
                key: format!("{}{key}", self.prefix).into_bytes().into(),
                value: self.machine.state(key).map(|state| encode(state).into()),
            })
            .collect();
        let Batch { publishes, settles, .. } = &mut batch;
        match commit::transact(&mut self.session, publishes, settles, &changes).await {
            Ok(Durability::Pending(_)) => self.in_flight += 1,
            Ok(Durability::Now) => {}
            Err(refused) => return Err(refused.to_string()),
        }
        self.session.deliveries_written(batch.held_bytes);
        Ok(())
    }

    /// Waits for what the broker says, and takes ends of commits out of it.
    async fn wait_for_commits(&mut self) -> Result<(), String> {
        let Self { session, events, .. } = &mut *self;
        poll_fn(|cx| session.poll_events(cx, events)).await;
        let (ended, others) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|event| matches!(event, SessionEvent::Committed { .. }));
        self.events = others;
        let ended: Vec<SessionEvent> = ended;
        ended.into_iter().try_for_each(|event| self.note(event))
    }

    /// Lets commits come to their end: who starts next reads what they kept.
    async fn finish(&mut self) {
        let all = async {
            while self.in_flight > 0 {
                if self.wait_for_commits().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(STOP_GRACE, all).await;
    }
}

type Looked = (DeliveryId, Delivery, Result<Look, LookError>);
