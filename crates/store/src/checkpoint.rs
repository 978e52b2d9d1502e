//! Retires segments of the log.
//!
//! A checkpoint retires all segments that are sealed when it begins. Whatever they hold was applied in memory
//! before, so what the queues hold now is what must survive them. Of every queue that has operations there:
//!
//! - nothing lives in memory: its floor moves to its next number;
//! - little: a carry is written to the log, which replaces all it said of the messages that are in memory (not of
//!   those that were paged out: no transaction knows of their files yet);
//! - much: the messages go to segment files, and the floor behind them.
//!
//! What was seen of the queues may belong to batches that are not submitted yet. So the checkpointer waits until
//! those that were open have been, then until the log is durable up to there (the carries' own commit tells).
//! Then one transaction of the B-tree writes floors, files' indexes, live sets and keyed values, and moves the
//! start of the log. Only after it the segments are used again and dead files removed.

use crate::batch::Body;
use crate::db::{LIVE, META, QUEUES, SEGMENTS, VALUES, WAL_START};
use crate::encoding::put_varint;
use crate::error::CommitError;
use crate::fs::File;
use crate::queue::{CLEAN, Inner, QueueId, QueueState, disk::Files, pageout};
use crate::store::{OnCommit, Shared};
use crate::values::Changes;
use crate::wal::writer::Submitted;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// How long after running out of space it is tried again.
const RETRY_MS: u64 = 500;

#[derive(Debug, Default)]
pub(crate) struct Checkpointer {
    state: Mutex<State>,
    wake: Condvar,
    /// Queues with operations in the log that no checkpoint has seen.
    dirty: Mutex<Vec<Arc<QueueState>>>,
}

#[derive(Debug, Default)]
struct State {
    woken: bool,
    wanted: bool,
    closing: bool,
}

impl Checkpointer {
    /// Something may have to be done.
    pub(crate) fn wake(&self) {
        self.state.lock().woken = true;
        self.wake.notify_one();
    }

    /// A checkpoint would free files.
    pub(crate) fn want(&self) {
        let mut state = self.state.lock();
        state.wanted = true;
        state.woken = true;
        self.wake.notify_one();
    }

    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }

    /// Lets go of the queues, which hold the store.
    pub(crate) fn clear(&self) {
        self.dirty.lock().clear();
    }

    pub(crate) fn add_dirty(&self, queue: Arc<QueueState>) {
        self.dirty.lock().push(queue);
    }

    /// Waits for something to do; `None` when the store closes, else whether a checkpoint is wanted.
    fn wait(&self, retry: bool) -> Option<bool> {
        let mut state = self.state.lock();
        while !state.woken && !state.closing {
            if retry {
                if self.wake.wait_for(&mut state, Duration::from_millis(RETRY_MS)).timed_out() {
                    break;
                }
            } else {
                self.wake.wait(&mut state);
            }
        }
        state.woken = false;
        let wanted = std::mem::take(&mut state.wanted);
        (!state.closing).then_some(wanted)
    }
}

/// The checkpointer's thread.
pub(crate) fn run(shared: &Arc<Shared>, mut tombstones: Tombstones) {
    let mut failed = false;
    while let Some(wanted) = shared.checkpointer.wait(failed || shared.status.is_full()) {
        if shared.status.is_poisoned() {
            continue;
        }
        let was_full = shared.status.is_full();
        let mut outcome = make_spare(shared);
        let sealed = shared.log.sealed_len.load(Relaxed);
        let due = sealed >= shared.options.sealed_before_checkpoint();
        if was_full && is_out_of_space(shared) {
            continue;
        }
        if wanted || failed || due || (was_full && sealed > 0) {
            // Out of space, retiring segments may be what makes room: so it is tried all the same.
            let checkpoint = checkpoint(shared, wanted || failed, &mut tombstones);
            outcome = checkpoint.and_then(|()| make_spare(shared));
            shared.pager.relieve_all();
        }
        failed = outcome.is_err();
        match outcome {
            Ok(()) if was_full => shared.status.set_writable(),
            Ok(()) => {}
            Err(Failure::Io(doing, e)) => shared.write_failed(doing, &e),
            Err(Failure::Refused) => {}
        }
    }
}

