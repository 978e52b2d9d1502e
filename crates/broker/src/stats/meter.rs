//! The counts of one thing, and its last minute.

use super::Stats;
use super::count::{Count, Kind};
use super::figures::{Figures, Row};
use super::ring::Ring;
use crate::queue::QueueCell;
use millpond_model::VhostName;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// Rows that a thing which moves keeps: a minute, at five seconds each, and where it began.
pub(super) const ROWS: usize = 13;

/// Counts of a queue, an exchange, a channel, a connection. Whoever counts does so once a batch; the first count after
/// a quiet time puts it on the list of what the sampler looks at, which takes it off again when it is quiet.
#[derive(Debug)]
pub struct Meter {
    kind: Kind,
    counts: Box<[AtomicU64]>,
    /// It is on the list, or about to be.
    active: AtomicBool,
    /// What it counts is no more.
    gone: AtomicBool,
    past: Mutex<Past>,
    vhost: Option<VhostName>,
    /// Whose levels it shows.
    queue: Weak<QueueCell>,
    stats: Weak<Stats>,
}

#[derive(Debug)]
struct Past {
    /// What the totals have of it.
    collected: Row,
    /// While it is on the list.
    ring: Option<Ring>,
}

/// What a look at a meter found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collected {
    Moved,
    Still,
}

impl Meter {
    pub(super) fn new(kind: Kind, vhost: Option<VhostName>, stats: Weak<Stats>) -> Self {
        let zeros = || kind.counts().iter().map(|_| 0);
        Self {
            kind,
            counts: zeros().map(AtomicU64::new).collect(),
            active: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            past: Mutex::new(Past { collected: zeros().collect(), ring: None }),
            vhost,
            queue: Weak::new(),
            stats,
        }
    }

    /// Of a queue, of whose messages the totals know `ready` already.
    pub(super) fn of_queue(mut self, queue: Weak<QueueCell>, ready: u64) -> Self {
        self.queue = queue;
        if let Some(at) = self.kind.place(Count::Ready) {
            self.past.get_mut().collected[at] = ready;
        }
        self
    }

    /// Counts `n` more. Only one thread at a time may do this of one count: whoever holds its queue's lock, or owns its
    /// channel.
    #[inline]
    pub fn add(self: &Arc<Self>, count: Count, n: u64) {
        if let Some(at) = self.kind.place(count)
            && n != 0
        {
            self.counts[at].store(self.counts[at].load(Relaxed).wrapping_add(n), Relaxed);
            self.touch();
        }
    }

    /// As [`Self::add`], for what is no sign of life: nobody looks because of it.
    #[inline]
    pub fn add_quietly(&self, count: Count, n: u64) {
        if let Some(at) = self.kind.place(count) {
            self.counts[at].store(self.counts[at].load(Relaxed).wrapping_add(n), Relaxed);
        }
    }

    /// As [`Self::add`], for counts that many threads add to.
    #[inline]
    pub(crate) fn add_shared(self: &Arc<Self>, count: Count, n: u64) {
        if let Some(at) = self.kind.place(count)
            && n != 0
        {
            self.counts[at].fetch_add(n, Relaxed);
            self.touch();
        }
    }

    /// Something of it may have changed.
    #[inline]
    pub(crate) fn touch(self: &Arc<Self>) {
        if !self.active.load(Relaxed) {
            self.activate();
        }
    }

    #[cold]
    fn activate(self: &Arc<Self>) {
        if !self.active.swap(true, Relaxed)
            && let Some(stats) = self.stats.upgrade()
        {
            stats.is_moving(self.clone());
        }
    }

    /// What it counts is no more: the totals get what they do not have yet.
    pub(crate) fn end(self: &Arc<Self>) {
        self.gone.store(true, Relaxed);
        self.touch();
    }

    pub(crate) fn stats(&self) -> Option<Arc<Stats>> {
        self.stats.upgrade()
    }

    /// What a count has come to.
    pub fn get(&self, count: Count) -> u64 {
        self.kind.place(count).map_or(0, |at| self.counts[at].load(Relaxed))
    }

    /// How it stands, with its last minute.
    pub(super) fn figures(&self, now_ms: u64, interval_ms: u64) -> Figures {
        let rows = self.past.lock().ring.as_ref().map(Ring::rows).unwrap_or_default();
        Figures::new(self.kind, self.read(), rows, now_ms, interval_ms)
    }

    /// Of a count the change per second over the last interval.
    pub(super) fn rate(&self, count: Count, now_ms: u64, interval_ms: u64) -> f64 {
        let past = self.past.lock();
        let (Some(ring), Some(at)) = (&past.ring, self.kind.place(count)) else { return 0.0 };
        ring.rate(at, now_ms, interval_ms)
    }

    fn read(&self) -> Row {
        self.counts.iter().map(|count| count.load(Relaxed)).collect()
    }

    // ---- for the sampler, which is alone

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    pub(super) fn vhost(&self) -> Option<&VhostName> {
        self.vhost.as_ref()
    }

    /// It is on the list from now on: `from_ms` was the last moment at which nothing had moved.
    pub(super) fn begin(&self, from_ms: u64) {
        let mut past = self.past.lock();
        let before = past.collected.clone();
        past.ring.get_or_insert_with(|| Ring::new(ROWS)).push(from_ms, &before);
    }

    /// Shows `each` by how much each total is to grow (wrapping: levels fall too).
    pub(super) fn collect(&self, mut each: impl FnMut(Count, u64)) -> Collected {
        if self.kind == Kind::Queue {
            // One that is gone has none.
            let levels = self.queue.upgrade().map(|queue| queue.levels()).unwrap_or_default();
            for (count, level) in Count::LEVELS.into_iter().zip(levels) {
                if let Some(at) = self.kind.place(count) {
                    self.counts[at].store(level, Relaxed);
                }
            }
        }
        let mut past = self.past.lock();
        let mut found = Collected::Still;
        for (at, count) in self.kind.counts().iter().enumerate() {
            let now = self.counts[at].load(Relaxed);
            let before = std::mem::replace(&mut past.collected[at], now);
            if now != before {
                found = Collected::Moved;
                if let Some(total) = self.kind.total_of(*count) {
                    each(total, now.wrapping_sub(before));
                }
            }
        }
        found
    }

    /// A row of the ring, of what was collected.
    pub(super) fn sample(&self, now_ms: u64) {
        let mut past = self.past.lock();
        let Past { collected, ring } = &mut *past;
        if let Some(ring) = ring {
            ring.push(now_ms, collected);
        }
    }

    /// It has been still for as long as its ring goes back, and is off the list.
    pub(super) fn rest(&self) {
        self.past.lock().ring = None;
        self.active.store(false, Relaxed);
    }
}
