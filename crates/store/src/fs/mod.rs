//! The file system as the store sees it: positioned reads and writes, explicit syncs, directory entries.
//!
//! [`RealFs`] is the machine's. [`FakeFs`] is a deterministic one in memory that knows which bytes and which
//! directory entries would survive a power loss, and fails where a test tells it to.

mod fake;
mod marking;
mod real;

use std::ffi::OsString;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use fake::{FakeFs, Fault, OpCounts};
pub(crate) use marking::{MarkingFs, POISONED_MARK};
pub use real::RealFs;

/// What [`FileSystem::open`] may do to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Read an existing file; writing fails.
    Read,
    /// Read and write an existing file.
    Write,
    /// Read and write; made empty if missing, left as it is otherwise.
    Create,
    /// Read and write a new file; `AlreadyExists` if there is one.
    CreateNew,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Its last path component.
    pub name: OsString,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A lock on a file; dropping it releases the lock.
pub trait FileLock: Debug + Send + Sync {}

/// Everything the store asks of a file system.
///
/// A new, renamed or removed name survives a power loss only after [`FileSystem::sync_dir`] of its directory
/// (for a rename: of both); a file's bytes and size only after [`File::sync_data`].
pub trait FileSystem: Debug + Send + Sync {
    /// Makes a directory and its missing parents; no error if it is there.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Opens a file. The same file may be open many times.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// What is in a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Removes a file. Whoever has it open can go on using it.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or directory another name; a file of that name is replaced, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Length of a file in bytes (a directory: unspecified), `None` if there is nothing of that name.
    fn size_bytes(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Whether there is a file or directory of that name.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.size_bytes(path)?.is_some())
    }

    /// Makes the names in a directory survive a power loss.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock of a file (made if missing) without waiting; `WouldBlock` if it is held, by
    /// this process or another.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>>;

    /// Bytes still free where `path` (which exists) lies, `None` if that cannot be told.
    fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Removes a directory and everything in it; no error if it is not there.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let entries = match self.list(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let child = path.join(&entry.name);
            if entry.is_dir {
                self.remove_dir_all(&child)?;
            } else {
                self.remove_file(&child)?;
            }
        }
        self.remove_dir(path)
    }
}

/// An open file; closed when dropped, which syncs nothing.
pub trait File: Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; returns how many, less only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buf` from `offset`; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let read = self.read_at(buf, offset)?;
        if read < buf.len() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file ends {} bytes short at offset {offset}", buf.len() - read),
            ));
        }
        Ok(())
    }

    /// Writes all of `data` at `offset`; the file grows where needed. After an error any part may be written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_vectored_at(&[IoSlice::new(data)], offset)
    }

    /// Writes all slices one after another from `offset`, in as few calls as the system allows. After an error
    /// any part may be written.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes the bytes written so far, and the size, survive a power loss (`fdatasync`). After an error none of
    /// what was written since the last success can be trusted, even if a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`File::sync_data`], with all metadata (`fsync`).
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file or lengthens it with zeros that take no space.
    fn set_len(&self, size_bytes: u64) -> io::Result<()>;

    /// Lengthens the file to at least `size_bytes` with zeros that do take space, so that `StorageFull` shows
    /// here and a later write within that length changes neither size nor extents (once synced).
    fn allocate(&self, size_bytes: u64) -> io::Result<()>;

    /// The file's length in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
}
