//! A queue log as a stream: read by many at their own places, kept until it is trimmed from its head.
//!
//! Nothing here takes a message out of memory. What is in segment files is read by the store's reading thread into
//! the cache of blocks ([`super::blocks`]) that all queues share; a reader that finds its block missing is told by
//! [`OnQueue::loaded`](super::OnQueue::loaded) when to try again.

use super::disk::Files;
use super::{Inner, QueueLog, QueueState};
use crate::batch::Batch;
use millpond_model::Message;
use std::sync::Arc;

/// What [`QueueLog::read`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Where to read on.
    pub next: u64,
    /// What comes there is on disk: it is being read, and `OnQueue::loaded` will tell.
    pub loading: bool,
}

impl QueueLog {
    /// Where the queue's segment files end, from the next one on; 0: where the store's options say.
    pub fn set_segment_size(&self, size_bytes: u64) {
        self.0.inner.lock().segment_size_bytes = size_bytes;
    }

    /// Messages from `from` on, in order, to `out` (appended), until there are `count_max` in it, `bytes_max` is
    /// passed or the log ends. They stay in the log: the next reader gets them too. For durable queues all of whose
    /// messages are persistent.
    pub fn read(&self, from: u64, count_max: usize, bytes_max: usize, out: &mut Vec<(u64, Message)>) -> Read {
        let state = &self.0;
        let mut inner = state.inner.lock();
        let mut left = Left { count: count_max, bytes: bytes_max };
        let mut at = from;
        while at < inner.written_to {
            if left.is_used_up() {
                return Read { next: at, loading: false };
            }
            let Some((next, first_seq)) = inner.block_of(at) else {
                at = inner.written_to;
                break;
            };
            let Some(block) = state.shared.blocks.get(state.id.0, first_seq) else {
                state.ask_to_read_for(&mut inner, next);
                return Read { next, loading: true };
            };
            at = inner.take_from_block(&block, next, &mut left, out);
        }
        for (seq, message) in inner.memory.range(at.max(inner.written_to)..u64::MAX) {
            if left.is_used_up() {
                return Read { next: seq, loading: false };
            }
            left.take(message);
            out.push((seq, message.clone()));
        }
        Read { next: inner.memory.next_seq().max(from), loading: false }
    }

    /// The first number there is, and the one behind the last.
    pub fn bounds(&self) -> (u64, u64) {
        let inner = self.0.inner.lock();
        let end = inner.memory.next_seq();
        (inner.first_live().unwrap_or(end), end)
    }

    /// Bytes of messages that live: those in segment files by whole blocks, as written there.
    pub fn live_bytes(&self) -> u64 {
        self.0.inner.lock().live_bytes()
    }

    /// When the first message that lives, or the first of its block, was published: milliseconds since 1970.
    pub fn first_time_ms(&self) -> Option<u64> {
        self.0.inner.lock().first_time()
    }

    /// Where to begin to see all messages that were published at `time_ms` or later; what comes first may be older,
    /// by up to a block of a segment file.
    pub fn find_time(&self, time_ms: u64) -> u64 {
        let inner = self.0.inner.lock();
        let mut found = None;
        for block in inner.disk.iter().flat_map(|disk| disk.durable.live_blocks()) {
            if found.is_some() && block.time_ms >= time_ms {
                return found.unwrap_or(block.first_seq);
            }
            found = Some(block.first_seq);
        }
        let young = inner.memory.range(inner.written_to..u64::MAX);
        for (seq, message) in young {
            if message.published_ms().unwrap_or(0) >= time_ms {
                // Messages as new may end the last block before.
                return found.unwrap_or(seq);
            }
            found = Some(seq);
        }
        found.unwrap_or_else(|| inner.memory.next_seq())
    }

    /// Drops from the head, until not much more than `bytes_max` live: whole blocks, and single messages of those
    /// that are still in memory. The first number that lives then.
    pub fn trim_to_size(&self, batch: &mut Batch, bytes_max: u64) -> u64 {
        let to = {
            let inner = self.0.inner.lock();
            let mut excess = inner.live_bytes().saturating_sub(bytes_max);
            if excess == 0 {
                return inner.first_live().unwrap_or(inner.memory.next_seq());
            }
            let blocks = inner.disk.iter().flat_map(|disk| disk.durable.live_block_sizes());
            let young = inner.memory.range(inner.written_to..u64::MAX);
            let young = young.map(|(seq, message)| (message.size_bytes() as u64, seq + 1));
            let mut to = 0;
            for (size_bytes, end_seq) in blocks.chain(young) {
                if excess < size_bytes {
                    break;
                }
                excess -= size_bytes;
                to = end_seq;
            }
            to
        };
        self.trim(batch, to)
    }

    /// Drops from the head what was published before `time_ms`: whole blocks, and single messages of those that are
    /// still in memory. The first number that lives then, and when it (or its block's first message) was published.
    /// Of the log's last block the end has to be read first, if it is on disk: it goes with a later call.
    pub fn trim_older(&self, batch: &mut Batch, time_ms: u64) -> (u64, Option<u64>) {
        let mut ended = false;
        let mut to = 0;
        let ends_on_disk = {
            let inner = self.0.inner.lock();
            for block in inner.disk.iter().flat_map(|disk| disk.durable.live_blocks()) {
                // What a block holds is older than what the next one begins with.
                ended = block.time_ms >= time_ms;
                if ended {
                    break;
                }
                to = block.first_seq;
            }
            if !ended {
                for (seq, message) in inner.memory.range(inner.written_to..u64::MAX) {
                    ended = message.published_ms().unwrap_or(0) >= time_ms;
                    if ended {
                        break;
                    }
                    to = seq + 1;
                }
            }
            inner.first_live().is_some() && inner.memory.next_seq() <= inner.written_to
        };
        if !ended && ends_on_disk {
            to = to.max(self.end_if_older(time_ms));
        }
        let first = self.trim(batch, to);
        (first, self.0.inner.lock().first_time())
    }

