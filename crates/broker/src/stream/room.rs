//! A stream as its cell reaches it: one lock over its machine, with the sinks of its readers.

use super::arguments::{Filter, ReaderSettings, Retention, Start, StreamSettings};
use super::machine::{Machine, Terms};
use crate::definition::{stream_offset_key, stream_offset_value};
use crate::queue::browse::Looked;
use crate::queue::cell::QueueSpec;
use crate::queue::consumers::{ConsumerChange, Shown, Sink};
use crate::queue::end::{DeleteIf, NotDeleted};
use crate::queue::logs::Logs;
use crate::queue::machine::{ConsumerFigures, ConsumerKey, OwnerKey};
use crate::queue::{QueueCell, Work};
use crate::request::{Outcome, QueueRef};
use crate::session::inbox::Inbox;
use crate::stats::Count;
use hashbrown::HashMap;
use millpond_model::table::{Table, Value};
use millpond_model::{ConsumerTag, Message, QueueName};
use millpond_store::{QueueId, QueueLog};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// Most bytes read in one piece by an operator's look.
const LOOK_MAX_BYTES: usize = 1 << 20;

/// Where consumers of one stream would go on, by consumer tag.
pub(crate) type Places = Vec<(Box<str>, u64)>;

/// Most names whose places a stream remembers.
const TRACKED_MAX: usize = 10_000;

/// See the module.
pub(crate) struct StreamRoom {
    pub(super) id: QueueId,
    pub(super) name: QueueName,
    pub(super) log: QueueLog,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) machine: Machine,
    /// Ascending by key. Those that are gone stay while the machine knows them.
    pub(super) readers: Vec<Reader>,
    next_reader: u64,
    deleted: bool,
    /// One of the consumers wants no other.
    exclusive: Option<ConsumerKey>,
    pub(super) retention: Retention,
    /// Published since it was last looked how large the stream is.
    pub(super) unchecked_bytes: u64,
    /// The timer will call.
    pub(super) armed: bool,
    /// Where consumers would go on, by name.
    tracked: HashMap<Box<str>, u64>,
    /// Empty between calls.
    pub(super) fetched: Vec<(u64, Message)>,
}

/// A consumer.
pub(super) struct Reader {
    pub(super) sink: Sink,
    pub(super) filter: Option<Filter>,
    /// It wants nothing that was published before; `None` once it was given something.
    pub(super) since_ms: Option<u64>,
    /// Under which name its place is remembered.
    tracked: Option<Box<str>>,
}

/// What a new consumer brings.
pub(crate) struct NewReader {
    pub(crate) owner: OwnerKey,
    pub(crate) prefetch: u32,
    pub(crate) shown: Shown,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) cookie: u64,
    pub(crate) queue: QueueRef,
    pub(crate) settings: ReaderSettings,
}

/// Why a consumer was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReaderRefused {
    /// The stream went meanwhile.
    Deleted,
    /// Exclusive use, here or wanted.
    ExclusiveUse,
    /// Its place cannot be remembered.
    NotTracked { reason: String },
}

impl StreamRoom {
    /// A stream over what is in a queue's log, if the queue is to be one.
    pub(crate) fn open(spec: &QueueSpec, arguments: &Table, log: &Logs) -> Option<Arc<Self>> {
        let Logs::One(log) = log else { return None };
        if arguments.get("x-queue-type").and_then(Value::as_str) != Some("stream") {
            return None;
        }
        // What was accepted when it was declared can be read.
        let settings = StreamSettings::parse(arguments).unwrap_or_default();
        log.set_segment_size(settings.segment_size_bytes);
        let (first, next) = log.bounds();
        let mut machine = Machine::new(first, next, settings.single_active);
        machine.set_paused(settings.paused);
        let state = State {
            machine,
            readers: Vec::new(),
            next_reader: 0,
            deleted: false,
            exclusive: None,
            retention: settings.retention,
            unchecked_bytes: 0,
            armed: false,
            tracked: HashMap::new(),
            fetched: Vec::new(),
        };
        let (id, name, log) = (spec.id, spec.name.clone(), log.clone());
        Some(Arc::new(Self { id, name, log, state: Mutex::new(state) }))
    }

    /// Where consumers would go on, by name, as it was remembered.
    pub(crate) fn restore_places(&self, places: Places) {
        let mut state = self.state.lock();
        let (_, next) = state.machine.bounds();
        // A place behind the end was given by messages that a crash took back: their numbers come again.
        state.tracked = places.into_iter().map(|(name, offset)| (name, offset.min(next))).collect();
    }

