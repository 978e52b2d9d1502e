//! A queue as sessions reach it: one lock over its machine, with its log and the sinks of its consumers.

use super::care::{Care, Fate};
use super::consumers::Sink;
use super::dedup::Dedup;
use super::intake::Intake;
use super::logs::{Appended, Logs};
use super::machine::{ConsumerKey, Machine, OwnerKey, Reason, Return};
use super::pump::Work;
use super::retained::Retained;
use super::settings::{DeadLetterTo, QueueSettings};
use super::tick::Lessee;
use crate::clock::Clock;
use crate::core::Core;
use crate::request::Outcome;
use crate::stats::{Count, Meter};
use crate::stream::StreamRoom;
use crate::vhost::{Effective, Vhost};
use millpond_model::table::Table;
use millpond_model::{Message, QueueName};
use millpond_store::{OnQueue, QueueId, QueueLog, ReadValuesError, Store};
use parking_lot::Mutex;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;

/// What a queue is, apart from its messages; never changes.
#[derive(Debug)]
pub(crate) struct QueueSpec {
    pub(crate) id: QueueId,
    pub(crate) name: QueueName,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// The session it belongs to.
    pub(crate) exclusive: Option<OwnerKey>,
    pub(crate) arguments: Table,
}

impl QueueSpec {
    /// Whether its definition and persistent messages survive a restart.
    pub(crate) fn is_stored(&self) -> bool {
        self.durable && self.exclusive.is_none()
    }
}

/// See the module.
pub(crate) struct QueueCell {
    pub(super) spec: QueueSpec,
    pub(super) log: Logs,
    /// The queue is a stream: its machine and consumers are there.
    pub(super) stream: Option<Arc<StreamRoom>>,
    pub(super) state: Mutex<State>,
    /// Once publishers were to be held to a rate.
    pub(super) intake: OnceLock<Arc<Intake>>,
    /// Once anything was counted.
    pub(super) meter: OnceLock<Arc<Meter>>,
    /// Messages that were there when the broker began.
    pub(super) adopted: OnceLock<u64>,
    /// Never held together with `state`.
    pub(super) effective: Mutex<Arc<Effective>>,
    vhost: Weak<Vhost>,
    core: Weak<Core>,
}

pub(super) struct State {
    pub(super) machine: Machine,
    /// Ascending by key.
    pub(super) sinks: Vec<Sink>,
    pub(super) next_consumer: u64,
    /// The first ready message is on disk; `OnQueue::loaded` will tell.
    pub(super) loading: bool,
    /// How often `OnQueue::loaded` has told.
    pub(super) loads: u32,
    pub(super) deleted: bool,
    pub(super) settings: Arc<QueueSettings>,
    pub(super) care: Care,
    /// One of the consumers wants no other.
    pub(super) exclusive_consumer: Option<ConsumerKey>,
    /// An inbox was full when messages were handed out last: the consumers take them as fast as they read.
    pub(super) busy: bool,
    pub(super) lessees: Vec<Lessee>,
    /// What was acked, if the queue remembers it.
    pub(super) retained: Option<Box<Retained>>,
    /// Sessions that wait for `loaded`, `relieved` or for the consumers to catch up.
    pub(super) waiters: Vec<Waker>,
}

/// Message bytes in memory from which on consumers that read at full speed count as behind.
pub(super) const CROWDED_BYTES: u64 = 4 << 20;

impl State {
    pub(super) fn sink(&self, key: ConsumerKey) -> Option<&Sink> {
        self.sinks.binary_search_by_key(&key, |sink| sink.key).ok().map(|at| &self.sinks[at])
    }
}

