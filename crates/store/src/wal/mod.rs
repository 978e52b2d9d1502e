//! The write-ahead log: frames, segment files, the writer thread, and reading it back.

pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod segment;
pub(crate) mod writer;