    /// Keeps as much as these arguments say from now on.
    pub(crate) fn apply(self: &Arc<Self>, cell: &Arc<QueueCell>, arguments: &Table, work: &mut Work<'_>) {
        let settings = StreamSettings::parse(arguments).unwrap_or_default();
        self.log.set_segment_size(settings.segment_size_bytes);
        {
            let mut state = self.state.lock();
            state.retention = settings.retention;
            state.machine.set_paused(settings.paused);
            self.pump(cell, &mut state, None, work);
        }
        work.scratch.wake();
        self.watch(work.core);
    }

    /// Appends messages and hands them out; the numbers they got. Empty: the stream is gone.
    pub(crate) fn publish(
        self: &Arc<Self>,
        cell: &Arc<QueueCell>,
        messages: &mut dyn Iterator<Item = Message>,
        work: &mut Work<'_>,
    ) -> Range<u64> {
        let now_ms = work.core.options.clock.now_ms();
        let seqs = {
            let mut state = self.state.lock();
            if state.deleted {
                return 0..0;
            }
            let mut size_bytes = 0;
            let mut kept = messages.map(|message| {
                let message = message.lasting(now_ms);
                size_bytes += message.size_bytes() as u64;
                message
            });
            let seqs = self.log.append(work.batch, &mut kept);
            state.machine.appended(seqs.end);
            cell.meter(work.core).add(Count::Publish, seqs.end - seqs.start);
            self.pump(cell, &mut state, None, work);
            self.retain(&mut state, size_bytes, now_ms, work);
            seqs
        };
        work.scratch.wake();
        seqs
    }

    /// A reader has done with deliveries (or gives them back, which is no more than credit); `seqs` ascend.
    pub(crate) fn settle(
        &self,
        cell: &Arc<QueueCell>,
        (owner, queue): (OwnerKey, QueueRef),
        seqs: &[Range<u64>],
        outcome: Outcome,
        work: &mut Work<'_>,
    ) {
        {
            let mut state = self.state.lock();
            let Some(at) = state.reader_of(owner, queue) else { return };
            let key = state.readers[at].sink.key;
            let held = state.machine.held_count();
            let low = state.machine.settle(key, seqs);
            let n = held.saturating_sub(state.machine.held_count());
            let count = match outcome {
                Outcome::Accept => Count::Ack,
                Outcome::Reject => Count::Reject,
                _ => Count::Requeue,
            };
            cell.meter(work.core).add(count, n);
            if let Some(low) = low.filter(|_| matches!(outcome, Outcome::Accept | Outcome::Reject)) {
                self.remember(&mut state, at, low, work);
            }
            if !state.machine.knows(key) {
                state.readers.remove(at);
            }
            self.pump(cell, &mut state, Some(key), work);
        }
        work.scratch.wake();
    }

    /// Writes down where a reader with a name would go on.
    fn remember(&self, state: &mut State, at: usize, low: u64, work: &mut Work<'_>) {
        let Some(name) = &state.readers[at].tracked else { return };
        work.batch.put(&stream_offset_key(self.id, name), &stream_offset_value(low));
        match state.tracked.get_mut(name) {
            Some(offset) => *offset = low,
            None => drop(state.tracked.insert(name.clone(), low)),
        }
    }

    /// Takes messages out again whose commit failed.
    pub(crate) fn retract(&self, seqs: Range<u64>, work: &mut Work<'_>) {
        self.log.settle(work.batch, std::slice::from_ref(&seqs));
    }

    // ---- consumers

    /// A consumer comes.
    pub(crate) fn add_reader(
        &self,
        cell: &Arc<QueueCell>,
        new: NewReader,
        work: &mut Work<'_>,
    ) -> Result<ConsumerKey, ReaderRefused> {
        let key = {
            let mut state = self.state.lock();
            if state.deleted {
                return Err(ReaderRefused::Deleted);
            }
            let occupied = state.machine.is_single_active() || state.machine.keys().next().is_some();
            if state.exclusive.is_some() || (new.shown.exclusive && occupied) {
                return Err(ReaderRefused::ExclusiveUse);
            }
            let tracked = new.settings.tracked.then(|| state.name_to_track(&new.shown.tag)).transpose()?;
            let key = ConsumerKey(state.next_reader);
            state.next_reader += 1;
            if new.shown.exclusive {
                state.exclusive = Some(key);
            }
            let (start, since_ms) = self.start(&state, new.settings.start, tracked.as_deref());
            let NewReader { owner, inbox, cookie, queue, shown, .. } = new;
            let sink = Sink { key, owner, inbox, cookie, queue, shown };
            let is_new = tracked.as_ref().is_some_and(|name| !state.tracked.contains_key(name));
            state.readers.push(Reader { sink, filter: new.settings.filter, since_ms, tracked });
            if is_new {
                // What it is given before its first ack is not to be left out by the next of its name.
                let at = state.readers.len() - 1;
                self.remember(&mut state, at, start, work);
            }
            state.machine.add(key, Terms { owner, prefetch: new.prefetch, start });
            cell.meter(work.core).touch();
            self.pump(cell, &mut state, Some(key), work);
            key
        };
        work.scratch.wake();
        Ok(key)
    }