impl QueueCell {
    /// A cell over a log with what is live in it. `core` is told of nothing; it is there for the store's calls.
    pub(crate) fn new(
        spec: QueueSpec,
        effective: Effective,
        log: Logs,
        mut machine: Machine,
        core: &Weak<Core>,
        vhost: &Arc<Vhost>,
    ) -> Arc<Self> {
        let stream = StreamRoom::open(&spec, &effective.arguments, &log);
        let settings = if stream.is_some() {
            machine = Machine::default();
            QueueSettings::default()
        } else {
            QueueSettings::of(&effective.arguments)
        };
        let settings = QueueSettings::shared(settings);
        let mut care = Care::new(&settings, machine.ready_count() > 0);
        care.dedup = settings.dedup.as_ref().map(|_| Box::new(Dedup::new(spec.id, spec.is_stored())));
        machine.set_delivery_limit(settings.delivery_limit);
        machine.apply(settings.timed);
        machine.set_paused(settings.paused);
        if settings.single_active {
            machine.set_single_active(settings.quorum);
        }
        machine.weigh(settings.max_length_bytes.is_some());
        let retained = settings.retain.map(|terms| Box::new(Retained::new(terms, spec.id, spec.is_stored())));
        machine.set_groups(settings.groups.as_ref().map(|groups| groups.window));
        let state = State {
            machine,
            sinks: Vec::new(),
            next_consumer: 0,
            loading: false,
            loads: 0,
            deleted: false,
            settings,
            care,
            exclusive_consumer: None,
            busy: false,
            lessees: Vec::new(),
            retained,
            waiters: Vec::new(),
        };
        let effective = Mutex::new(effective.shared());
        let (vhost, core) = (Arc::downgrade(vhost), core.clone());
        let cell = Arc::new(Self {
            spec,
            log,
            stream,
            state: Mutex::new(state),
            intake: OnceLock::new(),
            meter: OnceLock::new(),
            adopted: OnceLock::new(),
            effective,
            vhost,
            core,
        });
        cell.log.all().for_each(|(_, log)| log.on_change(cell.listener()));
        cell.apply_intake(&cell.effective().arguments);
        cell
    }

    /// The stream, if it is one.
    #[inline]
    pub(crate) fn stream(&self) -> Option<&Arc<StreamRoom>> {
        self.stream.as_ref()
    }

    /// Who is told of changes in a log of this queue.
    pub(super) fn listener(self: &Arc<Self>) -> Arc<Listener> {
        Arc::new(Listener { cell: Arc::downgrade(self), core: self.core.clone() })
    }

    /// A log for a priority that had no message so far.
    pub(super) fn make_log(self: &Arc<Self>, level: usize, core: &Core) -> QueueLog {
        let log = core.store.create_queue(Logs::id(self.spec.id, level), self.spec.is_stored());
        log.on_change(self.listener());
        log
    }

    /// Appends messages and hands out what can be; the numbers they got. Empty: the queue is gone.
    pub(crate) fn publish(
        self: &Arc<Self>,
        messages: &mut dyn Iterator<Item = Message>,
        work: &mut Work<'_>,
    ) -> Appended {
        self.bring(true, messages, work)
    }

    /// As [`Self::publish`], of messages that the broker itself brings: from other queues, where they came before.
    pub(crate) fn put(
        self: &Arc<Self>,
        messages: &mut dyn Iterator<Item = Message>,
        work: &mut Work<'_>,
    ) -> Appended {
        self.bring(false, messages, work)
    }

    /// As [`Self::put`], of a message that is elsewhere: it is taken, or (`false`) nothing becomes of it here.
    pub(crate) fn offer(self: &Arc<Self>, message: Message, work: &mut Work<'_>) -> bool {
        let size_bytes = message.body_size_bytes();
        let mut one = std::iter::once(message);
        if let Some(stream) = &self.stream {
            return !stream.publish(self, &mut one, work).is_empty();
        }
        let meter = self.meter(work.core);
        let mut state = self.state.lock();
        if state.deleted || state.care.refuses && !state.has_room(size_bytes) {
            return false;
        }
        self.append(&mut state, &mut one, work);
        meter.add(Count::Publish, 1);
        drop(state);
        work.scratch.wake();
        true
    }

