//! Messages that were acked and are kept: a queue with `x-retain` remembers them, so that they can be replayed.
//!
//! They are in a log of their own, which is read as a stream's: in the order of the acks, each stamped with the time of
//! its ack. The ack takes a message out of the queue's log and appends it there in one batch, so after a crash it is in
//! one of the two, never in both and never in neither. Of a message that was read back from disk the content has to be
//! read once more; until then it is [`pending`]: still in the queue's log, and written down as acked.

mod pending;

pub(crate) use pending::Known;

use super::arguments::BadArgument;
use super::cell::{QueueCell, State};
use super::pump::{Work, push_range};
use crate::core::Core;
use crate::definition::{encode_queue_ids, retained_key};
use crate::stream::arguments::{interval_ms, not_an_interval};
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::{RawValue, Table, Value};
use millpond_store::{Batch, Fetch, QueueId, QueueLog, StoreStatus};
use pending::Pending;
use std::ops::Range;
use std::sync::Arc;

/// The header of a replayed message that names the queue which remembered it.
pub(crate) const REPLAYED_FROM: &str = "x-replayed-from";

/// Message bytes taken over in one batch; the timer goes on with the rest.
const TAKEN_MAX_BYTES: usize = 1 << 20;

/// After how long a store that takes no writes is tried again.
const REFUSED_RETRY_MS: u64 = 1000;

/// How much may be added before it is looked how much there is: a share of the limit, at most so much. Bytes.
const CHECK_SHARE: u64 = 32;
const CHECK_MAX_BYTES: u64 = 8 << 20;

/// How long to wait before messages are dropped again that are too old: a share of the age within these.
const PAUSE_SHARE: u64 = 64;
const PAUSE_MIN_MS: u64 = 100;
const PAUSE_MAX_MS: u64 = 60_000;

/// How much is remembered: what goes beyond either bound is forgotten, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetainTerms {
    /// Since the ack.
    age_max_ms: Option<u64>,
    size_max_bytes: Option<u64>,
}

impl RetainTerms {
    /// Of arguments that were checked; `None`: the queue remembers nothing.
    pub(crate) fn of(arguments: &Table) -> Option<Self> {
        let age_max_ms = arguments.get("x-retain").and_then(Value::as_str).and_then(interval_ms);
        let size = arguments.get("x-retain-bytes").and_then(Value::as_i64);
        let size_max_bytes = size.and_then(|size| u64::try_from(size).ok());
        (age_max_ms.is_some() || size_max_bytes.is_some()).then_some(Self { age_max_ms, size_max_bytes })
    }

