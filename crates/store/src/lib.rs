//! Keeps messages and keyed values: one write-ahead log with atomic batches, queue logs, recovery.
//!
//! Stub of the public API; see docs/ARCHITECTURE.md, "The store".

pub mod fs;

use bytes::Bytes;
use millpond_model::Message;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// When a commit is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// After `fdatasync` (group commit). The default.
    Always,
    /// After `write`: survives the process, not the machine.
    Os,
    /// After `write`, with an `fdatasync` at least this often.
    Interval(Duration),
}

/// How a store works.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data directory; made if missing.
    pub dir: PathBuf,
    /// When a commit is complete.
    pub sync: SyncMode,
    /// Length of one segment of the write-ahead log.
    pub wal_segment_size_bytes: u64,
    /// How many segments the log may span before the oldest is retired.
    pub wal_segments_max: usize,
    /// Where a queue's segment file ends.
    pub queue_segment_size_bytes: u64,
    /// Message bytes a queue may hold in memory before it pages out.
    pub queue_memory_max_bytes: u64,
    /// Message bytes all queues together may hold in memory before the largest page out.
    pub memory_max_bytes: u64,
}

/// Why a store cannot be opened. (Add fields and variants.)
#[derive(Debug, thiserror::Error)]
pub enum OpenError {}

/// Why a batch was not made durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// No room for another log segment.
    #[error("no space left in {dir}: free some or move the data directory; writes resume by themselves")]
    OutOfSpace {
        /// The data directory.
        dir: PathBuf,
    },
    /// An earlier write or sync failed; nothing is confirmed any more.
    #[error("the store is poisoned: {cause}; restart after the disk is mended")]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
}

/// Whether the store takes writes.
#[derive(Debug, Clone)]
pub enum StoreStatus {
    /// It does.
    Writable,
    /// Settlements only, until there is room.
    Full,
    /// Nothing, for good.
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
}

/// Told, on the log writer's thread, that a batch is durable (or will never be). Must be quick and not block.
pub trait OnCommit: Send + Sync {
    /// `token` is the one given to [`Store::commit`].
    fn committed(&self, token: u64, result: Result<(), CommitError>);
}

/// Told, on a store thread, that a queue log has changed by itself. Must not block for long; may lock the queue cell.
pub trait OnQueue: Send + Sync {
    /// Messages that [`QueueLog::fetch`] said were not in memory now are.
    fn loaded(&self);
    /// The log's memory is below its limit again.
    fn relieved(&self);
}

/// A queue's number in the store; given by the broker, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// The store; cloning counts a reference.
#[derive(Debug, Clone)]
pub struct Store(());

/// What was found at the start.
#[derive(Debug)]
pub struct Recovery {
    /// Every queue that has anything in the store.
    pub queues: Vec<RecoveredQueue>,
}

/// A queue found at the start.
#[derive(Debug)]
pub struct RecoveredQueue {
    /// Its number.
    pub id: QueueId,
    /// Its messages.
    pub log: QueueLog,
    /// Sequence numbers of live messages, ascending, not touching each other.
    pub live: Vec<Range<u64>>,
    /// The next sequence number.
    pub next_seq: u64,
}

impl Store {
    /// Opens or makes the store in `options.dir`, recovers, starts the store's threads.
    pub fn open(_options: StoreOptions) -> Result<(Store, Recovery), OpenError> {
        unimplemented!()
    }

    /// All keyed values whose key starts with `prefix`, sorted by key.
    pub fn values(&self, _prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        unimplemented!()
    }

    /// A new queue log. `durable`: its persistent messages and settlements go to batches; otherwise it never
    /// writes to the write-ahead log.
    pub fn create_queue(&self, _id: QueueId, _durable: bool) -> QueueLog {
        unimplemented!()
    }

    /// Begins a batch. While it is open it holds checkpoints up: open late, commit soon, never over an await.
    pub fn begin(&self) -> Batch {
        unimplemented!()
    }

    /// Submits a batch; `on_commit` is told when it is durable. An empty batch (`Batch::is_empty`) must not be
    /// submitted for its completion: it is just dropped.
    pub fn commit(&self, _batch: Batch, _on_commit: Option<(Arc<dyn OnCommit>, u64)>) {
        unimplemented!()
    }

    /// Whether the store takes writes.
    pub fn status(&self) -> StoreStatus {
        unimplemented!()
    }

    /// Commits what waits, syncs, stops the threads. Further commits fail.
    pub fn close(&self) {
        unimplemented!()
    }
}

/// Changes that become durable together or not at all.
#[derive(Debug)]
pub struct Batch(());

impl Batch {
    /// Sets a keyed value.
    pub fn put(&mut self, _key: &[u8], _value: &[u8]) {
        unimplemented!()
    }
    /// Removes a keyed value.
    pub fn delete(&mut self, _key: &[u8]) {
        unimplemented!()
    }
    /// Whether nothing durable is in it.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// Whether it has appends or puts (which a full store refuses) and not only settlements and deletes.
    pub fn grows(&self) -> bool {
        unimplemented!()
    }
}

/// What [`QueueLog::fetch`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// All that was asked for is there.
    Complete,
    /// The rest is on disk; a load has been started and `OnQueue::loaded` will tell.
    Loading,
}

/// A queue's messages by sequence number. Cloning counts a reference; it has a lock of its own, so that the
/// store's threads can work on it.
#[derive(Debug, Clone)]
pub struct QueueLog(());

impl QueueLog {
    /// Who is told of changes.
    pub fn on_change(&self, _listener: Arc<dyn OnQueue>) {
        unimplemented!()
    }

    /// Appends messages in order; returns their sequence numbers. Persistent messages of a durable queue go to
    /// `batch` as well. The same message appended to several queues within one batch has its bytes in it once.
    pub fn append(&self, _batch: &mut Batch, _messages: &mut dyn Iterator<Item = Message>) -> Range<u64> {
        unimplemented!()
    }

    /// Messages `seqs`, in order, to `out`; stops at the first that is not in memory, or when `bytes_max` is
    /// passed. A settled number is left out.
    pub fn fetch(&self, _seqs: Range<u64>, _bytes_max: usize, _out: &mut Vec<(u64, Message)>) -> Fetch {
        unimplemented!()
    }

    /// Drops messages; unknown numbers are ignored.
    pub fn settle(&self, _batch: &mut Batch, _seqs: &[Range<u64>]) {
        unimplemented!()
    }

    /// Drops everything and the queue itself, with its files.
    pub fn delete(&self, _batch: &mut Batch) {
        unimplemented!()
    }

    /// Message bytes held in memory.
    pub fn memory_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Whether publishers should be held back: memory is over twice the limit. `OnQueue::relieved` will tell.
    pub fn is_over(&self) -> bool {
        unimplemented!()
    }
}
