//! The stream machine: who reads where, who has credit, who is the active one.
//!
//! Pure: it knows offsets, never a message, a clock or a lock. A stream is a log from `first` to `next`; each reader
//! has a position in it and a credit, and takes nothing away from the others. An ack gives credit back, and that is
//! all it does (contract A13). Of a stream with a single active consumer the first reader is the active one; when it
//! goes the next goes on at the lowest offset that was not settled.
//!
//! What a reader was given and has not settled is kept after it has gone (its session may still ack), for the sake
//! of the place that is remembered for its name.
//!
//! Cost: a few nanoseconds a reader and batch; memory: nothing a message, a range a reader.

use super::runs::Runs;
use crate::queue::machine::{ConsumerFigures, ConsumerKey, OwnerKey};
use std::ops::Range;

/// What a reader asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Whose it is.
    pub(crate) owner: OwnerKey,
    /// Most unsettled messages at once; at least 1.
    pub(crate) prefetch: u32,
    /// The offset it begins at.
    pub(crate) start: u64,
}

/// What a reader may take now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// From this offset on.
    pub(crate) from: u64,
    /// So many messages; at least 1.
    pub(crate) count: u64,
}

#[derive(Debug)]
struct Reader {
    key: ConsumerKey,
    owner: OwnerKey,
    prefetch: u32,
    /// What it looks at next.
    position: u64,
    held: Runs,
    /// There is room in its inbox.
    open: bool,
    /// An operator paused it.
    paused: bool,
    /// What it looks at next is on disk.
    loading: bool,
    /// The consumer is there.
    present: bool,
}

impl Reader {
    /// The lowest offset that it has not done with.
    fn low(&self) -> u64 {
        self.held.first().unwrap_or(self.position)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    first: u64,
    next: u64,
    /// Ascending by key, which is the order in which they came.
    readers: Vec<Reader>,
    single_active: bool,
    /// Nobody is given anything.
    paused: bool,
}

impl Machine {
    /// Over a log from `first` to in front of `next`.
    pub(crate) fn new(first: u64, next: u64, single_active: bool) -> Self {
        Self { first, next, single_active, paused: false, readers: Vec::new() }
    }

    /// The first offset there is, and the one behind the last.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        (self.first, self.next)
    }

