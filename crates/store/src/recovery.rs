//! Putting the store together at the start: B-tree, segment files, and the log's window on top.

use crate::checkpoint::{self, Tombstones};
use crate::db::{Db, LIVE, QUEUES, SEGMENTS};
use crate::encoding::Reader;
use crate::error::OpenError;
use crate::fs::{FileLock, FileSystem, MarkingFs, OpenMode, POISONED_MARK};
use crate::options::StoreOptions;
use crate::queue::disk::{Files, SegmentFile};
use crate::queue::memory::Memory;
use crate::queue::seqset::SeqSet;
use crate::queue::{Disk, Inner, QueueId, QueueLog, QueueState, pager};
use crate::replayed::{ReplayState, Replayed};
use crate::status::Status;
use crate::store::{Shared, Store, Threads};
use crate::values::Values;
use crate::wal::record::{self, Position};
use crate::wal::replay;
use crate::wal::segment::{Segment, SegmentDir};
use crate::wal::writer::{Log, Segments, Writer};
use bytes::BytesMut;
use hashbrown::HashMap;
use millpond_model::Message;
use parking_lot::Mutex;
use redb::ReadableTable;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The data format that this program writes; it reads all up to it.
pub const FORMAT_VERSION: u32 = 1;

/// What was found at the start.
#[derive(Debug)]
pub struct Recovery {
    /// Every queue that has anything in the store, by number.
    pub queues: Vec<RecoveredQueue>,
}

/// A queue found at the start.
#[derive(Debug)]
pub struct RecoveredQueue {
    /// Its number.
    pub id: QueueId,
    /// Its messages.
    pub log: QueueLog,
    /// Sequence numbers of live messages, ascending, not touching each other.
    pub live: Vec<Range<u64>>,
    /// The next sequence number.
    pub next_seq: u64,
}

/// See [`Store::open_on`].
pub(crate) fn open(fs: Arc<dyn FileSystem>, options: StoreOptions) -> Result<(Store, Recovery), OpenError> {
    let fs: Arc<dyn FileSystem> = Arc::new(MarkingFs::new(fs, &options.dir));
    let lock = prepare_dir(&*fs, &options.dir)?;
    let db = open_db(&fs, &options.dir)?;
    let path = db.path().to_owned();
    let unreadable = |e: io::Error| OpenError::Values { file: path.clone(), cause: e.to_string() };
    let start = db.wal_start().map_err(unreadable)?;
    let (queues, tombstones) = load_queues(&db).map_err(unreadable)?;
    check_files(&*fs, &options.dir, &queues)?;
    let dir = SegmentDir::new(fs.clone(), &options.dir, options.wal_segment_size());
    let mut state = ReplayState { queues, ..ReplayState::default() };
    let end = replay::replay(&dir, &options.dir, start, &mut |at, payload| state.apply(at, payload))?;
    let (first, segments) = go_on(&dir, &end).map_err(OpenError::io("make a log segment in", dir.dir()))?;
    let ReplayState { mut queues, values } = state;
    let values = Values::new(db, values);
    for (id, _) in &tombstones {
        queues.remove(id);
    }
    let shared = Arc::new(Shared {
        epochs: Default::default(),
        pool: Default::default(),
        status: Status::new(options.dir.clone()),
        log: Log::new(dir, segments, first.number, options.sealed_max()),
        values,
        checkpointer: Default::default(),
        pager: Default::default(),
        blocks: Default::default(),
        paging: Default::default(),
        memory_bytes: Default::default(),
        counters: Default::default(),
        options,
        fs,
    });
    let mut recovered: Vec<RecoveredQueue> =
        queues.into_iter().filter_map(|(id, queue)| recovered_queue(&shared, id, queue, start)).collect();
    recovered.sort_by_key(|queue| queue.id);
    let threads = start_threads(&shared, first, lock, tombstones)
        .map_err(OpenError::io("start a thread for", &shared.options.dir))?;
    shared.checkpointer.wake();
    Ok((Store::new(shared, threads), Recovery { queues: recovered }))
}