    /// The end of the log, if its last message was published before `time_ms`; 0 if not, or if it is not read yet.
    fn end_if_older(&self, time_ms: u64) -> u64 {
        let (_, end) = self.bounds();
        let mut last = Vec::new();
        self.read(end.saturating_sub(1), 1, usize::MAX, &mut last);
        let is_older = last.first().is_some_and(|(_, message)| message.published_ms().unwrap_or(0) < time_ms);
        if is_older { end } else { 0 }
    }

    /// Drops all below `to`; the first number that lives then.
    fn trim(&self, batch: &mut Batch, to: u64) -> u64 {
        let (first, end) = self.bounds();
        if first >= to {
            return first;
        }
        self.settle(batch, std::slice::from_ref(&(first..to.min(end))));
        let inner = self.0.inner.lock();
        if inner.disk.as_ref().is_some_and(|disk| !disk.durable.dead.is_empty()) {
            // Room on the disk is what a trim is for.
            self.0.shared.checkpointer.want();
        }
        inner.first_live().unwrap_or(inner.memory.next_seq())
    }
}

/// How much more a read may take.
struct Left {
    count: usize,
    bytes: usize,
}

impl Left {
    fn is_used_up(&self) -> bool {
        self.count == 0 || self.bytes == 0
    }

    fn take(&mut self, message: &Message) {
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(message.size_bytes());
    }
}

impl Inner {
    /// The first live number from `at` on that is in segment files, and the first number of its block.
    fn block_of(&self, at: u64) -> Option<(u64, u64)> {
        let files = &self.disk.as_ref()?.durable;
        let next = files.next_live(at).filter(|next| *next < self.written_to)?;
        Some((next, files.block_first(next)?))
    }

    /// Takes what lives of a block from `from` on; where to read on.
    fn take_from_block(
        &self,
        block: &[(u64, Message)],
        from: u64,
        left: &mut Left,
        out: &mut Vec<(u64, Message)>,
    ) -> u64 {
        let start = block.partition_point(|(seq, _)| *seq < from);
        let Some(files) = self.disk.as_ref().map(|disk| &disk.durable) else { return self.written_to };
        let live = files.files.get(files.file_from(from)).map(|file| &file.live);
        for (seq, message) in &block[start..] {
            if left.is_used_up() {
                return *seq;
            }
            if live.is_some_and(|live| live.contains(*seq)) {
                left.take(message);
                out.push((*seq, message.clone()));
            }
        }
        block.last().map_or(from + 1, |(seq, _)| seq + 1).max(from + 1)
    }

    fn first_live(&self) -> Option<u64> {
        let on_disk = self.disk.as_ref().and_then(|disk| disk.durable.next_live(0));
        on_disk.or_else(|| self.memory.range(0..u64::MAX).next().map(|(seq, _)| seq))
    }

    /// When the first message, or the first of its block, was published.
    fn first_time(&self) -> Option<u64> {
        let on_disk = self.disk.as_ref().and_then(|disk| {
            let first = disk.durable.live_blocks().next()?;
            Some(first.time_ms)
        });
        on_disk.or_else(|| self.memory.range(0..u64::MAX).next()?.1.published_ms())
    }

    fn live_bytes(&self) -> u64 {
        let on_disk = self.disk.as_ref().map_or(0, |disk| disk.durable.live_bytes());
        on_disk + self.memory.persistent_bytes()
    }
}

impl QueueState {
    /// Has the reading thread bring the block of `seq` into the cache.
    fn ask_to_read_for(self: &Arc<Self>, inner: &mut Inner, seq: u64) {
        if !inner.reads.contains(&seq) {
            inner.reads.push(seq);
        }
        self.ask_to_read(inner);
    }
}

/// On the reading thread: brings the blocks into the cache that readers wait for, and tells after each.
pub(crate) fn read_for_readers(queue: &Arc<QueueState>) {
    let wanted = std::mem::take(&mut queue.inner.lock().reads);
    for seq in wanted {
        let Some(plan) = plan_for(queue, seq) else {
            // It went meanwhile, or another's read has brought it.
            tell(queue);
            continue;
        };
        let read = plan.read(&*queue.shared.fs);
        match read {
            Ok(blocks) => {
                for (bytes, messages) in blocks {
                    queue.shared.blocks.put(queue.id.0, messages, bytes);
                }
            }
            Err(_) if !has_file(queue, plan.file) => {}
            Err(what) => {
                queue.shared.unreadable(&what);
                return;
            }
        }
        tell(queue);
    }
}

fn plan_for(queue: &QueueState, seq: u64) -> Option<super::disk::ReadPlan> {
    let inner = queue.inner.lock();
    if inner.deleted {
        return None;
    }
    let files: &Files = &inner.disk.as_ref()?.durable;
    let first_seq = files.block_first(files.next_live(seq)?)?;
    (!queue.shared.blocks.has(queue.id.0, first_seq)).then(|| files.plan(seq))?
}

fn has_file(queue: &QueueState, number: u32) -> bool {
    let inner = queue.inner.lock();
    inner.disk.as_ref().is_some_and(|disk| disk.durable.files.iter().any(|file| file.number == number))
}

fn tell(queue: &QueueState) {
    let listener = queue.inner.lock().listener.clone();
    if let Some(listener) = listener {
        listener.loaded();
    }
}