    /// The offset that a consumer begins at, and before which time it wants nothing.
    fn start(&self, state: &State, asked: Option<Start>, tracked: Option<&str>) -> (u64, Option<u64>) {
        let (first, next) = state.machine.bounds();
        let start = asked.unwrap_or_else(|| {
            let place = tracked.and_then(|name| state.tracked.get(name));
            place.map_or(Start::Next, |offset| Start::Offset(*offset))
        });
        match start {
            Start::First => (first, None),
            Start::Last => (next.saturating_sub(1), None),
            Start::Next => (next, None),
            Start::Offset(offset) => (offset, None),
            Start::Time(time_ms) => (self.log.find_time(time_ms), Some(time_ms)),
        }
    }

    /// A consumer goes; what it holds stays with its session, what waits in its inbox does not count as given.
    pub(crate) fn remove_reader(&self, cell: &Arc<QueueCell>, key: ConsumerKey, work: &mut Work<'_>) {
        {
            let mut state = self.state.lock();
            let Ok(at) = state.readers.binary_search_by_key(&key, |reader| reader.sink.key) else { return };
            let sink = &state.readers[at].sink;
            sink.inbox.forget_stalled(cell, key);
            let back = sink.inbox.take_back(sink.cookie, sink.queue).into_iter().min();
            if let Some(offset) = back {
                state.machine.take_back(key, offset);
            }
            state.exclusive.take_if(|exclusive| *exclusive == key);
            cell.meter(work.core).touch();
            state.machine.remove(key);
            if !state.machine.knows(key) {
                state.readers.remove(at);
            }
            self.pump(cell, &mut state, None, work);
        }
        work.scratch.wake();
    }

    /// A session goes with all its consumers.
    pub(crate) fn close_owner(&self, cell: &Arc<QueueCell>, owner: OwnerKey, work: &mut Work<'_>) {
        {
            let mut state = self.state.lock();
            cell.meter(work.core).touch();
            state.machine.close_owner(owner);
            state.readers.retain(|reader| reader.sink.owner != owner);
            let exclusive = state.exclusive.filter(|key| state.machine.knows(*key));
            state.exclusive = exclusive;
            self.pump(cell, &mut state, None, work);
        }
        work.scratch.wake();
    }

    /// Changes a consumer's prefetch.
    pub(crate) fn set_prefetch(
        &self,
        cell: &Arc<QueueCell>,
        key: ConsumerKey,
        prefetch: u32,
        work: &mut Work<'_>,
    ) {
        {
            let mut state = self.state.lock();
            state.machine.set_prefetch(key, prefetch);
            self.pump(cell, &mut state, Some(key), work);
        }
        work.scratch.wake();
    }

    /// Changes what is said of a consumer; a stream has no pace and no leases.
    pub(crate) fn change_reader(
        &self,
        cell: &Arc<QueueCell>,
        key: ConsumerKey,
        change: ConsumerChange,
        work: &mut Work<'_>,
    ) {
        {
            let mut state = self.state.lock();
            if let Some(prefetch) = change.prefetch {
                state.machine.set_prefetch(key, prefetch);
            }
            if let Some(paused) = change.paused {
                state.machine.pause_reader(key, paused);
            }
            self.pump(cell, &mut state, Some(key), work);
        }
        work.scratch.wake();
    }

    /// The keys of consumers that `wanted` says yes to.
    pub(crate) fn readers_where(&self, wanted: &dyn Fn(&Sink) -> bool) -> Vec<ConsumerKey> {
        let state = self.state.lock();
        let present: Vec<_> = state.machine.keys().collect();
        let there =
            state.readers.iter().map(|reader| &reader.sink).filter(|sink| present.contains(&sink.key));
        there.filter(|sink| wanted(sink)).map(|sink| sink.key).collect()
    }

    /// Where a consumer's deliveries go.
    pub(crate) fn sink(&self, key: ConsumerKey) -> Option<Sink> {
        let state = self.state.lock();
        state.readers.iter().find(|reader| reader.sink.key == key).map(|reader| reader.sink.clone())
    }

