//! Putting the store together at the start: B-tree, segment files, and the log's window on top.

use crate::batch::{Op, Ops};
use crate::error::OpenError;
use crate::fs::{FileLock, FileSystem, OpenMode};
use crate::options::StoreOptions;
use crate::queue::memory::Memory;
use crate::queue::{QueueId, QueueLog};
use crate::status::Status;
use crate::store::{Shared, Store, Threads};
use crate::values::Values;
use crate::wal::record::{self, Position};
use crate::wal::replay::{self, Damage};
use crate::wal::segment::{Segment, SegmentDir};
use crate::wal::writer::{Log, Segments, Writer};
use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use millpond_model::Message;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The data format that this program writes.
pub(crate) const FORMAT_VERSION: u32 = 1;

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

/// What the log's window says of one queue.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Appends below are in segment files or were settled before the window.
    floor: u64,
    next_seq: u64,
    messages: Vec<(u64, Message)>,
    settled: Vec<Range<u64>>,
    deleted: bool,
}

impl Replayed {
    fn append(&mut self, seq: u64, message: Message) {
        self.next_seq = self.next_seq.max(seq + 1);
        if seq >= self.floor {
            self.messages.push((seq, message));
        }
    }

    fn settle(&mut self, seqs: Range<u64>) {
        self.next_seq = self.next_seq.max(seqs.end);
        match self.settled.last_mut() {
            Some(last) if last.end == seqs.start => last.end = seqs.end,
            _ => self.settled.push(seqs),
        }
    }

    /// The carried messages replace all earlier ones below `next_seq`.
    fn carry(&mut self, next_seq: u64) {
        self.next_seq = self.next_seq.max(next_seq);
        self.messages.retain(|(seq, _)| *seq >= next_seq);
    }

    /// The messages that live, ascending.
    fn finish(&mut self) -> Vec<(u64, Message)> {
        let mut messages = std::mem::take(&mut self.messages);
        messages.sort_by_key(|(seq, _)| *seq);
        messages.dedup_by_key(|(seq, _)| *seq);
        self.settled.sort_unstable_by_key(|range| range.start);
        let mut settled = self.settled.iter().peekable();
        let mut settled_to = 0;
        messages.retain(|(seq, _)| {
            while let Some(range) = settled.next_if(|range| range.start <= *seq) {
                settled_to = settled_to.max(range.end);
            }
            *seq >= settled_to
        });
        messages
    }
}

/// The state that replay builds.
#[derive(Debug, Default)]
pub(crate) struct State {
    queues: HashMap<QueueId, Replayed>,
    values: Values,
}

impl State {
    fn apply(&mut self, at: Position, payload: &Bytes) -> Result<(), Damage> {
        let damage = |what: String| Damage { at, what };
        let message = |record: &[u8]| {
            Message::from_record(payload.slice_ref(record)).map_err(|e| damage(e.to_string()))
        };
        for op in Ops::new(payload) {
            match op.map_err(|e| damage(e.to_string()))? {
                Op::Append { queue, first_seq, records, .. } => {
                    let queue = self.queues.entry(queue).or_default();
                    for (seq, record) in (first_seq..).zip(records) {
                        queue.append(seq, message(record)?);
                    }
                }
                Op::Settle { queue, seqs } => self.queues.entry(queue).or_default().settle(seqs),
                Op::DeleteQueue { queue } => self.queues.entry(queue).or_default().deleted = true,
                Op::Carry { queue, next_seq, messages } => {
                    let queue = self.queues.entry(queue).or_default();
                    queue.carry(next_seq);
                    for (seq, record) in messages {
                        queue.append(seq, message(record)?);
                    }
                }
                Op::Put { key, value } => self.values.overlay().apply(key, Some(value)),
                Op::Delete { key } => self.values.overlay().apply(key, None),
            }
        }
        Ok(())
    }
}

/// See [`Store::open_on`].
pub(crate) fn open(fs: Arc<dyn FileSystem>, options: StoreOptions) -> Result<(Store, Recovery), OpenError> {
    let lock = prepare_dir(&*fs, &options.dir)?;
    let dir = SegmentDir::new(fs.clone(), &options.dir, options.wal_segment_size());
    let mut state = State::default();
    let end = replay::replay(&dir, &options.dir, 1, &mut |at, payload| state.apply(at, payload))?;
    let (first, segments) = go_on(&dir, &end).map_err(OpenError::io("make a log segment in", dir.dir()))?;
    let State { queues, values } = state;
    let shared = Arc::new(Shared {
        epochs: Default::default(),
        pool: Default::default(),
        status: Status::new(options.dir.clone()),
        log: Log::new(dir, segments, first.number),
        values,
        checkpointer: Default::default(),
        pager: Default::default(),
        options,
        fs,
    });
    let mut recovered: Vec<RecoveredQueue> = queues
        .into_iter()
        .filter(|(_, queue)| !queue.deleted)
        .map(|(id, queue)| recovered_queue(&shared, id, queue))
        .collect();
    recovered.sort_by_key(|queue| queue.id);
    let threads =
        start(&shared, first, lock).map_err(OpenError::io("start a thread for", &shared.options.dir))?;
    Ok((Store::new(shared, threads), Recovery { queues: recovered }))
}

fn prepare_dir(fs: &dyn FileSystem, dir: &Path) -> Result<Box<dyn FileLock>, OpenError> {
    fs.create_dir_all(dir).map_err(OpenError::io("make", dir))?;
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
    Ok(lock)
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
    if let Some(last) = end.read.last() {
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

fn recovered_queue(shared: &Arc<Shared>, id: QueueId, mut queue: Replayed) -> RecoveredQueue {
    let messages = queue.finish();
    let mut live: Vec<Range<u64>> = Vec::new();
    let mut memory = Memory::starting_at(messages.first().map_or(queue.next_seq, |(seq, _)| *seq));
    for (seq, message) in compact(messages) {
        match live.last_mut() {
            Some(last) if last.end == seq => last.end = seq + 1,
            _ => live.push(seq..seq + 1),
        }
        memory.skip_to(seq);
        memory.push(message);
    }
    memory.skip_to(queue.next_seq);
    let log = QueueLog::with_memory(shared.clone(), id, true, memory);
    RecoveredQueue { id, log, live, next_seq: queue.next_seq }
}

fn start(shared: &Arc<Shared>, first: Segment, lock: Box<dyn FileLock>) -> io::Result<Threads> {
    let writer = Writer {
        shared: shared.clone(),
        durable: Position { segment: first.number, offset: 0 },
        segment: first,
        offset: 0,
        unsynced: false,
        synced_at: Instant::now(),
    };
    let handle = std::thread::Builder::new().name("millpond-log".into()).spawn(move || writer.run())?;
    Ok(Threads { shared: shared.clone(), handles: Mutex::new(vec![handle]), _lock: lock })
}