    /// Whether `x-retain` of a declaration can be read; the shape of `x-retain-bytes` is checked with the others.
    pub(crate) fn check(arguments: &Table) -> Result<(), BadArgument> {
        let Some(text) = arguments.get("x-retain").and_then(Value::as_str) else { return Ok(()) };
        match interval_ms(text) {
            Some(_) => Ok(()),
            None => Err(BadArgument { argument: "x-retain", reason: not_an_interval(text) }),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Retained {
    terms: RetainTerms,
    /// Made when the first message comes.
    log: Option<QueueLog>,
    pending: Pending,
    /// Added since it was last looked how much there is.
    unchecked_bytes: u64,
    /// When the first one will be too old; `None`: there is none, or it was not looked yet.
    trim_at_ms: Option<u64>,
    /// Empty between calls.
    content: Vec<(u64, Message)>,
}

/// What a queue remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetainedFigures {
    /// Messages.
    pub count: u64,
    /// Their bytes, with headers and properties.
    pub size_bytes: u64,
    /// When the oldest was acked (or one beside it on disk): milliseconds since 1970.
    pub oldest_ms: Option<u64>,
}

impl Retained {
    pub(super) fn new(terms: RetainTerms, queue: QueueId, stored: bool) -> Self {
        Self {
            terms,
            log: None,
            pending: Pending::new(queue, stored),
            unchecked_bytes: 0,
            trim_at_ms: None,
            content: Vec::new(),
        }
    }

    /// Goes by other terms from now on.
    fn change(&mut self, terms: RetainTerms) {
        self.terms = terms;
        self.unchecked_bytes = u64::MAX;
        self.trim_at_ms = None;
    }

    /// Forgets everything for good.
    fn drop_all(&mut self, queue: QueueId, batch: &mut Batch) {
        self.pending.clear(batch);
        if let Some(log) = self.log.take() {
            log.delete(batch);
            batch.delete(&retained_key(queue));
        }
    }

    /// Forgets what is too much; when there will be something to forget next.
    fn trim(&mut self, work: &mut Work<'_>) -> Option<u64> {
        let log = self.log.as_ref()?;
        if let Some(max_bytes) = self.terms.size_max_bytes
            && self.unchecked_bytes >= (max_bytes / CHECK_SHARE).clamp(1, CHECK_MAX_BYTES)
        {
            self.unchecked_bytes = 0;
            log.trim_to_size(work.batch, max_bytes);
        }
        let age_max_ms = self.terms.age_max_ms?;
        let now_ms = work.core.options.clock.now_ms();
        if self.trim_at_ms.is_none_or(|at_ms| at_ms <= now_ms) {
            let (_, oldest_ms) = log.trim_older(work.batch, now_ms.saturating_sub(age_max_ms));
            let pause_ms = (age_max_ms / PAUSE_SHARE).clamp(PAUSE_MIN_MS, PAUSE_MAX_MS);
            // One millisecond more: what is just as old as allowed stays.
            let due = |oldest_ms: u64| oldest_ms.saturating_add(age_max_ms).saturating_add(1);
            self.trim_at_ms = oldest_ms.map(|oldest_ms| due(oldest_ms).max(now_ms + pause_ms));
        }
        self.trim_at_ms
    }
}

impl State {
    /// The messages in `scratch.settled` were acked and are to be remembered: they are taken over by [`QueueCell::tend`].
    pub(super) fn remember(&mut self, work: &mut Work<'_>) -> bool {
        let Some(retained) = &mut self.retained else { return false };
        for range in work.scratch.settled.drain(..) {
            retained.pending.push(range);
        }
        true
    }
}

impl QueueCell {
    /// Takes over what was acked, forgets what is too much; when there is to do more.
    pub(super) fn tend_retained(self: &Arc<Self>, state: &mut State, work: &mut Work<'_>) -> Option<u64> {
        let retained = state.retained.as_deref_mut()?;
        let unfinished = self.take_over(retained, work);
        let trim_at_ms = retained.trim(work);
        [unfinished, trim_at_ms].into_iter().flatten().min()
    }

    /// When to go on; `None`: all is done, or what comes next is being read from disk.
    fn take_over(self: &Arc<Self>, retained: &mut Retained, work: &mut Work<'_>) -> Option<u64> {
        if retained.pending.is_empty() {
            return None;
        }
        let now_ms = work.core.options.clock.now_ms();
        if !matches!(work.core.store.status(), StoreStatus::Writable) {
            return Some(now_ms + REFUSED_RETRY_MS);
        }
        let mut settled: Vec<Range<u64>> = Vec::new();
        let mut left = TAKEN_MAX_BYTES;
        let mut next = None;
        while let Some(seqs) = retained.pending.front() {
            let before = retained.content.len();
            let fetch = self.log.fetch(seqs.clone(), left, &mut retained.content);
            let fetched = &retained.content[before..];
            let size: usize = fetched.iter().map(|(_, message)| message.size_bytes()).sum();
            let whole = fetch == Fetch::Complete && size <= left;
            let reached =
                if whole { seqs.end } else { fetched.last().map_or(seqs.start, |(seq, _)| seq + 1) };
            push_range(&mut settled, seqs.start..reached);
            left = left.saturating_sub(size);
            retained.pending.taken(reached, work.batch);
            if fetch == Fetch::Loading {
                break;
            }
            if left == 0 {
                next = (!retained.pending.is_empty()).then_some(now_ms);
                break;
            }
        }
        retained.pending.note(work.batch);
        self.append_retained(retained, now_ms, work);
        self.log.settle(work.batch, &settled);
        next
    }

    fn append_retained(self: &Arc<Self>, retained: &mut Retained, now_ms: u64, work: &mut Work<'_>) {
        // What was replayed from here is (or was) remembered already.
        retained.content.retain(|(_, message)| !is_replayed_from(message, self.spec.name.as_str()));
        if retained.content.is_empty() {
            return;
        }
        let log = retained.log.get_or_insert_with(|| self.make_retained_log(work.core, work.batch));
        let added = &mut retained.unchecked_bytes;
        let mut kept = retained.content.drain(..).map(|(_, message)| {
            *added = added.saturating_add(message.size_bytes() as u64);
            acked_at(&message, now_ms)
        });
        log.append(work.batch, &mut kept);
    }

    fn make_retained_log(self: &Arc<Self>, core: &Core, batch: &mut Batch) -> QueueLog {
        let id = core.next_queue_ids(1);
        if self.spec.is_stored() {
            batch.put(&retained_key(self.spec.id), &encode_queue_ids(id.0));
        }
        let log = core.store.create_queue(id, true);
        log.on_change(self.listener());
        log
    }

    /// What was remembered before the start, and what was acked. Without terms it is forgotten.
    pub(crate) fn restore_retained(self: &Arc<Self>, log: Option<QueueLog>, known: Known, batch: &mut Batch) {
        let mut state = self.state.lock();
        for (_, seqs) in &known.pending {
            state.machine.remove_ready(seqs.clone());
        }
        let Some(retained) = &mut state.retained else {
            known.delete(self.spec.id, batch);
            let acked: Vec<_> = known.pending.into_iter().map(|(_, seqs)| seqs).collect();
            self.log.settle(batch, &acked);
            if let Some(log) = log {
                log.delete(batch);
            }
            return;
        };
        retained.pending.restore(known.pending);
        if let Some(log) = log {
            log.on_change(self.listener());
            retained.log = Some(log);
            retained.unchecked_bytes = u64::MAX;
        }
    }

    /// Goes by other terms; without any, what was remembered is forgotten.
    pub(super) fn change_retained(&self, state: &mut State, terms: Option<RetainTerms>, work: &mut Work<'_>) {
        match (&mut state.retained, terms) {
            (Some(retained), Some(terms)) => retained.change(terms),
            (None, Some(terms)) => {
                state.retained = Some(Box::new(Retained::new(terms, self.spec.id, self.spec.is_stored())));
            }
            (Some(retained), None) => {
                let acked = retained.pending.clear(work.batch);
                self.log.settle(work.batch, &acked);
                self.forget_retained(state, work);
            }
            (None, None) => {}
        }
    }

    /// Forgets all that is remembered, and remembers nothing any more.
    pub(super) fn forget_retained(&self, state: &mut State, work: &mut Work<'_>) {
        if let Some(mut retained) = state.retained.take() {
            retained.drop_all(self.spec.id, work.batch);
        }
    }

    /// The log of what is remembered (of a stream: the stream), to be read; `None`: nothing is. The error: the queue is
    /// not one that remembers.
    pub(crate) fn retained_log(&self) -> Result<Option<QueueLog>, NotRetaining> {
        if let Some(stream) = &self.stream {
            return Ok(Some(stream.log().clone()));
        }
        let state = self.state.lock();
        state.retained.as_ref().map(|retained| retained.log.clone()).ok_or(NotRetaining)
    }

    /// How much is remembered; `None`: the queue is not one that remembers.
    pub(crate) fn retained_figures(&self) -> Option<RetainedFigures> {
        let state = self.state.lock();
        let Some(log) = &state.retained.as_ref()?.log else { return Some(RetainedFigures::default()) };
        let (first, end) = log.bounds();
        let oldest_ms = log.first_time_ms();
        Some(RetainedFigures { count: end - first, size_bytes: log.live_bytes(), oldest_ms })
    }
}

/// The queue was not asked to remember anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotRetaining;

fn is_replayed_from(message: &Message, queue: &str) -> bool {
    let headers = RawProperties::from_checked(message.properties()).headers();
    matches!(headers.and_then(|headers| headers.get(REPLAYED_FROM)), Some(RawValue::LongStr(from)) if from == queue.as_bytes())
}

/// As it is remembered: on disk whatever it was before, with the time of the ack in place of that of publishing.
fn acked_at(message: &Message, now_ms: u64) -> Message {
    let (exchange, routing_key) = (message.exchange(), message.routing_key());
    Message::published_at(now_ms, exchange, routing_key, message.properties(), true, message.body())
}
