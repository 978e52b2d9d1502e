//! A queue's messages by sequence number: the young in memory, a backlog in segment files.
//!
//! One number parts them: everything below `written_to` that lives is in segment files (and, if it was read
//! back, also in memory), everything from there on is in memory.

pub(crate) mod blocks;
pub(crate) mod disk;
pub(crate) mod memory;
pub(crate) mod pageout;
pub(crate) mod pager;
pub(crate) mod read;
pub(crate) mod segment;
pub(crate) mod seqset;

use crate::batch::Batch;
use crate::store::Shared;
use disk::Files;
use memory::Memory;
use millpond_model::Message;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

pub use read::Read;

/// A queue's number in the store; given by the broker, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// Told, on a store thread, that a queue log has changed by itself. Must not block for long; may lock the
/// queue cell.
pub trait OnQueue: Send + Sync {
    /// Messages that [`QueueLog::fetch`] said were not in memory now are.
    fn loaded(&self);
    /// The log's memory is below its limit again.
    fn relieved(&self);
}

/// What [`QueueLog::fetch`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// All that was asked for is there, up to the limit of bytes.
    Complete,
    /// The rest is on disk; a load has been started and `OnQueue::loaded` will tell.
    Loading,
}

/// A queue's messages by sequence number. Cloning counts a reference; it has a lock of its own, so that the
/// store's threads can work on it.
#[derive(Debug, Clone)]
pub struct QueueLog(pub(crate) Arc<QueueState>);

pub(crate) struct QueueState {
    pub(crate) id: QueueId,
    pub(crate) durable: bool,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inner: Mutex<Inner>,
}

impl std::fmt::Debug for QueueState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueLog")
            .field("id", &self.id)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

/// No operation of the queue is in the log that a checkpoint has not seen.
pub(crate) const CLEAN: u64 = u64::MAX;

/// Memory from which a queue is worth paging out when all queues together hold too much.
const HEAVY_BYTES: u64 = 64 << 10;

pub(crate) struct Inner {
    pub(crate) memory: Memory,
    pub(crate) written_to: u64,
    /// As the last checkpoint wrote it, see [`disk`].
    pub(crate) floor: u64,
    /// No operation of the queue that a checkpoint has not seen is in a segment of the log before this one.
    pub(crate) dirty_from: u64,
    pub(crate) disk: Option<Box<Disk>>,
    pub(crate) listener: Option<Arc<dyn OnQueue>>,
    /// Bytes counted into the store's sum.
    reported: u64,
    /// What a consumer waits for.
    pub(crate) wanted: Option<u64>,
    /// Wanted messages that were read since what lay in memory was last forgotten.
    pub(crate) wanted_reads: u32,
    /// What readers of a stream wait for.
    pub(crate) reads: Vec<u64>,
    /// Where segment files end; 0: as the options say.
    pub(crate) segment_size_bytes: u64,
    /// Where reading ahead may go on.
    pub(crate) ahead: Option<u64>,
    pub(crate) deleted: bool,
    /// Publishers were told to wait.
    pub(crate) held: bool,
    /// The pager has been asked to read, to write.
    pub(crate) read_asked: bool,
    pub(crate) write_asked: bool,
    /// In the list of those that hold much.
    heavy: bool,
}

/// A queue's segment files.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Persistent messages of a durable queue.
    pub(crate) durable: Files,
    /// All others: dropped at the next start.
    pub(crate) spill: Files,
}

impl Disk {
    pub(crate) fn new(shared: &Shared, id: QueueId) -> Self {
        let dir = &shared.options.dir;
        Self { durable: Files::new(&dir.join("queues"), id.0), spill: Files::new(&dir.join("spill"), id.0) }
    }

    fn next_live(&self, seq: u64) -> Option<u64> {
        match (self.durable.next_live(seq), self.spill.next_live(seq)) {
            (Some(durable), Some(spill)) => Some(durable.min(spill)),
            (durable, spill) => durable.or(spill),
        }
    }