    /// The log ends in front of `next` now.
    #[inline]
    pub(crate) fn appended(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// The log begins at `first` now.
    pub(crate) fn trimmed(&mut self, first: u64) {
        self.first = self.first.max(first).min(self.next);
    }

    /// A reader comes, the last in line; its key is above all others.
    pub(crate) fn add(&mut self, key: ConsumerKey, terms: Terms) {
        let Terms { owner, prefetch, start } = terms;
        let position = start.clamp(self.first, self.next);
        self.readers.push(Reader {
            key,
            owner,
            prefetch,
            position,
            held: Runs::default(),
            open: true,
            paused: false,
            loading: false,
            present: true,
        });
    }

    /// The readers that are there, in the order in which they came.
    pub(crate) fn figures(&self) -> impl Iterator<Item = ConsumerFigures> {
        let active = self.active();
        self.readers.iter().filter(|reader| reader.present).map(move |reader| ConsumerFigures {
            key: reader.key,
            terms: crate::queue::machine::Terms {
                owner: reader.owner,
                priority: 0,
                prefetch: reader.prefetch,
                no_ack: false,
                lease_ms: None,
                rate: None,
            },
            unacked: reader.held.count(),
            active: !self.single_active || active == Some(reader.key),
            paused: reader.paused,
            pace: None,
        })
    }

    /// A reader goes; what it holds can still be settled. Whether it was there.
    pub(crate) fn remove(&mut self, key: ConsumerKey) -> bool {
        let was_active = self.active() == Some(key);
        let Some(at) = self.at(key).filter(|at| self.readers[*at].present) else { return false };
        let reader = &mut self.readers[at];
        reader.present = false;
        let low = reader.low();
        if reader.held.count() == 0 {
            self.readers.remove(at);
        }
        if self.single_active && was_active {
            self.hand_on(low);
        }
        true
    }

    /// The next in line goes on where the active one stopped.
    fn hand_on(&mut self, at: u64) {
        if let Some(next) = self.active().and_then(|key| self.at(key)) {
            self.readers[next].position = at;
        }
    }

    /// A session goes, with its readers and all they hold.
    pub(crate) fn close_owner(&mut self, owner: OwnerKey) {
        let keys: Vec<ConsumerKey> =
            self.readers.iter().filter(|reader| reader.owner == owner).map(|reader| reader.key).collect();
        let active = self.active().filter(|active| keys.contains(active)).and_then(|key| self.at(key));
        let low = active.map(|at| self.readers[at].low());
        self.readers.retain(|reader| reader.owner != owner);
        if let Some(low) = low.filter(|_| self.single_active) {
            self.hand_on(low);
        }
    }

    /// The only one who is given messages; `None` if there is nobody, or everybody is.
    pub(crate) fn active(&self) -> Option<ConsumerKey> {
        let first = || self.readers.iter().find(|reader| reader.present);
        self.single_active.then(first).flatten().map(|reader| reader.key)
    }

    /// Readers that are there, in the order they came.
    pub(crate) fn keys(&self) -> impl Iterator<Item = ConsumerKey> {
        self.readers.iter().filter(|reader| reader.present).map(|reader| reader.key)
    }

    /// Whether anything is kept of a reader.
    pub(crate) fn knows(&self, key: ConsumerKey) -> bool {
        self.at(key).is_some()
    }

    /// What a reader may take now.
    #[inline]
    pub(crate) fn turn(&self, key: ConsumerKey) -> Option<Turn> {
        let reader = &self.readers[self.at(key)?];
        let credit = u64::from(reader.prefetch).saturating_sub(reader.held.count());
        let from = reader.position.max(self.first);
        let may = !self.paused
            && !reader.paused
            && reader.open
            && !reader.loading
            && reader.present
            && credit > 0
            && from < self.next;
        if !may || (self.single_active && self.active() != Some(key)) {
            return None;
        }
        Some(Turn { from, count: credit })
    }

    /// A reader was given these offsets, above all it was given before, and goes on at `next`.
    #[inline]
    pub(crate) fn given(&mut self, key: ConsumerKey, offsets: impl Iterator<Item = u64>, next: u64) {
        let Some(at) = self.at(key) else { return };
        let reader = &mut self.readers[at];
        offsets.for_each(|offset| reader.held.push(offset));
        reader.position = next;
    }

    /// What a reader was given from `offset` on has not left: it is as if it had not been given it.
    pub(crate) fn take_back(&mut self, key: ConsumerKey, offset: u64) {
        let Some(at) = self.at(key) else { return };
        let reader = &mut self.readers[at];
        reader.held.remove(offset..u64::MAX);
        reader.position = reader.position.min(offset);
    }

    /// A reader has done with these. Where it would have to begin again to miss nothing, if that has moved.
    pub(crate) fn settle(&mut self, key: ConsumerKey, offsets: &[Range<u64>]) -> Option<u64> {
        let at = self.at(key)?;
        let reader = &mut self.readers[at];
        let before = reader.low();
        for range in offsets {
            reader.held.remove(range.clone());
        }
        let low = reader.low();
        if !reader.present && reader.held.count() == 0 {
            self.readers.remove(at);
        }
        (low != before).then_some(low)
    }

    /// Whether there is room in a reader's inbox.
    pub(crate) fn set_open(&mut self, key: ConsumerKey, open: bool) {
        if let Some(at) = self.at(key) {
            self.readers[at].open = open;
        }
    }

    /// Whether anybody is given anything from now on.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Pauses one reader, or lets it go on.
    pub(crate) fn pause_reader(&mut self, key: ConsumerKey, paused: bool) {
        if let Some(at) = self.at(key) {
            self.readers[at].paused = paused;
        }
    }

    /// Changes how many unsettled messages a reader may have.
    pub(crate) fn set_prefetch(&mut self, key: ConsumerKey, prefetch: u32) {
        if let Some(at) = self.at(key) {
            self.readers[at].prefetch = prefetch.max(1);
        }
    }

    /// What a reader looks at next, from `position` on, is on disk.
    pub(crate) fn set_loading(&mut self, key: ConsumerKey, position: u64) {
        if let Some(at) = self.at(key) {
            self.readers[at].loading = true;
            self.readers[at].position = position;
        }
    }

    /// Something was read: those that wait may try again.
    pub(crate) fn loaded(&mut self) {
        self.readers.iter_mut().for_each(|reader| reader.loading = false);
    }

    /// Where a reader goes on, how many it is behind, and what holds it up: (position, behind, loading, closed).
    pub(super) fn standing(&self, key: ConsumerKey) -> Option<(u64, u64, bool, bool)> {
        let reader = &self.readers[self.at(key)?];
        let behind = self.next.saturating_sub(reader.position.max(self.first));
        Some((reader.position, behind, reader.loading, !reader.open))
    }

    /// Whether only one of the readers is given messages: nobody may have it alone then (A5).
    pub(crate) fn is_single_active(&self) -> bool {
        self.single_active
    }

    /// What all readers hold together.
    pub(crate) fn held_count(&self) -> u64 {
        self.readers.iter().map(|reader| reader.held.count()).sum()
    }

    fn at(&self, key: ConsumerKey) -> Option<usize> {
        self.readers.binary_search_by_key(&key, |reader| reader.key).ok()
    }

    /// What a reader holds.
    #[cfg(test)]
    pub(super) fn held(&self, key: ConsumerKey) -> u64 {
        self.at(key).map_or(0, |at| self.readers[at].held.count())
    }
}
