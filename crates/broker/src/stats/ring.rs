//! The last so many rows of counts, each of a moment.

use super::figures::Row;
use std::collections::VecDeque;

/// See the module. A moment without a row is as the one before it.
#[derive(Debug)]
pub(super) struct Ring {
    rows: VecDeque<(u64, Row)>,
    rows_max: usize,
}

impl Ring {
    pub(super) fn new(rows_max: usize) -> Self {
        Self { rows: VecDeque::new(), rows_max }
    }

    /// Adds a row; one of the same moment, or of a later one, gives way to it.
    pub(super) fn push(&mut self, at_ms: u64, row: &[u64]) {
        while self.rows.back().is_some_and(|(last_ms, _)| *last_ms >= at_ms) {
            self.rows.pop_back();
        }
        let mut kept = match self.rows.len() >= self.rows_max {
            true => self.rows.pop_front().map(|(_, row)| row).unwrap_or_default(),
            false => Row::default(),
        };
        match kept.len() == row.len() {
            true => kept.copy_from_slice(row),
            false => kept = row.into(),
        }
        self.rows.push_back((at_ms, kept));
    }

    /// When the last row was added.
    pub(super) fn last_ms(&self) -> Option<u64> {
        self.rows.back().map(|(at_ms, _)| *at_ms)
    }

    /// How many rows it keeps.
    pub(super) fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Oldest first.
    pub(super) fn rows(&self) -> Vec<(u64, Row)> {
        self.rows.iter().cloned().collect()
    }

    /// The change per second between the last two rows; 0 if they are old.
    pub(super) fn rate(&self, at: usize, now_ms: u64, interval_ms: u64) -> f64 {
        let mut latest = self.rows.iter().rev();
        let (Some(last), Some(before)) = (latest.next(), latest.next()) else { return 0.0 };
        rate_between(before, last, at, now_ms, interval_ms)
    }
}

/// The change per second of one of the counts of a row, 0 if nothing was noted for two intervals.
pub(super) fn rate_between(
    before: &(u64, Row),
    last: &(u64, Row),
    at: usize,
    now_ms: u64,
    interval_ms: u64,
) -> f64 {
    let passed_ms = last.0.saturating_sub(before.0);
    if passed_ms == 0 || now_ms.saturating_sub(last.0) > 2 * interval_ms {
        return 0.0;
    }
    // Levels fall too.
    let change = last.1[at].wrapping_sub(before.1[at]) as i64;
    change as f64 * 1000.0 / passed_ms as f64
}
