//! What went wrong last, for those who look.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Failures of a rule or source that are remembered.
const FAILURES_MAX: usize = 10;

/// Longest reason that is remembered. Bytes.
const REASON_MAX_BYTES: usize = 1000;

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When: milliseconds since 1970.
    pub at_ms: u64,
    /// What, without secrets; at most 1000 bytes.
    pub reason: String,
    /// How many attempts had been made; 0: it is none that is counted.
    pub attempts: u32,
    /// The message was given up: it stands in the parking queue.
    pub parked: bool,
}

impl Failure {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({"at_ms": self.at_ms, "reason": self.reason, "attempts": self.attempts, "parked": self.parked})
    }
}

/// The last failures, newest first. Of the same reason again only the time, the attempts and what became of it are new.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<VecDeque<Failure>>);

impl Failures {
    pub(crate) fn add(&self, at_ms: u64, reason: &str, attempts: u32, parked: bool) {
        let reason = reason[..reason.floor_char_boundary(REASON_MAX_BYTES)].to_owned();
        let failure = Failure { at_ms, reason, attempts, parked };
        let mut last = self.0.lock();
        if last.front().is_some_and(|front| front.reason == failure.reason && front.parked == parked) {
            last.pop_front();
        }
        last.truncate(FAILURES_MAX - 1);
        last.push_front(failure);
    }

    /// Newest first.
    pub(crate) fn all(&self) -> Vec<Failure> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_failures_are_remembered_and_one_that_comes_again_is_one() {
        let failures = Failures::default();
        failures.add(1, "first", 1, false);
        failures.add(2, "first", 2, false);
        failures.add(3, "first", 3, true);
        let seen = |failures: &Failures| {
            failures.all().iter().map(|it| (it.at_ms, it.attempts, it.parked)).collect::<Vec<_>>()
        };
        assert_eq!(seen(&failures), [(3, 3, true), (2, 2, false)]);
        for at_ms in 4..100 {
            failures.add(at_ms, &format!("{at_ms}{}", "\u{e9}".repeat(1000)), 1, false);
        }
        let all = failures.all();
        assert_eq!((all.len(), all[0].at_ms), (FAILURES_MAX, 99));
        assert!(all.iter().all(|it| it.reason.len() <= REASON_MAX_BYTES));
    }
}
