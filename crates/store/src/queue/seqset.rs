//! Which sequence numbers of a segment file live: a plain range while they are settled in order, bits after.
//!
//! In the B-tree: `0 | first | count` for a range, `1 | first | words count | words u64...` for bits (LEB128 but
//! for the words, which are little-endian; bit 0 of word 0 is `first`).

use crate::encoding::{Reader, put_varint};
use std::ops::Range;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SeqSet {
    Run(Range<u64>),
    Bits(Bits),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bits {
    first: u64,
    words: Vec<u64>,
    count: u64,
}

impl Default for SeqSet {
    fn default() -> Self {
        Self::Run(0..0)
    }
}

impl Bits {
    fn from_run(run: &Range<u64>) -> Self {
        let mut bits = Self { first: run.start, words: Vec::new(), count: 0 };
        bits.insert(run.clone());
        bits
    }

    fn end(&self) -> u64 {
        self.first + self.words.len() as u64 * 64
    }

    /// Calls `change` with every word that holds some of `seqs`, and the mask of those.
    fn for_words(&mut self, seqs: Range<u64>, mut change: impl FnMut(&mut u64, u64)) {
        let (mut at, end) = (seqs.start - self.first, seqs.end - self.first);
        while at < end {
            let word = at / 64;
            let upto = end.min((word + 1) * 64);
            let mask = (u64::MAX >> (64 - (upto - at))) << (at % 64);
            change(&mut self.words[word as usize], mask);
            at = upto;
        }
    }

    fn insert(&mut self, seqs: Range<u64>) {
        let words = (seqs.end - self.first).div_ceil(64) as usize;
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        let mut added = 0;
        self.for_words(seqs, |word, mask| {
            added += u64::from((mask & !*word).count_ones());
            *word |= mask;
        });
        self.count += added;
    }

    fn remove(&mut self, seqs: Range<u64>) -> u64 {
        let (start, end) = (seqs.start.max(self.first), seqs.end.min(self.end()));
        let mut removed = 0;
        if start < end {
            self.for_words(start..end, |word, mask| {
                removed += u64::from((mask & *word).count_ones());
                *word &= !mask;
            });
        }
        self.count -= removed;
        removed
    }

    fn next(&self, from: u64) -> Option<u64> {
        let from = from.max(self.first) - self.first;
        let mut at = (from / 64) as usize;
        let mut word = self.words.get(at)? & (u64::MAX << (from % 64));
        while word == 0 {
            at += 1;
            word = *self.words.get(at)?;
        }
        Some(self.first + at as u64 * 64 + u64::from(word.trailing_zeros()))
    }
}

impl SeqSet {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Run(run) => run.is_empty(),
            Self::Bits(bits) => bits.count == 0,
        }
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.next(seq) == Some(seq)
    }

    /// The lowest number from `from` on.
    #[inline]
    pub(crate) fn next(&self, from: u64) -> Option<u64> {
        match self {
            Self::Run(run) => Some(from.max(run.start)).filter(|seq| *seq < run.end),
            Self::Bits(bits) => bits.next(from),
        }
    }

    /// Adds numbers, none of them below one that was ever in the set.
    pub(crate) fn insert(&mut self, seqs: Range<u64>) {
        match self {
            _ if seqs.is_empty() => {}
            Self::Run(run) if run.is_empty() => *run = seqs,
            Self::Run(run) if run.end == seqs.start => run.end = seqs.end,
            Self::Run(run) => {
                let mut bits = Bits::from_run(run);
                bits.insert(seqs);
                *self = Self::Bits(bits);
            }
            Self::Bits(bits) => bits.insert(seqs),
        }
    }

    /// Removes numbers; returns how many were there.
    pub(crate) fn remove(&mut self, seqs: Range<u64>) -> u64 {
        match self {
            Self::Run(run) => {
                let cut = seqs.start.max(run.start)..seqs.end.min(run.end);
                if cut.is_empty() {
                    return 0;
                }
                if cut.start == run.start {
                    run.start = cut.end;
                } else if cut.end == run.end {
                    run.end = cut.start;
                } else {
                    let mut bits = Bits::from_run(run);
                    bits.remove(cut.clone());
                    *self = Self::Bits(bits);
                }
                cut.end - cut.start
            }
            Self::Bits(bits) => bits.remove(seqs),
        }
    }

    /// The numbers as ranges that do not touch.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        match self {
            Self::Run(run) if run.is_empty() => Vec::new(),
            Self::Run(run) => vec![run.clone()],
            Self::Bits(bits) => {
                let mut ranges: Vec<Range<u64>> = Vec::new();
                let mut from = bits.first;
                while let Some(seq) = bits.next(from) {
                    match ranges.last_mut() {
                        Some(last) if last.end == seq => last.end += 1,
                        _ => ranges.push(seq..seq + 1),
                    }
                    from = seq + 1;
                }
                ranges
            }
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Run(run) => {
                out.push(0);
                put_varint(&mut out, run.start);
                put_varint(&mut out, run.end.saturating_sub(run.start));
            }
            Self::Bits(bits) => {
                out.push(1);
                put_varint(&mut out, bits.first);
                put_varint(&mut out, bits.words.len() as u64);
                out.extend(bits.words.iter().flat_map(|word| word.to_le_bytes()));
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            0 => {
                let first = reader.varint()?;
                Some(Self::Run(first..first.checked_add(reader.varint()?)?))
            }
            1 => {
                let (first, len) = (reader.varint()?, reader.varint()?);
                let mut words = Vec::new();
                for _ in 0..len {
                    words.push(reader.u64()?);
                }
                first.checked_add(len.checked_mul(64)?)?;
                let count = words.iter().map(|word| u64::from(word.count_ones())).sum();
                Some(Self::Bits(Bits { first, words, count }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::collections::BTreeSet;

    #[test]
    fn a_set_is_what_a_plain_set_would_be_and_survives_its_encoding() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut set, mut plain) = (SeqSet::default(), BTreeSet::new());
            let mut next = random.random_range(0..1000);
            for _ in 0..40 {
                if random.random_bool(0.5) {
                    next += if random.random_bool(0.7) { 0 } else { random.random_range(0..90) };
                    let end = next + random.random_range(0..150);
                    set.insert(next..end);
                    plain.extend(next..end);
                    next = end;
                } else {
                    let start = if random.random_bool(0.5) {
                        plain.first().copied().unwrap_or(0)
                    } else {
                        random.random_range(0..next + 10)
                    };
                    let end = start + random.random_range(0..200);
                    let gone: Vec<u64> = plain.range(start..end).copied().collect();
                    gone.iter().for_each(|seq| assert!(plain.remove(seq)));
                    assert_eq!(set.remove(start..end), gone.len() as u64, "seed {seed}");
                }
                let back = SeqSet::decode(&set.encode()).unwrap();
                assert_eq!(back, set, "seed {seed}");
                assert_eq!(set.is_empty(), plain.is_empty());
                assert_eq!(
                    back.ranges().into_iter().flatten().collect::<Vec<_>>(),
                    Vec::from_iter(plain.clone())
                );
                let probe = random.random_range(0..next + 2);
                assert_eq!(set.contains(probe), plain.contains(&probe), "seed {seed}");
                assert_eq!(set.next(probe), plain.range(probe..).next().copied(), "seed {seed}");
            }
        }
    }
}
