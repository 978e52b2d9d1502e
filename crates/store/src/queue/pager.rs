//! Two threads that do for queues what a caller must not wait for: one reads a backlog back, ahead of the
//! consumers; the other writes messages out when queues hold too much.

use super::disk::{Blocks, Files};
use super::{Inner, QueueState, read};
use crate::store::Shared;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

#[derive(Debug, Default)]
pub(crate) struct Pager {
    reads: Mutex<Inbox>,
    read_wake: Condvar,
    writes: Mutex<Inbox>,
    write_wake: Condvar,
    held: Mutex<Vec<Arc<QueueState>>>,
    heavy: Mutex<Vec<Weak<QueueState>>>,
}

#[derive(Debug, Default)]
struct Inbox {
    queues: VecDeque<Arc<QueueState>>,
    /// All queues together hold too much.
    pressed: bool,
    /// Those that are held back may go on.
    relieve: bool,
    closing: bool,
}

impl Pager {
    pub(crate) fn ask_to_read(&self, queue: Arc<QueueState>) {
        self.reads.lock().queues.push_back(queue);
        self.read_wake.notify_one();
    }

    pub(crate) fn ask_to_write(&self, queue: Arc<QueueState>) {
        self.writes.lock().queues.push_back(queue);
        self.write_wake.notify_one();
    }

    /// All queues together hold too much.
    pub(crate) fn press(&self) {
        let mut writes = self.writes.lock();
        if !writes.pressed {
            writes.pressed = true;
            self.write_wake.notify_one();
        }
    }

    /// Looks at all queues that are held back.
    pub(crate) fn relieve_all(&self) {
        self.writes.lock().relieve = true;
        self.write_wake.notify_one();
    }

    /// A queue's publishers wait; what relieves it may have happened just now.
    pub(crate) fn add_held(&self, queue: Arc<QueueState>) {
        self.held.lock().push(queue);
        self.relieve_all();
    }

    pub(crate) fn add_heavy(&self, queue: &Arc<QueueState>) {
        let mut heavy = self.heavy.lock();
        if heavy.len() == heavy.capacity() {
            heavy.retain(|queue| queue.strong_count() > 0);
        }
        heavy.push(Arc::downgrade(queue));
    }

    pub(crate) fn close(&self) {
        for (inbox, wake) in [(&self.reads, &self.read_wake), (&self.writes, &self.write_wake)] {
            let mut inbox = inbox.lock();
            inbox.closing = true;
            inbox.queues.clear();
            wake.notify_all();
        }
        self.held.lock().clear();
    }
}

/// The reading thread.
pub(crate) fn run_reads(shared: &Arc<Shared>) {
    let pager = &shared.pager;
    loop {
        let mut inbox = pager.reads.lock();
        while inbox.queues.is_empty() && !inbox.closing {
            pager.read_wake.wait(&mut inbox);
        }
        if inbox.closing {
            return;
        }
        let queue = inbox.queues.pop_front();
        drop(inbox);
        if let Some(queue) = queue {
            read_back(&queue);
            read::read_for_readers(&queue);
        }
    }
}

/// The writing thread.
pub(crate) fn run_writes(shared: &Arc<Shared>) {
    let pager = &shared.pager;
    loop {
        let mut inbox = pager.writes.lock();
        while inbox.queues.is_empty() && !inbox.closing && !inbox.pressed && !inbox.relieve {
            pager.write_wake.wait(&mut inbox);
        }
        if inbox.closing {
            return;
        }
        let queue = inbox.queues.pop_front();
        let (pressed, relieve) = (inbox.pressed, inbox.relieve);
        inbox.pressed = false;
        inbox.relieve = false;
        drop(inbox);
        if let Some(queue) = &queue {
            write_out(queue);
        }
        if pressed {
            lighten(shared);
        }
        if relieve || queue.is_some() || pressed {
            relieve_held(shared);
        }
    }
}

/// Wanted messages that are in memory together, whatever their size. A queue may need several at once to go on (its
/// head, to see whether it has expired, the next message of no known group, and one to deliver): if reading one
/// forgot another, it would never have them all.
const WANTED_TOGETHER_MAX: u32 = 8;

/// Forgets blocks that many consumers left behind, half taken, when they are large.
fn forget_left_behind(queue: &QueueState, inner: &mut Inner) {
    let limit = 4 * queue.shared.options.read_ahead_bytes();
    let Some(disk) = &mut inner.disk else { return };
    for files in [&mut disk.durable, &mut disk.spill] {
        if files.loaded_bytes > limit {
            files.unload_all();
            inner.wanted_reads = 1;
        }
    }
}

