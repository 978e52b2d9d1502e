//! The delayed messages of one exchange: log and schedule behind one lock, and the timer that releases them.

use super::schedule::{IdHash, Schedule, Waiting};
use super::{delay_ms, due_ms, waited};
use crate::core::Core;
use crate::queue::{QueueCell, Work};
use crate::routing::Resolution;
use crate::timer::OnTimer;
use crate::vhost::Vhost;
use hashbrown::HashMap;
use millpond_model::properties::RawProperties;
use millpond_model::{ExchangeName, Message};
use millpond_store::{Batch, Fetch, OnQueue, QueueLog};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::task::Waker;

/// Messages released in one batch; the timer goes on with the next.
const RELEASE_MAX: usize = 1024;

/// Bytes of messages released in one batch.
const RELEASE_MAX_BYTES: usize = 1 << 20;

/// Bytes of messages read ahead.
const READ_MAX_BYTES: usize = 32 << 20;

/// Bytes of messages looked at in one piece when the schedule is rebuilt.
const REBUILD_BYTES: usize = 1 << 20;

/// See the module.
pub(crate) struct DelayCell {
    exchange: ExchangeName,
    vhost: Weak<Vhost>,
    log: QueueLog,
    /// Its key is this process's own, so that nobody can choose ids that look the same.
    hasher: RandomState,
    state: Mutex<State>,
}

/// What became of an attempt to take messages back by their id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// So many will not be released.
    Some(u64),
    /// No message with that id waits.
    Nothing,
    /// Not known yet: after a start the log is still being read. Nothing was cancelled.
    Unknown,
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    /// To be read ahead, in the order of the log.
    pass: VecDeque<Waiting>,
    /// Read ahead, by number.
    read: HashMap<u64, Message>,
    read_bytes: usize,
    /// What of the log is still to be looked at after a start.
    rebuild: Option<Range<u64>>,
    /// A content is on disk; `OnQueue::loaded` will tell.
    loading: bool,
    /// When the timer is to ring, the earliest that was asked for.
    armed_ms: u64,
    /// Publishers that wait until the log is relieved.
    waiters: Vec<Waker>,
    deleted: bool,
    /// Some thread has taken what was due and not released it yet. Another's would overtake it.
    releasing: bool,
}

/// One of the messages that wait, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedMessage {
    /// Its number in the exchange, by which it is cancelled.
    pub id: u64,
    /// When it is due: milliseconds since 1970.
    pub due_ms: u64,
    /// Its routing key and the property message_id, unless the message is on disk.
    pub content: Option<DelayedContent>,
}

/// What tells a delayed message from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedContent {
    /// The routing key.
    pub routing_key: Box<[u8]>,
    /// The property message_id.
    pub message_id: Option<Box<[u8]>>,
    /// Of the body, in bytes.
    pub body_size_bytes: usize,
}

impl DelayCell {
    /// Over a log. `found`: the numbers in it that may be live after a start.
    pub(crate) fn new(
        exchange: ExchangeName,
        vhost: Weak<Vhost>,
        core: Weak<Core>,
        log: QueueLog,
        found: Option<Range<u64>>,
    ) -> Arc<Self> {
        let state = State { rebuild: found, armed_ms: u64::MAX, ..State::default() };
        let hasher = RandomState::new();
        let cell = Arc::new(Self { exchange, vhost, log, hasher, state: Mutex::new(state) });
        cell.log.on_change(Arc::new(Listener { cell: Arc::downgrade(&cell), core }));
        cell
    }

    pub(crate) fn exchange(&self) -> &ExchangeName {
        &self.exchange
    }

    /// Begins to work on what was found at a start.
    pub(crate) fn start(self: &Arc<Self>, core: &Core) {
        let mut state = self.state.lock();
        self.arm(&mut state, core);
    }

