//! The log's writer: one thread takes all batches that wait, writes them with one call, syncs once, and
//! completes every one of them (group commit).
//!
//! A batch whose committer does not wait for it (settlements, unconfirmed publishes) forces no sync of its own:
//! it goes with the next group, at the latest [`LAZY_COMMIT_MS`] later.

use super::record::{self, END_BYTES, FRAME_HEADER_BYTES, MARK_BYTES, Position};
use super::segment::{Segment, SegmentDir};
use crate::batch::Body;
use crate::error::CommitError;
use crate::store::{OnCommit, Shared};
use crate::{SyncMode, status::Status};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long a batch that nobody waits for may lie before it is written.
const LAZY_COMMIT_MS: u64 = 20;
/// Bytes that nobody waits for that are written all the same.
const LAZY_MAX_BYTES: usize = 1 << 20;
/// Bytes waiting for the writer from which publishers are held back.
const BACKLOG_MAX_BYTES: usize = 32 << 20;
/// One in so many bytes of a segment is kept for settlements.
const RESERVE_SHARE: u64 = 4;
/// Largest batch: a position in a segment is a `u32`.
const BATCH_MAX_BYTES: usize = 1 << 30;

/// A batch on its way to the log.
pub(crate) struct Submitted {
    /// `None`: only wants to know that everything before it is durable, or is refused.
    pub(crate) body: Option<Body>,
    pub(crate) payload_crc: u32,
    pub(crate) on_commit: Option<(Arc<dyn OnCommit>, u64)>,
    /// Not to be written. It keeps its place, so that a session's commits end in the order they were given.
    pub(crate) refused: Option<CommitError>,
}

impl Submitted {
    fn frame_len(&self) -> usize {
        self.body.as_ref().map_or(0, |body| FRAME_HEADER_BYTES + body.len())
    }

    fn grows(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.grows)
    }
}

#[derive(Default)]
struct Waiting {
    batches: Vec<Submitted>,
    bytes: usize,
    /// Someone waits for one of them.
    urgent: bool,
    closing: bool,
    closed: bool,
    asleep: bool,
}

/// The segments of the log but the one that is written.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Full ones that may still hold what lives only here, oldest first.
    pub(crate) sealed: VecDeque<u64>,
    /// Made ahead of need.
    pub(crate) spare: Option<Segment>,
    /// Files whose contents are not needed any more.
    pub(crate) retired: Vec<u64>,
    pub(crate) next_number: u64,
}

/// What the rest of the store sees of the log.
pub(crate) struct Log {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    pub(crate) segments: Mutex<Segments>,
    pub(crate) dir: SegmentDir,
    /// Number of the segment that is written now; what is submitted from now on lies there or later.
    pub(crate) current: AtomicU64,
    /// Bytes submitted and not yet written.
    pub(crate) backlog_bytes: AtomicUsize,
    /// How many segments are sealed.
    pub(crate) sealed_len: AtomicUsize,
    sealed_max: usize,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("segments", &self.segments).finish_non_exhaustive()
    }
}

impl Log {
    pub(crate) fn new(dir: SegmentDir, segments: Segments, current: u64, sealed_max: usize) -> Self {
        Self {
            sealed_len: AtomicUsize::new(segments.sealed.len()),
            sealed_max,
            waiting: Mutex::default(),
            wake: Condvar::new(),
            segments: Mutex::new(segments),
            dir,
            current: AtomicU64::new(current),
            backlog_bytes: AtomicUsize::new(0),
        }
    }

    /// Whether more is submitted than is written, or more written than checkpoints retire.
    pub(crate) fn is_behind(&self) -> bool {
        self.backlog_bytes.load(Relaxed) > BACKLOG_MAX_BYTES
            || self.sealed_len.load(Relaxed) > self.sealed_max
    }

    /// Hands a batch to the writer.
    pub(crate) fn submit(&self, batch: Submitted) {
        let len = batch.frame_len();
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            return complete(batch.on_commit.as_ref(), Err(CommitError::Closed));
        }
        self.backlog_bytes.fetch_add(len, Relaxed);
        waiting.bytes += len;
        waiting.urgent |= batch.on_commit.is_some();
        waiting.batches.push(batch);
        // Asleep without a deadline, or with one that has become too late.
        let wake = waiting.asleep
            && (waiting.urgent || waiting.batches.len() == 1 || waiting.bytes >= LAZY_MAX_BYTES);
        if wake {
            waiting.asleep = false;
            drop(waiting);
            self.wake.notify_one();
        }
    }

    /// Makes the writer write what waits, sync and stop.
    pub(crate) fn close(&self) {
        self.waiting.lock().closing = true;
        self.wake.notify_one();
    }
}

fn complete(on_commit: Option<&(Arc<dyn OnCommit>, u64)>, result: Result<(), CommitError>) {
    if let Some((listener, token)) = on_commit {
        listener.committed(*token, result);
    }
}

/// The writer's own state.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) segment: Segment,
    pub(crate) offset: usize,
    pub(crate) durable: Position,
    /// Something is written and not synced.
    pub(crate) unsynced: bool,
    pub(crate) synced_at: Instant,
}

