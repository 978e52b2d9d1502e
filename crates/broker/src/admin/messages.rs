//! Messages as an operator handles them: moved or copied to another queue, sent back from a dead-letter queue to where
//! each died, or replayed after they were acked.
//!
//! A move takes a message out of one queue and appends it to the other in one commit: it is never in both and never
//! in neither. It is held while the other queue is asked, and ready again in its place if that does not take it; the
//! others are not: consumers go on, and what they take first is not moved.

mod entered;

use super::VhostMissing;
use super::browse::{Browse, Browsed};
use super::filter::{MessageFilter, headers};
use super::replay::{Remembered, Replay, ReplayPeriod, replayed};
use crate::access::{Operation, Operator, Right, Thing};
use crate::queue::QueueCell;
use crate::routing::Resolution;
use crate::session::access::{is_topic, keys};
use crate::vhost::Vhost;
use crate::{Broker, QueueError, Saved, WriteRefused};
use millpond_model::properties::RawProperties;
use millpond_model::table::Value;
use millpond_model::{ExchangeName, Message, QueueName, VhostName};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Messages looked at in one go, and moved in one commit.
const CHUNK: usize = 256;

/// Messages shown of a dry run.
const PREVIEW_MAX: usize = 10;

/// Why messages cannot be browsed or moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no such vhost.
    #[error(transparent)]
    Vhost(#[from] VhostMissing),
    /// There is no such queue, or it belongs to one connection.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// From a queue to itself.
    #[error("queue '{queue}' is both source and target: name another")]
    SameQueue {
        /// Both.
        queue: QueueName,
    },
    /// What was acked there is gone.
    #[error(
        "queue '{queue}' does not remember what was acked: give it x-retain (a time, such as 7D) or x-retain-bytes, \
         by declaration, policy or `queues alter`; what is acked from then on can be replayed"
    )]
    NotRetaining {
        /// Which.
        queue: QueueName,
    },
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferTo {
    /// To this queue.
    Queue(QueueName),
    /// To the queues that this exchange routes each to, with another routing key if one is given.
    Exchange(ExchangeName, Option<Box<str>>),
    /// To the queue in which each died last (`x-last-death-queue`), as it was published there.
    WhereItDied,
}

/// Which messages of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferOf {
    /// Those that are ready.
    Ready,
    /// Those that were acked and are remembered (of a stream: all): they are copied, and may go to the source itself.
    Retained(ReplayPeriod),
}

/// Messages to be moved or copied.
#[derive(Debug, Clone)]
pub struct TransferRequest {
    /// Out of this queue.
    pub from: QueueName,
    /// To where.
    pub to: TransferTo,
    /// In which vhost that is, if it is another.
    pub to_vhost: Option<VhostName>,
    /// Which of those there.
    pub of: TransferOf,
    /// They stay in the source too: a copy.
    pub keep: bool,
    /// Which.
    pub filter: MessageFilter,
    /// At most so many.
    pub limit: Option<u64>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What a transfer has done so far, or a dry run would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferReport {
    /// Messages looked at.
    pub looked_at: u64,
    /// Messages that went.
    pub went: u64,
    /// How many went to which queue.
    pub moved: BTreeMap<QueueName, u64>,
    /// How many were meant and stayed, by the reason.
    pub stayed: BTreeMap<String, u64>,
}

impl TransferReport {
    /// All that went, each counted once.
    pub fn moved_count(&self) -> u64 {
        self.went
    }
}

/// Messages on their way.
#[derive(Debug)]
pub struct Transfer {
    broker: Broker,
    vhost: Arc<Vhost>,
    /// Where messages go, mostly the same.
    to_vhost: Arc<Vhost>,
    request: TransferRequest,
    source: Source,
    report: TransferReport,
    preview: Vec<Browsed>,
    /// In whose name messages go where each says itself.
    operator: Option<Operator>,
    saved: Option<Saved>,
}

#[derive(Debug)]
enum Source {
    Ready {
        browse: Browse,
        /// What comes after the beginning is left alone: a move into a queue whose dead letters come back would not end.
        left: u64,
    },
    Retained(Replay),
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>, count_max: usize, out: &mut Vec<Browsed>) -> Poll<bool> {
        match self {
            Self::Retained(replay) => replay.poll_next(cx, count_max, out),
            Self::Ready { left: 0, .. } => Poll::Ready(false),
            Self::Ready { browse, left } => {
                let before = out.len();
                let more = std::task::ready!(browse.poll_next(cx, count_max.min(*left as usize), out));
                *left -= ((out.len() - before) as u64).min(*left);
                Poll::Ready(more && *left > 0)
            }
        }
    }
}