    /// Keeps a message until `delay_ms` after it was published; its number. `None`: the exchange is gone.
    pub(crate) fn hold(
        self: &Arc<Self>,
        message: Message,
        delay_ms: u64,
        work: &mut Work<'_>,
    ) -> Option<u64> {
        let (message, published_ms) = match message.published_ms() {
            Some(published_ms) => (message, published_ms),
            None => {
                let now_ms = work.core.options.clock.now_ms();
                (restamped(&message, now_ms, message.properties()), now_ms)
            }
        };
        let id = self.id_of(&message);
        let mut state = self.state.lock();
        if state.deleted {
            return None;
        }
        let seqs = self.log.append(work.batch, &mut std::iter::once(message));
        state.schedule.add(Waiting { due_ms: due_ms(published_ms, delay_ms), seq: seqs.start }, id);
        self.arm(&mut state, work.core);
        Some(seqs.start)
    }

    /// Takes messages out again whose commit failed, as far as they wait still.
    pub(crate) fn retract(&self, seqs: Range<u64>, work: &mut Work<'_>) {
        let mut state = self.state.lock();
        let gone = state.schedule.remove_range(&seqs);
        self.take_out(&mut state, &gone, work);
    }

    /// Settles what has left the schedule and is not released.
    fn take_out(&self, state: &mut State, gone: &[Waiting], work: &mut Work<'_>) {
        let mut settled: Vec<Range<u64>> = Vec::with_capacity(gone.len());
        for one in gone {
            state.forget_read(one.seq);
            settled.push(one.seq..one.seq + 1);
        }
        settled.sort_unstable_by_key(|range| range.start);
        self.log.settle(work.batch, &settled);
    }

    /// Takes a message out that waits; whether it was there.
    pub(crate) fn cancel(&self, id: u64, work: &mut Work<'_>) -> bool {
        let mut state = self.state.lock();
        let gone = state.schedule.remove(id);
        self.take_out(&mut state, gone.as_slice(), work);
        gone.is_some()
    }

    /// Takes out all messages that wait with this `message_id`.
    pub(crate) fn cancel_named(&self, message_id: &[u8], work: &mut Work<'_>) -> Cancelled {
        let mut state = self.state.lock();
        if state.rebuild.is_some() {
            return Cancelled::Unknown;
        }
        let gone = state.schedule.remove_named(IdHash(self.hasher.hash_one(message_id)));
        self.take_out(&mut state, &gone, work);
        match gone.len() as u64 {
            0 => Cancelled::Nothing,
            count => Cancelled::Some(count),
        }
    }

    /// Stands for a message's id, if it has one.
    fn id_of(&self, message: &Message) -> Option<IdHash> {
        let id = RawProperties::from_checked(message.properties()).message_id()?;
        (!id.is_empty()).then(|| IdHash(self.hasher.hash_one(id)))
    }

    /// Whether publishers are to wait: more is in memory than can be written out.
    pub(crate) fn is_over(&self) -> bool {
        self.log.is_over()
    }

    /// Whether it is gone.
    pub(crate) fn is_deleted(&self) -> bool {
        self.state.lock().deleted
    }

    /// Wakes `waker` when the log is relieved or gone; ask again then.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut state = self.state.lock();
        if !state.waiters.iter().any(|known| known.will_wake(waker)) {
            state.waiters.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        let waiters = std::mem::take(&mut self.state.lock().waiters);
        waiters.into_iter().for_each(Waker::wake);
    }

    /// How many wait, and when the first is due.
    pub(crate) fn figures(&self) -> (u64, Option<u64>) {
        let state = self.state.lock();
        (state.schedule.len() as u64, state.schedule.iter().next().map(|first| first.due_ms))
    }

    /// The first `count_max` in the order of their times.
    pub(crate) fn list(&self, count_max: usize) -> Vec<DelayedMessage> {
        let state = self.state.lock();
        let mut found = Vec::new();
        let mut on_disk = false;
        let look = |one: &Waiting| {
            found.clear();
            on_disk = on_disk || self.log.peek(one.seq..one.seq + 1, 1, &mut found) == Fetch::Loading;
            let content = found.first().map(|(_, message)| DelayedContent {
                routing_key: message.routing_key().into(),
                message_id: RawProperties::from_checked(message.properties()).message_id().map(Into::into),
                body_size_bytes: message.body_size_bytes(),
            });
            DelayedMessage { id: one.seq, due_ms: one.due_ms, content }
        };
        state.schedule.iter().take(count_max).map(look).collect()
    }