impl Writer {
    pub(crate) fn run(mut self) {
        let mut group = Vec::new();
        while self.take(&mut group) {
            self.write_group(&mut group);
        }
        self.write_group(&mut group);
        if self.unsynced && !self.status().is_poisoned() {
            let _ = self.sync();
        }
    }

    fn status(&self) -> &Status {
        &self.shared.status
    }

    /// Takes what waits; `false` when the log is closed.
    fn take(&mut self, group: &mut Vec<Submitted>) -> bool {
        let log = &self.shared.log;
        let mut deadline = None;
        let mut waiting = log.waiting.lock();
        loop {
            if waiting.urgent || waiting.bytes >= LAZY_MAX_BYTES || waiting.closing {
                break;
            }
            let now = Instant::now();
            if deadline.is_some_and(|at| now >= at) {
                break;
            }
            if deadline.is_none() && !waiting.batches.is_empty() {
                deadline = Some(now + Duration::from_millis(LAZY_COMMIT_MS));
            }
            let until = match self.shared.options.sync {
                SyncMode::Interval(every) if self.unsynced => {
                    let sync_at = self.synced_at + every;
                    if now >= sync_at {
                        break;
                    }
                    Some(deadline.map_or(sync_at, |at: Instant| at.min(sync_at)))
                }
                _ => deadline,
            };
            waiting.asleep = true;
            match until {
                Some(at) => drop(log.wake.wait_until(&mut waiting, at)),
                None => log.wake.wait(&mut waiting),
            }
            waiting.asleep = false;
        }
        std::mem::swap(group, &mut waiting.batches);
        waiting.bytes = 0;
        waiting.urgent = false;
        waiting.closed = waiting.closing;
        !waiting.closing
    }

    fn write_group(&mut self, group: &mut Vec<Submitted>) {
        self.keep_reserve(group);
        self.refuse_what_grows(group);
        let mut written = 0;
        while written < group.len() {
            let fitting = self.fitting(&group[written..]);
            if fitting == 0 {
                let needed = group[written].frame_len();
                match self.switch(needed) {
                    Ok(()) => continue,
                    Err(Switch::Refused(error)) => {
                        self.refuse(&mut group[written], error);
                        continue;
                    }
                    Err(Switch::Failed) => break,
                }
            }
            if let Err(e) = self.write(&mut group[written..written + fitting]) {
                self.status().poison("write to the log", &e);
                break;
            }
            written += fitting;
        }
        let result = self.sync_group(group);
        for batch in group.drain(..) {
            self.finish(batch, result.clone());
        }
    }

    /// Without a segment to go on in, the last part of this one is for settlements: what grows is refused there.
    fn keep_reserve(&self, group: &[Submitted]) {
        let growth: usize = group.iter().filter(|batch| batch.grows()).map(Submitted::frame_len).sum();
        let end = (self.offset + growth) as u64;
        if growth == 0 || end <= self.segment.size_bytes / RESERVE_SHARE * (RESERVE_SHARE - 1) {
            return;
        }
        let log = &self.shared.log;
        let mut segments = log.segments.lock();
        if segments.spare.is_none() {
            match segments.make(&log.dir) {
                Ok(spare) => segments.spare = Some(spare),
                Err(e) => {
                    drop(segments);
                    self.shared.write_failed("make a log segment", &e);
                }
            }
        }
    }

    /// Refuses the batches that are not taken in the present state, before anything is written.
    fn refuse_what_grows(&self, group: &mut [Submitted]) {
        let status = self.status();
        if !status.is_poisoned() && !status.is_full() {
            return;
        }
        let error = status.refusal();
        let all = status.is_poisoned();
        for batch in group.iter_mut().filter(|batch| all || batch.grows()) {
            self.refuse(batch, error.clone());
        }
    }

    /// Takes from a batch what would be written.
    fn refuse(&self, batch: &mut Submitted, error: CommitError) {
        self.release(batch);
        batch.refused = Some(error);
    }

    fn finish(&self, mut batch: Submitted, result: Result<(), CommitError>) {
        self.release(&mut batch);
        complete(batch.on_commit.as_ref(), batch.refused.map_or(result, Err));
    }

    /// Gives a batch's buffer back.
    fn release(&self, batch: &mut Submitted) {
        let len = batch.frame_len();
        if let Some(body) = batch.body.take() {
            self.shared.pool.give(body);
        }
        let before = self.shared.log.backlog_bytes.fetch_sub(len, Relaxed);
        if before > BACKLOG_MAX_BYTES / 2 && before - len <= BACKLOG_MAX_BYTES / 2 {
            self.shared.pager.relieve_all();
        }
    }

    /// How many of the batches fit in the segment behind a mark.
    fn fitting(&self, batches: &[Submitted]) -> usize {
        let mut end = self.offset + MARK_BYTES + END_BYTES;
        batches
            .iter()
            .take_while(|batch| {
                end += batch.frame_len();
                end <= self.segment.size_bytes as usize || batch.body.is_none()
            })
            .count()
    }