    /// `look_back`: drops what came before, if the queue remembers it.
    #[inline]
    fn bring(
        self: &Arc<Self>,
        look_back: bool,
        messages: &mut dyn Iterator<Item = Message>,
        work: &mut Work<'_>,
    ) -> Appended {
        if let Some(stream) = &self.stream {
            return Appended { first: stream.publish(self, messages, work), more: Vec::new() };
        }
        let meter = self.meter(work.core);
        let seqs = {
            let mut state = self.state.lock();
            if state.deleted {
                return Appended::default();
            }
            let seqs = if look_back && state.care.dedup.is_some() {
                self.publish_once(&mut state, messages, work)
            } else {
                self.publish_any(&mut state, messages, work)
            };
            meter.add(Count::Publish, seqs.count());
            seqs
        };
        work.scratch.wake();
        seqs
    }

    /// What the store remembers for this queue is to be used.
    pub(crate) fn restore_ids(&self, store: &Store) -> Result<(), ReadValuesError> {
        let mut state = self.state.lock();
        if state.settings.dedup.is_some() {
            state.care.dedup = Some(Box::new(Dedup::restore(self.spec.id, store)?));
        }
        Ok(())
    }

    /// Settles or requeues deliveries of `owner`; `seqs` ascend and do not overlap.
    pub(crate) fn settle(
        self: &Arc<Self>,
        owner: OwnerKey,
        seqs: &[Range<u64>],
        outcome: Outcome,
        work: &mut Work<'_>,
    ) {
        {
            let mut state = self.state.lock();
            self.tick(&mut state, work);
            let (count, n) = match outcome {
                Outcome::Reject if state.settings.dead_letter.is_some() => {
                    let doom =
                        |range: &Range<u64>| state.machine.doom(owner, range.clone(), Reason::Rejected);
                    (Count::Reject, seqs.iter().map(doom).sum())
                }
                Outcome::Accept | Outcome::Reject => {
                    let before = state.machine.settled_count();
                    for range in seqs {
                        state.machine.settle(owner, range.clone(), &mut work.scratch.settled);
                    }
                    let n = state.machine.settled_count() - before;
                    if outcome == Outcome::Accept {
                        self.settle_taken(&mut state, work);
                        (Count::Ack, n)
                    } else {
                        self.log.settle(work.batch, &work.scratch.settled);
                        work.scratch.settled.clear();
                        (Count::Reject, n)
                    }
                }
                Outcome::Requeue | Outcome::Fail | Outcome::Retry { .. } => {
                    let how = match outcome {
                        Outcome::Fail => Return::Failed,
                        Outcome::Retry { delay_ms } if delay_ms > 0 => {
                            self.tick_now(&mut state, work);
                            Return::After(delay_ms)
                        }
                        _ => Return::Given,
                    };
                    let requeue = |range: &Range<u64>| state.machine.requeue(owner, range.clone(), how);
                    (Count::Requeue, seqs.iter().map(requeue).sum())
                }
            };
            self.meter(work.core).add(count, n);
            self.pump(&mut state, work);
        }
        work.scratch.wake();
    }

    /// Drops all that is ready; how many.
    pub(crate) fn purge(self: &Arc<Self>, work: &mut Work<'_>) -> u64 {
        let mut state = self.state.lock();
        let gone = state.machine.purge();
        self.log.settle(work.batch, &gone);
        self.stir(&state, work.core);
        state.loading = false;
        gone.iter().map(|range| range.end - range.start).sum()
    }

    /// Takes messages out again whose commit failed: those still ready. Others were handed out already.
    pub(crate) fn retract(self: &Arc<Self>, seqs: Range<u64>, work: &mut Work<'_>) {
        if let Some(stream) = &self.stream {
            return stream.retract(seqs, work);
        }
        let mut state = self.state.lock();
        if let Some(dedup) = &mut state.care.dedup {
            dedup.retract(&seqs, work.batch);
        }
        let gone = state.machine.remove_ready(seqs);
        if !gone.is_empty() {
            self.log.settle(work.batch, &gone);
        }
        self.look_on(&mut state, work);
        drop(state);
        work.scratch.wake();
    }

