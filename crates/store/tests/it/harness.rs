//! What every test of the store needs: opening on a fake disk, waiting for completions, reading queues.

use bytes::Bytes;
use millpond_model::Message;
use millpond_store::fs::{FakeFs, FileSystem};
use millpond_store::{
    Batch, CommitError, Fetch, OnCommit, OnQueue, OpenError, QueueLog, ReadValuesError, Recovery, Store,
    StoreOptions, StoreStatus, SyncMode,
};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once, before it says that it never did.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How often a wait looks whether the disk has crashed, which nothing tells it.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// The data directory on fake disks.
pub(crate) const DIR: &str = "/data";

/// Options so small that a few hundred messages go through every path there is.
pub(crate) fn tiny_options(dir: impl AsRef<Path>) -> StoreOptions {
    StoreOptions {
        dir: dir.as_ref().to_owned(),
        sync: SyncMode::Always,
        wal_segment_size_bytes: 8 << 10,
        wal_segments_max: 3,
        queue_segment_size_bytes: 8 << 10,
        queue_memory_max_bytes: 4 << 10,
        memory_max_bytes: 16 << 10,
    }
}

/// A fake disk with a durable, empty data directory.
pub(crate) fn fake_disk(seed: u64) -> FakeFs {
    let fs = FakeFs::new(seed);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    fs
}

pub(crate) fn open_fake(options: &StoreOptions, fs: &FakeFs) -> Result<(Store, Recovery), OpenError> {
    Store::open_on(Arc::new(fs.clone()) as Arc<dyn FileSystem>, options.clone())
}

/// A persistent or transient message with a body.
pub(crate) fn message(persistent: bool, body: impl AsRef<[u8]>) -> Message {
    Message::new(b"exchange", b"key", b"", persistent, body.as_ref())
}

/// The disk crashed while something was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crashed;

/// Collects completions by token.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    results: Mutex<HashMap<u64, Result<(), CommitError>>>,
    changed: Condvar,
}

impl OnCommit for Completions {
    fn committed(&self, token: u64, result: Result<(), CommitError>) {
        let before = self.results.lock().insert(token, result);
        assert!(before.is_none(), "batch {token} completed twice");
        self.changed.notify_all();
    }
}

impl Completions {
    pub(crate) fn wait(&self, token: u64) -> Result<(), CommitError> {
        let deadline = Instant::now() + DEADLINE;
        let mut results = self.results.lock();
        loop {
            if let Some(result) = results.get(&token) {
                return result.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "batch {token} was not completed in {DEADLINE:?}");
            self.changed.wait_for(&mut results, left);
        }
    }

    pub(crate) fn get(&self, token: u64) -> Option<Result<(), CommitError>> {
        self.results.lock().get(&token).cloned()
    }
}

/// Commits a batch and waits until it is complete.
pub(crate) fn commit(store: &Store, batch: Batch) -> Result<(), CommitError> {
    let completions = Arc::new(Completions::default());
    store.commit(batch, Some((completions.clone(), 0)));
    completions.wait(0)
}

/// Closes a store, and says so if that does not end.
pub(crate) fn close(store: Store) {
    let (done, closed) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        store.close();
        drop(store);
        let _ = done.send(());
    });
    closed.recv_timeout(DEADLINE).expect("Store::close returns");
    thread.join().expect("Store::close does not panic");
}

/// Counts what a queue log tells.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    told: Mutex<(u64, u64)>,
    changed: Condvar,
}

impl OnQueue for Listener {
    fn loaded(&self) {
        self.told.lock().0 += 1;
        self.changed.notify_all();
    }

    fn relieved(&self) {
        self.told.lock().1 += 1;
        self.changed.notify_all();
    }
}

impl Listener {
    pub(crate) fn on(log: &QueueLog) -> Arc<Self> {
        let listener = Arc::new(Self::default());
        log.on_change(listener.clone());
        listener
    }

    pub(crate) fn loads(&self) -> u64 {
        self.told.lock().0
    }

    /// Waits for a call of `loaded` after the first `before`; `crashed` says whether none will come.
    pub(crate) fn wait_loaded(&self, before: u64, crashed: &dyn Fn() -> bool) -> Result<(), Crashed> {
        let deadline = Instant::now() + DEADLINE;
        let mut told = self.told.lock();
        while told.0 <= before {
            if crashed() {
                return Err(Crashed);
            }
            assert!(Instant::now() < deadline, "a load was not told of in {DEADLINE:?}");
            self.changed.wait_for(&mut told, LOOK);
        }
        Ok(())
    }

    /// Waits until a log is below its limit again.
    pub(crate) fn wait_relieved(&self, log: &QueueLog) {
        let deadline = Instant::now() + DEADLINE;
        let mut told = self.told.lock();
        while log.is_over() {
            assert!(Instant::now() < deadline, "the log was not relieved in {DEADLINE:?}");
            self.changed.wait_for(&mut told, LOOK);
        }
    }
}

/// Reads all live messages of `seqs`, waiting for loads.
pub(crate) fn read(
    log: &QueueLog,
    listener: &Listener,
    seqs: Range<u64>,
    bytes_max: usize,
    crashed: &dyn Fn() -> bool,
) -> Result<Vec<(u64, Bytes)>, Crashed> {
    let mut all = Vec::new();
    let mut next = seqs.start;
    let mut idle = 0;
    while next < seqs.end {
        let loads = listener.loads();
        let mut out = Vec::new();
        let fetch = log.fetch(next..seqs.end, bytes_max, &mut out);
        let end = out.last().map(|(seq, _)| seq + 1);
        for (seq, message) in out {
            assert!((next..seqs.end).contains(&seq), "{seq} was not asked for: {next}..{}", seqs.end);
            next = seq + 1;
            all.push((seq, message.record().clone()));
        }
        match (fetch, end) {
            (Fetch::Complete, None) => break,
            (_, Some(_)) => idle = 0,
            (Fetch::Loading, None) => {
                listener.wait_loaded(loads, crashed)?;
                idle += 1;
                assert!(idle < 10_000, "{idle} loads brought nothing of {next}..{}", seqs.end);
            }
        }
    }
    Ok(all)
}

/// [`read`] on a disk that does not crash.
pub(crate) fn read_all(log: &QueueLog, seqs: Range<u64>) -> Vec<(u64, Bytes)> {
    read(log, &Listener::on(log), seqs, 10_000, &|| false).expect("no crash is planned")
}

/// Whether the disk has crashed, or the store knows that a write or sync on it has failed.
pub(crate) fn is_failing(store: &Store, fs: &FakeFs) -> bool {
    matches!(store.status(), StoreStatus::Poisoned { .. }) || fs.is_stopped()
}

/// Values could not be read, which only a failing disk explains. Who met the failure says so a moment later.
pub(crate) fn await_failing(store: &Store, fs: &FakeFs, error: &ReadValuesError) {
    let deadline = Instant::now() + DEADLINE;
    while !is_failing(store, fs) {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::park_timeout(LOOK);
    }
}
