//! The young messages of a queue, by sequence number.
//!
//! A ring of slots from `base` on holds them: append and settle are an index away. One old message that nobody
//! settles would keep the ring long; when most slots are empty, the living at its front move to a map.

use millpond_model::Message;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// What a message costs in memory beside its bytes.
pub(crate) const SLOT_BYTES: u64 = size_of::<Option<Message>>() as u64;

/// Slots below which the ring is not looked at.
const SPARSE_MIN_SLOTS: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    base: u64,
    ring: VecDeque<Option<Message>>,
    stragglers: BTreeMap<u64, Message>,
    /// Messages in the ring.
    in_ring: usize,
    /// Bytes of records here, and of their slots.
    bytes: u64,
    /// Bytes of persistent records here.
    persistent_bytes: u64,
}

impl Memory {
    /// Empty, going on with `next_seq`.
    pub(crate) fn starting_at(next_seq: u64) -> Self {
        Self { base: next_seq, ..Self::default() }
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn persistent_bytes(&self) -> u64 {
        self.persistent_bytes
    }

    #[inline]
    fn count_in(&mut self, message: &Message) {
        let size = message.size_bytes() as u64;
        self.bytes += size + SLOT_BYTES;
        if message.is_persistent() {
            self.persistent_bytes += size;
        }
    }

    #[inline]
    fn count_out(&mut self, message: &Message) {
        let size = message.size_bytes() as u64;
        self.bytes -= size + SLOT_BYTES;
        if message.is_persistent() {
            self.persistent_bytes -= size;
        }
    }

    /// Takes the next message.
    #[inline]
    pub(crate) fn push(&mut self, message: Message) {
        self.count_in(&message);
        self.in_ring += 1;
        self.ring.push_back(Some(message));
    }

    /// Leaves numbers out up to `seq`, which must not be below the next one: used by recovery.
    pub(crate) fn skip_to(&mut self, seq: u64) {
        if self.ring.is_empty() {
            self.base = seq;
        }
        // A wide gap is not worth slots: what lies before it becomes stragglers.
        if seq - self.next_seq() > SPARSE_MIN_SLOTS as u64 {
            self.front_to_stragglers(self.ring.len());
            self.base = seq;
        }
        while self.next_seq() < seq {
            self.ring.push_back(None);
        }
    }

    #[inline]
    pub(crate) fn get(&self, seq: u64) -> Option<&Message> {
        match seq.checked_sub(self.base) {
            Some(at) => self.ring.get(at as usize)?.as_ref(),
            None => self.stragglers.get(&seq),
        }
    }

    #[inline]
    fn remove(&mut self, seq: u64) -> Option<Message> {
        let message = match seq.checked_sub(self.base) {
            Some(at) => {
                let message = self.ring.get_mut(at as usize)?.take()?;
                self.in_ring -= 1;
                message
            }
            None => self.stragglers.remove(&seq)?,
        };
        self.count_out(&message);
        Some(message)
    }

    /// Drops messages; `dropped` sees each number and message.
    #[inline]
    pub(crate) fn remove_range(&mut self, seqs: Range<u64>, mut dropped: impl FnMut(u64, &Message)) {
        if seqs.start < self.base && !self.stragglers.is_empty() {
            let old: Vec<u64> =
                self.stragglers.range(seqs.start..seqs.end.min(self.base)).map(|(seq, _)| *seq).collect();
            for seq in old {
                if let Some(message) = self.remove(seq) {
                    dropped(seq, &message);
                }
            }
        }
        for seq in seqs.start.max(self.base)..seqs.end.min(self.next_seq()) {
            if let Some(message) = self.remove(seq) {
                dropped(seq, &message);
            }
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.base += 1;
        }
        if self.ring.len() > SPARSE_MIN_SLOTS && self.in_ring < self.ring.len() / 4 {
            self.front_to_stragglers(self.ring.len() / 2);
        }
        if self.ring.capacity() > 4 * SPARSE_MIN_SLOTS && self.ring.len() < self.ring.capacity() / 8 {
            self.ring.shrink_to(self.ring.capacity() / 4);
        }
    }

    fn front_to_stragglers(&mut self, slots: usize) {
        for slot in self.ring.drain(..slots) {
            if let Some(message) = slot {
                self.in_ring -= 1;
                self.stragglers.insert(self.base, message);
            }
            self.base += 1;
        }
    }

    /// The messages numbered `seqs`, ascending.
    pub(crate) fn range(&self, seqs: Range<u64>) -> impl Iterator<Item = (u64, &Message)> {
        let start = seqs.start.clamp(self.base, self.next_seq());
        let end = seqs.end.clamp(start, self.next_seq());
        let old =
            self.stragglers.range(seqs.start..seqs.end.max(seqs.start)).map(|(seq, message)| (*seq, message));
        let ring = self.ring.range((start - self.base) as usize..(end - self.base) as usize);
        old.chain((start..end).zip(ring).filter_map(|(seq, slot)| Some((seq, slot.as_ref()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> Message {
        Message::new(b"", b"k", b"", seq.is_multiple_of(2), &seq.to_be_bytes())
    }

    fn seqs(memory: &Memory) -> Vec<u64> {
        memory.range(0..u64::MAX).map(|(seq, _)| seq).collect()
    }

    #[test]
    fn an_old_message_that_stays_does_not_keep_the_slots_of_those_that_went() {
        let mut memory = Memory::starting_at(5);
        (5..100_005).for_each(|seq| memory.push(message(seq)));
        let mut dropped = 0;
        memory.remove_range(6..99_000, |_, _| dropped += 1);
        assert_eq!(dropped, 98_994);
        assert!(memory.ring.len() < 60_000);
        memory.remove_range(99_000..100_000, |_, _| ());
        assert!(memory.ring.len() <= SPARSE_MIN_SLOTS * 4, "{}", memory.ring.len());
        assert_eq!(seqs(&memory), [5, 100_000, 100_001, 100_002, 100_003, 100_004]);
        assert_eq!(memory.get(5).map(|m| m.body().to_vec()), Some(5u64.to_be_bytes().to_vec()));
        memory.remove_range(0..u64::MAX, |_, _| ());
        assert_eq!((memory.bytes(), memory.persistent_bytes(), memory.next_seq()), (0, 0, 100_005));
    }

    #[test]
    fn a_gap_takes_no_slots() {
        let mut memory = Memory::starting_at(0);
        memory.push(message(0));
        memory.skip_to(1_000_000);
        memory.push(message(1_000_000));
        memory.skip_to(1_000_010);
        assert_eq!(seqs(&memory), [0, 1_000_000]);
        assert_eq!(memory.next_seq(), 1_000_010);
        assert!(memory.ring.len() < 20);
    }
}
