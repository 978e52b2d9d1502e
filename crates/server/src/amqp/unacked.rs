//! Deliveries of a channel that wait for their settlement, by delivery tag.
//!
//! A delivery whose lease has ended is none of the client's any more, but the client may not know: settling it late
//! is ignored. Its tag is remembered for that, in ranges.

use millpond_broker::{DeliveryId, QueueRef};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

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
    /// Only where a lease has ended.
    ended: Option<Box<Ended>>,
}

/// Most ranges of tags of ended leases that a channel remembers; over it the lowest ones are joined, and then the
/// settled tags between them may be settled again without a complaint.
const ENDED_RANGES_MAX: usize = 1024;

/// Tags whose lease has ended: first to last.
#[derive(Debug, Default)]
struct Ended(BTreeMap<u64, u64>);

impl Ended {
    fn add(&mut self, tag: u64) {
        match self.0.range_mut(..=tag).next_back() {
            Some((_, last)) if *last + 1 >= tag => *last = tag.max(*last),
            _ => {
                self.0.insert(tag, tag);
            }
        }
        if self.0.len() > ENDED_RANGES_MAX
            && let (Some((first, _)), Some((_, last))) = (self.0.pop_first(), self.0.pop_first())
        {
            self.0.insert(first, last);
        }
    }

    fn has(&self, tag: u64) -> bool {
        self.0.range(..=tag).next_back().is_some_and(|(_, last)| *last >= tag)
    }
}

impl Unacked {
    /// Whether nothing waits for its settlement.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.len() == self.holes
    }

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
        let Some(index) = self.find(tag) else { return self.take_late(tag, multiple, out) };
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

    /// The tag is not of a delivery that waits: of one whose lease has ended?
    #[cold]
    fn take_late(&mut self, tag: u64, multiple: bool, out: &mut Vec<(u64, DeliveryId)>) -> bool {
        if !self.ended.as_ref().is_some_and(|ended| ended.has(tag)) {
            return false;
        }
        if multiple {
            let end = self.entries.partition_point(|entry| entry.tag <= tag);
            for entry in self.entries.drain(..end) {
                match entry.delivery {
                    Some(delivery) => out.push((entry.tag, delivery)),
                    None => self.holes -= 1,
                }
            }
        }
        true
    }

    /// The leases of these messages of a queue have ended: they are not held any more. In any order.
    pub(crate) fn end_leases(&mut self, queue: QueueRef, seqs: &[Range<u64>]) {
        let mut sorted = seqs.to_vec();
        sorted.sort_unstable_by_key(|range| range.start);
        let is_among = |seq: u64| {
            let at = sorted.partition_point(|range| range.start <= seq);
            at > 0 && sorted[at - 1].end > seq
        };
        for entry in &mut self.entries {
            if entry.delivery.is_some_and(|id| id.queue == queue && is_among(id.seq)) {
                entry.delivery = None;
                self.holes += 1;
                self.ended.get_or_insert_default().add(entry.tag);
            }
        }
        self.sweep();
    }

    /// How many wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.holes
    }

    /// Those that wait.
    pub(crate) fn deliveries(&self) -> impl Iterator<Item = DeliveryId> {
        self.entries.iter().filter_map(|entry| entry.delivery)
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
    fn settling_after_the_lease_has_ended_is_ignored() {
        let mut unacked = Unacked::default();
        (1..=6).for_each(|tag| unacked.push(tag, delivery(tag * 10)));
        unacked.end_leases(QueueRef(2), &[0..500, 500..1000]);
        unacked.end_leases(QueueRef(1), &[50..61, 20..21]);
        let take = |unacked: &mut Unacked, tag, multiple| {
            let mut out = Vec::new();
            let known = unacked.take(tag, multiple, &mut out);
            (known, out.into_iter().map(|(tag, _)| tag).collect::<Vec<_>>())
        };
        assert_eq!(take(&mut unacked, 2, false), (true, vec![]));
        assert_eq!(take(&mut unacked, 2, false), (true, vec![]));
        assert_eq!(take(&mut unacked, 3, false), (true, vec![3]));
        assert_eq!(take(&mut unacked, 3, false), (false, vec![]));
        assert_eq!(take(&mut unacked, 5, true), (true, vec![1, 4]));
        assert_eq!(take(&mut unacked, 6, true), (true, vec![]));
        assert_eq!(take(&mut unacked, 7, false), (false, vec![]));
        assert_eq!(unacked.holes, 0);
        assert_eq!(unacked.deliveries().count(), 0);
    }

    #[test]
    fn a_client_that_never_settles_does_not_make_its_channel_grow() {
        let mut unacked = Unacked::default();
        for tag in 1..50_000 {
            unacked.push(tag, delivery(tag));
            if tag % 2 == 0 {
                unacked.end_leases(QueueRef(1), &[0..0, tag..tag + 1]);
            } else {
                assert!(unacked.take(tag, false, &mut Vec::new()));
            }
        }
        assert!(unacked.entries.len() <= 1);
        assert!(unacked.ended.as_ref().is_some_and(|ended| ended.0.len() <= ENDED_RANGES_MAX));
        assert!(unacked.take(2, false, &mut Vec::new()));
        assert!(unacked.take(49_998, false, &mut Vec::new()));
        assert!(!unacked.take(49_999, false, &mut Vec::new()));
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