/// Reads what a consumer waits for, and what it will want next.
fn read_back(queue: &Arc<QueueState>) {
    let (wanted, from) = {
        let mut inner = queue.inner.lock();
        inner.read_asked = false;
        let wanted = inner.wanted.take();
        let Some(from) = wanted.or(inner.ahead.take()) else { return };
        if wanted.is_some() {
            inner.wanted_reads = inner.wanted_reads.saturating_add(1);
            if inner.wanted_reads > WANTED_TOGETHER_MAX {
                forget_left_behind(queue, &mut inner);
            }
        }
        (wanted, from)
    };
    for durable in [true, false] {
        if let Some(wanted) = wanted {
            // The block itself, even if it is in memory with this message taken out of it.
            read_one(queue, durable, |files| files.plan(wanted).filter(|_| files.lives(wanted)));
        }
    }
    let listener = queue.inner.lock().listener.clone();
    if let Some(listener) = listener.filter(|_| wanted.is_some()) {
        listener.loaded();
    }
    let limit = queue.shared.options.read_ahead_bytes();
    for durable in [true, false] {
        while read_one(queue, durable, |files| {
            if files.loaded_bytes >= limit {
                return None;
            }
            files.plan(files.loaded_to(files.next_live(from)?))
        }) {}
    }
}

/// Reads what `plan` says; `false` if that is nothing.
fn read_one(
    queue: &Arc<QueueState>,
    durable: bool,
    plan: impl Fn(&Files) -> Option<super::disk::ReadPlan>,
) -> bool {
    let shared = &queue.shared;
    let planned = {
        let inner = queue.inner.lock();
        let Some(disk) = inner.disk.as_ref().filter(|_| !inner.deleted) else { return false };
        plan(if durable { &disk.durable } else { &disk.spill })
    };
    let Some(planned) = planned else { return false };
    let read: Result<Blocks, String> = planned.read(&*shared.fs);
    let mut inner = queue.inner.lock();
    if inner.deleted {
        return false;
    }
    let Some(disk) = &mut inner.disk else { return false };
    let files = if durable { &mut disk.durable } else { &mut disk.spill };
    match read {
        Ok(blocks) => files.add_loaded(blocks),
        // A file whose last message was settled meanwhile is gone.
        Err(_) if files.files.iter().all(|file| file.number != planned.file) => return true,
        Err(what) => {
            shared.unreadable(&what);
            return false;
        }
    }
    queue.account(&mut inner);
    true
}

/// Writes out a queue that holds too much, and clears away what nobody needs.
fn write_out(queue: &Arc<QueueState>) {
    let to = {
        let mut inner = queue.inner.lock();
        inner.write_asked = false;
        let heavy = inner.memory.bytes() > queue.shared.options.queue_memory_max_bytes;
        heavy.then(|| inner.memory.next_seq())
    };
    if let Some(to) = to {
        page_out(queue, to);
    }
    clear_spill(queue);
}

fn page_out(queue: &Arc<QueueState>, to: u64) {
    if queue.shared.status.is_poisoned() {
        return;
    }
    if let Err(e) = queue.page_out(to) {
        queue.shared.write_failed("write a queue's messages out", &e);
    }
}

fn clear_spill(queue: &Arc<QueueState>) {
    let fs = &queue.shared.fs;
    let _one = queue.shared.paging.lock();
    let mut inner = queue.inner.lock();
    let deleted = inner.deleted;
    let Some(disk) = &mut inner.disk else { return };
    let dead: Vec<_> =
        std::mem::take(&mut disk.spill.dead).iter().map(|file| disk.spill.path(*file)).collect();
    let dir = disk.spill.dir.clone();
    if deleted {
        disk.spill.files.clear();
    }
    drop(inner);
    let mut outcome = Ok(());
    for path in dead {
        outcome = outcome.and(fs.remove_file(&path));
    }
    if deleted {
        outcome = outcome.and(fs.remove_dir_all(&dir));
    }
    if let Err(e) = outcome {
        // They are removed at the next start.
        tracing::warn!("cannot remove paged-out messages under {}: {e}", dir.display());
    }
}

/// Pages the largest queues out until all together are well below the limit.
fn lighten(shared: &Arc<Shared>) {
    let enough = shared.options.memory_max_bytes / 8 * 7;
    // Queues are never locked under the list's lock.
    let queues: Vec<Arc<QueueState>> = shared.pager.heavy.lock().iter().filter_map(Weak::upgrade).collect();
    let mut by_size: Vec<(u64, &Arc<QueueState>)> =
        queues.iter().map(|queue| (queue.inner.lock().memory.bytes(), queue)).collect();
    by_size.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    for (bytes, queue) in by_size {
        if shared.memory_bytes.load(Relaxed) <= enough || bytes == 0 {
            break;
        }
        let to = queue.inner.lock().memory.next_seq();
        page_out(queue, to);
    }
}

/// Tells those that were held back and need not be any more.
fn relieve_held(shared: &Arc<Shared>) {
    // Queues are never locked under the list's lock.
    let held = std::mem::take(&mut *shared.pager.held.lock());
    for queue in held {
        let mut inner = queue.inner.lock();
        if queue.is_over(&inner) && !inner.deleted {
            drop(inner);
            shared.pager.held.lock().push(queue);
            continue;
        }
        inner.held = false;
        let listener = inner.listener.clone();
        drop(inner);
        if let Some(listener) = listener {
            listener.relieved();
        }
    }
}
