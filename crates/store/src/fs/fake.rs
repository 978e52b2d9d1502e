//! A file system in memory that loses power, fails and fills up where a test tells it to.
//!
//! It is as unkind as ext4 with ordered data and delayed allocation may be, and a little more:
//!
//! - Bytes and size of a file are durable after its `sync_data`. Before that, any of its sectors (or pages), of
//!   any write, in any order, may be on the disk or not; a grown size may be there without the bytes (zeros).
//! - A name that was made, renamed or removed is durable after `sync_dir` of its directory; before that each
//!   change may be there or not, whatever the order. A rename is there as a whole or not at all.
//! - After a failed sync, what it should have covered is on the disk in part; no later sync brings the rest.
//! - A killed process loses nothing, but what it had not synced is still not synced.

mod content;
mod rng;
mod tree;

use super::{DirEntry, File, FileLock, FileSystem, OpenMode};
use content::{Content, PAGE_BYTES};
use parking_lot::{Mutex, MutexGuard};
use rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::{Dir, NameChange, Node, NodeId, Tree, names};

/// `EIO`: what Linux answers when the disk fails.
const EIO: i32 = 5;

/// Something that goes wrong, once. Each counts from the moment it was planned: 1 is the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The write, preallocation or change of length of that number fails and changes nothing.
    FailWrite(u64),
    /// The write of that number fails after a part of it is written.
    ShortWrite(u64),
    /// The sync (of a file or a directory) of that number fails.
    FailSync(u64),
    /// Power is lost during the operation of that number (see [`OpCounts::ops`]); from then on everything fails.
    CrashAt(u64),
}

/// How many operations there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpCounts {
    /// Writes, preallocations, changes of length.
    pub writes: u64,
    /// Syncs of files and directories.
    pub syncs: u64,
    /// Syncs that failed because a fault was planned.
    pub failed_syncs: u64,
    /// Everything that changes something: writes, syncs, names made, changed and removed.
    pub ops: u64,
}

/// A file system in memory. Cloning counts a reference; [`FakeFs::crash`] and [`FakeFs::kill`] make a copy.
#[derive(Debug, Clone)]
pub struct FakeFs(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    tree: Tree,
    rng: Rng,
    counts: OpCounts,
    /// With numbers made absolute.
    faults: Vec<Fault>,
    capacity_bytes: Option<u64>,
    locks: BTreeSet<NodeId>,
    /// How many handles each open file has.
    open: BTreeMap<NodeId, usize>,
    stopped: bool,
}

/// What kind of operation asks to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Write,
    Sync,
    Name,
}

/// What is to become of an operation.
enum Verdict {
    Go,
    /// Fail without an effect.
    Fail(io::Error),
    /// Take effect in part (a write) or by chance (a sync), then fail.
    Half(io::Error),
}

impl FakeFs {
    /// An empty one; the same seed and the same calls give the same faults.
    pub fn new(seed: u64) -> Self {
        Self::with(Tree::new(), Rng::new(seed), None)
    }

    fn with(tree: Tree, rng: Rng, capacity_bytes: Option<u64>) -> Self {
        Self(Arc::new(Mutex::new(State {
            tree,
            rng,
            counts: OpCounts::default(),
            faults: Vec::new(),
            capacity_bytes,
            locks: BTreeSet::new(),
            open: BTreeMap::new(),
            stopped: false,
        })))
    }

    /// Lets something go wrong.
    pub fn plan(&self, fault: Fault) {
        let mut state = self.0.lock();
        let counts = state.counts;
        state.faults.push(match fault {
            Fault::FailWrite(n) => Fault::FailWrite(counts.writes + n),
            Fault::ShortWrite(n) => Fault::ShortWrite(counts.writes + n),
            Fault::FailSync(n) => Fault::FailSync(counts.syncs + n),
            Fault::CrashAt(n) => Fault::CrashAt(counts.ops + n),
        });
    }

    /// Calls off what was planned and has not happened.
    pub fn forget_faults(&self) {
        self.0.lock().faults.clear();
    }

    /// How many operations there were so far.
    pub fn counts(&self) -> OpCounts {
        self.0.lock().counts
    }