    /// The exchange goes: nothing is released any more.
    pub(super) fn delete(&self, batch: &mut Batch) {
        let mut state = self.state.lock();
        state.deleted = true;
        state.schedule.clear();
        state.pass.clear();
        state.read.clear();
        state.rebuild = None;
        self.log.delete(batch);
        drop(state);
        self.wake_all();
    }

    /// Has the timer ring when there is something to do.
    fn arm(self: &Arc<Self>, state: &mut State, core: &Core) {
        let at_ms = state.next_ms();
        if at_ms < state.armed_ms {
            state.armed_ms = at_ms;
            let weak: Weak<Self> = Arc::downgrade(self);
            core.timer.arm(at_ms, weak);
        }
    }

    /// Does what is to be done now, and asks to be called again for the rest.
    fn run(self: &Arc<Self>, work: &mut Work<'_>) {
        let now_ms = work.core.options.clock.now_ms();
        let mut due = Vec::new();
        {
            let mut state = self.state.lock();
            if state.deleted {
                return;
            }
            self.rebuild(&mut state);
            self.read_ahead(&mut state, now_ms);
            if state.releasing {
                // Who is at it looks again when it is done.
                return;
            }
            self.take_due(&mut state, now_ms, &mut due);
            state.releasing = !due.is_empty();
            self.arm(&mut state, work.core);
        }
        if !due.is_empty() {
            self.release(due, now_ms, work);
            let mut state = self.state.lock();
            state.releasing = false;
            self.arm(&mut state, work.core);
        }
    }

    /// Puts another piece of the log into the schedule.
    fn rebuild(&self, state: &mut State) {
        let Some(mut left) = state.rebuild.take() else { return };
        let mut found = Vec::new();
        let fetch = self.log.fetch(left.clone(), REBUILD_BYTES, &mut found);
        for (seq, message) in &found {
            let headers = RawProperties::from_checked(message.properties()).headers();
            let delay_ms = headers.and_then(delay_ms).unwrap_or(0);
            let due_ms = due_ms(message.published_ms().unwrap_or(0), delay_ms);
            state.schedule.add(Waiting { due_ms, seq: *seq }, self.id_of(message));
            left.start = seq + 1;
        }
        if fetch == Fetch::Loading {
            state.loading = true;
        } else if found.is_empty() || left.is_empty() {
            tracing::debug!(exchange = %self.exchange, waiting = state.schedule.len(), "delayed messages found");
            return;
        }
        state.rebuild = Some(left);
    }

    fn read_ahead(&self, state: &mut State, now_ms: u64) {
        if state.pass.is_empty() && state.rebuild.is_none() {
            state.pass = state.schedule.next_pass(now_ms).into();
        }
        let mut found = Vec::new();
        while !state.loading
            && state.read_bytes < READ_MAX_BYTES
            && let Some(one) = state.pass.front().copied()
        {
            if state.schedule.contains(&one) {
                found.clear();
                if self.log.fetch(one.seq..one.seq + 1, usize::MAX, &mut found) == Fetch::Loading {
                    state.loading = true;
                    return;
                }
                if let Some((_, message)) = found.pop() {
                    // A copy: one message that is kept must not keep its whole block.
                    let stamp_ms = message.published_ms().unwrap_or(0);
                    let message = restamped(&message, stamp_ms, message.properties());
                    state.read_bytes += message.size_bytes();
                    state.read.insert(one.seq, message);
                }
            }
            state.pass.pop_front();
        }
    }

    /// Takes what is due, in order, up to the first whose content is not here yet.
    fn take_due(&self, state: &mut State, now_ms: u64, due: &mut Vec<(u64, Message)>) {
        let mut size_bytes = 0;
        let mut found = Vec::new();
        while due.len() < RELEASE_MAX
            && size_bytes < RELEASE_MAX_BYTES
            && let Some(one) = state.schedule.first_due(now_ms)
        {
            let message = match state.forget_read(one.seq) {
                Some(message) => Some(message),
                None if state.loading => return,
                None => {
                    found.clear();
                    if self.log.fetch(one.seq..one.seq + 1, usize::MAX, &mut found) == Fetch::Loading {
                        state.loading = true;
                        return;
                    }
                    found.pop().map(|(_, message)| message)
                }
            };
            match message {
                Some(message) => {
                    state.schedule.take(one, self.id_of(&message));
                    size_bytes += message.size_bytes();
                    due.push((one.seq, message));
                }
                None => {
                    state.schedule.take_lost(one);
                    tracing::warn!(exchange = %self.exchange, seq = one.seq, "a delayed message is missing in the store");
                }
            }
        }
    }

