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
const NO_PROPERTIES: [u8; 2] = [0, 0];

/// Why a message of the rule cannot be published.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {error}")]
pub(super) struct PublishFailed {
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
}

impl Commits {
    /// The source message is done.
    pub(super) fn settle(&mut self, id: DeliveryId, held_bytes: usize, record: Vec<Box<[u8]>>) {
        self.done.push_back(Done { publishes: Vec::new(), parked: None, id, held_bytes, record });
    }

    /// Takes all publishes of a message and its ack, or nothing.
    pub(super) fn publish(&mut self, session: &mut Session, held: &mut Held) -> Result<(), PublishFailed> {
        let mut publishes = Vec::with_capacity(held.publishes.len());
        for step in &held.publishes {
            let raw = RawProperties::from_checked(&step.encoded);
            let (exchange, key) = (step.exchange.as_bytes(), step.routing_key.as_bytes());
            let route = session
                .route(exchange, key, &raw, step.body.len() as u64)
                .map_err(|error| PublishFailed { place: step.place.clone(), error })?;
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
        let mut publishes = Vec::new();
        let mut settles = Vec::new();
        while !self.done.is_empty() || !self.values.is_empty() {
            while self.in_flight >= COMMITS_IN_FLIGHT_MAX {
                let before = events.len();
                poll_fn(|cx| session.poll_events(cx, events)).await;
                self.take_ends(events, before)?;
            }
            let mut values = std::mem::take(&mut self.values);
            let held_bytes = self.take_some(session, rule, &mut publishes, &mut settles, &mut values)?;
            match commit::transact(session, &mut publishes, &settles, &values).await {
                Ok(Durability::Pending(token)) => {
                    self.in_flight += 1;
                    if !self.uncommitted.is_empty() {
                        self.committing.insert(token, std::mem::take(&mut self.uncommitted));
                    }
                }
                Ok(Durability::Now) => self.committed.append(&mut self.uncommitted),
                Err(refused) => return Err(refused.to_string()),
            }
            settles.clear();
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

    /// Takes what fits one commit, all of a message in one; the bytes that their source messages held.
    fn take_some(
        &mut self,
        session: &mut Session,
        rule: &Rule,
        publishes: &mut Vec<Publish>,
        settles: &mut Vec<Settle>,
        values: &mut Vec<ValueChange>,
    ) -> Result<usize, String> {
        let (mut size_bytes, mut held_bytes) = (0, 0);
        while size_bytes < COMMIT_MAX_BYTES
            && let Some(done) = self.done.pop_front()
        {
            size_bytes += done.publishes.iter().map(|(message, _)| message.size_bytes()).sum::<usize>();
            publishes.extend(done.publishes);
            if let Some(message) = done.parked {
                size_bytes += message.size_bytes();
                publishes.push(route_parked(message, session, rule)?);
            }
            let gone = done.record.into_iter().map(|key| ValueChange { room: ROOM, key, value: None });
            values.extend(gone);
            settles.push((done.id, Outcome::Accept));
            held_bytes += done.held_bytes;
        }
        Ok(held_bytes)
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
