//! Keeps messages and keyed values: one write-ahead log with atomic batches, queue logs, recovery.
//!
//! The map, by the way of a message: [`QueueLog::append`] puts it in memory (`queue::memory`) and encodes it
//! into a [`Batch`] (`batch`); [`Store::commit`] hands the batch to the log's writer (`wal::writer`, frames in
//! `wal::record`, files in `wal::segment`). When segments of the log are to be retired, the checkpointer
//! (`checkpoint`) moves what still lives: messages to segment files (`queue::segment`, `queue::disk`) or to the
//! log again, keyed values to the B-tree (`values`). The pager (`queue::pager`) writes a backlog out of memory
//! and reads it back ahead of consumers. At the start `recovery` puts B-tree, segment files and the log's
//! window (`wal::replay`) together. All files are reached through [`fs::FileSystem`].
//!
//! What an operator sees of it on a disk is in `docs/formats/`.

mod batch;
mod checkpoint;
mod db;
mod encoding;
mod epoch;
mod error;
mod figures;
pub mod fs;
mod options;
mod queue;
mod recovery;
mod repair;
mod replayed;
mod status;
mod store;
mod values;
mod wal;

pub use batch::Batch;
pub use error::{CommitError, OpenError, ReadValuesError, StoreStatus};
pub use figures::StoreFigures;
pub use options::{StoreOptions, SyncMode, WAL_SEGMENT_SIZE_MIN_BYTES};
pub use queue::{Fetch, OnQueue, QueueId, QueueLog, Read};
pub use recovery::{FORMAT_VERSION, RecoveredQueue, Recovery};
pub use repair::RepairReport;
#[doc(hidden)]
pub use replayed::fuzz_log;
pub use store::{OnCommit, Store};