    /// Routes messages as their exchange leads now, and moves them. Without the cell's lock.
    fn release(&self, due: Vec<(u64, Message)>, now_ms: u64, work: &mut Work<'_>) {
        let Some(vhost) = self.vhost.upgrade() else { return };
        let mut settled: Vec<Range<u64>> = Vec::with_capacity(due.len());
        let mut targets: Vec<(Arc<QueueCell>, Vec<Message>)> = Vec::new();
        let mut found = Resolution::default();
        {
            let router = vhost.read();
            for (seq, message) in due {
                settled.push(seq..seq + 1);
                let properties = RawProperties::from_checked(message.properties());
                let delay_ms = properties.headers().and_then(delay_ms).unwrap_or(0);
                let properties = waited(&properties, delay_ms);
                let properties = RawProperties::from_checked(&properties);
                let (from, key) = (self.exchange.as_str().as_bytes(), message.routing_key());
                if let Err(error) = router.route_inside(from, key, &properties, &mut found) {
                    tracing::warn!(exchange = %self.exchange, %error, "a delayed message is dropped");
                    continue;
                }
                let kept = properties.without_header("BCC");
                let message = restamped(&message, now_ms, kept.as_deref().unwrap_or(properties.as_bytes()));
                for name in &found.histories {
                    if let Some(history) = vhost.history(&router, name) {
                        history.remember(&message);
                    }
                }
                for queue in found.queues.drain(..) {
                    match targets.iter_mut().find(|(cell, _)| Arc::ptr_eq(cell, &queue.0)) {
                        Some((_, messages)) => messages.push(message.clone()),
                        None => targets.push((queue.0, vec![message.clone()])),
                    }
                }
            }
        }
        settled.sort_unstable_by_key(|range| range.start);
        self.log.settle(work.batch, &settled);
        for (cell, messages) in targets {
            cell.publish(&mut messages.into_iter(), work);
        }
    }
}

impl State {
    /// When there is something to do next: `u64::MAX` for never, or not before the disk has answered.
    fn next_ms(&self) -> u64 {
        match self.rebuild {
            _ if self.loading => u64::MAX,
            Some(_) => 0,
            None if self.pass.is_empty() => self.schedule.next_ms(),
            None if self.read_bytes < READ_MAX_BYTES => 0,
            // Nothing more is read before some of what was read is released.
            None => self.schedule.next_due_ms(),
        }
    }

    fn forget_read(&mut self, seq: u64) -> Option<Message> {
        let message = self.read.remove(&seq)?;
        self.read_bytes -= message.size_bytes();
        Some(message)
    }
}

/// The message as if it had been published at `now_ms` with these properties: what is to live for a time lives from
/// its release on.
fn restamped(message: &Message, now_ms: u64, properties: &[u8]) -> Message {
    Message::published_at(
        now_ms,
        message.exchange(),
        message.routing_key(),
        properties,
        message.is_persistent(),
        message.body(),
    )
}

impl OnTimer for DelayCell {
    fn on_timer(self: Arc<Self>, core: &Arc<Core>) {
        self.state.lock().armed_ms = u64::MAX;
        core.work(|work| self.run(work));
    }
}

impl std::fmt::Debug for DelayCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DelayCell").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

/// The store's way to a cell; it keeps neither cell nor broker alive.
struct Listener {
    cell: Weak<DelayCell>,
    core: Weak<Core>,
}

impl OnQueue for Listener {
    fn loaded(&self) {
        if let (Some(cell), Some(core)) = (self.cell.upgrade(), self.core.upgrade()) {
            cell.state.lock().loading = false;
            core.work(|work| cell.run(work));
        }
    }

    fn relieved(&self) {
        if let Some(cell) = self.cell.upgrade() {
            cell.wake_all();
        }
    }
}

#[cfg(test)]
mod tests;
