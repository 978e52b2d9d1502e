//! How a store works.

use std::path::PathBuf;
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
    /// Length of one segment of the write-ahead log; at least [`WAL_SEGMENT_SIZE_MIN_BYTES`] is used.
    pub wal_segment_size_bytes: u64,
    /// How many segments the log may span before the oldest are retired; at least 3 are used.
    pub wal_segments_max: usize,
    /// Where a queue's segment file ends.
    pub queue_segment_size_bytes: u64,
    /// Message bytes a queue may hold in memory before it pages out.
    pub queue_memory_max_bytes: u64,
    /// Message bytes all queues together may hold in memory before the largest page out.
    pub memory_max_bytes: u64,
}

/// Smallest length of a segment of the write-ahead log.
pub const WAL_SEGMENT_SIZE_MIN_BYTES: u64 = 4096;

impl StoreOptions {
    /// The defaults for a data directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            sync: SyncMode::Always,
            wal_segment_size_bytes: 16 << 20,
            wal_segments_max: 4,
            queue_segment_size_bytes: 64 << 20,
            queue_memory_max_bytes: 24 << 20,
            memory_max_bytes: 256 << 20,
        }
    }

    pub(crate) fn wal_segment_size(&self) -> u64 {
        self.wal_segment_size_bytes.clamp(WAL_SEGMENT_SIZE_MIN_BYTES, 1 << 30)
    }

    /// Sealed segments of the log that start a checkpoint.
    pub(crate) fn sealed_before_checkpoint(&self) -> usize {
        (self.wal_segments_max.max(3) - 1) / 2
    }

    /// Sealed segments of the log from which publishers are held back until a checkpoint is done.
    pub(crate) fn sealed_max(&self) -> usize {
        2 * self.wal_segments_max.max(3)
    }

    /// Message bytes of one queue that a checkpoint writes to the log again instead of to a segment file.
    pub(crate) fn carry_max_bytes(&self) -> u64 {
        self.wal_segment_size() / 16
    }

    /// Message bytes that one checkpoint carries in all.
    pub(crate) fn carry_total_max_bytes(&self) -> u64 {
        self.wal_segment_size() / 4
    }

    pub(crate) fn block_size_bytes(&self) -> usize {
        (self.queue_segment_size_bytes / 4).clamp(256, 64 << 10) as usize
    }

    /// How far messages are read back ahead of a consumer.
    pub(crate) fn read_ahead_bytes(&self) -> u64 {
        (self.queue_memory_max_bytes / 8).clamp(1, 1 << 20)
    }
}