pub(crate) fn open_db(fs: &Arc<dyn FileSystem>, dir: &Path) -> Result<Arc<Db>, OpenError> {
    match Db::open(fs.clone(), dir) {
        Ok(db) => Ok(Arc::new(db)),
        Err((file, redb::Error::Io(e))) => Err(OpenError::io("open", &file)(e)),
        Err((file, e)) => Err(OpenError::Values { file, cause: e.to_string() }),
    }
}

/// What the B-tree says of queues, and which were deleted.
pub(crate) fn load_queues(db: &Db) -> io::Result<(HashMap<QueueId, Replayed>, Tombstones)> {
    let (queues, tombstones, bad) = db.read(|transaction| {
        let mut queues: HashMap<QueueId, Replayed> = HashMap::new();
        let mut tombstones = Tombstones::new();
        let mut bad = None;
        for row in transaction.open_table(QUEUES)?.iter()? {
            let (id, row) = row?;
            let mut reader = Reader::new(row.value());
            let fields = (|| Some((reader.u8()?, reader.varint()?, reader.varint())))();
            match fields {
                Some((0, floor, Some(next_seq))) => {
                    let queue = Replayed { floor, next_seq, ..Replayed::default() };
                    queues.insert(QueueId(id.value()), queue);
                }
                Some((1, behind, _)) => tombstones.push((QueueId(id.value()), behind)),
                _ => bad = Some(format!("the row of queue {} is not one", id.value())),
            }
        }
        let live = transaction.open_table(LIVE)?;
        for row in transaction.open_table(SEGMENTS)?.iter()? {
            let (key, index) = row?;
            let (queue, number) = key.value();
            let set = live.get(key.value())?.and_then(|set| SeqSet::decode(set.value()));
            match set.and_then(|set| SegmentFile::decode_index(number, index.value(), set)) {
                Some(file) => queues.entry(QueueId(queue)).or_default().files.push_back(file),
                None => bad = Some(format!("the index of segment file {number} of queue {queue} is not one")),
            }
        }
        Ok((queues, tombstones, bad))
    })?;
    match bad {
        Some(what) => Err(io::Error::new(io::ErrorKind::InvalidData, what)),
        None => Ok((queues, tombstones)),
    }
}

/// Segment files must be as long as the B-tree says; what it does not know is left from a write that was never
/// finished and goes away, and so does what was only paged out.
pub(crate) fn check_files(
    fs: &dyn FileSystem,
    dir: &Path,
    queues: &HashMap<QueueId, Replayed>,
) -> Result<(), OpenError> {
    let spill = dir.join("spill");
    fs.remove_dir_all(&spill).map_err(OpenError::io("remove", &spill))?;
    let parent = dir.join("queues");
    for entry in fs.list(&parent).map_err(OpenError::io("list", &parent))? {
        let path = parent.join(&entry.name);
        let id = entry.name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok()).map(QueueId);
        let Some(queue) = id.and_then(|id| queues.get(&id)).filter(|queue| !queue.files.is_empty()) else {
            fs.remove_dir_all(&path).map_err(OpenError::io("remove", &path))?;
            continue;
        };
        for entry in fs.list(&path).map_err(OpenError::io("list", &path))? {
            let number =
                entry.name.to_str().and_then(|name| u32::from_str_radix(name.strip_suffix(".seg")?, 16).ok());
            if !queue.files.iter().any(|file| Some(file.number) == number) {
                let path = path.join(&entry.name);
                fs.remove_file(&path).map_err(OpenError::io("remove", &path))?;
            }
        }
    }
    for (id, queue) in queues {
        let files = Files::new(&parent, id.0);
        for file in &queue.files {
            let path = files.path(file.number);
            let size = fs.size_bytes(&path).map_err(OpenError::io("look at", &path))?.unwrap_or(0);
            if size < file.len {
                let what = format!("the file must be at least {} bytes long", file.len);
                return Err(OpenError::Damaged {
                    dir: dir.to_owned(),
                    file: path,
                    position_bytes: size,
                    what,
                });
            }
        }
    }
    Ok(())
}

