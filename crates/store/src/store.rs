//! The store: what its threads share, and the door to it.

use crate::batch::{Batch, Pool};
use crate::checkpoint::Checkpointer;
use crate::epoch::Epochs;
use crate::error::{CommitError, OpenError, ReadValuesError, StoreStatus};
use crate::figures::{Counters, StoreFigures};
use crate::fs::{FileLock, FileSystem, RealFs};
use crate::options::StoreOptions;
use crate::queue::blocks::BlockCache;
use crate::queue::pager::Pager;
use crate::queue::{QueueId, QueueLog};
use crate::recovery::{self, Recovery};
use crate::status::Status;
use crate::values::Values;
use crate::wal::writer::{Log, Submitted};
use bytes::Bytes;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Told, on the log writer's thread, that a batch is durable (or will never be). Must be quick and not block.
pub trait OnCommit: Send + Sync {
    /// `token` is the one given to [`Store::commit`].
    fn committed(&self, token: u64, result: Result<(), CommitError>);
}

/// What the store's threads, its batches and its queue logs share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) epochs: Epochs,
    pub(crate) pool: Pool,
    pub(crate) status: Status,
    pub(crate) log: Log,
    pub(crate) values: Values,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) pager: Pager,
    pub(crate) blocks: BlockCache,
    /// Held while a queue is written to segment files.
    pub(crate) paging: Mutex<()>,
    /// Message bytes that all queues hold in memory.
    pub(crate) memory_bytes: AtomicU64,
    pub(crate) counters: Counters,
}

/// The store; cloning counts a reference. The last one dropped closes it.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
}

#[derive(Debug)]
pub(crate) struct Threads {
    pub(crate) shared: Arc<Shared>,
    /// The log's writer first.
    pub(crate) handles: Mutex<Vec<JoinHandle<()>>>,
    /// Held until the store is closed.
    pub(crate) lock: Mutex<Option<Box<dyn FileLock>>>,
}

impl Threads {
    pub(crate) fn spawn(
        &self,
        name: &str,
        run: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> io::Result<()> {
        let shared = self.shared.clone();
        let handle = std::thread::Builder::new().name(name.into()).spawn(move || run(&shared))?;
        self.handles.lock().push(handle);
        Ok(())
    }

    /// The log last: until they have stopped the others wait for it, and commit what queues did when they were told
    /// of a load.
    fn close(&self) {
        self.shared.epochs.close();
        self.shared.checkpointer.close();
        self.shared.pager.close();
        let mut handles = std::mem::take(&mut *self.handles.lock()).into_iter();
        let writer = handles.next();
        handles.for_each(join);
        self.shared.log.close();
        writer.into_iter().for_each(join);
        self.shared.checkpointer.clear();
        self.shared.values.db.close();
        drop(self.lock.lock().take());
    }
}

/// Waits for a thread, unless it is this one: the last handle of a store may be dropped on one of its own threads.
fn join(handle: JoinHandle<()>) {
    if handle.thread().id() != std::thread::current().id() {
        let _ = handle.join();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store {
    /// Opens or makes the store in `options.dir`, recovers, starts the store's threads.
    pub fn open(options: StoreOptions) -> Result<(Store, Recovery), OpenError> {
        Self::open_on(Arc::new(RealFs), options)
    }

    /// As [`Store::open`], on another file system.
    pub fn open_on(fs: Arc<dyn FileSystem>, options: StoreOptions) -> Result<(Store, Recovery), OpenError> {
        recovery::open(fs, options)
    }

    pub(crate) fn new(shared: Arc<Shared>, threads: Threads) -> Self {
        Self { shared, threads: Arc::new(threads) }
    }

    /// All keyed values whose key starts with `prefix`, sorted by key.
    pub fn values(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, ReadValuesError> {
        self.shared.values.with_prefix(prefix).map_err(ReadValuesError::from)
    }

    /// A new queue log. `durable`: its persistent messages and settlements go to batches; otherwise it never
    /// writes to the write-ahead log.
    pub fn create_queue(&self, id: QueueId, durable: bool) -> QueueLog {
        QueueLog::new(self.shared.clone(), id, durable)
    }

    /// Begins a batch. While it is open it holds checkpoints up: open late, commit soon, never over an await.
    pub fn begin(&self) -> Batch {
        Batch::new(self.shared.clone())
    }

    /// Submits a batch; `on_commit` is told when it is durable. An empty batch (`Batch::is_empty`) need not be
    /// submitted: its completion is told at once, on the caller's thread.
    pub fn commit(&self, batch: Batch, on_commit: Option<(Arc<dyn OnCommit>, u64)>) {
        self.shared.commit(batch, on_commit);
    }

    /// Whether the store takes writes.
    pub fn status(&self) -> StoreStatus {
        self.shared.status.get()
    }

    /// What it did since it was opened.
    pub fn figures(&self) -> StoreFigures {
        self.shared.counters.read(self.shared.memory_bytes.load(Relaxed))
    }

    /// Commits what waits, syncs, stops the threads. Further commits fail.
    pub fn close(&self) {
        self.threads.close();
    }
}

impl Shared {
    /// A queue's segment file cannot be read.
    pub(crate) fn unreadable(&self, what: &str) {
        let repair = self.options.dir.display();
        self.status.poison("read a queue's messages back", &format!(
            "{what}; run `millpond repair --data-dir {repair}` to drop what cannot be read, or restore a copy"
        ));
    }

    /// A write beside the log failed: out of space it is tried again, otherwise it poisons the store.
    pub(crate) fn write_failed(&self, doing: &str, error: &io::Error) {
        if error.kind() == io::ErrorKind::StorageFull {
            self.status.set_full(doing, error);
            self.checkpointer.wake();
        } else {
            self.status.poison(doing, error);
        }
    }

    fn commit(&self, mut batch: Batch, on_commit: Option<(Arc<dyn OnCommit>, u64)>) {
        let Some(mut body) = batch.take_body().filter(|body| !body.is_empty()) else {
            if let Some((listener, token)) = on_commit {
                let result = if self.status.is_poisoned() { Err(self.status.refusal()) } else { Ok(()) };
                listener.committed(token, result);
            }
            return;
        };
        let payload_crc = body.seal();
        if body.grows && (self.status.is_full() || self.status.is_poisoned()) {
            self.pool.give(body);
            let refused = Some(self.status.refusal());
            self.log.submit(Submitted { body: None, payload_crc, on_commit, refused });
            return;
        }
        if body.has_values {
            // Submitted under the values' lock, so that values and log agree on the order.
            let mut overlay = self.values.overlay();
            body.for_each_value(|key, value| overlay.apply(key, value));
            self.log.submit(Submitted { body: Some(body), payload_crc, on_commit, refused: None });
        } else {
            self.log.submit(Submitted { body: Some(body), payload_crc, on_commit, refused: None });
        }
    }
}
