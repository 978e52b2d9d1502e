//! When each delayed message of an exchange is due; pure, told the time.
//!
//! A set of pairs of numbers: about 18 bytes a message, and 26 more for one that has an id by which it may be taken
//! back. Contents stay in the log; those of the messages that are due soon are read ahead, some seconds' worth at a
//! time and in the order of the log, so that a backlog on disk is read in passes and not message by message.

use super::sorted::Sorted;
use std::ops::Range;

/// How far before its time a message's content is read. A pass goes over all of the log if what is due next is
/// scattered over it, so there must not be many of them.
pub(super) const AHEAD_MS: u64 = 10_000;

/// Messages read ahead in one pass.
const PASS_MAX: usize = 128 * 1024;

/// A message that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waiting {
    /// Milliseconds since 1970.
    pub(crate) due_ms: u64,
    /// Its number in the log.
    pub(crate) seq: u64,
}

/// A message that waits and has an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    id: IdHash,
    waiting: Waiting,
}

/// Stands for the id of a message: 64 bits that nobody outside can aim at, so that two ids with the same ones are not
/// to be expected (with a million messages, once in 10^13 questions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IdHash(pub(super) u64);

#[derive(Debug, Default)]
pub(super) struct Schedule {
    waiting: Sorted<Waiting>,
    /// Those of `waiting` that have an id.
    named: Sorted<Named>,
    /// What is due up to here has been passed over for reading ahead.
    ahead_to_ms: u64,
}

impl Schedule {
    pub(super) fn add(&mut self, one: Waiting, id: Option<IdHash>) {
        self.waiting.insert(one);
        if let Some(id) = id {
            self.named.insert(Named { id, waiting: one });
        }
    }

    pub(super) fn contains(&self, one: &Waiting) -> bool {
        self.waiting.contains(one)
    }

    /// Takes a message out by its number; looks through all.
    pub(super) fn remove(&mut self, seq: u64) -> Option<Waiting> {
        let found = *self.waiting.iter().find(|one| one.seq == seq)?;
        self.waiting.remove(&found);
        self.named.retain(|one| one.waiting != found);
        Some(found)
    }

    /// Takes out all messages with an id.
    pub(super) fn remove_named(&mut self, id: IdHash) -> Vec<Waiting> {
        let from = Named { id, waiting: Waiting { due_ms: 0, seq: 0 } };
        let found: Vec<Named> = self.named.iter_from(from).take_while(|one| one.id == id).copied().collect();
        for one in &found {
            self.named.remove(one);
            self.waiting.remove(&one.waiting);
        }
        found.into_iter().map(|one| one.waiting).collect()
    }

    /// Takes messages out by their numbers; looks through all.
    pub(super) fn remove_range(&mut self, seqs: &Range<u64>) -> Vec<Waiting> {
        let gone: Vec<Waiting> = self.waiting.iter().filter(|one| seqs.contains(&one.seq)).copied().collect();
        self.waiting.retain(|one| !seqs.contains(&one.seq));
        self.named.retain(|one| !seqs.contains(&one.waiting.seq));
        gone
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.named.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// In the order in which they are due.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
    }

    /// The first, if it is due.
    pub(super) fn first_due(&self, now_ms: u64) -> Option<Waiting> {
        self.waiting.first().filter(|first| first.due_ms <= now_ms).copied()
    }

    /// Takes one out that is due, with the id that its message has.
    pub(super) fn take(&mut self, one: Waiting, id: Option<IdHash>) {
        self.waiting.remove(&one);
        if let Some(id) = id {
            self.named.remove(&Named { id, waiting: one });
        }
    }

    /// As [`Self::take`], of a message whose id is not known any more; looks through all.
    pub(super) fn take_lost(&mut self, one: Waiting) {
        self.waiting.remove(&one);
        self.named.retain(|named| named.waiting != one);
    }