pub(crate) fn prepare_dir(fs: &dyn FileSystem, dir: &Path) -> Result<Box<dyn FileLock>, OpenError> {
    make_dir(fs, dir).map_err(OpenError::io("make", dir))?;
    let lock = fs.lock(&dir.join("LOCK")).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.to_owned() },
        _ => OpenError::io("lock", &dir.join("LOCK"))(e),
    })?;
    check_version(fs, dir)?;
    for sub in ["wal", "queues"] {
        let sub = dir.join(sub);
        fs.create_dir_all(&sub).map_err(OpenError::io("make", &sub))?;
    }
    fs.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
    let mark = dir.join(POISONED_MARK);
    if fs.exists(&mark).map_err(OpenError::io("look for", &mark))? {
        tracing::warn!(
            "the last run in {} ended with a failed sync: all files are written again",
            dir.display()
        );
        write_again(fs, dir).map_err(OpenError::io("write again the files in", dir))?;
        fs.remove_file(&mark).map_err(OpenError::io("remove", &mark))?;
    }
    Ok(lock)
}

/// Writes every file below a directory again, with what can be read from it, and syncs it.
fn write_again(fs: &dyn FileSystem, dir: &Path) -> io::Result<()> {
    const PIECE_BYTES: usize = 1 << 20;
    for entry in fs.list(dir)? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            write_again(fs, &path)?;
            continue;
        }
        if entry.name == "LOCK" {
            continue;
        }
        let file = fs.open(&path, OpenMode::Write)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        loop {
            let read = file.read_at(&mut piece, at)?;
            if read == 0 {
                break;
            }
            file.write_at(&piece[..read], at)?;
            at += read as u64;
        }
        // A change of length may have been lost, too.
        file.set_len(at)?;
        file.sync_all()?;
    }
    fs.sync_dir(dir)
}

/// Makes the data directory and its parents, so that their names survive a power loss.
fn make_dir(fs: &dyn FileSystem, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for ancestor in dir.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        if fs.exists(ancestor)? {
            break;
        }
        missing.push(ancestor);
    }
    fs.create_dir_all(dir)?;
    for made in missing {
        let parent = made.parent().filter(|path| !path.as_os_str().is_empty());
        fs.sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

fn check_version(fs: &dyn FileSystem, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("VERSION");
    let mut text = vec![0; 64];
    match fs.open(&path, OpenMode::Read) {
        Ok(file) => {
            let read = file.read_at(&mut text, 0).map_err(OpenError::io("read", &path))?;
            text.truncate(read);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => text.clear(),
        Err(e) => return Err(OpenError::io("open", &path)(e)),
    }
    let found = String::from_utf8_lossy(&text).trim().to_owned();
    match found.parse::<u32>() {
        Ok(version) if version <= FORMAT_VERSION => return Ok(()),
        // Empty: the first start was cut short.
        _ if found.is_empty() => {}
        _ => return Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known: FORMAT_VERSION }),
    }
    let write = || {
        let file = fs.open(&path, OpenMode::Create)?;
        file.write_at(format!("{FORMAT_VERSION}\n").as_bytes(), 0)?;
        file.sync_all()
    };
    write().map_err(OpenError::io("write", &path))
}

/// Ends the log that was read where it was cut and makes the segment where it goes on. The cut segment is not
/// written further: behind the cut there may be frames that were written and not synced, and a new frame could
/// end just where one of them begins.
fn go_on(dir: &SegmentDir, end: &replay::LogEnd) -> io::Result<(Segment, Segments)> {
    let numbers = dir.numbers()?;
    let retired = numbers.iter().copied().filter(|number| !end.read.contains(number)).collect();
    let highest = numbers.last().copied().unwrap_or(0).max(end.position.segment);
    let sealed = end.read.iter().copied().collect::<VecDeque<_>>();
    let mut segments = Segments { sealed, spare: None, retired, next_number: highest + 1 };
    // A log that was never written begins where replay will look for it.
    let first = if end.read.is_empty() { dir.make(end.position.segment)? } else { segments.make(dir)? };
    if let Some((last, earlier)) = end.read.split_last() {
        // What was read may be in the system's cache only, if a process was killed that did not sync: the
        // store goes on from it, so it must not vanish in front of what comes now.
        for number in earlier {
            dir.open(*number)?.file.sync_data()?;
        }
        let cut = dir.open(*last)?;
        let frame = record::end_frame(end.position, first.number);
        cut.file.write_at(&frame, u64::from(end.position.offset))?;
        cut.file.sync_all()?;
    }
    Ok((first, segments))
}