    /// Sets how many bytes fit (counted in pages of 4096 bytes that files take); `None`: any number.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.0.lock().capacity_bytes = capacity_bytes;
    }

    /// Bytes that files take.
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }

    /// Whether a planned crash has happened, or [`FakeFs::crash`] or [`FakeFs::kill`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.lock().stopped
    }

    /// The file system after a power loss now (or at the planned crash). This one fails from here on.
    pub fn crash(&self, seed: u64) -> FakeFs {
        let mut state = self.0.lock();
        state.stopped = true;
        let mut rng = Rng::new(seed);
        let tree = state.tree.after_power_loss(&mut rng);
        Self::with(tree, rng, state.capacity_bytes)
    }

    /// The file system after the process was killed now: every write is seen, what was not synced still is not.
    /// This one fails from here on.
    pub fn kill(&self) -> FakeFs {
        let mut state = self.0.lock();
        state.stopped = true;
        let mut tree = state.tree.clone();
        tree.collect(std::iter::empty());
        Self::with(tree, state.rng.clone(), state.capacity_bytes)
    }

    fn running(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.0.lock();
        if state.stopped { Err(crashed()) } else { Ok(state) }
    }
}

impl State {
    /// An operation on names, carried out as a whole or not at all.
    fn change_names<T>(&mut self, work: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        match self.next(Op::Name) {
            Verdict::Go => work(&mut self.tree),
            Verdict::Fail(e) => Err(e),
            Verdict::Half(e) => {
                work(&mut self.tree)?;
                Err(e)
            }
        }
    }

    fn used_bytes(&self) -> u64 {
        self.tree.used_bytes(self.open.keys().copied())
    }

    fn collect(&mut self) {
        let open: Vec<NodeId> = self.open.keys().copied().collect();
        self.tree.collect(open.into_iter());
    }

    /// The node of a file to be opened; made if the mode asks for it.
    fn open_id(&mut self, path: &Path, mode: OpenMode) -> io::Result<NodeId> {
        let found = self.tree.find(path)?;
        match (found, mode) {
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Create | OpenMode::CreateNew) => self.change_names(|tree| {
                let (dir, name) = tree.parent(path)?;
                Ok(tree.create(dir, name, Node::File(Content::default())))
            }),
            _ => {
                let id = self.tree.get(path)?;
                self.tree.file(id)?;
                Ok(id)
            }
        }
    }

    /// Counts an operation and says what becomes of it.
    fn next(&mut self, op: Op) -> Verdict {
        self.counts.ops += 1;
        self.counts.writes += u64::from(op == Op::Write);
        self.counts.syncs += u64::from(op == Op::Sync);
        let counts = self.counts;
        let due = self.faults.iter().position(|fault| match *fault {
            Fault::FailWrite(n) | Fault::ShortWrite(n) => op == Op::Write && n == counts.writes,
            Fault::FailSync(n) => op == Op::Sync && n == counts.syncs,
            Fault::CrashAt(n) => n == counts.ops,
        });
        match due.map(|place| self.faults.swap_remove(place)) {
            None => Verdict::Go,
            Some(Fault::FailSync(_)) => {
                self.counts.failed_syncs += 1;
                Verdict::Half(io::Error::from_raw_os_error(EIO))
            }
            Some(Fault::FailWrite(_)) => Verdict::Fail(io::Error::from_raw_os_error(EIO)),
            Some(Fault::ShortWrite(_)) => Verdict::Half(io::Error::from_raw_os_error(EIO)),
            Some(Fault::CrashAt(_)) => {
                self.stopped = true;
                if self.rng.chance(4) { Verdict::Fail(crashed()) } else { Verdict::Half(crashed()) }
            }
        }
    }

    /// Writes what fits, and says `StorageFull` if that is not all.
    fn write(&mut self, id: NodeId, slices: &[IoSlice<'_>], offset: usize) -> io::Result<()> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let (fits, verdict) = match self.next(Op::Write) {
            Verdict::Go => self.room_for(id, offset, len)?,
            Verdict::Fail(e) => return Err(e),
            Verdict::Half(e) => (self.rng.below(len + 1), Err(e)),
        };
        self.tree.file_mut(id)?.write(slices, offset, fits);
        verdict
    }

    /// How many of the bytes there is room for.
    fn room_for(&self, id: NodeId, offset: usize, len: usize) -> io::Result<(usize, io::Result<()>)> {
        let Some(capacity) = self.capacity_bytes else { return Ok((len, Ok(()))) };
        let content = self.tree.file(id)?;
        let free = capacity.saturating_sub(self.used_bytes());
        if content.growth_bytes(offset, len) <= free {
            return Ok((len, Ok(())));
        }
        let mut fits = 0;
        while fits < len {
            let next = ((offset + fits) / PAGE_BYTES + 1) * PAGE_BYTES - offset;
            if content.growth_bytes(offset, next) > free {
                break;
            }
            fits = next;
        }
        Ok((fits.min(len), Err(io::ErrorKind::StorageFull.into())))
    }
}

