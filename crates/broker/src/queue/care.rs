//! What a queue must be looked after for: messages that expire, limits of length, deaths, an unused queue's end.
//!
//! A queue that asks for none of it is told by one flag ([`Care::is_needed`]) and pays nothing else.

use super::cell::{QueueCell, State};
use super::dedup::Dedup;
use super::machine::{Past, Reason};
use super::pump::Work;
use super::settings::{Overflow, QueueSettings};
use crate::core::Core;
use crate::dead_letter::Dead;
use crate::stats::Count;
use crate::timer::OnTimer;
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::{TableBuf, Value};
use millpond_store::Fetch;
use std::ops::Range;
use std::sync::{Arc, Weak};

/// Messages looked at in one go for those that have expired.
const LOOK_MAX: usize = 64;

/// Message bytes moved in one commit when many die at once; the timer goes on with the rest.
const MOVED_MAX_BYTES: usize = 1 << 20;

/// After how long messages without a dead-letter exchange are tried again.
const PARKED_RETRY_MS: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Care {
    /// The settings ask for something.
    wanted: bool,
    /// A message with an expiration of its own may be here.
    pub(super) may_expire: bool,
    /// Publishes may be refused.
    pub(super) refuses: bool,
    /// Ids of messages that came, if the queue wants each once.
    pub(super) dedup: Option<Box<Dedup>>,
    /// When the timer is to ring, the earliest that was asked for.
    armed_ms: u64,
    /// When it was last used, if it expires unused.
    used_ms: Option<u64>,
    /// Messages that were just published are handed out whatever their time to live says (T2).
    pub(super) fresh: bool,
    /// Ready messages from here on may have a size that the machine was not told.
    weigh_from: Option<u64>,
    /// That its dead letters have nowhere to go was logged.
    warned: bool,
    /// Some work has taken dead messages of this queue and not moved them yet. Another's would overtake them.
    moving: bool,
}

impl Care {
    /// `recovered`: there are messages already, which may have an expiration: nobody has looked.
    pub(super) fn new(settings: &QueueSettings, recovered: bool) -> Self {
        Self {
            wanted: *settings != QueueSettings::default(),
            may_expire: recovered,
            refuses: settings.refuses(),
            dedup: None,
            armed_ms: u64::MAX,
            used_ms: settings.expires_ms.map(|_| 0),
            fresh: false,
            weigh_from: settings.max_length_bytes.filter(|_| recovered).map(|_| 0),
            warned: false,
            moving: false,
        }
    }

    /// The settings are others from now on. What a queue once asked for it may still have to bring to its end, so it
    /// is looked after from then on.
    pub(super) fn change(&mut self, settings: &QueueSettings, work: &Work<'_>) {
        self.wanted |= *settings != QueueSettings::default();
        self.refuses = settings.refuses();
        self.warned = false;
        self.weigh_from = settings.max_length_bytes.map(|_| 0);
        self.used_ms = settings.expires_ms.map(|_| work.core.options.clock.now_ms());
    }

    #[inline]
    fn is_needed(&self) -> bool {
        self.wanted || self.may_expire
    }

    /// Somebody used the queue (T3).
    pub(super) fn used(&mut self, work: &Work<'_>) {
        if let Some(used_ms) = &mut self.used_ms {
            *used_ms = work.core.options.clock.now_ms();
        }
    }
}

/// See [`QueueCell::fate`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    /// It is as long as it may be; `true`: it refuses messages then.
    pub(crate) full: Option<bool>,
    /// It takes each id once.
    pub(crate) once: bool,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) paused: bool,
}

impl State {
    /// Whether messages may expire here.
    #[inline]
    pub(super) fn expires(&self) -> bool {
        (self.care.may_expire || self.settings.message_ttl_ms.is_some()) && !self.care.fresh
    }