    fn take_loaded(&mut self, seq: u64) -> Option<Message> {
        self.durable.take_loaded(seq).or_else(|| self.spill.take_loaded(seq))
    }

    fn peek_loaded(&self, seq: u64) -> Option<&Message> {
        self.durable.peek_loaded(seq).or_else(|| self.spill.peek_loaded(seq))
    }
}

impl Inner {
    pub(crate) fn new(memory: Memory) -> Self {
        Self {
            memory,
            written_to: 0,
            floor: 0,
            dirty_from: CLEAN,
            disk: None,
            listener: None,
            reported: 0,
            wanted: None,
            wanted_reads: 0,
            reads: Vec::new(),
            segment_size_bytes: 0,
            ahead: None,
            deleted: false,
            held: false,
            read_asked: false,
            write_asked: false,
            heavy: false,
        }
    }

    pub(crate) fn disk_mut(&mut self, state: &QueueState) -> &mut Disk {
        self.disk.get_or_insert_with(|| Box::new(Disk::new(&state.shared, state.id)))
    }

    /// Message bytes in memory, read back ones included.
    pub(crate) fn bytes(&self) -> u64 {
        self.memory.bytes()
            + self.disk.as_ref().map_or(0, |disk| disk.durable.loaded_bytes + disk.spill.loaded_bytes)
    }
}

impl Drop for QueueState {
    fn drop(&mut self) {
        self.shared.memory_bytes.fetch_sub(self.inner.get_mut().reported, Relaxed);
    }
}

impl QueueState {
    pub(crate) fn new(shared: Arc<Shared>, id: QueueId, durable: bool, inner: Inner) -> Arc<Self> {
        Arc::new(Self { id, durable, shared, inner: Mutex::new(inner) })
    }

    /// An operation of the queue goes to the log: the next checkpoint that retires it must look here.
    #[inline]
    pub(crate) fn touch(self: &Arc<Self>, inner: &mut Inner) {
        if inner.dirty_from == CLEAN {
            inner.dirty_from = self.shared.log.current.load(SeqCst);
            self.shared.checkpointer.add_dirty(self.clone());
        }
    }

    /// Counts memory into the store's sum and asks for what follows from it.
    pub(crate) fn account(self: &Arc<Self>, inner: &mut Inner) {
        let shared = &self.shared;
        let bytes = inner.bytes();
        if bytes == inner.reported {
            return;
        }
        let delta = bytes.wrapping_sub(inner.reported);
        let sum = shared.memory_bytes.fetch_add(delta, Relaxed).wrapping_add(delta);
        inner.reported = bytes;
        if bytes > HEAVY_BYTES && !inner.heavy {
            inner.heavy = true;
            shared.pager.add_heavy(self);
        }
        if inner.memory.bytes() > shared.options.queue_memory_max_bytes {
            self.ask_to_write(inner);
        } else if sum > shared.options.memory_max_bytes {
            shared.pager.press();
        }
        if inner.held && !self.is_over(inner) {
            shared.pager.relieve_all();
        }
    }

    pub(crate) fn ask_to_write(self: &Arc<Self>, inner: &mut Inner) {
        if !inner.write_asked {
            inner.write_asked = true;
            self.shared.pager.ask_to_write(self.clone());
        }
    }

    pub(crate) fn ask_to_read(self: &Arc<Self>, inner: &mut Inner) {
        if !inner.read_asked {
            inner.read_asked = true;
            self.shared.pager.ask_to_read(self.clone());
        }
    }

    pub(crate) fn is_over(&self, inner: &Inner) -> bool {
        let options = &self.shared.options;
        inner.memory.bytes() > 2 * options.queue_memory_max_bytes
            || self.shared.memory_bytes.load(Relaxed) > 2 * options.memory_max_bytes
            || self.shared.log.is_behind()
    }

