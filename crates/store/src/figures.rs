//! What the log has done, in figures that only grow.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a store did since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Batches written to the log.
    pub batches: u64,
    /// Writes to the log, each of a group of batches.
    pub groups: u64,
    /// Written to the log. Bytes.
    pub log_bytes: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// How long the syncs took together. Microseconds.
    pub sync_us: u64,
    /// Message bytes that all queues hold in memory now.
    pub memory_bytes: u64,
}

/// Counted by the log's writer alone, once a group; read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    batches: AtomicU64,
    groups: AtomicU64,
    log_bytes: AtomicU64,
    syncs: AtomicU64,
    sync_us: AtomicU64,
}

impl Counters {
    pub(crate) fn wrote(&self, batches: usize, bytes: usize) {
        self.groups.fetch_add(1, Relaxed);
        self.batches.fetch_add(batches as u64, Relaxed);
        self.log_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Relaxed);
        self.sync_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn read(&self, memory_bytes: u64) -> StoreFigures {
        StoreFigures {
            batches: self.batches.load(Relaxed),
            groups: self.groups.load(Relaxed),
            log_bytes: self.log_bytes.load(Relaxed),
            syncs: self.syncs.load(Relaxed),
            sync_us: self.sync_us.load(Relaxed),
            memory_bytes,
        }
    }
}