    /// The next pass of messages to read ahead, in the order of the log; empty if it is not time for one.
    pub(super) fn next_pass(&mut self, now_ms: u64) -> Vec<Waiting> {
        let to_ms = now_ms.saturating_add(AHEAD_MS);
        if to_ms.saturating_sub(self.ahead_to_ms) < AHEAD_MS / 2 {
            return Vec::new();
        }
        let from = Waiting { due_ms: self.ahead_to_ms.max(now_ms).saturating_add(1), seq: 0 };
        let soon = self.waiting.iter_from(from).take_while(|one| one.due_ms <= to_ms);
        let mut pass: Vec<Waiting> = soon.take(PASS_MAX).copied().collect();
        self.ahead_to_ms = match pass.last() {
            // The rest of its millisecond belongs to the next pass only if there is more than this one.
            Some(last) if pass.len() == PASS_MAX => last.due_ms,
            _ => to_ms,
        };
        pass.sort_unstable_by_key(|one| one.seq);
        pass
    }

    /// When the first is due: `u64::MAX` for never.
    pub(super) fn next_due_ms(&self) -> u64 {
        self.waiting.first().map_or(u64::MAX, |first| first.due_ms)
    }

    /// When there is something to do next, be it to read ahead: `u64::MAX` for never.
    pub(super) fn next_ms(&self) -> u64 {
        let first = self.next_due_ms();
        let beyond = Waiting { due_ms: self.ahead_to_ms.saturating_add(1), seq: 0 };
        let pass = self.waiting.iter_from(beyond).next();
        first.min(pass.map_or(u64::MAX, |one| one.due_ms.saturating_sub(AHEAD_MS / 2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_in_the_order_of_their_times_and_of_their_coming() {
        let mut schedule = Schedule::default();
        for (due_ms, seq) in [(500, 0), (100, 1), (500, 2), (100, 3), (300, 4)] {
            schedule.add(Waiting { due_ms, seq }, (seq < 2).then_some(IdHash(9)));
        }
        assert_eq!(schedule.next_ms(), 0, "the first pass is to be read at once");
        assert_eq!(schedule.first_due(99), None);
        let mut taken = Vec::new();
        while let Some(one) = schedule.first_due(400) {
            schedule.take(one, (one.seq < 2).then_some(IdHash(9)));
            taken.push(one.seq);
        }
        assert_eq!(taken, [1, 3, 4]);
        assert_eq!(schedule.remove(2), Some(Waiting { due_ms: 500, seq: 2 }));
        assert_eq!(schedule.remove(2), None);
        assert_eq!(schedule.remove_named(IdHash(8)), []);
        assert_eq!(schedule.remove_named(IdHash(9)), [Waiting { due_ms: 500, seq: 0 }]);
        assert_eq!((schedule.len(), schedule.named.len()), (0, 0));
    }

    #[test]
    fn passes_read_ahead_in_the_order_of_the_log_each_message_once() {
        let mut schedule = Schedule::default();
        (0..5000u64)
            .for_each(|seq| schedule.add(Waiting { due_ms: 10_000 + (seq * 7919) % 5000, seq }, None));
        let mut read = Vec::new();
        let mut now_ms = 0;
        while read.len() < 5000 {
            now_ms = now_ms.max(schedule.next_ms());
            assert!(now_ms <= 15_000, "each is read before it is due");
            let pass = schedule.next_pass(now_ms);
            assert!(pass.is_sorted_by_key(|one| one.seq));
            assert!(pass.iter().all(|one| one.due_ms > now_ms && one.due_ms <= now_ms + AHEAD_MS));
            assert!(schedule.next_pass(now_ms).is_empty());
            read.extend(pass.iter().map(|one| one.seq));
            now_ms += 1;
            while let Some(one) = schedule.first_due(now_ms) {
                assert!(read.contains(&one.seq));
                schedule.take(one, None);
            }
        }
        read.sort_unstable();
        read.dedup();
        assert_eq!(read.len(), 5000);
    }
}
