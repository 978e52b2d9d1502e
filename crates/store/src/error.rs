//! What can go wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works in the directory.
    #[error("{dir} is in use by another process: stop it, or give this one another --data-dir")]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// A newer format.
    #[error(
        "{dir} has data format {found}, this millpond writes {known}: start a newer version, or use another --data-dir"
    )]
    NewerFormat {
        /// The data directory.
        dir: PathBuf,
        /// What is written in its `VERSION`.
        found: String,
        /// The format this program writes.
        known: u32,
    },
    /// Damage where the log was durable.
    #[error(
        "{file} is damaged at position {position_bytes}: {what}; run `millpond repair --data-dir {dir}` to cut it there (what follows is lost), or restore a copy"
    )]
    Damaged {
        /// The data directory.
        dir: PathBuf,
        /// The file.
        file: PathBuf,
        /// Where in the file.
        position_bytes: u64,
        /// What was found.
        what: String,
    },
    /// The keyed values cannot be read.
    #[error("{file} cannot be opened: {cause}")]
    Values {
        /// The file.
        file: PathBuf,
        /// What the B-tree says.
        cause: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// Why keyed values were not read: none is known to be absent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the keyed values cannot be read: {cause}; see to the disk, then start again")]
pub struct ReadValuesError {
    /// What the file system or the B-tree says.
    pub cause: Arc<str>,
}

impl From<std::io::Error> for ReadValuesError {
    fn from(error: std::io::Error) -> Self {
        Self { cause: error.to_string().into() }
    }
}

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
    /// One batch is over what a log segment can be made to hold.
    #[error("a batch of {size_bytes} bytes is over the limit of {max_bytes}: commit less at once")]
    TooLarge {
        /// Of the batch.
        size_bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// [`crate::Store::close`] was called before.
    #[error("the store is closed")]
    Closed,
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
