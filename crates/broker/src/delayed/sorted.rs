//! A sorted set of small values, dense in memory: runs of some hundred values each, found by a tree over where each
//! run begins. A B-tree of the standard library takes nearly twice the room for pairs of numbers, and it is the
//! memory of a million waiting messages that counts here.

use std::collections::BTreeMap;

/// Values of a run before it is split.
const RUN_MAX: usize = 512;

/// Room that a run grows by.
const ROOM: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Sorted<T> {
    /// By a value that is not above the first of the run and above all of the run before.
    runs: BTreeMap<T, Vec<T>>,
    len: usize,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { runs: BTreeMap::new(), len: 0 }
    }
}

impl<T: Copy + Ord> Sorted<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.runs.values().flatten()
    }

    /// All from `from` on, in order.
    pub(super) fn iter_from(&self, from: T) -> impl Iterator<Item = &T> {
        let within = self.runs.range(..=from).next_back().map(|(_, run)| run.as_slice()).unwrap_or_default();
        let within = &within[within.partition_point(|one| *one < from)..];
        let behind = (std::ops::Bound::Excluded(from), std::ops::Bound::Unbounded);
        within.iter().chain(self.runs.range(behind).flat_map(|(_, run)| run))
    }

    pub(super) fn contains(&self, one: &T) -> bool {
        let run = self.runs.range(..=*one).next_back();
        run.is_some_and(|(_, run)| run.binary_search(one).is_ok())
    }

    /// `false`: it was there.
    pub(super) fn insert(&mut self, one: T) -> bool {
        let Some((_, run)) = self.runs.range_mut(..=one).next_back() else {
            // Before all others: the first run begins with it, if there is one with room.
            let mut run = self.runs.pop_first().map(|(_, run)| run).unwrap_or_default();
            if run.len() >= RUN_MAX {
                self.runs.insert(run[0], std::mem::take(&mut run));
            }
            grow(&mut run);
            run.insert(0, one);
            self.runs.insert(one, run);
            self.len += 1;
            return true;
        };
        let Err(at) = run.binary_search(&one) else { return false };
        self.len += 1;
        if run.len() < RUN_MAX {
            grow(run);
            run.insert(at, one);
            return true;
        }
        if at == run.len() {
            // Values that come in order fill their runs.
            self.runs.insert(one, vec![one]);
            return true;
        }
        let mut upper = run.split_off(RUN_MAX / 2);
        run.shrink_to(RUN_MAX / 2 + ROOM);
        let half = if at <= run.len() { &mut *run } else { &mut upper };
        let at = half.partition_point(|known| *known < one);
        grow(half);
        half.insert(at, one);
        self.runs.insert(upper[0], upper);
        true
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, one: &T) -> bool {
        let Some((begin, run)) = self.runs.range_mut(..=*one).next_back() else { return false };
        let Ok(at) = run.binary_search(one) else { return false };
        run.remove(at);
        self.len -= 1;
        if run.is_empty() {
            let begin = *begin;
            self.runs.remove(&begin);
        } else if run.capacity() > 2 * run.len() + 2 * ROOM {
            run.shrink_to(run.len() + ROOM);
        }
        true
    }

    /// Takes out all that `keep` does not want.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut len = 0;
        self.runs.retain(|_, run| {
            run.retain(&mut keep);
            run.shrink_to(run.len() + ROOM);
            len += run.len();
            !run.is_empty()
        });
        self.len = len;
    }
}

/// Makes room for one more.
fn grow<T>(run: &mut Vec<T>) {
    if run.len() == run.capacity() {
        run.reserve_exact(ROOM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeSet;

    #[test]
    fn it_does_what_a_b_tree_does_whatever_happens_to_it() {
        for (seed, span) in [(0, 100), (1, 2000), (2, 1 << 40), (3, 1 << 40)] {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut sorted, mut model) = (Sorted::default(), BTreeSet::new());
            for step in 0..30_000u64 {
                let one = random.random_range(0..span);
                match random.random_range(0..100) {
                    0..45 => assert_eq!(sorted.insert(one), model.insert(one)),
                    45..60 => assert_eq!(sorted.insert(step), model.insert(step)),
                    60..80 => {
                        let near = model.range(one..).next().copied().unwrap_or(one);
                        assert_eq!(sorted.remove(&near), model.remove(&near));
                    }
                    80..95 => {
                        let first = model.pop_first();
                        assert_eq!(sorted.first().copied(), first);
                        first.inspect(|first| assert!(sorted.remove(first)));
                    }
                    95..99 => {
                        assert!(sorted.iter_from(one).take(700).eq(model.range(one..).take(700)));
                        assert_eq!(sorted.contains(&one), model.contains(&one));
                    }
                    _ if step % 50 == 0 => {
                        sorted.retain(|known| known % 7 != one % 7);
                        model.retain(|known| known % 7 != one % 7);
                    }
                    _ => {}
                }
                assert_eq!(sorted.len(), model.len());
            }
            assert!(sorted.iter().eq(&model));
        }
    }

    #[test]
    fn it_takes_little_more_room_than_its_values() {
        let mut random = StdRng::seed_from_u64(7);
        let mut sorted = Sorted::default();
        (0..200_000).for_each(|n| {
            sorted.insert((random.random::<u64>(), n));
        });
        let room: usize = sorted.runs.values().map(Vec::capacity).sum();
        assert!(room * 10 < sorted.len() * 12, "{room} places for {} values", sorted.len());
    }
}
