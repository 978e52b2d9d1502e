//! Back-off: what is requeued waits before it is ready again, aside, so that nobody waits behind it.

use super::{Past, Return};
use std::collections::BTreeMap;
use std::ops::Range;

/// Which returns wait (RabbitMQ 4.3's `x-delayed-retry-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryOn {
    All,
    /// Only those that count as a failed delivery.
    Failed,
    /// Only those that do not.
    Returned,
}

/// How the delay grows with the number of returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backoff {
    /// min, min, min...
    Fixed,
    /// min, 2 min, 3 min... (RabbitMQ's)
    Linear,
    /// min, 2 min, 4 min...
    Exponential,
}

/// A queue's rule for retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) on: RetryOn,
    pub(crate) backoff: Backoff,
    pub(crate) min_ms: u64,
    pub(crate) max_ms: u64,
    /// A delay is shortened by up to so many percent of it, each message by its own part.
    pub(crate) jitter_percent: u8,
}

impl Retry {
    /// How long a message waits that returns for the `count`th time (from 1); `None`: it does not.
    pub(super) fn delay_ms(&self, why: Return, seq: u64, count: u16) -> Option<u64> {
        let applies = match (why, self.on) {
            // Who gave it back said how long.
            (Return::Untouched | Return::After(_), _) => false,
            (_, RetryOn::All) => true,
            (Return::Failed, on) => on == RetryOn::Failed,
            (Return::Given, on) => on == RetryOn::Returned,
        };
        if !applies || self.min_ms == 0 {
            return None;
        }
        let count = u64::from(count.max(1));
        let whole = match self.backoff {
            Backoff::Fixed => self.min_ms,
            Backoff::Linear => self.min_ms.saturating_mul(count),
            Backoff::Exponential => self.min_ms.saturating_mul(1 << (count - 1).min(62)),
        };
        let whole = whole.min(self.max_ms.max(self.min_ms));
        let part = whole / 100 * u64::from(self.jitter_percent.min(100));
        Some(whole - if part == 0 { 0 } else { scattered(seq, count) % (part + 1) })
    }
}

/// The machine is pure: chance comes from the message's number (the mixing steps of splitmix64).
fn scattered(seq: u64, count: u64) -> u64 {
    let mut x = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(count);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Messages that wait out their delay, by the end of it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// (due, sequence number) to what it went through.
    by_due: BTreeMap<(u64, u64), Past>,
}

impl Waiting {
    pub(super) fn count(&self) -> u64 {
        self.by_due.len() as u64
    }

    pub(super) fn add(&mut self, seq: u64, due_ms: u64, past: Past) {
        self.by_due.insert((due_ms, seq), past);
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.by_due.first_key_value().map(|((due_ms, _), _)| *due_ms)
    }

    /// The next one whose delay has ended: its number and past.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<(u64, Past)> {
        let first = self.by_due.first_entry().filter(|first| first.key().0 <= now_ms)?;
        let ((_, seq), past) = first.remove_entry();
        Some((seq, past))
    }

    /// Takes those of `seqs`, wherever they are in time: to be used rarely.
    pub(super) fn remove(&mut self, seqs: &Range<u64>) -> Vec<u64> {
        let mut gone = Vec::new();
        self.by_due.retain(|(_, seq), _| {
            let there = seqs.contains(seq);
            if there {
                gone.push(*seq);
            }
            !there
        });
        gone
    }
}
