//! Leaves a mark in the data directory as soon as a sync fails.

use super::{DirEntry, File, FileLock, FileSystem, OpenMode};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the mark.
///
/// After a failed sync the system's cache may show what the disk does not have, and no later sync makes up for it.
/// The next start must therefore write everything again before it relies on it. Should the machine go down before,
/// the cache goes with it, and the mark with no harm.
pub(crate) const POISONED_MARK: &str = "POISONED";

/// A file system whose failed syncs leave the mark, whoever asked for them: also those of a start that fails, and of
/// a library that keeps its errors to itself while it closes.
#[derive(Debug)]
pub(crate) struct MarkingFs {
    inner: Arc<dyn FileSystem>,
    mark: Arc<Mark>,
}

#[derive(Debug)]
struct Mark {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
}

impl Mark {
    /// Passes a sync's outcome on. The mark is made before anybody can act on a failure.
    fn watch(&self, outcome: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &outcome
            && let Err(e) = self.fs.open(&self.path, OpenMode::Create)
        {
            tracing::warn!(
                "cannot leave the file {} after a failed sync ({error}): {e}",
                self.path.display()
            );
        }
        outcome
    }
}

impl MarkingFs {
    /// Marks go to `dir`.
    pub(crate) fn new(inner: Arc<dyn FileSystem>, dir: &Path) -> Self {
        let mark = Mark { fs: inner.clone(), path: dir.join(POISONED_MARK) };
        Self { inner, mark: Arc::new(mark) }
    }
}

impl FileSystem for MarkingFs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(MarkingFile { inner, mark: self.mark.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn size_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        self.inner.size_bytes(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.mark.watch(self.inner.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.inner.lock(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        self.inner.free_bytes(path)
    }
}

#[derive(Debug)]
struct MarkingFile {
    inner: Arc<dyn File>,
    mark: Arc<Mark>,
}

impl File for MarkingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.inner.write_vectored_at(slices, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.mark.watch(self.inner.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.mark.watch(self.inner.sync_all())
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.inner.set_len(size_bytes)
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        self.inner.allocate(size_bytes)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.inner.size_bytes()
    }
}
