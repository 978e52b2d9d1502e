//! Random histories against a plain model: every reader is given every offset from its start on once and in order,
//! except those trimmed in front of it; nobody holds more than its prefetch.

use super::Random;
use crate::queue::machine::{ConsumerKey, OwnerKey};
use crate::stream::machine::{Machine, Terms};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
struct Reader {
    owner: OwnerKey,
    prefetch: u64,
    /// The lowest offset it may be given next.
    position: u64,
    held: BTreeSet<u64>,
    open: bool,
}

struct History {
    random: Random,
    machine: Machine,
    single: bool,
    first: u64,
    next: u64,
    readers: BTreeMap<ConsumerKey, Reader>,
    next_key: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let single = seed.is_multiple_of(3);
        let machine = Machine::new(0, 0, single);
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self { random, machine, single, first: 0, next: 0, readers: BTreeMap::new(), next_key: 0 }
    }

    fn any(&mut self) -> Option<ConsumerKey> {
        let at = self.random.below(self.readers.len() as u64) as usize;
        self.readers.keys().nth(at).copied()
    }

    fn active(&self) -> Option<ConsumerKey> {
        self.readers.keys().next().copied()
    }

    fn promote(&mut self, before: Option<ConsumerKey>, low: u64) {
        let now = self.active();
        if self.single
            && now != before
            && let Some(reader) = now.and_then(|key| self.readers.get_mut(&key))
        {
            reader.position = low;
        }
    }

    fn low(reader: &Reader) -> u64 {
        reader.held.first().copied().unwrap_or(reader.position)
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 | 1 => {
                self.next += self.random.below(20);
                self.machine.appended(self.next);
            }
            2 => {
                self.first = self.first.max(self.random.below(self.next + 1));
                self.machine.trimmed(self.first);
            }
            3 if self.readers.len() < 6 => self.add(),
            4 => self.remove(),
            5 => self.close_owner(),
            6 => self.give_back(),
            7 => {
                if let Some(key) = self.any() {
                    let open = self.random.below(2) == 0;
                    self.machine.set_open(key, open);
                    self.readers.get_mut(&key).unwrap().open = open;
                }
            }
            8 | 9 => self.settle(),
            _ => self.give(),
        }
    }

    fn add(&mut self) {
        let key = ConsumerKey(self.next_key);
        self.next_key += 1;
        let (owner, prefetch) = (OwnerKey(self.random.below(3)), 1 + self.random.below(9));
        let start = self.random.below(self.next + 5);
        self.machine.add(key, Terms { owner, prefetch: prefetch as u32, start });
        let position = start.clamp(self.first, self.next);
        self.readers.insert(key, Reader { owner, prefetch, position, held: BTreeSet::new(), open: true });
    }

    fn remove(&mut self) {
        let Some(key) = self.any() else { return };
        let before = self.active();
        assert!(self.machine.remove(key));
        let gone = self.readers.remove(&key).unwrap();
        self.promote(before, Self::low(&gone));
    }

    fn close_owner(&mut self) {
        let owner = OwnerKey(self.random.below(3));
        let before = self.active();
        let low = before.map_or(0, |key| Self::low(&self.readers[&key]));
        self.machine.close_owner(owner);
        self.readers.retain(|_, reader| reader.owner != owner);
        self.promote(before, low);
    }

    /// As when a reader is cancelled while some of what it was given waits in its inbox.
    fn give_back(&mut self) {
        let Some(key) = self.any() else { return };
        let reader = self.readers.get_mut(&key).unwrap();
        let Some(last) = reader.held.last().copied() else { return };
        self.machine.take_back(key, last);
        reader.held.remove(&last);
        reader.position = reader.position.min(last);
    }

    fn settle(&mut self) {
        let Some(key) = self.any() else { return };
        let start = self.random.below(self.next + 1);
        let range = start..start + self.random.below(12);
        let reader = self.readers.get_mut(&key).unwrap();
        let before = Self::low(reader);
        reader.held.retain(|offset| !range.contains(offset));
        let low = Self::low(reader);
        assert_eq!(self.machine.settle(key, &[range]), (low != before).then_some(low));
    }

    fn give(&mut self) {
        let Some(key) = self.any() else { return };
        let blocked = self.single && self.active() != Some(key);
        let (first, next) = (self.first, self.next);
        let passed = self.random.below(3);
        let reader = self.readers.get_mut(&key).unwrap();
        let from = reader.position.max(first);
        let credit = reader.prefetch - reader.held.len() as u64;
        let Some(turn) = self.machine.turn(key) else {
            assert!(blocked || !reader.open || credit == 0 || from >= next, "a turn was due");
            return;
        };
        assert!(!blocked && reader.open, "a turn out of turn");
        assert_eq!((turn.from, turn.count), (from, credit));
        // A filter passes some over.
        let given: Vec<u64> = (from..next).step_by(1 + passed as usize).take(credit as usize).collect();
        let behind = given.last().map_or(next, |last| last + 1);
        reader.held.extend(&given);
        reader.position = behind;
        self.machine.given(key, given.iter().copied(), behind);
    }
}

#[test]
fn every_reader_is_given_everything_from_its_place_on_once_and_in_order() {
    for seed in 0..2_000 {
        let mut history = History::new(seed);
        for _ in 0..120 {
            history.step();
            let keys: Vec<ConsumerKey> = history.machine.keys().collect();
            assert_eq!(keys, history.readers.keys().copied().collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(history.machine.bounds(), (history.first, history.next), "seed {seed}");
            for (key, reader) in &history.readers {
                assert_eq!(history.machine.held(*key), reader.held.len() as u64, "seed {seed}");
                assert!(reader.held.len() as u64 <= reader.prefetch, "seed {seed}");
            }
        }
    }
}
