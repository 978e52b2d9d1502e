//! Publishing: checks and routes at the door, then one call a queue and batch.

use super::Session;
use super::uncommitted::Holder;
use crate::AlarmLevel;
use crate::core::Core;
use crate::delayed::{Cancelled, cancels};
use crate::error::{PublishError, WriteRefused};
use crate::queue::logs::Appended;
use crate::queue::{QueueCell, Work};
use crate::reply::{REPLY_TO, REPLY_TO_PREFIX};
use crate::request::{
    Aside, DeliveryId, Durability, GIVE_BACK_KEY, Outcome, Publish, Route, RouteInner, ValueChange,
};
use crate::routing::Resolution;
use crate::stats::{Count, Kind, Meter};
use crate::vhost::Vhost;
use hashbrown::HashMap;
use millpond_model::properties::RawProperties;
use millpond_model::{ExchangeName, Message};
use std::sync::Arc;
use std::task::{Context, Poll};

/// Times in milliseconds beyond this are a mistake; RabbitMQ refuses them too.
const EXPIRATION_MAX_MS: u64 = 315_360_000_000;

/// Messages a group keeps room for between batches.
const GROUP_KEPT_MAX: usize = 4096;

/// Messages of a batch by queue; reused from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Where in `list` a queue is, by its number in the store.
    places: HashMap<u64, u32>,
    list: Vec<(Arc<QueueCell>, Vec<Message>)>,
    spare: Vec<Vec<Message>>,
}

impl Groups {
    fn push(&mut self, cell: &Arc<QueueCell>, message: Message) {
        let list = &mut self.list;
        let spare = &mut self.spare;
        let place = *self.places.entry(cell.spec().id.0).or_insert_with(|| {
            list.push((cell.clone(), spare.pop().unwrap_or_default()));
            list.len() as u32 - 1
        });
        self.list[place as usize].1.push(message);
    }

    fn clear(&mut self) {
        self.places.clear();
        for (_, mut messages) in self.list.drain(..) {
            messages.clear();
            messages.shrink_to(GROUP_KEPT_MAX);
            if self.spare.len() < 16 {
                self.spare.push(messages);
            }
        }
    }
}