    // ---- questions

    /// Where it is.
    pub(crate) fn vhost(&self) -> Option<Arc<Vhost>> {
        self.vhost.upgrade()
    }

    /// Where its dead messages go.
    pub(crate) fn dead_letter_to(&self) -> Option<DeadLetterTo> {
        self.state.lock().settings.dead_letter.clone()
    }

    /// What becomes of a message that comes now; of a stream only whether it is paused.
    pub(crate) fn fate(&self) -> Fate {
        let fate = self.state.lock().fate();
        let paused = super::settings::is_paused(&self.effective().arguments);
        Fate { paused, ..fate }
    }

    /// Whether it may refuse publishes.
    pub(crate) fn may_refuse(&self) -> bool {
        self.state.lock().care.refuses
    }

    /// What it is.
    pub(crate) fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    /// Ready messages and consumers.
    pub(crate) fn counts(&self) -> (u64, u64) {
        if let Some(stream) = &self.stream {
            return stream.counts();
        }
        let state = self.state.lock();
        (state.machine.ready_count(), state.sinks.len() as u64)
    }

    /// Whether publishers are to be held back.
    pub(crate) fn is_over(&self, clock: &Clock) -> bool {
        self.log.is_over() || self.is_intake_shut(clock)
    }

    /// Whether its consumers read at full speed and are behind all the same.
    pub(crate) fn is_crowded(&self) -> bool {
        self.state.lock().busy && self.log.memory_bytes() >= CROWDED_BYTES / 2
    }

    /// As [`Self::is_crowded`], for a publisher that has just made it worse.
    pub(crate) fn is_too_crowded(&self) -> bool {
        self.state.lock().busy && self.log.memory_bytes() >= CROWDED_BYTES
    }

    /// Whether it is gone.
    pub(crate) fn is_deleted(&self) -> bool {
        self.state.lock().deleted
    }

    /// Wakes `waker` when the queue takes more, or is gone; ask again then.
    pub(crate) fn wait_for_relief(&self, waker: &Waker, core: &Core) {
        self.wait_for_intake(waker, core);
        self.wait(waker);
    }

    /// Wakes `waker` when the queue has loaded, is relieved or gone; ask again then.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut state = self.state.lock();
        if !state.waiters.iter().any(|known| known.will_wake(waker)) {
            state.waiters.push(waker.clone());
        }
    }

    /// Whether nothing has been loaded since the number of loads was `loads`.
    pub(crate) fn is_loading_since(&self, loads: u32) -> bool {
        let state = self.state.lock();
        state.loads == loads && !state.deleted
    }

    fn on_loaded(self: &Arc<Self>, work: &mut Work<'_>) {
        if let Some(stream) = &self.stream {
            work.scratch.wake_later(&mut self.state.lock().waiters);
            return stream.on_loaded(self, work);
        }
        {
            let mut state = self.state.lock();
            state.loading = false;
            state.loads = state.loads.wrapping_add(1);
            work.scratch.wake_later(&mut state.waiters);
            self.pump(&mut state, work);
        }
        work.scratch.wake();
    }

    fn on_relieved(&self) {
        let waiters = std::mem::take(&mut self.state.lock().waiters);
        waiters.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for QueueCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueCell").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// The store's way to a cell; it keeps neither cell nor broker alive.
pub(super) struct Listener {
    cell: Weak<QueueCell>,
    core: Weak<Core>,
}

impl OnQueue for Listener {
    fn loaded(&self) {
        if let (Some(cell), Some(core)) = (self.cell.upgrade(), self.core.upgrade()) {
            core.work(|work| cell.on_loaded(work));
        }
    }

    fn relieved(&self) {
        if let Some(cell) = self.cell.upgrade() {
            cell.on_relieved();
        }
    }
}