    /// What becomes of a message that comes now, one without a time to live of its own.
    pub(super) fn fate(&self) -> Fate {
        let QueueSettings { max_length, max_length_bytes, message_ttl_ms, overflow, paused, .. } =
            &*self.settings;
        let full = max_length.is_some_and(|max| self.machine.ready_count() >= max)
            || max_length_bytes.is_some_and(|max| self.machine.ready_bytes() >= max);
        Fate {
            full: full.then_some(*overflow != Overflow::DropHead),
            once: self.settings.dedup.is_some(),
            ttl_ms: *message_ttl_ms,
            paused: *paused,
        }
    }

    /// When a message expires (T1); `None`: never.
    fn due_ms(&self, message: &Message) -> Option<u64> {
        let own = message.has_expiration().then(|| {
            let properties = RawProperties::from_checked(message.properties());
            std::str::from_utf8(properties.expiration()?).ok()?.parse::<u64>().ok()
        });
        let ttl_ms = match (own.flatten(), self.settings.message_ttl_ms) {
            (Some(own), Some(queue)) => own.min(queue),
            (own, queue) => own.or(queue)?,
        };
        Some(message.published_ms()?.saturating_add(ttl_ms))
    }

    /// Drops what follows the first that has expired, with it; which one that was. Only where messages have
    /// expirations of their own: otherwise they expire in the order they came, and the head was looked at.
    pub(super) fn cut_expired(&self, fetched: &mut Vec<(u64, Message)>, core: &Core) -> Option<u64> {
        if !self.care.may_expire || self.care.fresh {
            return None;
        }
        let now_ms = core.options.clock.now_ms();
        let is_over = |(_, message): &(u64, Message)| self.due_ms(message).is_some_and(|due| due <= now_ms);
        let first = fetched.iter().position(is_over)?;
        let over = fetched[first].0;
        fetched.truncate(first);
        Some(over)
    }

    /// The message with how often it was delivered before, where the queue counts that (X9).
    #[inline]
    pub(super) fn counted(&self, message: Message, past: Past) -> Message {
        if past.handed == 0 || !self.settings.counts_deliveries() {
            return message;
        }
        with_counts(&message, past)
    }

    /// Whether it has been unused for long enough to go.
    pub(super) fn is_expired(&self, now_ms: u64) -> bool {
        self.sinks.is_empty() && self.expires_at_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }

    fn expires_at_ms(&self) -> Option<u64> {
        Some(self.care.used_ms?.saturating_add(self.settings.expires_ms?))
    }
}

fn with_counts(message: &Message, past: Past) -> Message {
    let properties = RawProperties::from_checked(message.properties());
    let mut headers = TableBuf::without(properties.headers().unwrap_or_default(), "x-delivery-count");
    headers = TableBuf::without(headers.as_raw(), "x-acquired-count");
    let counts = [("x-delivery-count", past.failed), ("x-acquired-count", past.handed)];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        // Names are short and numbers have an encoding.
        let _ = headers.push_value(name, &Value::I64(count.into()));
    }
    let encoded = properties.with_headers(Some(headers.as_raw()));
    Message::published_at(
        message.published_ms().unwrap_or(0),
        message.exchange(),
        message.routing_key(),
        &encoded,
        message.is_persistent(),
        message.body(),
    )
}

impl QueueCell {
    /// The queue begins, or somebody asks for it: the time until it expires unused is counted anew.
    pub(crate) fn touch(self: &Arc<Self>, work: &mut Work<'_>) {
        let mut state = self.state.lock();
        state.care.used(work);
        self.tend(&mut state, work);
    }

    /// Does what the queue must be looked after for, and asks the timer for the next time.
    #[inline]
    pub(super) fn tend(self: &Arc<Self>, state: &mut State, work: &mut Work<'_>) {
        if state.care.is_needed() && !state.deleted {
            self.tend_now(state, work);
        }
        if let Some(at_ms) = state.machine.next_deadline_ms() {
            self.arm(state, at_ms, work);
        }
        self.look_on(state, work);
        self.stir(state, work.core);
    }

