//! What a rule has done and not committed yet: publishes and acks, one commit for a batch.

use super::{Held, Settle};
use crate::commit;
use crate::topology::Rule;
use crate::values::ROOM;
use millpond_broker::{
    DeclareQueue, DeliveryId, Durability, Outcome, Publish, PublishError, Session, SessionEvent, ValueChange,
};
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::Table;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;

/// Commits on their way to the disk, at most; beyond, the rule waits for the disk.
const COMMITS_IN_FLIGHT_MAX: usize = 16;

/// Bytes published by one commit, the last message beyond; a commit must fit the log's limits.
const COMMIT_MAX_BYTES: usize = 8 * 1024 * 1024;

/// An empty property list: the broker looks at it when a parked message is routed, for what the original says of CC,
/// BCC, user id and expiry was acted on when it was published.
pub(crate) const NO_PROPERTIES: [u8; 2] = [0, 0];

/// Why a message of the rule cannot be published.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {error}")]
pub(super) struct PublishFailed {
    /// Which of the message's publishes.
    pub(super) number: usize,
    place: String,
    error: PublishError,
}

impl PublishFailed {
    /// An exchange that is missing may come; the rest is in the message.
    pub(super) fn is_retryable(&self) -> bool {
        matches!(self.error, PublishError::ExchangeMissing { .. } | PublishError::InternalExchange { .. })
    }
}

/// A message that is done: what it publishes, and its ack.
#[derive(Debug)]
struct Done {
    publishes: Vec<Publish>,
    parked: Option<Message>,
    id: DeliveryId,
    /// What the source message holds of the session's inbox until now.
    held_bytes: usize,
    /// What the ledger has of it, which goes with it.
    record: Vec<Box<[u8]>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Commits {
    done: VecDeque<Done>,
    /// For the ledger.
    values: Vec<ValueChange>,
    /// Messages that go on when what the ledger is to have of them is on the disk; by commit, once there is one.
    uncommitted: Vec<Held>,
    committing: HashMap<u64, Vec<Held>>,
    committed: Vec<Held>,
    in_flight: usize,
    /// What the next commit holds: kept here, so that a rule that stops while it waits for room can still commit it.
    next: Next,
}

/// A commit that is put together.
#[derive(Debug, Default)]
struct Next {
    publishes: Vec<Publish>,
    settles: Vec<Settle>,
    values: Vec<ValueChange>,
    /// Messages that go on when it is on the disk.
    waiting: Vec<Held>,
    held_bytes: usize,
}

impl Next {
    fn is_empty(&self) -> bool {
        self.settles.is_empty() && self.values.is_empty()
    }
}

impl Commits {
    /// The source message is done.
    pub(super) fn settle(&mut self, id: DeliveryId, held_bytes: usize, record: Vec<Box<[u8]>>) {
        self.done.push_back(Done { publishes: Vec::new(), parked: None, id, held_bytes, record });
    }

    /// Takes all publishes of a message and its ack, or nothing.
    pub(super) fn publish(&mut self, session: &mut Session, held: &mut Held) -> Result<(), PublishFailed> {
        let mut publishes = Vec::with_capacity(held.publishes.len());
        for (number, (step, _)) in held.publishes.iter().enumerate() {
            let raw = RawProperties::from_checked(&step.encoded);
            let (exchange, key) = (step.exchange.as_bytes(), step.routing_key.as_bytes());
            let route = session
                .route(exchange, key, &raw, step.body.len() as u64)
                .map_err(|error| PublishFailed { number, place: step.place.clone(), error })?;
            let rewritten = session.rewrite_properties(&raw);
            let properties = rewritten.as_deref().unwrap_or(&step.encoded);
            let now_ms = session.now_ms();
            let message = Message::published_at(now_ms, exchange, key, properties, true, &step.body);
            publishes.push((message, route));
        }
        let (held_bytes, record) = (held.held_bytes(), std::mem::take(&mut held.record.keys));
        self.done.push_back(Done { publishes, parked: None, id: held.id, held_bytes, record });
        Ok(())
    }

    /// A message goes to the parking queue and leaves its own.
    pub(super) fn park(
        &mut self,
        message: Message,
        id: DeliveryId,
        held_bytes: usize,
        record: Vec<Box<[u8]>>,
    ) {
        self.done.push_back(Done { publishes: Vec::new(), parked: Some(message), id, held_bytes, record });
    }

