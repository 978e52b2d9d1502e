//! Times in buckets that grow with them: a fixed size, and an error of at most one in 64.

/// Buckets of each power of two, as a power of two.
const FINE_BITS: u32 = 6;

/// Buckets in all: 30 KiB for any number of times.
const BUCKETS: usize = ((64 - FINE_BITS as usize) + 1) << FINE_BITS;

/// How often which time was measured.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), total: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts a time, in any unit.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The time that this share (0 to 1) of all was within; 0 for none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return highest(index).min(self.max);
            }
        }
        self.max
    }
}

#[inline]
fn bucket(value: u64) -> usize {
    let bits = 64 - value.leading_zeros();
    if bits <= FINE_BITS {
        return value as usize;
    }
    let shift = bits - FINE_BITS - 1;
    // The leading bit and the FINE_BITS behind it; each further power of two begins FINE_BITS buckets later.
    ((shift as usize) << FINE_BITS) + (value >> shift) as usize
}

/// The largest value of a bucket.
fn highest(index: usize) -> u64 {
    if index < 1 << FINE_BITS {
        return index as u64;
    }
    let shift = (index >> FINE_BITS) - 1;
    let lead = (index - (shift << FINE_BITS)) as u64;
    (lead << shift) + ((1u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_whose_highest_is_close_above_it() {
        let mut before = 0;
        for value in (0..64).map(|bits| 1u64 << bits).chain(0..70_000).chain([u64::MAX, 123_456_789_012]) {
            let top = highest(bucket(value));
            assert!(top >= value && top - value <= value / 64, "{value}: {top}");
            before = before.max(bucket(value));
        }
        assert!(before < BUCKETS);
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut all = Histogram::default();
        let mut half = Histogram::default();
        for value in 1..=1000 {
            if value % 2 == 0 { &mut all } else { &mut half }.record(value);
        }
        all.add(&half);
        assert_eq!((all.total(), all.max(), all.quantile(1.0)), (1000, 1000, 1000));
        for (share, wanted) in [(0.5, 500), (0.95, 950), (0.99, 990)] {
            let found = all.quantile(share);
            assert!(found >= wanted && found <= wanted + wanted / 64 + 1, "{share}: {found}");
        }
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