    /// A consumer's inbox has drained.
    pub(crate) fn open_tap(&self, cell: &Arc<QueueCell>, key: ConsumerKey, work: &mut Work<'_>) {
        {
            let mut state = self.state.lock();
            state.machine.set_open(key, true);
            self.pump(cell, &mut state, Some(key), work);
        }
        work.scratch.wake();
    }

    /// What readers waited for has been read from disk.
    pub(crate) fn on_loaded(&self, cell: &Arc<QueueCell>, work: &mut Work<'_>) {
        {
            let mut state = self.state.lock();
            state.machine.loaded();
            self.pump(cell, &mut state, None, work);
        }
        work.scratch.wake();
    }

    /// Marks the stream as gone if the conditions hold; how many messages went, and the consumers that are to be
    /// told. The caller holds the topology.
    pub(crate) fn delete(&self, when: DeleteIf, work: &mut Work<'_>) -> Result<(u64, Vec<Sink>), NotDeleted> {
        let mut state = self.state.lock();
        if when.unused && state.machine.keys().next().is_some() {
            return Err(NotDeleted::InUse);
        }
        let (first, next) = state.machine.bounds();
        if when.empty && first < next {
            return Err(NotDeleted::NotEmpty);
        }
        state.deleted = true;
        let present: Vec<ConsumerKey> = state.machine.keys().collect();
        state.machine = Machine::default();
        state.exclusive = None;
        self.log.delete(work.batch);
        for name in std::mem::take(&mut state.tracked).into_keys() {
            work.batch.delete(&stream_offset_key(self.id, &name));
        }
        let sinks = std::mem::take(&mut state.readers).into_iter().map(|reader| reader.sink);
        Ok((next - first, sinks.filter(|sink| present.contains(&sink.key)).collect()))
    }

    // ---- questions

    /// Its messages.
    pub(crate) fn log(&self) -> &QueueLog {
        &self.log
    }

    /// Messages and consumers.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        let (first, next) = state.machine.bounds();
        (next - first, state.machine.keys().count() as u64)
    }

    /// Deliveries that were not settled.
    pub(crate) fn unacked_count(&self) -> u64 {
        self.state.lock().machine.held_count()
    }

    /// Its consumers, in the order in which they came.
    pub(crate) fn figures(&self) -> Vec<(ConsumerFigures, Shown)> {
        let state = self.state.lock();
        let present: Vec<_> = state.machine.figures().collect();
        let shown = |it: ConsumerFigures| {
            let at = state.readers.binary_search_by_key(&it.key, |reader| reader.sink.key).ok()?;
            Some((it, state.readers[at].sink.shown.clone()))
        };
        present.into_iter().filter_map(shown).collect()
    }

    /// Adds up to `count_max` messages from an offset on, which stay.
    pub(crate) fn look(&self, from: u64, count_max: usize, out: &mut Vec<(u64, Message)>) -> Looked {
        let (first, next) = self.state.lock().machine.bounds();
        let mut at = from.max(first);
        while out.len() < count_max && at < next {
            let before = out.len();
            let read = self.log.read(at, count_max - before, LOOK_MAX_BYTES, out);
            at = read.next;
            if read.loading {
                return if out.is_empty() { Looked::Loading } else { Looked::Next(at) };
            }
        }
        if at < next { Looked::Next(at) } else { Looked::End }
    }

    /// Whether deliveries under that number can still be settled.
    pub(crate) fn has_reader(&self, owner: OwnerKey, queue: QueueRef) -> bool {
        self.state.lock().reader_of(owner, queue).is_some()
    }
}

impl State {
    fn reader_of(&self, owner: OwnerKey, queue: QueueRef) -> Option<usize> {
        self.readers.iter().position(|reader| reader.sink.owner == owner && reader.sink.queue == queue)
    }

    /// Under which name a consumer's place is remembered.
    fn name_to_track(&self, tag: &ConsumerTag) -> Result<Box<str>, ReaderRefused> {
        let name = tag.as_str();
        if name.starts_with("amq.ctag-") {
            let reason = "it needs a consumer tag of the client's own, under which the offset is kept".into();
            return Err(ReaderRefused::NotTracked { reason });
        }
        if self.tracked.len() >= TRACKED_MAX && !self.tracked.contains_key(name) {
            let reason = format!("{TRACKED_MAX} names are tracked already, which is the limit of a stream");
            return Err(ReaderRefused::NotTracked { reason });
        }
        Ok(name.into())
    }
}

impl std::fmt::Debug for StreamRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamRoom").field("name", &self.name).finish_non_exhaustive()
    }
}
