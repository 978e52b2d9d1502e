//! Messages that wait for another attempt.

use super::Held;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Ordered by when they are due. Their number is bounded by what a rule may have in hand.
#[derive(Debug, Default)]
pub(super) struct Retries {
    waiting: BTreeMap<(Instant, u64), Held>,
    next: u64,
}

impl Retries {
    pub(super) fn put(&mut self, due: Instant, held: Held) {
        self.next += 1;
        self.waiting.insert((due, self.next), held);
    }

    /// When the first is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes those that are due.
    pub(super) fn take_due(&mut self) -> Vec<Held> {
        let now = Instant::now();
        let mut due = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }
}
