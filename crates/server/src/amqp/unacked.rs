//! Deliveries of a channel that wait for their settlement, by delivery tag.

use millpond_broker::DeliveryId;
use std::collections::VecDeque;

/// Removed entries in the middle are swept when there are more of them than live ones, and more than this.
const HOLES_MIN: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u64,
    /// `None`: settled out of order.
    delivery: Option<DeliveryId>,
}

/// In the order of their tags.
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    entries: VecDeque<Entry>,
    holes: usize,
}

impl Unacked {
    /// Remembers a delivery; tags ascend.
    #[inline]
    pub(crate) fn push(&mut self, tag: u64, delivery: DeliveryId) {
        self.entries.push_back(Entry { tag, delivery: Some(delivery) });
    }

    /// Takes the delivery of that tag, or with `multiple` all up to it, or with tag 0 and `multiple` all; appends
    /// them to `out`. False: there is none of that tag, and nothing was taken.
    #[inline]
    pub(crate) fn take(&mut self, tag: u64, multiple: bool, out: &mut Vec<(u64, DeliveryId)>) -> bool {
        if tag == 0 {
            if multiple {
                self.take_all(out);
            }
            return multiple;
        }
        let Some(index) = self.find(tag) else { return false };
        if multiple {
            for entry in self.entries.drain(..=index) {
                match entry.delivery {
                    Some(delivery) => out.push((entry.tag, delivery)),
                    None => self.holes -= 1,
                }
            }
        } else if let Some(delivery) = self.entries[index].delivery.take() {
            out.push((tag, delivery));
            self.holes += 1;
        }
        self.sweep();
        true
    }

    /// Takes all.
    pub(crate) fn take_all(&mut self, out: &mut Vec<(u64, DeliveryId)>) {
        out.extend(self.entries.drain(..).filter_map(|entry| Some((entry.tag, entry.delivery?))));
        self.holes = 0;
    }

    /// Puts deliveries back that were taken (a rollback); in any order.
    pub(crate) fn put_back(&mut self, deliveries: impl Iterator<Item = (u64, DeliveryId)>) {
        let back = deliveries.map(|(tag, delivery)| Entry { tag, delivery: Some(delivery) });
        let mut all: Vec<Entry> =
            self.entries.drain(..).filter(|entry| entry.delivery.is_some()).chain(back).collect();
        all.sort_unstable_by_key(|entry| entry.tag);
        self.entries = all.into();
        self.holes = 0;
    }

    /// The index of a live entry.
    #[inline]
    fn find(&self, tag: u64) -> Option<usize> {
        let first = self.entries.front()?.tag;
        let guess = usize::try_from(tag.checked_sub(first)?).ok()?;
        let index = match self.entries.get(guess) {
            Some(entry) if entry.tag == tag => guess,
            _ => self.entries.binary_search_by_key(&tag, |entry| entry.tag).ok()?,
        };
        self.entries[index].delivery.is_some().then_some(index)
    }

    #[inline]
    fn sweep(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.delivery.is_none()) {
            self.entries.pop_front();
            self.holes -= 1;
        }
        if self.holes > HOLES_MIN && self.holes * 2 > self.entries.len() {
            self.entries.retain(|entry| entry.delivery.is_some());
            self.holes = 0;
        }
        if self.entries.is_empty() && self.entries.capacity() > 4096 {
            self.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_broker::QueueRef;
    use std::collections::BTreeMap;

    fn delivery(seq: u64) -> DeliveryId {
        DeliveryId { queue: QueueRef(1), seq }
    }

    #[test]
    fn taking_agrees_with_a_map_over_random_histories() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..200 {
            let (mut unacked, mut map, mut next) = (Unacked::default(), BTreeMap::new(), 1);
            for _ in 0..600 {
                match random(10) {
                    0..5 => {
                        next += random(3) / 2;
                        unacked.push(next, delivery(next * 10));
                        map.insert(next, delivery(next * 10));
                        next += 1;
                    }
                    kind => {
                        let tag = random(next + 2);
                        let multiple = kind > 8;
                        let (mut taken, mut expected) = (Vec::new(), Vec::new());
                        let found = unacked.take(tag, multiple, &mut taken);
                        let known = if tag == 0 { multiple } else { map.contains_key(&tag) };
                        if known && multiple {
                            let last = if tag == 0 { u64::MAX } else { tag };
                            expected.extend(map.range(..=last).map(|(tag, id)| (*tag, *id)));
                        } else if known {
                            expected.push((tag, map[&tag]));
                        }
                        map.retain(|tag, _| !expected.iter().any(|(taken, _)| taken == tag));
                        assert_eq!((found, &taken), (known, &expected), "tag {tag}, multiple {multiple}");
                        if random(4) == 0 {
                            map.extend(taken.iter().copied());
                            unacked.put_back(taken.into_iter());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn one_delivery_never_settled_does_not_keep_the_memory_of_those_after_it() {
        let mut unacked = Unacked::default();
        unacked.push(1, delivery(1));
        for tag in 2..100_000 {
            unacked.push(tag, delivery(tag));
            assert!(unacked.take(tag, false, &mut Vec::new()));
        }
        assert!(unacked.entries.len() <= 2 * HOLES_MIN + 2);
    }
}