impl Session {
    /// Ready while this session may publish more; `Pending` while a queue that it published to is over its limits
    /// (or, without confirms, while the store is full). The front end does not read its socket until it is ready.
    pub fn poll_publish_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.over.is_empty() {
            // The wake-up is asked for first, so that one between question and asking is not missed.
            let core = &self.core;
            self.over.retain(|holder| {
                holder.is_over(core) && {
                    holder.wait(cx.waker(), core);
                    holder.is_over(core)
                }
            });
        }
        if !self.over.is_empty() {
            return Poll::Pending;
        }
        if !self.confirming && matches!(self.core.store.status(), millpond_store::StoreStatus::Full) {
            self.core.wait_for_room(cx.waker());
            return Poll::Pending;
        }
        if !self.confirming && !self.is_inside() && self.alarm_level() == AlarmLevel::Refusing {
            return self.poll_alarm(AlarmLevel::Refusing, cx).map(|_| ());
        }
        Poll::Ready(())
    }

    /// Ready unless the consumers of a queue that this session published to read at full speed and are behind all
    /// the same. A short patience then keeps the messages in memory, where they would go to disk and back
    /// otherwise; the front end bounds it, so that a slow consumer never holds a publisher up for good.
    pub fn poll_consumers_caught_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(cell) = &self.crowded else { return Poll::Ready(()) };
        // As above: first the wake-up, then the question.
        cell.wait(cx.waker());
        if cell.is_crowded() && !cell.is_deleted() {
            return Poll::Pending;
        }
        self.crowded = None;
        Poll::Ready(())
    }

    /// What time it is, for the messages that are about to be published: milliseconds since 1970.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.core.options.clock.now_ms()
    }

    /// Confirm mode of this connection's publishers: decides what a full store does (nack or wait).
    pub fn set_confirming(&mut self, confirming: bool) {
        self.confirming = confirming;
    }

    /// Where a message with this exchange, key and properties goes. Cached per session for exchanges that look at the
    /// key only. Checks what must be checked at the door (P1-P3): exchange exists and is not internal, user_id,
    /// expiration, CC/BCC, reply-to, body size. `properties` may be changed by the front end afterwards only as
    /// [`Session::rewrite_properties`] says.
    #[inline]
    pub fn route(
        &mut self,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &RawProperties<'_>,
        body_size_bytes: u64,
    ) -> Result<Route, PublishError> {
        let size_max_bytes = self.core.options.message_size_max_bytes;
        if body_size_bytes > size_max_bytes {
            return Err(PublishError::TooLarge { size_bytes: body_size_bytes, size_max_bytes });
        }
        let copies = self.check_properties(properties)?;
        let generation = self.vhost.generation();
        if !copies && let Some(route) = self.routes.get(generation, exchange, routing_key) {
            return Ok(route.clone());
        }
        self.find_route(generation, exchange, routing_key, properties, copies)
    }

    /// Checks the properties that the broker acts on; whether there are CC or BCC.
    #[inline]
    fn check_properties(&self, properties: &RawProperties<'_>) -> Result<bool, PublishError> {
        if let Some(claimed) = properties.user_id()
            && claimed != self.login.user.as_str().as_bytes()
        {
            let claimed = String::from_utf8_lossy(claimed).into_owned();
            return Err(PublishError::WrongUserId { claimed, user: self.login.user.clone() });
        }
        if let Some(expiration) = properties.expiration() {
            check_expiration(expiration)?;
        }
        if properties.reply_to() == Some(REPLY_TO.as_bytes()) && self.reply_name().is_none() {
            let reason = "fast reply consumer does not exist: consume from it on this channel first".into();
            return Err(PublishError::BadProperty { property: "reply_to", reason });
        }
        Ok(properties
            .headers()
            .is_some_and(|headers| headers.iter().any(|(name, _)| name == b"CC" || name == b"BCC")))
    }

    fn find_route(
        &mut self,
        generation: u64,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &RawProperties<'_>,
        copies: bool,
    ) -> Result<Route, PublishError> {
        self.may_publish(exchange, routing_key, properties)?;
        let is_reply = exchange.is_empty() && routing_key.starts_with(REPLY_TO_PREFIX.as_bytes());
        let mut found = Resolution::default();
        let gives_back = exchange.is_empty() && routing_key == GIVE_BACK_KEY.as_bytes();
        let mut aside = Aside { gives_back, ..Aside::default() };
        let meter;
        {
            let router = self.vhost.read();
            router.route(exchange, routing_key, properties, &mut found)?;
            meter = exchange_meter(&mut self.exchange_meter, &self.core, &self.vhost, (generation, exchange));
            if let Some(name) = router.delaying(exchange)
                && let Some(id) = cancels(properties.headers().unwrap_or_default())?
            {
                let cell = self.vhost.delay_cell(&router, &self.core, name);
                aside.cancels = cell.map(|cell| (cell, id));
                // It is an order and no message, unless it is to wait.
                (found.queues, found.histories) = Default::default();
            }
            aside.histories =
                found.histories.iter().filter_map(|name| self.vhost.history(&router, name)).collect();
            for (name, delay_ms) in &found.delays {
                let cell = self.vhost.delay_cell(&router, &self.core, name);
                aside.delays.extend(cell.map(|cell| (cell, *delay_ms)));
            }
        }
        if let Some(alternate) = &found.alternate_missing {
            let exchange = String::from_utf8_lossy(exchange);
            tracing::warn!(vhost = %self.vhost.name, %exchange, %alternate, "the alternate exchange is missing");
        }
        if is_reply {
            aside.reply = std::str::from_utf8(routing_key).ok().and_then(|name| self.vhost.replies.get(name));
        }
        let cells: Vec<_> = found.queues.into_iter().map(|queue| queue.0).collect();
        let stored = cells.iter().any(|cell| cell.spec().is_stored()) || !aside.delays.is_empty();
        let cancels = aside.cancels.is_some();
        // It is routed once more when it is released.
        self.keeps_bcc = !aside.delays.is_empty();
        let keeps_all = cells.iter().any(|cell| cell.stream().is_some());
        let refuses = cancels || cells.iter().any(|cell| cell.may_refuse());
        let route = Route(Arc::new(RouteInner {
            exchange: meter,
            cells,
            stored,
            keeps_all,
            refuses,
            aside: aside.boxed(),
        }));
        if found.keyed_only && !copies && !is_reply {
            self.routes.put(generation, exchange, routing_key, route.clone());
        }
        Ok(route)
    }

    /// The property bytes to store when they must differ from those published: BCC removed, direct reply-to
    /// rewritten. `None` (nearly always): as they are.
    #[inline]
    pub fn rewrite_properties(&mut self, properties: &RawProperties<'_>) -> Option<Vec<u8>> {
        let without_bcc = if self.keeps_bcc { None } else { properties.without_header("BCC") };
        if properties.reply_to() != Some(REPLY_TO.as_bytes()) {
            return without_bcc;
        }
        let Some(name) = self.reply_name() else { return without_bcc };
        let left = without_bcc.as_deref().map_or(*properties, RawProperties::from_checked);
        Some(left.with_reply_to(name.as_bytes()))
    }

    /// Publishes a batch: grouped by queue, appended, delivered, committed. Drains `batch`. `Pending` if any of it
    /// must reach the disk. `Err`: the store takes no writes and nothing of the batch was taken (nack).
    pub fn publish(&mut self, batch: &mut Vec<Publish>) -> Result<Durability, WriteRefused> {
        if batch.is_empty() {
            return Ok(Durability::Now);
        }
        self.check_door(batch)?;
        self.refused.clear();
        self.missed.clear();
        let core = self.core.clone();
        let ((), changes) = core.with_batch(|work| self.apply(batch, work));
        Ok(self.commit(changes))
    }

    /// Publishes, settles and changes keyed values as one commit: all durable or nothing, across queues (P7). Drains
    /// `publishes`.
    pub fn transact(
        &mut self,
        publishes: &mut Vec<Publish>,
        settles: &[(DeliveryId, Outcome)],
        values: &[ValueChange],
    ) -> Result<Durability, WriteRefused> {
        self.check_door(publishes)?;
        if values.iter().any(|change| change.value.is_some()) {
            self.core.check_writable()?;
        }
        self.missed.clear();
        let core = self.core.clone();
        let ((), changes) = core.with_batch(|work| {
            values.iter().for_each(|change| change.put_into(work.batch));
            self.apply(publishes, work);
            let mut left = settles.to_vec();
            while let Some((_, outcome)) = left.first().copied() {
                let ids: Vec<_> = left.extract_if(.., |settle| settle.1 == outcome).map(|it| it.0).collect();
                self.settle_with(&ids, outcome, work);
            }
        });
        if !settles.is_empty() {
            // What is settled cannot be brought back, so the publishes stay with it: in memory all of the commit
            // has happened, on disk nothing. The client is told of the failure and may do it once more.
            self.uncommitted.forget_applied();
        }
        Ok(self.commit(changes))
    }

    /// Refuses a batch that the store would have to keep and cannot.
    fn check_door(&self, batch: &[Publish]) -> Result<(), WriteRefused> {
        if self.core.alarms.level() == AlarmLevel::Refusing && !self.is_inside() && !batch.is_empty() {
            return Err(WriteRefused::Alarm { reason: self.core.alarms.reason() });
        }
        let Err(refused) = self.core.check_writable() else { return Ok(()) };
        let kept =
            |(message, route): &Publish| route.0.keeps_all || (route.0.stored && message.is_persistent());
        if batch.iter().any(kept) {
            return Err(refused);
        }
        Ok(())
    }

    /// Hands a batch to its queues.
    fn apply(&mut self, batch: &mut Vec<Publish>, work: &mut Work<'_>) {
        let Some((_, first)) = batch.first() else { return };
        let route = first.clone();
        count_published(batch);
        if batch.iter().any(|(_, route)| route.0.refuses) {
            return self.apply_one_by_one(batch, work);
        }
        if !batch.iter().all(|(_, other)| Arc::ptr_eq(&other.0, &route.0)) {
            return self.apply_mixed(batch, work);
        }
        match route.0.cells.as_slice() {
            [] => {}
            [cell] if route.0.aside.is_none() => {
                let seqs = cell.publish(&mut batch.drain(..).map(|(message, _)| message), work);
                self.note_published(cell, seqs);
            }
            cells => {
                for cell in cells {
                    let seqs = cell.publish(&mut batch.iter().map(|(message, _)| message.clone()), work);
                    self.note_published(cell, seqs);
                }
            }
        }
        if let Some(aside) = &route.0.aside {
            batch.iter().for_each(|(message, _)| self.put_aside(message, aside, work));
        }
        batch.clear();
    }

    /// As `apply`, noting which messages a queue refused (P6).
    #[cold]
    fn apply_one_by_one(&mut self, batch: &mut Vec<Publish>, work: &mut Work<'_>) {
        for (at, (message, route)) in batch.drain(..).enumerate() {
            if let Some(aside) = &route.0.aside {
                let cancelled = aside.cancels.as_ref().map(|(cell, id)| cell.cancel_named(id, work));
                match cancelled {
                    Some(Cancelled::Nothing) => self.missed.push(at as u32),
                    // Whoever asks for confirms is told that it did not work, and tries again.
                    Some(Cancelled::Unknown) => {
                        self.missed.push(at as u32);
                        self.refused.push(at as u32);
                        continue;
                    }
                    Some(Cancelled::Some(_)) | None => {}
                }
                self.put_aside(&message, aside, work);
            }
            work.scratch.refused = 0;
            for cell in &route.0.cells {
                let seqs = cell.publish(&mut std::iter::once(message.clone()), work);
                self.note_published(cell, seqs);
            }
            if std::mem::take(&mut work.scratch.refused) > 0 {
                self.refused.push(at as u32);
            }
        }
    }

    /// Which messages of the last publish, by their place in it, a queue had no room for: they are nacked. Empty
    /// unless [`Route::may_refuse`] said so.
    pub fn take_refused(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.refused)
    }

    /// Which messages of the last publish or transaction, by their place in it, were to take back others and found
    /// none. Empty unless [`Route::only_cancels`] said so of one.
    pub fn take_missed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.missed)
    }

    fn apply_mixed(&mut self, batch: &mut Vec<Publish>, work: &mut Work<'_>) {
        let mut groups = std::mem::take(&mut self.groups);
        for (message, route) in batch.drain(..) {
            if let Some(aside) = &route.0.aside {
                self.put_aside(&message, aside, work);
            }
            if let [cell] = route.0.cells.as_slice() {
                groups.push(cell, message);
                continue;
            }
            for cell in &route.0.cells {
                groups.push(cell, message.clone());
            }
        }
        for (cell, messages) in &mut groups.list {
            let seqs = cell.publish(&mut messages.drain(..), work);
            self.note_published(cell, seqs);
        }
        groups.clear();
        self.groups = groups;
    }

    /// Hands a message to the requester it answers, never buffered beyond its inbox (A14), to histories, and to where it
    /// waits.
    fn put_aside(&mut self, message: &Message, aside: &Aside, work: &mut Work<'_>) {
        if let Some(to) = &aside.reply
            && !to.inbox.reply(to.cookie, message.clone())
        {
            tracing::debug!("a direct reply was dropped: its requester does not read");
        }
        aside.histories.iter().for_each(|history| history.remember(message));
        for (cell, delay_ms) in &aside.delays {
            if let Some(seq) = cell.hold(message.clone(), *delay_ms, work) {
                self.uncommitted.held(cell, seq);
            }
            if cell.is_over() {
                self.note_over(Holder::Delay(cell.clone()));
            }
        }
    }

    /// Remembers what may have to be taken out again, and a queue that wants its publishers held back.
    pub(super) fn note_published(&mut self, cell: &Arc<QueueCell>, seqs: Appended) {
        let clock = &self.core.options.clock;
        cell.note_intake(|| seqs.count(), clock);
        if cell.spec().is_stored() {
            seqs.ranges().for_each(|seqs| self.uncommitted.applied(cell, seqs));
        }
        if self.crowded.is_none() && cell.is_too_crowded() {
            self.crowded = Some(cell.clone());
        }
        if cell.is_over(&self.core.options.clock) {
            self.note_over(Holder::Queue(cell.clone()));
        }
    }

    fn note_over(&mut self, holder: Holder) {
        if !self.over.iter().any(|known| known.is(&holder)) {
            self.over.push(holder);
        }
    }
}