    /// Drops messages `seqs` that are in segment files.
    fn settle_on_disk(self: &Arc<Self>, inner: &mut Inner, batch: &mut Batch, seqs: Range<u64>) {
        let Some(disk) = &mut inner.disk else { return };
        let lasting = disk.durable.settle(seqs.clone()) > 0;
        disk.spill.settle(seqs.clone());
        let spill_dead = !disk.spill.dead.is_empty();
        if disk.durable.dead.len() >= DEAD_FILES_MAX {
            self.shared.checkpointer.want();
        }
        if lasting {
            batch.body().settle(self.id, seqs);
            self.touch(inner);
        }
        if spill_dead {
            self.ask_to_write(inner);
        }
    }
}

/// Dead segment files of a queue that make a checkpoint worth its while.
const DEAD_FILES_MAX: usize = 2;

impl QueueLog {
    pub(crate) fn new(shared: Arc<Shared>, id: QueueId, durable: bool) -> Self {
        Self(QueueState::new(shared, id, durable, Inner::new(Memory::default())))
    }

    /// Who is told of changes.
    pub fn on_change(&self, listener: Arc<dyn OnQueue>) {
        self.0.inner.lock().listener = Some(listener);
    }

    /// Appends messages in order; returns their sequence numbers. Persistent messages of a durable queue go to
    /// `batch` as well. The same message appended to several queues within one batch has its bytes in it once.
    pub fn append(&self, batch: &mut Batch, messages: &mut dyn Iterator<Item = Message>) -> Range<u64> {
        let state = &self.0;
        let mut inner = state.inner.lock();
        let start = inner.memory.next_seq();
        let mut seq = start;
        let logged = state.durable && !inner.deleted;
        let mut touched = false;
        let mut logged_to = start;
        for message in messages {
            if logged && message.is_persistent() {
                batch.body().append(state.id, seq, message.record());
                touched = true;
                logged_to = seq + 1;
            }
            inner.memory.push(message);
            seq += 1;
        }
        if touched {
            if logged_to < seq {
                // Transient ones behind the last persistent one: the log is to know that their numbers are taken.
                batch.body().settle(state.id, logged_to..seq);
            }
            state.touch(&mut inner);
        }
        state.account(&mut inner);
        start..seq
    }

    /// Messages `seqs`, in order, to `out`; stops at the first that is not in memory, or when `bytes_max` is
    /// passed. A settled number is left out. A message that was read back from disk leaves memory by being
    /// fetched: fetching it again reads it again.
    pub fn fetch(&self, seqs: Range<u64>, bytes_max: usize, out: &mut Vec<(u64, Message)>) -> Fetch {
        let state = &self.0;
        let mut inner = state.inner.lock();
        let mut bytes = 0;
        let mut seq = seqs.start;
        let on_disk_to = seqs.end.min(inner.written_to);
        while seq < on_disk_to {
            let Some(disk) = &mut inner.disk else { break };
            let Some(next) = disk.next_live(seq).filter(|next| *next < on_disk_to) else { break };
            let Some(message) = disk.take_loaded(next) else {
                inner.wanted = Some(inner.wanted.map_or(next, |wanted| wanted.min(next)));
                state.ask_to_read(&mut inner);
                state.account(&mut inner);
                return Fetch::Loading;
            };
            bytes += message.size_bytes();
            out.push((next, message));
            seq = next + 1;
            if bytes > bytes_max {
                break;
            }
        }
        if seqs.start < on_disk_to {
            self.read_ahead(&mut inner, seq);
            state.account(&mut inner);
        }
        if bytes <= bytes_max {
            let from = seqs.start.max(inner.written_to);
            for (seq, message) in inner.memory.range(from..seqs.end.max(from)) {
                out.push((seq, message.clone()));
                bytes += message.size_bytes();
                if bytes > bytes_max {
                    break;
                }
            }
        }
        Fetch::Complete
    }

