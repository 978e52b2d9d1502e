//! Counts as they are shown: what they have come to, how fast they move, how they were.

use super::count::{Count, Kind};
use super::ring::rate_between;

/// The counts of a kind at one moment.
pub(super) type Row = Box<[u64]>;

/// Most samples of a window.
const SAMPLES_MAX: u64 = 2000;

/// Which samples somebody wants: so far back, so far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How old the oldest may be. Milliseconds.
    pub age_ms: u64,
    /// Between two of them. Milliseconds, at least 1.
    pub step_ms: u64,
}

/// The counts of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    kind: Kind,
    now: Row,
    /// Oldest first.
    rows: Vec<(u64, Row)>,
    now_ms: u64,
    interval_ms: u64,
}

impl Figures {
    pub(super) fn new(kind: Kind, now: Row, rows: Vec<(u64, Row)>, now_ms: u64, interval_ms: u64) -> Self {
        Self { kind, now, rows, now_ms, interval_ms }
    }

    /// The sums of several of a kind; `None` of none.
    pub(crate) fn sum(mut all: impl Iterator<Item = Self>) -> Option<Self> {
        let first = all.next()?;
        Some(all.fold(first, |sum, more| sum.plus(&more)))
    }

    fn plus(self, other: &Self) -> Self {
        let add = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(a, b)| a.wrapping_add(*b)).collect();
        let mut moments: Vec<_> = self.rows.iter().chain(&other.rows).map(|(at_ms, _)| *at_ms).collect();
        moments.sort_unstable();
        moments.dedup();
        let row = |at_ms: u64| (at_ms, add(self.at(at_ms), other.at(at_ms)));
        let rows = moments.into_iter().map(row).collect();
        Self { rows, now: add(&self.now, &other.now), ..self }
    }

    /// All counts at a moment.
    fn at(&self, moment: u64) -> &[u64] {
        let after = self.rows.partition_point(|(at_ms, _)| *at_ms <= moment);
        match after.checked_sub(1).or((!self.rows.is_empty()).then_some(0)) {
            Some(row) => &self.rows[row].1,
            None => &self.now,
        }
    }

    /// What is counted.
    pub fn counts(&self) -> &'static [Count] {
        self.kind.counts()
    }

    /// What a count has come to; 0 if it is not counted.
    pub fn get(&self, count: Count) -> u64 {
        self.kind.place(count).map_or(0, |at| self.now[at])
    }

    /// The change per second over the last interval of the sampler; 0 while nothing moves.
    pub fn rate(&self, count: Count) -> f64 {
        let [.., before, last] = self.rows.as_slice() else { return 0.0 };
        let Some(at) = self.kind.place(count) else { return 0.0 };
        rate_between(before, last, at, self.now_ms, self.interval_ms)
    }

    /// Moments (milliseconds since 1970) and what the count was then, the newest first. Where nothing was noted it was
    /// what it had been; before the first note, what it was then.
    pub fn samples(&self, count: Count, window: Window) -> Vec<(u64, u64)> {
        let Some(at) = self.kind.place(count) else { return Vec::new() };
        let step_ms = window.step_ms.max(1);
        let newest = match self.rows.last() {
            // The sampler's own moments, while it notes.
            Some((last_ms, _)) if self.now_ms.saturating_sub(*last_ms) <= 2 * self.interval_ms => *last_ms,
            _ => self.now_ms - self.now_ms % self.interval_ms,
        };
        // Rows that are farther apart are at the round moments.
        let newest = if step_ms > self.interval_ms { newest - newest % step_ms } else { newest };
        let count = (window.age_ms / step_ms).min(SAMPLES_MAX);
        let moments = (0..=count).map_while(|back| newest.checked_sub(back * step_ms));
        moments.map(|moment| (moment, self.at(moment)[at])).collect()
    }
}
