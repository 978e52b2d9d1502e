//! Consuming: consumers, single gets, settling, direct reply-to.

use super::{Consumer, ReplyInbox, Session};
use crate::access::{Right, Thing};
use crate::error::{ConsumeError, GetError, QueueError};
use crate::queue::consumers::{AddConsumerError, ConsumerChange, NewConsumer, Shown};
use crate::queue::get::CellGetError;
use crate::queue::machine::{Rate, Terms};
use crate::queue::{Getter, QueueCell, Work, timing};
use crate::request::{ConsumeRequest, ConsumerId, DeliveryId, Got, Outcome, QueueRef};
use crate::stream::arguments::ReaderSettings;
use millpond_model::QueueName;
use millpond_model::table::Table;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

impl Session {
    /// Starts a consumer; deliveries come as events (never before this returns).
    pub fn consume(&mut self, request: ConsumeRequest) -> Result<ConsumerId, ConsumeError> {
        let limit = self.core.options.consumers_max_per_session;
        if self.consumers.len() >= limit {
            return Err(ConsumeError::TooMany { limit });
        }
        let (rate, lease_ms) = check_consumer_arguments(&request)?;
        self.may(Right::Read, Thing::Queue(request.queue.as_str())).map_err(QueueError::from)?;
        let cell = self.find_queue(&request.queue)?;
        if let Some(stream) = cell.stream() {
            return self.read_stream(request, &cell, stream);
        }
        let terms = Terms {
            owner: self.owner,
            priority: request.priority,
            prefetch: request.prefetch,
            no_ack: request.no_ack,
            lease_ms,
            rate,
        };
        let new = NewConsumer {
            terms,
            inbox: self.inbox.clone(),
            cookie: request.cookie,
            queue: self.queue_ref(&cell),
            shown: shown(&request),
        };
        let key = self.core.work(|work| cell.add_consumer(new, work)).map_err(|error| match error {
            AddConsumerError::Deleted => ConsumeError::Queue(self.missing(&request.queue)),
            AddConsumerError::ExclusiveUse => {
                ConsumeError::ExclusiveUse { queue: request.queue, vhost: self.vhost.name.clone() }
            }
        })?;
        self.next_consumer += 1;
        self.consumers.insert(self.next_consumer, Consumer { cell, key, no_ack: request.no_ack });
        Ok(ConsumerId(self.next_consumer))
    }

    /// Ends a consumer; its unsettled deliveries stay with the session. Deliveries of it that wait in the inbox and
    /// were not taken yet are ready again, as if never handed out; with no_ack they are settled already and still
    /// come. Unknown: fine.
    pub fn cancel(&mut self, consumer: ConsumerId) {
        let Some(Consumer { cell, key, no_ack }) = self.consumers.remove(&consumer.0) else { return };
        if self.core.work(|work| cell.remove_consumer(key, no_ack, work)) {
            self.delete_unused(&cell);
        }
        // What was taken back made room in the inbox, and nothing of it will be written.
        self.deliveries_written(0);
    }

    /// Changes how many unsettled deliveries a consumer may have.
    pub fn set_prefetch(&mut self, consumer: ConsumerId, prefetch: u32) {
        if let Some(Consumer { cell, key, .. }) = self.consumers.get(&consumer.0) {
            self.core.work(|work| cell.set_prefetch(*key, prefetch, work));
        }
    }

    /// Changes what consumer arguments say while the consumer runs: `x-rate` with `x-rate-window`, and
    /// `x-consumer-timeout` (for later deliveries), those that are given.
    pub fn change_consumer(&mut self, consumer: ConsumerId, arguments: &Table) -> Result<(), ConsumeError> {
        let (rate, lease_ms) = (timing::rate(arguments)?, timing::lease_ms(arguments)?);
        if let Some(Consumer { cell, key, .. }) = self.consumers.get(&consumer.0) {
            let change = ConsumerChange { rate: rate.map(Some), lease_ms, ..ConsumerChange::default() };
            self.core.work(|work| cell.change_consumer(*key, change, work));
        }
        Ok(())
    }