impl Broker {
    /// Looks through the messages that were acked and are remembered (of a stream: all), in their order.
    pub fn remembered(
        &self,
        vhost: &VhostName,
        queue: &QueueName,
        period: ReplayPeriod,
    ) -> Result<Remembered, TransferError> {
        let vhost = self.vhost(vhost)?;
        let cell = find(&vhost, queue)?;
        let log = cell.retained_log().map_err(|_| TransferError::NotRetaining { queue: queue.clone() })?;
        Ok(Remembered(Replay::new(cell, log, period)))
    }

    /// Begins to move or copy messages; call [`Transfer::poll_step`] until it is done.
    pub fn transfer(&self, vhost: &VhostName, request: TransferRequest) -> Result<Transfer, TransferError> {
        let vhost = self.vhost(vhost)?;
        let cell = find(&vhost, &request.from)?;
        let takes = request.of == TransferOf::Ready && !request.keep;
        if cell.stream().is_some() && takes {
            let (queue, vhost) = (request.from, vhost.name.clone());
            return Err(QueueError::NotForStreams { queue, vhost, what: "a move" }.into());
        }
        let to_vhost = request.to_vhost.as_ref().map_or(Ok(vhost.clone()), |name| self.vhost(name))?;
        if let TransferTo::Queue(to) = &request.to {
            find(&to_vhost, to)?;
            if *to == request.from && request.of == TransferOf::Ready && to_vhost.name == vhost.name {
                return Err(TransferError::SameQueue { queue: to.clone() });
            }
        }
        let source = match request.of {
            TransferOf::Ready => Source::Ready { left: cell.counts().0, browse: Browse::ready(cell, 0) },
            TransferOf::Retained(period) => {
                let not = |_| TransferError::NotRetaining { queue: request.from.clone() };
                let log = cell.retained_log().map_err(not)?;
                Source::Retained(Replay::new(cell, log, period))
            }
        };
        let report = TransferReport::default();
        let (preview, operator) = (Vec::new(), None);
        let broker = self.clone();
        Ok(Transfer { broker, vhost, to_vhost, request, source, report, preview, operator, saved: None })
    }
}

pub(super) fn find(vhost: &Vhost, name: &QueueName) -> Result<Arc<QueueCell>, QueueError> {
    let cell = vhost.read().queue(name.as_str()).map(|queue| queue.0.clone());
    let (queue, vhost) = (name.clone(), vhost.name.clone());
    match cell {
        None => Err(QueueError::Missing { queue, vhost }),
        Some(cell) if cell.spec().exclusive.is_some() => Err(QueueError::Locked { queue, vhost }),
        Some(cell) => Ok(cell),
    }
}