/// Free bytes below which a full store does not try a checkpoint: it would only fill the log's last room.
const FREE_MIN_BYTES: u64 = 1 << 20;

fn is_out_of_space(shared: &Shared) -> bool {
    matches!(shared.fs.free_bytes(&shared.options.dir), Ok(Some(free)) if free < FREE_MIN_BYTES)
}

enum Failure {
    Io(&'static str, io::Error),
    /// The log takes nothing now.
    Refused,
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |e| Failure::Io(doing, e)
}

/// Keeps a segment ready for the writer.
fn make_spare(shared: &Shared) -> Result<(), Failure> {
    let log = &shared.log;
    let mut segments = log.segments.lock();
    if segments.spare.is_none() {
        segments.spare = Some(segments.make(&log.dir).map_err(failed("make a log segment"))?);
    }
    Ok(())
}

/// Deleted queues that the log may still speak of: each with the segment behind which it does not.
pub(crate) type Tombstones = Vec<(QueueId, u64)>;

/// What one checkpoint writes of one queue.
struct Update {
    queue: Arc<QueueState>,
    dirty_from: u64,
    row: Vec<u8>,
    indexes: Vec<(u32, Vec<u8>)>,
    live: Vec<(u32, Vec<u8>)>,
    dead: Vec<u32>,
    deleted: bool,
}

/// What goes to the log and to disks in front of the transaction.
#[derive(Default)]
struct Ahead {
    carries: Option<Body>,
    carried_bytes: u64,
    files: Vec<Arc<dyn File>>,
    dirs: BTreeSet<PathBuf>,
}

fn checkpoint(shared: &Arc<Shared>, all: bool, tombstones: &mut Tombstones) -> Result<(), Failure> {
    let (retire, start) = {
        let segments = shared.log.segments.lock();
        (Vec::from_iter(segments.sealed.iter().copied()), shared.log.current.load(SeqCst))
    };
    let up_to = retire.last().copied().unwrap_or(0);
    let dirty = std::mem::take(&mut *shared.checkpointer.dirty.lock());
    let (touched, rest): (Vec<_>, Vec<_>) =
        dirty.into_iter().partition(|queue| all || queue.inner.lock().dirty_from <= up_to);
    shared.checkpointer.dirty.lock().extend(rest);
    let mut updates = Vec::with_capacity(touched.len());
    let mut ahead = Ahead::default();
    let mut outcome = Ok(());
    for queue in touched {
        if outcome.is_ok() {
            outcome = snapshot(&queue, start, &mut updates, &mut ahead);
        } else {
            shared.checkpointer.add_dirty(queue);
        }
    }
    // Synced even if a queue could not be looked at: the others' files are no longer marked as unsynced.
    let outcome = sync_files(shared, &ahead).and(outcome).and_then(|()| {
        let (generation, values) = shared.values.overlay().snapshot();
        make_durable(shared, ahead)?;
        let behind = shared.log.current.load(SeqCst);
        write(shared, start, &updates, &values, tombstones, behind)?;
        shared.values.overlay().forget(generation);
        Ok(())
    });
    if let Err(failure) = outcome {
        restore(shared, updates);
        return Err(failure);
    }
    retire_segments(shared, &retire)?;
    for update in updates {
        remove_files(shared, &update);
    }
    Ok(())
}

/// What must survive of a queue, and what is to be done for it.
fn snapshot(
    queue: &Arc<QueueState>,
    start: u64,
    updates: &mut Vec<Update>,
    ahead: &mut Ahead,
) -> Result<(), Failure> {
    let options = &queue.shared.options;
    let (much, to) = {
        let inner = queue.inner.lock();
        let bytes = inner.memory.persistent_bytes();
        let much = bytes > options.carry_max_bytes()
            || bytes + ahead.carried_bytes > options.carry_total_max_bytes();
        (much && !inner.deleted, inner.memory.next_seq())
    };
    if much && let Err(e) = queue.page_out(to) {
        queue.shared.checkpointer.add_dirty(queue.clone());
        return Err(Failure::Io("write a queue's messages out", e));
    }
    // No file is written to while it is looked at.
    let _paging = queue.shared.paging.lock();
    let mut guard = queue.inner.lock();
    let inner = &mut *guard;
    let dirty_from = std::mem::replace(&mut inner.dirty_from, CLEAN);
    let next_seq = inner.memory.next_seq();
    if inner.memory.persistent_bytes() == 0 {
        inner.floor = next_seq;
    } else {
        inner.floor = inner.floor.max(inner.written_to);
        if !much {
            carry(queue.id, inner, ahead);
        }
        // The carry lies in this segment or later; so does what came after the messages were written out.
        inner.dirty_from = start;
        queue.shared.checkpointer.add_dirty(queue.clone());
    }
    let mut row = vec![0];
    put_varint(&mut row, inner.floor);
    put_varint(&mut row, next_seq);
    let mut update = Update {
        queue: queue.clone(),
        dirty_from,
        row,
        indexes: Vec::new(),
        live: Vec::new(),
        dead: Vec::new(),
        deleted: inner.deleted,
    };
    if let Some(disk) = inner.disk.as_mut().filter(|_| !update.deleted) {
        capture(&mut disk.durable, &mut update, ahead);
    }
    updates.push(update);
    Ok(())
}

fn carry(queue: QueueId, inner: &Inner, ahead: &mut Ahead) {
    let next_seq = inner.memory.next_seq();
    let messages: Vec<(u64, Bytes)> = inner
        .memory
        .range(0..next_seq)
        .filter(|(_, message)| message.is_persistent())
        .map(|(seq, message)| (seq, message.record().clone()))
        .collect();
    ahead.carried_bytes += inner.memory.persistent_bytes();
    ahead.carries.get_or_insert_default().carry(queue, &(inner.written_to..next_seq), &messages);
}

fn capture(files: &mut Files, update: &mut Update, ahead: &mut Ahead) {
    if files.files.back().is_some_and(|last| last.live.is_empty()) {
        pageout::seal_last(files);
    }
    for file in &mut files.files {
        if std::mem::take(&mut file.index_changed) {
            update.indexes.push((file.number, file.encode_index()));
        }
        if std::mem::take(&mut file.live_changed) {
            update.live.push((file.number, file.live.encode()));
        }
        ahead.files.extend(file.unsynced.take());
        if !std::mem::replace(&mut file.named, true) {
            ahead.dirs.insert(files.dir.clone());
        }
    }
    update.dead.clone_from(&files.dead);
}

/// Told when the log is durable up to the checkpoint's own batch.
#[derive(Default)]
struct Barrier {
    result: Mutex<Option<Result<(), CommitError>>>,
    told: Condvar,
}

impl OnCommit for Barrier {
    fn committed(&self, _token: u64, result: Result<(), CommitError>) {
        *self.result.lock() = Some(result);
        self.told.notify_one();
    }
}

impl Barrier {
    fn wait(&self) -> Result<(), Failure> {
        let mut result = self.result.lock();
        loop {
            match result.take() {
                Some(result) => return result.map_err(|_| Failure::Refused),
                None => self.told.wait(&mut result),
            }
        }
    }
}

fn sync_files(shared: &Shared, ahead: &Ahead) -> Result<(), Failure> {
    let sync = || {
        ahead.files.iter().try_for_each(|file| file.sync_data())?;
        ahead.dirs.iter().try_for_each(|dir| shared.fs.sync_dir(dir))?;
        if ahead.dirs.is_empty() { Ok(()) } else { shared.fs.sync_dir(&shared.options.dir.join("queues")) }
    };
    sync().map_err(|e| {
        // What a failed sync leaves in a file cannot be trusted, whatever the next one says.
        shared.status.poison("sync a queue's segment files", &e);
        Failure::Refused
    })
}

/// Waits for the batches that were open, and for the log; writes the carries to it.
fn make_durable(shared: &Arc<Shared>, ahead: Ahead) -> Result<(), Failure> {
    if !shared.epochs.wait_for_open() {
        return Err(Failure::Refused);
    }
    if let Some(body) = ahead.carries {
        submit(shared, Some(body)).wait()?;
    }
    // A sync, whatever the mode.
    submit(shared, None).wait()
}

fn submit(shared: &Shared, mut body: Option<Body>) -> Arc<Barrier> {
    let barrier = Arc::new(Barrier::default());
    let told: Arc<dyn OnCommit> = barrier.clone();
    let payload_crc = body.as_mut().map_or(0, Body::seal);
    shared.log.submit(Submitted { body, payload_crc, on_commit: Some((told, 0)), refused: None });
    barrier
}

/// The transaction.
fn write(
    shared: &Shared,
    start: u64,
    updates: &[Update],
    values: &Changes,
    tombstones: &mut Tombstones,
    behind: u64,
) -> Result<(), Failure> {
    let (gone, mut kept): (Vec<_>, Vec<_>) = tombstones.iter().copied().partition(|(_, last)| *last < start);
    let written = shared.values.db.write(|transaction| {
        transaction.open_table(META)?.insert(WAL_START, start)?;
        let mut table = transaction.open_table(VALUES)?;
        for (key, value) in values {
            match value {
                Some(value) => table.insert(&key[..], &value[..])?,
                None => table.remove(&key[..])?,
            };
        }
        let mut queues = transaction.open_table(QUEUES)?;
        let mut segments = transaction.open_table(SEGMENTS)?;
        let mut live = transaction.open_table(LIVE)?;
        for (queue, _) in &gone {
            queues.remove(queue.0)?;
        }
        for update in updates {
            let id = update.queue.id.0;
            if update.deleted {
                let mut row = vec![1];
                put_varint(&mut row, behind);
                queues.insert(id, &row[..])?;
                segments.retain_in((id, 0)..=(id, u32::MAX), |_, _| false)?;
                live.retain_in((id, 0)..=(id, u32::MAX), |_, _| false)?;
                continue;
            }
            queues.insert(id, &update.row[..])?;
            for (file, index) in &update.indexes {
                segments.insert((id, *file), &index[..])?;
            }
            for (file, set) in &update.live {
                live.insert((id, *file), &set[..])?;
            }
            for file in &update.dead {
                segments.remove((id, *file))?;
                live.remove((id, *file))?;
            }
        }
        Ok(())
    });
    written.map_err(failed("write the keyed values"))?;
    kept.extend(updates.iter().filter(|update| update.deleted).map(|update| (update.queue.id, behind)));
    *tombstones = kept;
    Ok(())
}

/// The checkpoint failed: the next one looks at the same queues again, and writes all there is of them.
fn restore(shared: &Shared, updates: Vec<Update>) {
    for Update { queue, dirty_from, .. } in updates {
        let mut inner = queue.inner.lock();
        if inner.dirty_from == CLEAN {
            shared.checkpointer.add_dirty(queue.clone());
        }
        inner.dirty_from = inner.dirty_from.min(dirty_from);
        if let Some(disk) = &mut inner.disk {
            for file in &mut disk.durable.files {
                file.index_changed = true;
                file.live_changed = true;
            }
        }
    }
}

fn retire_segments(shared: &Shared, retire: &[u64]) -> Result<(), Failure> {
    let log = &shared.log;
    let mut segments = log.segments.lock();
    segments.sealed.retain(|number| !retire.contains(number));
    segments.retired.extend(retire);
    log.sealed_len.store(segments.sealed.len(), Relaxed);
    let in_use = segments.sealed.len() + 1 + usize::from(segments.spare.is_some());
    let keep = shared.options.wal_segments_max.saturating_sub(in_use);
    while segments.retired.len() > keep
        && let Some(number) = segments.retired.pop()
    {
        log.dir.remove(number).map_err(failed("remove a log segment"))?;
    }
    Ok(())
}

/// Removes what the transaction has let go of. What stays is removed at the next start.
fn remove_files(shared: &Shared, update: &Update) {
    let _paging = shared.paging.lock();
    let mut inner = update.queue.inner.lock();
    let Some(disk) = &mut inner.disk else { return };
    let dir = disk.durable.dir.clone();
    let mut outcome = Ok(());
    if update.deleted {
        disk.durable.files.clear();
        drop(inner);
        outcome = shared.fs.remove_dir_all(&dir);
    } else {
        disk.durable.dead.retain(|number| !update.dead.contains(number));
        let paths: Vec<PathBuf> = update.dead.iter().map(|number| disk.durable.path(*number)).collect();
        drop(inner);
        for path in paths {
            match shared.fs.remove_file(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => outcome = outcome.and(removed),
            }
        }
    }
    if let Err(e) = outcome {
        tracing::warn!("cannot remove files that are not needed any more under {}: {e}", dir.display());
    }
}