/// Where it is counted what an exchange does; the one that was asked for last is kept at hand, for routes that are
/// found anew for each message.
fn exchange_meter(
    last: &mut Option<(u64, ExchangeName, Arc<Meter>)>,
    core: &Core,
    vhost: &Vhost,
    (generation, exchange): (u64, &[u8]),
) -> Arc<Meter> {
    if let Some((of, name, meter)) = last
        && *of == generation
        && name.as_str().as_bytes() == exchange
    {
        return meter.clone();
    }
    let name = std::str::from_utf8(exchange).ok().and_then(|name| ExchangeName::new(name).ok());
    // It was found by this name, so it is one.
    let Some(name) = name else { return core.stats.meter(Kind::Exchange, &vhost.name) };
    let meter = vhost.exchange_meter(&core.stats, &name);
    *last = Some((generation, name, meter.clone()));
    meter
}

/// Counts a batch for the exchanges it was published to: few, and mostly one.
fn count_published(batch: &[Publish]) {
    for of_one in batch.chunk_by(|a, b| Arc::ptr_eq(&a.1.0.exchange, &b.1.0.exchange)) {
        let exchange = &of_one[0].1.0.exchange;
        let out: usize = of_one.iter().map(|(_, route)| route.0.cells.len()).sum();
        exchange.add_shared(Count::PublishIn, of_one.len() as u64);
        exchange.add_shared(Count::PublishOut, out as u64);
    }
}

fn check_expiration(expiration: &[u8]) -> Result<(), PublishError> {
    let value = std::str::from_utf8(expiration)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<u64>().ok());
    if value.is_some_and(|ms| ms <= EXPIRATION_MAX_MS) {
        return Ok(());
    }
    let reason = format!(
        "'{}' is not a whole number of milliseconds from 0 to {EXPIRATION_MAX_MS}",
        String::from_utf8_lossy(expiration)
    );
    Err(PublishError::BadProperty { property: "expiration", reason })
}