    fn tend_now(self: &Arc<Self>, state: &mut State, work: &mut Work<'_>) {
        self.weigh(state);
        trim(state);
        let head_due_ms = self.expire(state, work);
        let unfinished = self.bury(state, work);
        let retained_at_ms = self.tend_retained(state, work);
        let now_ms = work.core.options.clock.now_ms();
        let next = [
            head_due_ms,
            unfinished.then_some(now_ms),
            retained_at_ms,
            state.machine.has_parked().then_some(now_ms + PARKED_RETRY_MS),
            state.expires_at_ms().filter(|_| state.sinks.is_empty()).map(|at_ms| at_ms.max(now_ms)),
        ];
        if let Some(at_ms) = next.into_iter().flatten().min() {
            self.arm(state, at_ms, work);
        }
    }

    /// Has the timer ring at that moment at the latest.
    pub(super) fn arm(self: &Arc<Self>, state: &mut State, at_ms: u64, work: &Work<'_>) {
        if at_ms < state.care.armed_ms {
            state.care.armed_ms = at_ms;
            let this: Weak<Self> = Arc::downgrade(self);
            work.core.timer.arm(at_ms, this);
        }
    }

    /// Tells the machine the sizes of messages that were here before anybody asked.
    fn weigh(&self, state: &mut State) {
        let mut seen = Vec::new();
        while let Some(from) = state.care.weigh_from {
            let Some(ready) = state.machine.ready_from(from) else {
                state.care.weigh_from = None;
                return;
            };
            let peek = self.log.peek(ready.clone(), LOOK_MAX, &mut seen);
            // What is missing in the store has no size.
            let mut next = if peek == Fetch::Loading || seen.len() == LOOK_MAX { from } else { ready.end };
            for (seq, message) in seen.drain(..) {
                state.machine.weigh_ready(seq, message.body_size_bytes() as u32);
                next = next.max(seq + 1);
            }
            state.care.weigh_from = Some(next);
            if peek == Fetch::Loading {
                return;
            }
        }
    }

    /// Lets go of what has expired at the head; when the next one there does.
    pub(super) fn expire(&self, state: &mut State, work: &mut Work<'_>) -> Option<u64> {
        if !state.expires() {
            return None;
        }
        let now_ms = work.core.options.clock.now_ms();
        self.log.spaces().filter_map(|space| self.expire_in(space, state, now_ms)).min()
    }

    /// As `expire`, of the messages of one priority.
    fn expire_in(&self, space: Range<u64>, state: &mut State, now_ms: u64) -> Option<u64> {
        let mut looked_at = Vec::new();
        // Mostly the first has not expired, and then none behind it matters.
        let mut count = 1;
        while let Some(head) = state.machine.ready_from(space.start).filter(|head| head.start < space.end) {
            let peek = self.log.peek(head.clone(), count, &mut looked_at);
            count = LOOK_MAX;
            let mut over_to = head.start;
            let mut stays = None;
            for (seq, message) in looked_at.drain(..) {
                match state.due_ms(&message) {
                    Some(due_ms) if due_ms <= now_ms => over_to = seq + 1,
                    due_ms => {
                        stays = Some(due_ms);
                        break;
                    }
                }
            }
            if over_to > head.start {
                state.machine.doom_range(head.start..over_to, Reason::Expired);
            }
            match stays {
                Some(due_ms) => return due_ms,
                None if peek == Fetch::Loading || over_to == head.start => return None,
                None => {}
            }
        }
        None
    }

