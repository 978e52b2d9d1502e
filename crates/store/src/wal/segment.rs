//! The segment files of the log: made ahead of need, numbered by name, used again.
//!
//! `wal/<number, 16 hexadecimal digits>.wal`. A retired file gets a higher number by a rename, which is synced
//! before the first write, so that a write into it can never turn up under the old name.

use crate::fs::{File, FileSystem, OpenMode};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment that can be written.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) size_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct SegmentDir {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    size_bytes: u64,
}

impl SegmentDir {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, data_dir: &Path, size_bytes: u64) -> Self {
        Self { fs, dir: data_dir.join("wal"), size_bytes }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}.wal"))
    }

    /// Numbers of the files there are, ascending.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers: Vec<u64> = self
            .fs
            .list(&self.dir)?
            .iter()
            .filter_map(|entry| u64::from_str_radix(entry.name.to_str()?.strip_suffix(".wal")?, 16).ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(crate) fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let file = self.fs.open(&self.path(number), OpenMode::Read)?;
        let mut bytes = vec![0; file.size_bytes()? as usize];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    pub(crate) fn open(&self, number: u64) -> io::Result<Segment> {
        let file = self.fs.open(&self.path(number), OpenMode::Write)?;
        let size_bytes = file.size_bytes()?;
        Ok(Segment { number, file, size_bytes })
    }

    /// A new file, filled with zeros and synced with its name. Leaves nothing behind when it fails.
    pub(crate) fn make(&self, number: u64) -> io::Result<Segment> {
        let path = self.path(number);
        let file = self.fs.open(&path, OpenMode::Create)?;
        let made = file
            .set_len(0)
            .and_then(|()| file.allocate(self.size_bytes))
            .and_then(|()| file.sync_all())
            .and_then(|()| self.fs.sync_dir(&self.dir));
        if let Err(e) = made {
            let _ = self.fs.remove_file(&path);
            return Err(e);
        }
        Ok(Segment { number, file, size_bytes: self.size_bytes })
    }

    /// Gives a retired file a new number.
    pub(crate) fn recycle(&self, retired: u64, number: u64) -> io::Result<Segment> {
        let path = self.path(number);
        self.fs.rename(&self.path(retired), &path)?;
        self.fs.sync_dir(&self.dir)?;
        self.open(number)
    }

    /// Whether a file is of the length that can be used again.
    pub(crate) fn is_regular(&self, number: u64) -> bool {
        matches!(self.fs.size_bytes(&self.path(number)), Ok(Some(size)) if size == self.size_bytes)
    }

    pub(crate) fn remove(&self, number: u64) -> io::Result<()> {
        self.fs.remove_file(&self.path(number))
    }
}