    /// As [`Self::fetch`], of the first `count_max` messages, and leaves them where they are.
    pub fn peek(&self, seqs: Range<u64>, count_max: usize, out: &mut Vec<(u64, Message)>) -> Fetch {
        let state = &self.0;
        let full = out.len() + count_max;
        let mut inner = state.inner.lock();
        let on_disk_to = seqs.end.min(inner.written_to);
        let mut seq = seqs.start;
        while seq < on_disk_to && out.len() < full {
            let Some(disk) = &inner.disk else { break };
            let Some(next) = disk.next_live(seq).filter(|next| *next < on_disk_to) else { break };
            let Some(message) = disk.peek_loaded(next) else {
                inner.wanted = Some(inner.wanted.map_or(next, |wanted| wanted.min(next)));
                state.ask_to_read(&mut inner);
                return Fetch::Loading;
            };
            out.push((next, message.clone()));
            seq = next + 1;
        }
        let from = seqs.start.max(inner.written_to);
        let left = full.saturating_sub(out.len());
        let young = inner.memory.range(from..seqs.end.max(from)).take(left);
        out.extend(young.map(|(seq, message)| (seq, message.clone())));
        Fetch::Complete
    }

    /// Has the blocks behind `seq` read when few are left in memory.
    fn read_ahead(&self, inner: &mut Inner, seq: u64) {
        let Some(disk) = &inner.disk else { return };
        let loaded = disk.durable.loaded_bytes + disk.spill.loaded_bytes;
        let more = [&disk.durable, &disk.spill].into_iter().any(|files| {
            files.next_live(seq).is_some_and(|seq| files.next_live(files.loaded_to(seq)).is_some())
        });
        if !inner.read_asked && loaded < self.0.shared.options.read_ahead_bytes() / 2 && more {
            inner.ahead = Some(seq);
            self.0.ask_to_read(inner);
        }
    }

    /// Drops messages; unknown numbers are ignored.
    pub fn settle(&self, batch: &mut Batch, seqs: &[Range<u64>]) {
        let state = &self.0;
        let mut inner = state.inner.lock();
        if inner.deleted {
            return;
        }
        let mut touched = false;
        for range in seqs {
            if range.start < inner.written_to {
                let on_disk = range.start..range.end.min(inner.written_to);
                state.settle_on_disk(&mut inner, batch, on_disk);
            }
            inner.memory.remove_range(range.clone(), |seq, message| {
                if state.durable && message.is_persistent() {
                    batch.body().settle(state.id, seq..seq + 1);
                    touched = true;
                }
            });
        }
        if touched {
            state.touch(&mut inner);
        }
        state.account(&mut inner);
    }

    /// Drops everything and the queue itself, with its files.
    pub fn delete(&self, batch: &mut Batch) {
        let state = &self.0;
        let mut inner = state.inner.lock();
        if inner.deleted {
            return;
        }
        inner.deleted = true;
        inner.memory.remove_range(0..u64::MAX, |_, _| ());
        if let Some(disk) = &mut inner.disk {
            disk.durable.unload_all();
            disk.spill.unload_all();
            state.shared.blocks.forget(state.id.0);
        }
        if state.durable {
            batch.body().delete_queue(state.id);
            state.touch(&mut inner);
        }
        if inner.disk.is_some() {
            self.0.shared.checkpointer.want();
            state.ask_to_write(&mut inner);
        }
        state.account(&mut inner);
    }

    /// The number that the next message appended gets.
    pub fn next_seq(&self) -> u64 {
        self.0.inner.lock().memory.next_seq()
    }

    /// Message bytes held in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.0.inner.lock().bytes()
    }

    /// Whether publishers should be held back: memory is over twice the limit, or the log is far behind.
    /// `OnQueue::relieved` will tell.
    pub fn is_over(&self) -> bool {
        let mut inner = self.0.inner.lock();
        let over = self.0.is_over(&inner);
        if over && !inner.held {
            inner.held = true;
            self.0.shared.pager.add_held(self.0.clone());
        }
        over
    }
}