    /// The ledger gets an entry.
    pub(super) fn keep(&mut self, entry: ValueChange) {
        self.values.push(entry);
    }

    /// The ledger gets an entry; the message goes on when it is on the disk ([`Self::take_committed`]).
    pub(super) fn keep_first(&mut self, entry: ValueChange, held: Held) {
        self.values.push(entry);
        self.uncommitted.push(held);
    }

    /// Messages that may go on.
    pub(super) fn take_committed(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.committed)
    }

    /// Whether commits are on their way to the disk.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight > 0
    }

    /// A commit has come to its end.
    pub(super) fn committed(&mut self, token: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.committed.extend(self.committing.remove(&token).unwrap_or_default());
    }

    /// Commits what there is; waits while the store is full or the disk is far behind. What the broker says
    /// meanwhile is left in `events`.
    pub(super) async fn commit(
        &mut self,
        session: &mut Session,
        rule: &Rule,
        events: &mut Vec<SessionEvent>,
    ) -> Result<(), String> {
        while !(self.next.is_empty() && self.done.is_empty() && self.values.is_empty()) {
            while self.in_flight >= COMMITS_IN_FLIGHT_MAX {
                let before = events.len();
                poll_fn(|cx| session.poll_events(cx, events)).await;
                self.take_ends(events, before)?;
            }
            if self.next.is_empty() {
                self.take_some(session, rule)?;
            }
            let Next { publishes, settles, values, .. } = &mut self.next;
            let durability = commit::transact(session, publishes, settles, values).await;
            let durability = durability.map_err(|refused| refused.to_string())?;
            let Next { waiting, held_bytes, .. } = std::mem::take(&mut self.next);
            match durability {
                Durability::Pending(token) => {
                    self.in_flight += 1;
                    if !waiting.is_empty() {
                        self.committing.insert(token, waiting);
                    }
                }
                Durability::Now => self.committed.extend(waiting),
            }
            session.deliveries_written(held_bytes);
        }
        Ok(())
    }

    /// Takes ends of commits out of what came since `from`.
    fn take_ends(&mut self, events: &mut Vec<SessionEvent>, from: usize) -> Result<(), String> {
        let mut failure = None;
        let mut at = 0;
        events.retain(|event| {
            at += 1;
            let SessionEvent::Committed { result, token } = event else { return true };
            if at <= from {
                return true;
            }
            self.committed(*token);
            if let Err(error) = result {
                failure = Some(format!("a commit failed: {error}"));
            }
            false
        });
        failure.map_or(Ok(()), Err)
    }

    /// Takes what fits one commit, all of a message in one.
    fn take_some(&mut self, session: &mut Session, rule: &Rule) -> Result<(), String> {
        let mut size_bytes = 0;
        self.next.values.append(&mut self.values);
        self.next.waiting.append(&mut self.uncommitted);
        while size_bytes < COMMIT_MAX_BYTES
            && let Some(done) = self.done.pop_front()
        {
            // First what may fail: what is put down here without its ack would be published twice.
            let parked = done.parked.map(|message| route_parked(message, session, rule)).transpose()?;
            let from = self.next.publishes.len();
            self.next.publishes.extend(done.publishes.into_iter().chain(parked));
            size_bytes += self.next.publishes[from..].iter().map(|it| it.0.size_bytes()).sum::<usize>();
            let gone = done.record.into_iter().map(|key| ValueChange { room: ROOM, key, value: None });
            self.next.values.extend(gone);
            self.next.settles.push((done.id, Outcome::Accept));
            self.next.held_bytes += done.held_bytes;
        }
        Ok(())
    }
}

fn route_parked(message: Message, session: &mut Session, rule: &Rule) -> Result<Publish, String> {
    let no_properties = RawProperties::from_checked(&NO_PROPERTIES);
    let key = message.routing_key();
    let mut route = session.route(b"", key, &no_properties, 0).map_err(|error| error.to_string())?;
    if route.is_unroutable() {
        // Somebody deleted it; the message must not be lost for that.
        session.declare_queue(&parking_queue(rule)).map_err(|error| error.to_string())?;
        route = session.route(b"", key, &no_properties, 0).map_err(|error| error.to_string())?;
    }
    Ok((message, route))
}

/// The queue of a rule's messages that it could not act on.
pub(crate) fn parking_queue(rule: &Rule) -> DeclareQueue {
    DeclareQueue {
        name: rule.parking_queue(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
    }
}
