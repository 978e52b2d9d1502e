//! Offsets as ranges: those a reader was given and has not settled.

use std::collections::VecDeque;
use std::ops::Range;

/// Ascending ranges that do not touch.
#[derive(Debug, Default, Clone)]
pub(super) struct Runs {
    ranges: VecDeque<Range<u64>>,
    count: u64,
}

impl Runs {
    /// How many offsets.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.ranges.front().map(|range| range.start)
    }

    /// Adds an offset above all others.
    #[inline]
    pub(super) fn push(&mut self, offset: u64) {
        self.count += 1;
        match self.ranges.back_mut() {
            Some(last) if last.end == offset => last.end += 1,
            _ => self.ranges.push_back(offset..offset + 1),
        }
    }

    /// Takes out what of a range is there; how many that were.
    pub(super) fn remove(&mut self, gone: Range<u64>) -> u64 {
        let before = self.count;
        let mut at = self.ranges.partition_point(|range| range.end <= gone.start);
        while let Some(range) = self.ranges.get_mut(at).filter(|range| range.start < gone.end) {
            let cut = range.start.max(gone.start)..range.end.min(gone.end);
            self.count -= cut.end - cut.start;
            match (cut.start == range.start, cut.end == range.end) {
                (true, true) => {
                    self.ranges.remove(at);
                }
                (true, false) => {
                    range.start = cut.end;
                    break;
                }
                (false, true) => {
                    range.end = cut.start;
                    at += 1;
                }
                (false, false) => {
                    let behind = cut.end..range.end;
                    range.end = cut.start;
                    self.ranges.insert(at + 1, behind);
                    break;
                }
            }
        }
        before - self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn runs_are_what_a_plain_set_would_be() {
        let mut random = crate::stream::tests::Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..300 {
            let (mut runs, mut plain, mut next) = (Runs::default(), BTreeSet::new(), 0);
            for _ in 0..60 {
                if random.below(2) == 0 {
                    next += random.below(3);
                    runs.push(next);
                    plain.insert(next);
                    next += 1;
                } else {
                    let start = random.below(next + 2);
                    let gone = start..start + random.below(6);
                    let had = plain.range(gone.clone()).count() as u64;
                    plain.retain(|offset| !gone.contains(offset));
                    assert_eq!(runs.remove(gone), had);
                }
                assert_eq!((runs.count(), runs.first()), (plain.len() as u64, plain.first().copied()));
                let ranges: Vec<u64> = runs.ranges.iter().cloned().flatten().collect();
                assert_eq!(ranges, plain.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
