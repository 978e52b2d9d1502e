//! A queue's messages by sequence number.

pub(crate) mod memory;
pub(crate) mod pager;

use crate::batch::Batch;
use crate::store::Shared;
use memory::Memory;
use millpond_model::Message;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// A queue's number in the store; given by the broker, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// Told, on a store thread, that a queue log has changed by itself. Must not block for long; may lock the queue cell.
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

pub(crate) struct Inner {
    pub(crate) memory: Memory,
    listener: Option<Arc<dyn OnQueue>>,
    pub(crate) deleted: bool,
}

impl QueueLog {
    pub(crate) fn new(shared: Arc<Shared>, id: QueueId, durable: bool) -> Self {
        Self::with_memory(shared, id, durable, Memory::default())
    }

    pub(crate) fn with_memory(shared: Arc<Shared>, id: QueueId, durable: bool, memory: Memory) -> Self {
        let inner = Inner { memory, listener: None, deleted: false };
        Self(Arc::new(QueueState { id, durable, shared, inner: Mutex::new(inner) }))
    }

    /// Who is told of changes.
    pub fn on_change(&self, listener: Arc<dyn OnQueue>) {
        self.0.inner.lock().listener = Some(listener);
    }

    /// Appends messages in order; returns their sequence numbers. Persistent messages of a durable queue go to
    /// `batch` as well. The same message appended to several queues within one batch has its bytes in it once.
    pub fn append(&self, batch: &mut Batch, messages: &mut dyn Iterator<Item = Message>) -> Range<u64> {
        let state = &*self.0;
        let mut inner = state.inner.lock();
        let start = inner.memory.next_seq();
        let mut seq = start;
        let logged = state.durable && !inner.deleted;
        for message in messages {
            if logged && message.is_persistent() {
                batch.body().append(state.id, seq, message.record());
            }
            inner.memory.push(message);
            seq += 1;
        }
        start..seq
    }

    /// Messages `seqs`, in order, to `out`; stops at the first that is not in memory, or when `bytes_max` is
    /// passed. A settled number is left out.
    pub fn fetch(&self, seqs: Range<u64>, bytes_max: usize, out: &mut Vec<(u64, Message)>) -> Fetch {
        let inner = self.0.inner.lock();
        let mut bytes = 0;
        for (seq, message) in inner.memory.range(seqs) {
            out.push((seq, message.clone()));
            bytes += message.size_bytes();
            if bytes > bytes_max {
                break;
            }
        }
        Fetch::Complete
    }

    /// Drops messages; unknown numbers are ignored.
    pub fn settle(&self, batch: &mut Batch, seqs: &[Range<u64>]) {
        let state = &*self.0;
        let mut inner = state.inner.lock();
        for range in seqs {
            inner.memory.remove_range(range.clone(), |seq, message| {
                if state.durable && message.is_persistent() {
                    batch.body().settle(state.id, seq..seq + 1);
                }
            });
        }
    }

    /// Drops everything and the queue itself, with its files.
    pub fn delete(&self, batch: &mut Batch) {
        let state = &*self.0;
        let mut inner = state.inner.lock();
        if state.durable && !inner.deleted {
            batch.body().delete_queue(state.id);
        }
        inner.deleted = true;
        inner.memory.remove_range(0..u64::MAX, |_, _| ());
    }

    /// Message bytes held in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.0.inner.lock().memory.bytes()
    }

    /// Whether publishers should be held back: memory is over twice the limit. `OnQueue::relieved` will tell.
    pub fn is_over(&self) -> bool {
        false
    }
}
