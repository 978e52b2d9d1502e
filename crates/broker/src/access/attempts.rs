//! Failed logins: who guesses passwords is slowed down.

use hashbrown::HashMap;
use std::net::IpAddr;

/// Failed logins as one user from one address within [`WINDOW_MS`] before further ones are refused unseen.
const FAILED_MAX: u32 = 20;
/// How long failures are remembered, and further attempts refused. Milliseconds.
const WINDOW_MS: u64 = 60_000;
/// Pairs of user and address that are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// By user and address, so that nobody can lock out somebody who comes from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<(IpAddr, Box<str>), Failures>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    since_ms: u64,
}

impl Failures {
    fn is_over(self, now_ms: u64) -> bool {
        now_ms >= self.since_ms.saturating_add(WINDOW_MS)
    }
}

impl Attempts {
    /// `Err`: not now, but in so many milliseconds.
    pub(super) fn check(&self, peer: IpAddr, user: &str, now_ms: u64) -> Result<(), u64> {
        match self.0.get(&(peer, user.into())) {
            Some(failures) if failures.count >= FAILED_MAX && !failures.is_over(now_ms) => {
                Err(failures.since_ms.saturating_add(WINDOW_MS) - now_ms)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn failed(&mut self, peer: IpAddr, user: &str, now_ms: u64) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, failures| !failures.is_over(now_ms));
            if self.0.len() >= REMEMBERED_MAX {
                // So many at once are an attack: those who come now find what the others leave.
                self.0.clear();
            }
        }
        let failures = self.0.entry((peer, user.into())).or_insert(Failures { count: 0, since_ms: now_ms });
        if failures.is_over(now_ms) {
            *failures = Failures { count: 0, since_ms: now_ms };
        }
        failures.count += 1;
    }

    pub(super) fn succeeded(&mut self, peer: IpAddr, user: &str) {
        if !self.0.is_empty() {
            self.0.remove(&(peer, user.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_is_refused_for_a_while_and_nobody_else_is() {
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut attempts = Attempts::default();
        for n in 0..FAILED_MAX {
            assert_eq!(attempts.check(here, "u", 1000 + u64::from(n)), Ok(()));
            attempts.failed(here, "u", 1000);
        }
        assert_eq!(attempts.check(here, "u", 2000), Err(59_000));
        assert_eq!(attempts.check(there, "u", 2000), Ok(()));
        assert_eq!(attempts.check(here, "v", 2000), Ok(()));
        assert_eq!(attempts.check(here, "u", 61_000), Ok(()));
        attempts.failed(here, "u", 61_000);
        assert_eq!(attempts.check(here, "u", 61_001), Ok(()));
        attempts.succeeded(here, "u");
        assert!(attempts.0.is_empty());
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut attempts = Attempts::default();
        for n in 0..2 * REMEMBERED_MAX {
            attempts.failed(IpAddr::from([10, 0, 0, 1]), &n.to_string(), n as u64);
        }
        assert!(attempts.0.len() <= REMEMBERED_MAX);
    }
}