impl Transfer {
    /// Does the next piece of the work, of at most `count_max` messages moved; `Ok(false)`: all is done, and
    /// [`Self::saved`] tells when it is durable. To keep a rate, call it at that pace.
    pub fn poll_step(&mut self, cx: &mut Context<'_>, count_max: usize) -> Poll<Result<bool, TransferError>> {
        let room = self.request.limit.map_or(u64::MAX, |limit| limit - self.report.moved_count().min(limit));
        let count = count_max.min(CHUNK).min(room.min(CHUNK as u64) as usize);
        if count == 0 {
            return Poll::Ready(Ok(false));
        }
        if !self.request.dry_run {
            self.broker.core.check_writable()?;
        }
        let mut seen = Vec::new();
        let more = match self.source.poll_next(cx, count, &mut seen) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(more) => more,
        };
        self.report.looked_at += seen.len() as u64;
        seen.retain(|browsed| self.request.filter.matches(&browsed.message));
        self.carry_out(&seen);
        Poll::Ready(Ok(more))
    }

    /// What was done so far.
    pub fn report(&self) -> &TransferReport {
        &self.report
    }

    /// Whether it only says what would be done.
    pub fn is_dry_run(&self) -> bool {
        self.request.dry_run
    }

    /// Of a dry run, the first messages that would go.
    pub fn preview(&self) -> &[Browsed] {
        &self.preview
    }

    /// Messages stay that this user may not bring to where each is to go: to the queue in which it died, to a topic
    /// exchange with its keys. Whether they may write to the target that the request names is asked before.
    pub fn in_name_of(&mut self, operator: Operator) {
        self.operator = Some(operator);
    }

    /// When all that was done so far is durable.
    pub fn saved(mut self) -> Saved {
        self.saved.take().unwrap_or_else(Saved::already)
    }

    /// Whether messages go to the vhost where they are.
    fn stays(&self) -> bool {
        self.vhost.name == self.to_vhost.name
    }

    fn carry_out(&mut self, messages: &[Browsed]) {
        let source = match &self.source {
            Source::Ready { browse, .. } if !self.request.keep => Some(browse.cell.clone()),
            _ => None,
        };
        let mut going = Vec::new();
        for browsed in messages {
            match self.targets(&browsed.message) {
                Ok((cells, message)) => going.push((browsed, cells, message)),
                Err(reason) => *self.report.stayed.entry(reason).or_default() += 1,
            }
        }
        let report = &mut self.report;
        let went = |report: &mut TransferReport, cell: &QueueCell| {
            *report.moved.entry(cell.spec().name.clone()).or_default() += 1;
        };
        if self.request.dry_run {
            for (browsed, cells, _) in going {
                report.went += 1;
                cells.iter().for_each(|cell| went(report, cell));
                if self.preview.len() < PREVIEW_MAX {
                    self.preview.push(browsed.clone());
                }
            }
            return;
        }
        let ((), batch) = self.broker.core.with_batch(|work| {
            for (Browsed { place, .. }, cells, message) in going {
                if source.as_ref().is_some_and(|source| !source.hold_ready(*place)) {
                    *report.stayed.entry("a consumer took it first".to_owned()).or_default() += 1;
                    continue;
                }
                let mut refused = None;
                let mut taken = false;
                for cell in &cells {
                    if cell.offer(message.clone(), work) {
                        taken = true;
                        went(report, cell);
                    } else {
                        refused = Some(cell);
                    }
                }
                if taken {
                    report.went += 1;
                } else {
                    let why = |cell: &Arc<QueueCell>| {
                        let what = if cell.is_deleted() { "was deleted meanwhile" } else { "is full" };
                        format!("queue '{}' {what}", cell.spec().name)
                    };
                    *report.stayed.entry(refused.map_or_else(String::new, why)).or_default() += 1;
                }
                if let Some(source) = &source {
                    source.let_go(*place, taken, work);
                }
            }
        });
        self.saved = Some(self.broker.core.save(batch));
    }

    /// Where a message goes, and as what; or why it stays.
    fn targets(&self, message: &Message) -> Result<(Vec<Arc<QueueCell>>, Message), String> {
        let of_ready = self.request.of == TransferOf::Ready;
        let now_ms = self.broker.core.options.clock.now_ms();
        let (name, message) = match &self.request.to {
            TransferTo::Exchange(exchange, key) => {
                return self.routed(message, exchange, key.as_deref(), now_ms);
            }
            TransferTo::Queue(name) if of_ready => (name.clone(), message.clone()),
            TransferTo::Queue(name) => (name.clone(), replayed(message, self.request.from.as_str(), now_ms)),
            TransferTo::WhereItDied => self.revive(message).ok_or("it has no x-death")?,
        };
        if name == self.request.from && of_ready && self.stays() {
            return Err("it died in this very queue".to_owned());
        }
        let cell = find(&self.to_vhost, &name).map_err(|error| error.to_string())?;
        self.may_go_to(&cell)?;
        Ok((vec![cell], message))
    }

    fn may_go_to(&self, cell: &QueueCell) -> Result<(), String> {
        let Some(operator) = self.operator.as_ref().filter(|_| self.request.to == TransferTo::WhereItDied)
        else {
            return Ok(());
        };
        let thing = Thing::Queue(cell.spec().name.as_str());
        let may = operator.may(Operation::Use(&self.to_vhost.name, Right::Write, thing));
        may.map(drop).map_err(|refused| refused.to_string())
    }

    /// As if it were published to an exchange now.
    fn routed(
        &self,
        message: &Message,
        exchange: &ExchangeName,
        key: Option<&str>,
        now_ms: u64,
    ) -> Result<(Vec<Arc<QueueCell>>, Message), String> {
        let key = key.map_or(message.routing_key(), str::as_bytes);
        let name = exchange.as_str();
        let (exchange, properties) = (name.as_bytes(), message.properties());
        let persistent = message.is_persistent();
        let message = Message::published_at(now_ms, exchange, key, properties, persistent, message.body());
        let mut found = Resolution::default();
        let raw = RawProperties::from_checked(message.properties());
        if let Some(operator) = &self.operator
            && is_topic(&self.to_vhost.read(), name)
        {
            let used = keys(message.routing_key(), &raw);
            let may = operator.may_use_keys(&self.to_vhost.name, name, &used);
            may.map_err(|refused| refused.to_string())?;
        }
        let routed =
            self.to_vhost.read().route_inside(message.exchange(), message.routing_key(), &raw, &mut found);
        routed.map_err(|error| error.to_string())?;
        if !found.delays.is_empty() || !found.histories.is_empty() {
            return Err("an exchange on its way delays or remembers messages: name a queue".to_owned());
        }
        let cells: Vec<_> = found.queues.into_iter().map(|queue| queue.0).collect();
        match cells.iter().find(|cell| cell.spec().name == self.request.from && self.stays()) {
            Some(_) => Err("it is routed to the queue that it is in".to_owned()),
            None if cells.is_empty() => Err("the exchange routes it to no queue".to_owned()),
            None => Ok((cells, message)),
        }
    }

    /// A dead message as it was before it died last: exchange and routing key of then, and a new beginning of its
    /// time to live. What it says of its deaths stays.
    fn revive(&self, message: &Message) -> Option<(QueueName, Message)> {
        let headers = headers(message);
        let Some(Value::Array(deaths)) = headers.get("x-death") else { return None };
        let Some(Value::Table(last)) = deaths.first() else { return None };
        let text = |name: &str| last.get(name).and_then(Value::as_str);
        let queue = headers.get("x-last-death-queue").and_then(Value::as_str).or_else(|| text("queue"))?;
        let exchange = text("exchange").unwrap_or_default();
        let key = match last.get("routing-keys") {
            Some(Value::Array(keys)) => keys.first().and_then(Value::as_str).unwrap_or(queue),
            _ => queue,
        };
        let revived = Message::published_at(
            self.broker.core.options.clock.now_ms(),
            exchange.as_bytes(),
            key.as_bytes(),
            message.properties(),
            message.is_persistent(),
            message.body(),
        );
        Some((QueueName::new(queue).ok()?, revived))
    }
}