    /// Whether a consumer of this session is one of that queue.
    pub fn consumes_from(&self, consumer: ConsumerId, queue: &QueueName) -> bool {
        self.consumers.get(&consumer.0).is_some_and(|it| it.cell.spec().name == *queue)
    }

    /// The leases of these deliveries begin anew. Those that are on none, or are not held any more, are ignored.
    pub fn renew(&mut self, deliveries: &[DeliveryId]) {
        if deliveries.is_empty() {
            return;
        }
        self.core.work(|work| {
            self.by_queue(deliveries, |cell, _, ranges| cell.renew(self.owner, ranges, work));
        });
    }

    /// Takes one message. `Ok(None)`: the queue is empty. A message that must be read from disk first:
    /// `Err(GetError::Loading)`, and `poll_loaded` tells when to try again.
    pub fn get(&mut self, queue: &QueueName, no_ack: bool) -> Result<Option<Got>, GetError> {
        self.may(Right::Read, Thing::Queue(queue.as_str())).map_err(QueueError::from)?;
        let cell = self.find_queue(queue)?;
        self.check_not_stream(&cell, "basic.get")?;
        let queue = self.queue_ref(&cell);
        let getter = Getter { owner: self.owner, inbox: &self.inbox, queue };
        match self.core.work(|work| cell.get(getter, no_ack, work)) {
            Ok((delivery, ready)) => Ok(Some(Got { delivery, queue, ready })),
            Err(CellGetError::Empty) => Ok(None),
            Err(CellGetError::Loading(loads)) => {
                self.loading = Some((cell, loads));
                Err(GetError::Loading)
            }
        }
    }