/// Copies what lives out of the segments that were read, so that those can be given back.
fn compact(messages: Vec<(u64, Message)>) -> impl Iterator<Item = (u64, Message)> {
    const CHUNK_BYTES: usize = 64 << 10;
    let mut chunk = BytesMut::new();
    messages.into_iter().filter_map(move |(seq, message)| {
        let record = message.record();
        if chunk.capacity() < record.len() {
            chunk = BytesMut::with_capacity(CHUNK_BYTES.max(record.len()));
        }
        chunk.extend_from_slice(record);
        Some((seq, Message::from_record(chunk.split().freeze()).ok()?))
    })
}

/// Puts a queue together; `None` if it was deleted.
fn recovered_queue(
    shared: &Arc<Shared>,
    id: QueueId,
    mut queue: Replayed,
    start: u64,
) -> Option<RecoveredQueue> {
    let messages = queue.finish();
    let mut live: Vec<Range<u64>> = Vec::new();
    let mut add_live = |range: Range<u64>| match live.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => live.push(range),
    };
    let mut disk = Disk::new(shared, id);
    disk.durable.next_file = queue.files.back().map_or(1, |file| file.number + 1);
    disk.durable.files = queue.files;
    for range in queue.settled {
        disk.durable.settle(range);
    }
    disk.durable.files.iter().flat_map(|file| file.live.ranges()).for_each(&mut add_live);
    let mut memory = Memory::starting_at(messages.first().map_or(queue.next_seq, |(seq, _)| *seq));
    if !queue.deleted {
        for (seq, message) in compact(messages) {
            add_live(seq..seq + 1);
            memory.skip_to(seq);
            memory.push(message);
        }
    }
    let next_seq = queue.next_seq.max(queue.floor);
    memory.skip_to(next_seq);
    let mut inner = Inner::new(memory);
    inner.written_to = queue.floor;
    inner.floor = queue.floor;
    inner.deleted = queue.deleted;
    if queue.deleted || !disk.durable.files.is_empty() || !disk.durable.dead.is_empty() {
        inner.disk = Some(Box::new(disk));
    }
    if queue.touched {
        inner.dirty_from = start;
    }
    let state = QueueState::new(shared.clone(), id, true, inner);
    if queue.touched {
        shared.checkpointer.add_dirty(state.clone());
    }
    state.account(&mut state.inner.lock());
    (!queue.deleted).then_some(RecoveredQueue { id, log: QueueLog(state), live, next_seq })
}

fn start_threads(
    shared: &Arc<Shared>,
    first: Segment,
    lock: Box<dyn FileLock>,
    tombstones: Tombstones,
) -> io::Result<Threads> {
    let writer = Writer {
        shared: shared.clone(),
        durable: Position { segment: first.number, offset: 0 },
        segment: first,
        offset: 0,
        unsynced: false,
        synced_at: Instant::now(),
    };
    // Made first: when a thread cannot be started, dropping it stops the others.
    let threads = Threads { shared: shared.clone(), handles: Mutex::default(), lock: Mutex::new(Some(lock)) };
    threads.spawn("millpond-log", move |_| writer.run())?;
    threads.spawn("millpond-check", move |shared| checkpoint::run(shared, tombstones))?;
    threads.spawn("millpond-read", pager::run_reads)?;
    threads.spawn("millpond-page", pager::run_writes)?;
    Ok(threads)
}
