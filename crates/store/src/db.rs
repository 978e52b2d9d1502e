//! The B-tree file: keyed values, checkpoints of queues, what is in their segment files.
//!
//! `values.redb` (format of the redb crate, over our own file system trait). Tables:
//!
//! ```text
//! values    key                  -> value
//! meta      "wal_start"          -> number of the first segment of the log that is needed
//! queues    queue                -> 0 | floor | next seq         (LEB128; see queue::disk)
//!                                   1 | segment                  deleted; forgotten once the log starts behind it
//! segments  queue, file number   -> index of a segment file      (queue::disk)
//! live      queue, file number   -> numbers that live in it      (queue::seqset)
//! ```

use crate::fs::{File, FileSystem, OpenMode};
use parking_lot::{RwLock, RwLockReadGuard};
use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

pub(crate) const VALUES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("values");
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(crate) const QUEUES: TableDefinition<u64, &[u8]> = TableDefinition::new("queues");
pub(crate) const SEGMENTS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("segments");
pub(crate) const LIVE: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("live");

pub(crate) const WAL_START: &str = "wal_start";

/// Bytes of the B-tree kept in memory.
const CACHE_BYTES: usize = 4 << 20;

/// A file of ours as redb wants it. Once a sync has failed it takes no more writes, however often the file is
/// opened: the system may have dropped what the sync should have covered and go on showing it, so a later
/// transaction, synced with success, would stand on pages that are not on the disk.
#[derive(Debug)]
struct Backend {
    file: Arc<dyn File>,
    sync_failed: Arc<AtomicBool>,
}

impl Backend {
    fn writable(&self) -> io::Result<&dyn File> {
        if self.sync_failed.load(SeqCst) {
            return Err(io::Error::other("an earlier sync of the file failed"));
        }
        Ok(&*self.file)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.size_bytes()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.writable()?.sync_data().map_err(|e| {
            self.sync_failed.store(true, SeqCst);
            // Of another kind, so that no full disk is waited for.
            io::Error::other(format!("cannot sync: {e}"))
        })
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writable()?.write_at(data, offset)
    }
}

fn closed() -> redb::Error {
    redb::Error::Io(io::Error::other("the store is closed"))
}

/// One durable transaction, with all tables made.
fn write(
    database: &Database,
    change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(VALUES)?;
    transaction.open_table(META)?;
    transaction.open_table(QUEUES)?;
    transaction.open_table(SEGMENTS)?;
    transaction.open_table(LIVE)?;
    change(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// The open B-tree. After a failed write it must be opened anew, which [`Db::write`] does.
#[derive(Debug)]
pub(crate) struct Db {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    database: RwLock<Option<Database>>,
    closed: AtomicBool,
    sync_failed: Arc<AtomicBool>,
}

fn io_error(error: redb::Error) -> io::Error {
    match error {
        redb::Error::Io(e) => e,
        other => io::Error::other(other.to_string()),
    }
}

fn open_database(
    fs: &dyn FileSystem,
    path: &Path,
    sync_failed: &Arc<AtomicBool>,
) -> Result<Database, redb::Error> {
    let file = fs.open(path, OpenMode::Create).map_err(redb::Error::Io)?;
    let backend = Backend { file, sync_failed: sync_failed.clone() };
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
    Ok(database)
}

impl Db {
    pub(crate) fn open(fs: Arc<dyn FileSystem>, data_dir: &Path) -> Result<Self, (PathBuf, redb::Error)> {
        let path = data_dir.join("values.redb");
        let sync_failed = Arc::new(AtomicBool::new(false));
        let open = || {
            if fs.exists(&path)? {
                return open_database(&*fs, &path, &sync_failed);
            }
            // Under its name only once it is whole: a start that is cut short leaves no half of one.
            let unfinished = data_dir.join("values.redb.new");
            if fs.exists(&unfinished)? {
                fs.remove_file(&unfinished)?;
            }
            let database = open_database(&*fs, &unfinished, &sync_failed)?;
            write(&database, |_| Ok(()))?;
            fs.rename(&unfinished, &path)?;
            fs.sync_dir(data_dir)?;
            Ok(database)
        };
        match open() {
            Ok(database) => {
                let (database, closed) = (RwLock::new(Some(database)), AtomicBool::new(false));
                Ok(Self { fs, path, database, closed, sync_failed })
            }
            Err(e) => Err((path, e)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The database, opened again if a failed write has let go of it; `None` in it: it is closed. While this is held
    /// nobody lets go of it: another's failure must not take it away between opening and use.
    fn opened(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, redb::Error> {
        loop {
            let database = self.database.read();
            if database.is_some() || self.closed.load(SeqCst) {
                return Ok(database);
            }
            drop(database);
            let mut database = self.database.write();
            if database.is_none() && !self.closed.load(SeqCst) {
                *database = Some(open_database(&*self.fs, &self.path, &self.sync_failed)?);
            }
        }
    }

    /// Ends all use of the file.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        drop(self.database.write().take());
    }

    /// One durable transaction.
    pub(crate) fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> io::Result<()> {
        let attempt =
            || -> Result<(), redb::Error> { write(self.opened()?.as_ref().ok_or_else(closed)?, change) };
        attempt().map_err(|e| {
            // redb takes nothing more after a failed write: the next one opens the file again.
            drop(self.database.write().take());
            io_error(e)
        })
    }

    /// Reads; opens the file again if a write has failed before.
    pub(crate) fn read<R>(
        &self,
        read: impl Fn(&redb::ReadTransaction) -> Result<R, redb::Error>,
    ) -> io::Result<R> {
        let attempt = || -> Result<R, redb::Error> {
            let database = self.opened()?;
            let database = database.as_ref().ok_or_else(closed)?;
            read(&database.begin_read()?)
        };
        attempt().or_else(|_| {
            // A write may have failed at the same moment: once more, on the file opened anew.
            drop(self.database.write().take());
            attempt().map_err(io_error)
        })
    }

    /// The first segment of the log that is needed.
    pub(crate) fn wal_start(&self) -> io::Result<u64> {
        self.read(|transaction| {
            Ok(transaction.open_table(META)?.get(WAL_START)?.map_or(1, |start| start.value()))
        })
    }
}