    /// Ready when the queue that answered `Loading` has loaded.
    pub fn poll_loaded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((cell, loads)) = &self.loading {
            cell.wait(cx.waker());
            if cell.is_loading_since(*loads) {
                return Poll::Pending;
            }
        }
        self.loading = None;
        Poll::Ready(())
    }

    /// Settles deliveries of this session, in any order, of any queues. Unknown ones are ignored.
    pub fn settle(&mut self, deliveries: &[DeliveryId], outcome: Outcome) {
        if !deliveries.is_empty() {
            let core = self.core.clone();
            core.work(|work| self.settle_with(deliveries, outcome, work));
        }
    }

    /// Settles within a batch of the caller's: one call a queue, consecutive numbers as ranges.
    pub(super) fn settle_with(&self, deliveries: &[DeliveryId], outcome: Outcome, work: &mut Work<'_>) {
        self.by_queue(deliveries, |cell, queue, ranges| match cell.stream() {
            Some(stream) => stream.settle(cell, (self.owner, queue), ranges, outcome, work),
            None => cell.settle(self.owner, ranges, outcome, work),
        });
    }

    /// Shows `each` the deliveries of each queue that is still there.
    fn by_queue(
        &self,
        deliveries: &[DeliveryId],
        mut each: impl FnMut(&Arc<QueueCell>, QueueRef, &[Range<u64>]),
    ) {
        let order = |id: &DeliveryId| (id.queue, id.seq);
        let mut sorted = Vec::new();
        let ids = if deliveries.is_sorted_by(|a, b| order(a) < order(b)) {
            deliveries
        } else {
            sorted.extend_from_slice(deliveries);
            sorted.sort_unstable_by_key(order);
            sorted.dedup();
            &sorted
        };
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for of_one in ids.chunk_by(|a, b| a.queue == b.queue) {
            let Some(cell) = self.queues.get(of_one[0].queue) else { continue };
            ranges.clear();
            for id in of_one {
                match ranges.last_mut() {
                    Some(last) if last.end == id.seq => last.end += 1,
                    _ => ranges.push(id.seq..id.seq.saturating_add(1)),
                }
            }
            each(cell, of_one[0].queue, &ranges);
        }
    }

    // ---- direct reply-to (contract A14)

    /// Opens this session's reply inbox for one channel; replies come as `SessionEvent::Reply` with the cookie.
    /// The returned name is what `amq.rabbitmq.reply-to` in reply_to is rewritten to.
    pub fn open_reply_inbox(&mut self, cookie: u64) -> Result<QueueName, ConsumeError> {
        if self.replies.iter().any(|reply| reply.cookie == cookie) {
            return Err(ConsumeError::ReplyInboxExists);
        }
        let name = self.vhost.replies.open(self.inbox.clone(), cookie);
        self.replies.push(ReplyInbox { cookie, name: name.clone() });
        Ok(name)
    }

    /// Closes it.
    pub fn close_reply_inbox(&mut self, cookie: u64) {
        self.replies.retain(|reply| {
            if reply.cookie == cookie {
                self.vhost.replies.close(&reply.name);
            }
            reply.cookie != cookie
        });
    }

    /// Says whose the next [`Session::route`] and [`Session::rewrite_properties`] are: a channel that has given this
    /// cookie to [`Session::open_reply_inbox`], or (`None`, from the start) one without a reply consumer, which may
    /// not ask for direct replies.
    #[inline]
    pub fn set_reply_channel(&mut self, cookie: Option<u64>) {
        self.reply_channel = cookie;
    }

    /// What `amq.rabbitmq.reply-to` is rewritten to now.
    pub(super) fn reply_name(&self) -> Option<&str> {
        let cookie = self.reply_channel?;
        self.replies.iter().find(|reply| reply.cookie == cookie).map(|reply| reply.name.as_str())
    }

    // ---- finding queues

    pub(super) fn missing(&self, queue: &QueueName) -> QueueError {
        QueueError::Missing { queue: queue.clone(), vhost: self.vhost.name.clone() }
    }

    /// A queue that this session may use.
    pub(super) fn find_queue(&self, name: &QueueName) -> Result<Arc<QueueCell>, QueueError> {
        let cell = self.vhost.read().queue(name.as_str()).map(|queue| queue.0.clone());
        let cell = cell.ok_or_else(|| self.missing(name))?;
        self.check_access(&cell)?;
        Ok(cell)
    }

    /// An exclusive queue is its session's alone.
    pub(super) fn check_access(&self, cell: &QueueCell) -> Result<(), QueueError> {
        if cell.spec().exclusive.is_some_and(|owner| owner != self.owner) {
            return Err(QueueError::Locked {
                queue: cell.spec().name.clone(),
                vhost: self.vhost.name.clone(),
            });
        }
        Ok(())
    }
}

/// What people are shown of a consumer.
pub(super) fn shown(request: &ConsumeRequest) -> Shown {
    let ConsumeRequest { tag, channel, exclusive, arguments, .. } = request;
    Shown { tag: tag.clone(), channel: *channel, exclusive: *exclusive, arguments: arguments.clone() }
}

/// Checks the consumer arguments that have a meaning, and warns of those without one here; the pace and the lease.
fn check_consumer_arguments(request: &ConsumeRequest) -> Result<(Option<Rate>, Option<u64>), ConsumeError> {
    for (name, value) in &request.arguments {
        match &**name {
            "x-priority" if value.as_i64().is_none() => {
                return Err(ConsumeError::BadArgument {
                    argument: "x-priority".to_owned(),
                    reason: format!("unacceptable type {}: an integer is needed", value.type_name()),
                });
            }
            "x-priority" | "x-rate" | "x-rate-window" | "x-consumer-timeout" => {}
            argument if ReaderSettings::knows(argument) => {}
            other => {
                tracing::warn!(queue = %request.queue, argument = other, "consumer argument has no effect");
            }
        }
    }
    Ok((timing::rate(&request.arguments)?, timing::lease_ms(&request.arguments)?))
}