    fn write(&mut self, batches: &mut [Submitted]) -> io::Result<()> {
        if batches.iter().all(|batch| batch.body.is_none()) {
            return Ok(());
        }
        let at = |offset: usize| Position { segment: self.segment.number, offset: offset as u32 };
        let mark = record::mark_frame(at(self.offset), self.durable);
        let mut end = self.offset + MARK_BYTES;
        for batch in batches.iter_mut() {
            let crc = batch.payload_crc;
            if let Some(body) = &mut batch.body {
                body.set_header(record::header(at(end), body.len() as u32, crc));
                end += FRAME_HEADER_BYTES + body.len();
            }
        }
        let mut slices = Vec::with_capacity(batches.len() + 1);
        slices.push(IoSlice::new(&mark));
        for body in batches.iter().filter_map(|batch| batch.body.as_ref()) {
            body.push_slices(&mut slices);
        }
        self.segment.file.write_vectored_at(&slices, self.offset as u64)?;
        let count = batches.iter().filter(|batch| batch.body.is_some()).count();
        self.shared.counters.wrote(count, end - self.offset);
        self.offset = end;
        self.unsynced = true;
        Ok(())
    }

    /// Syncs as the options say; what it returns is the outcome of the whole group.
    fn sync_group(&mut self, group: &[Submitted]) -> Result<(), CommitError> {
        if self.status().is_poisoned() {
            return Err(self.status().refusal());
        }
        let due = match self.shared.options.sync {
            SyncMode::Always => true,
            SyncMode::Os => false,
            SyncMode::Interval(every) => self.synced_at.elapsed() >= every,
        };
        // A barrier asks for the disk, whatever the mode.
        let asked = group.iter().any(|batch| batch.body.is_none() && batch.refused.is_none());
        if self.unsynced && (due || asked) {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), CommitError> {
        let began = Instant::now();
        if let Err(e) = self.segment.file.sync_data() {
            self.status().poison("sync the log", &e);
            return Err(self.status().refusal());
        }
        self.unsynced = false;
        self.synced_at = Instant::now();
        self.shared.counters.synced(self.synced_at - began);
        self.durable = Position { segment: self.segment.number, offset: self.offset as u32 };
        Ok(())
    }

    /// Goes on in the next segment, which has room for a frame of `needed` bytes.
    fn switch(&mut self, needed: usize) -> Result<(), Switch> {
        if needed > BATCH_MAX_BYTES {
            return Err(Switch::Refused(CommitError::TooLarge {
                size_bytes: needed,
                max_bytes: BATCH_MAX_BYTES,
            }));
        }
        let next = self.next_segment(needed + MARK_BYTES + END_BYTES).map_err(|e| {
            if e.kind() == io::ErrorKind::StorageFull {
                self.status().set_full("make a log segment", &e);
                self.shared.checkpointer.wake();
                Switch::Refused(self.status().refusal())
            } else {
                self.status().poison("make a log segment", &e);
                Switch::Failed
            }
        })?;
        let at = Position { segment: self.segment.number, offset: self.offset as u32 };
        let end = record::end_frame(at, next.number);
        if let Err(e) = self.segment.file.write_at(&end, self.offset as u64) {
            self.status().poison("write to the log", &e);
            return Err(Switch::Failed);
        }
        self.sync().map_err(|_| Switch::Failed)?;
        self.durable = Position { segment: next.number, offset: 0 };
        let log = &self.shared.log;
        let mut segments = log.segments.lock();
        segments.sealed.push_back(self.segment.number);
        log.current.store(next.number, SeqCst);
        log.sealed_len.store(segments.sealed.len(), Relaxed);
        drop(segments);
        self.segment = next;
        self.offset = 0;
        self.shared.checkpointer.wake();
        Ok(())
    }

    /// The spare segment, or one made now, long enough.
    fn next_segment(&self, size_bytes: usize) -> io::Result<Segment> {
        let log = &self.shared.log;
        let mut segments = log.segments.lock();
        let mut next = match segments.spare.take() {
            Some(spare) => spare,
            None => segments.make(&log.dir)?,
        };
        if next.size_bytes < size_bytes as u64 {
            if let Err(e) = next.file.allocate(size_bytes as u64).and_then(|()| next.file.sync_all()) {
                segments.spare = Some(next);
                return Err(e);
            }
            next.size_bytes = size_bytes as u64;
        }
        Ok(next)
    }
}

impl Segments {
    /// A segment to be written next: a retired file again, or a new one.
    pub(crate) fn make(&mut self, dir: &SegmentDir) -> io::Result<Segment> {
        let number = self.next_number;
        while let Some(retired) = self.retired.pop() {
            if dir.is_regular(retired) {
                self.next_number += 1;
                return dir.recycle(retired, number);
            }
            dir.remove(retired)?;
        }
        let made = dir.make(number)?;
        self.next_number += 1;
        Ok(made)
    }
}

/// Why the log cannot go on in another segment.
enum Switch {
    /// This batch cannot be taken.
    Refused(CommitError),
    /// The store is poisoned now.
    Failed,
}