    /// Takes the dying out of the queue: to be moved by the work, or dropped. Whether some are left that could be
    /// taken at once.
    fn bury(self: &Arc<Self>, state: &mut State, work: &mut Work<'_>) -> bool {
        let mut moved_bytes = 0;
        while let Some((seqs, reason)) = state.machine.first_dying() {
            if state.settings.dead_letter.is_none() {
                let n = seqs.end - seqs.start;
                let meter = self.meter(work.core);
                meter.add(Count::Expired, if reason == Reason::Expired { n } else { 0 });
                meter.add(Count::Dropped, n);
                state.machine.buried(seqs.end);
                self.log.settle(work.batch, &[seqs]);
                continue;
            }
            if moved_bytes >= MOVED_MAX_BYTES {
                return true;
            }
            let is_mine =
                |work: &Work<'_>| work.scratch.dead.iter().any(|dead| Arc::ptr_eq(&dead.cell, self));
            if state.care.moving && !is_mine(work) {
                return false;
            }
            let mut content = Vec::new();
            let room = MOVED_MAX_BYTES - moved_bytes;
            let fetch = self.log.fetch(seqs.clone(), room, &mut content);
            let size: usize = content.iter().map(|(_, message)| message.size_bytes()).sum();
            moved_bytes += size;
            let whole = fetch == Fetch::Complete && size <= room;
            let reached =
                if whole { seqs.end } else { content.last().map_or(seqs.start, |(seq, _)| seq + 1) };
            state.care.moving |= !content.is_empty();
            if reason == Reason::Expired {
                self.meter(work.core).add(Count::Expired, content.len() as u64);
            }
            let dead =
                content.into_iter().map(|(seq, message)| Dead { cell: self.clone(), seq, reason, message });
            work.scratch.dead.extend(dead);
            state.machine.buried(reached);
            if fetch == Fetch::Loading {
                return false;
            }
        }
        false
    }

    /// The dead messages that this work had taken are where they go; what died meanwhile follows.
    pub(crate) fn moved(self: &Arc<Self>, work: &mut Work<'_>) {
        let mut state = self.state.lock();
        state.care.moving = false;
        if state.machine.first_dying().is_some() {
            let this: Weak<Self> = Arc::downgrade(self);
            work.core.timer.arm(work.core.options.clock.now_ms(), this);
        }
    }

    /// Messages that were moved are settled.
    pub(crate) fn forget(&self, seqs: &[Range<u64>], work: &mut Work<'_>) {
        self.log.settle(work.batch, seqs);
    }

    /// A dead message stays because its dead-letter exchange is not there; it is tried again.
    pub(crate) fn park(self: &Arc<Self>, seq: u64, reason: Reason, work: &mut Work<'_>) {
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        if !std::mem::replace(&mut state.care.warned, true)
            && let Some(to) = &state.settings.dead_letter
        {
            tracing::warn!(
                queue = %self.spec().name, exchange = %to.exchange,
                "the dead-letter exchange is missing: dead messages wait in the queue until it is declared"
            );
        }
        state.machine.park(seq..seq + 1, reason);
        self.tend(&mut state, work);
    }
}

/// Lets go of the oldest ready messages that are too many (T4).
fn trim(state: &mut State) {
    if state.settings.overflow != Overflow::DropHead {
        return;
    }
    if let Some(max) = state.settings.max_length {
        while state.machine.ready_count() > max {
            let excess = state.machine.ready_count() - max;
            state.machine.doom_ready(excess, Reason::MaxLength);
        }
    }
    if let Some(max) = state.settings.max_length_bytes {
        while state.machine.ready_bytes() > max && state.machine.doom_ready(1, Reason::MaxLength) > 0 {}
    }
}

impl OnTimer for QueueCell {
    fn on_timer(self: Arc<Self>, core: &Arc<Core>) {
        let unused = core.work(|work| {
            let unused = {
                let mut state = self.state.lock();
                state.care.armed_ms = u64::MAX;
                if state.machine.has_parked() {
                    state.machine.retry_parked();
                }
                self.pump(&mut state, work);
                state.is_expired(core.options.clock.now_ms())
            };
            work.scratch.wake();
            unused
        });
        if unused {
            core.delete_expired(&self);
        }
    }
}