impl FileSystem for FakeFs {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.running()?;
        let mut at = PathBuf::new();
        for name in names(path)? {
            at.push(name);
            if let Some(id) = state.tree.find(&at)? {
                state.tree.dir(id)?;
                continue;
            }
            state.change_names(|tree| {
                let (dir, name) = tree.parent(&at)?;
                tree.create(dir, name, Node::Dir(Dir::default()));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.running()?;
        let id = state.open_id(path, mode)?;
        *state.open.entry(id).or_default() += 1;
        Ok(Arc::new(FakeFile { fs: self.clone(), id, writable: mode != OpenMode::Read }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.running()?;
        let id = state.tree.get(dir)?;
        let entries = state.tree.dir(id)?.current.iter();
        Ok(entries
            .map(|(name, id)| DirEntry { name: name.clone(), is_dir: state.tree.dir(*id).is_ok() })
            .collect())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.running()?.change_names(|tree| {
            let id = tree.get(path)?;
            tree.file(id)?;
            let (dir, name) = tree.parent(path)?;
            tree.change(vec![NameChange { dir, name: name.to_owned(), node: None }]);
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.running()?.change_names(|tree| {
            let id = tree.get(path)?;
            if !tree.dir(id)?.current.is_empty() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            let (dir, name) = tree.parent(path)?;
            tree.change(vec![NameChange { dir, name: name.to_owned(), node: None }]);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.running()?.change_names(|tree| {
            let id = tree.get(from)?;
            let (from_dir, from_name) = tree.parent(from)?;
            let (to_dir, to_name) = tree.parent(to)?;
            if let Some(replaced) = tree.find(to)?
                && (tree.dir(replaced).is_ok() || tree.dir(id).is_ok())
            {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            tree.change(vec![
                NameChange { dir: from_dir, name: from_name.to_owned(), node: None },
                NameChange { dir: to_dir, name: to_name.to_owned(), node: Some(id) },
            ]);
            Ok(())
        })
    }

    fn size_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.running()?;
        let Some(id) = state.tree.find(path)? else { return Ok(None) };
        Ok(Some(state.tree.file(id).map_or(0, |content| content.bytes().len() as u64)))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.running()?;
        let id = state.tree.get(dir)?;
        state.tree.dir(id)?;
        match state.next(Op::Sync) {
            Verdict::Go => {
                state.tree.sync_dir(id);
                state.collect();
                Ok(())
            }
            Verdict::Fail(e) | Verdict::Half(e) => Err(e),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let mut state = self.running()?;
        let id = state.open_id(path, OpenMode::Create)?;
        if !state.locks.insert(id) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FakeLock { fs: self.clone(), id }))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<Option<u64>> {
        let state = self.running()?;
        Ok(state.capacity_bytes.map(|capacity| capacity.saturating_sub(state.used_bytes())))
    }
}

#[derive(Debug)]
struct FakeLock {
    fs: FakeFs,
    id: NodeId,
}

impl FileLock for FakeLock {}

impl Drop for FakeLock {
    fn drop(&mut self) {
        self.fs.0.lock().locks.remove(&self.id);
    }
}

#[derive(Debug)]
struct FakeFile {
    fs: FakeFs,
    id: NodeId,
    writable: bool,
}

impl FakeFile {
    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.writable { self.fs.running() } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl Drop for FakeFile {
    fn drop(&mut self) {
        let mut state = self.fs.0.lock();
        if let Some(count) = state.open.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.id);
            }
        }
    }
}

impl File for FakeFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.fs.running()?;
        let bytes = state.tree.file(self.id)?.bytes();
        let from = bytes.len().min(place(offset)?);
        let count = buf.len().min(bytes.len() - from);
        buf[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.writable()?.write(self.id, slices, place(offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut guard = self.fs.running()?;
        let state = &mut *guard;
        let verdict = state.next(Op::Sync);
        let content = state.tree.file_mut(self.id)?;
        match verdict {
            Verdict::Go => {
                content.sync();
                Ok(())
            }
            Verdict::Fail(e) => Err(e),
            Verdict::Half(e) => {
                content.fail_sync(&mut state.rng);
                Err(e)
            }
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        match state.next(Op::Write) {
            Verdict::Go => {
                state.tree.file_mut(self.id)?.set_len(place(size_bytes)?);
                Ok(())
            }
            Verdict::Fail(e) | Verdict::Half(e) => Err(e),
        }
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        let from = state.tree.file(self.id)?.bytes().len();
        let zeros = vec![0; place(size_bytes)?.saturating_sub(from)];
        state.write(self.id, &[IoSlice::new(&zeros)], from)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.fs.running()?.tree.file(self.id)?.bytes().len() as u64)
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn crashed() -> io::Error {
    io::Error::other("crashed: the fake file system has lost power")
}
