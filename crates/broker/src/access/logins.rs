//! How often somebody tried to log in: by front end, and by who came from where, as RabbitMQ's `/api/auth/attempts`.

use crate::FrontEnd;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Sources that are told apart; of those beyond nothing is counted but the sums.
const SOURCES_MAX: usize = 10_000;

/// Attempts since the start, or since they were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoginCount {
    /// Those that let somebody in.
    pub succeeded: u64,
    /// Those that were refused.
    pub failed: u64,
}

impl LoginCount {
    fn add(&mut self, is_right: bool) {
        match is_right {
            true => self.succeeded += 1,
            false => self.failed += 1,
        }
    }
}

/// Attempts of one user from one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginSource {
    /// Through which door.
    pub front_end: FrontEnd,
    /// From where.
    pub peer: Option<IpAddr>,
    /// As claimed.
    pub user: Box<str>,
    /// How many.
    pub count: LoginCount,
}

type Source = (FrontEnd, Option<IpAddr>, Box<str>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LoginCounts {
    all: BTreeMap<FrontEnd, LoginCount>,
    sources: HashMap<Source, LoginCount>,
}

impl LoginCounts {
    pub(crate) fn add(&mut self, front_end: FrontEnd, peer: Option<IpAddr>, user: &str, is_right: bool) {
        self.all.entry(front_end).or_default().add(is_right);
        let source = (front_end, peer, user.into());
        if self.sources.len() < SOURCES_MAX || self.sources.contains_key(&source) {
            self.sources.entry(source).or_default().add(is_right);
        }
    }

    pub(crate) fn all(&self) -> Vec<(FrontEnd, LoginCount)> {
        self.all.iter().map(|(front_end, count)| (*front_end, *count)).collect()
    }

    pub(crate) fn sources(&self) -> Vec<LoginSource> {
        let mut all: Vec<_> = (self.sources.iter())
            .map(|((front_end, peer, user), count)| LoginSource {
                front_end: *front_end,
                peer: *peer,
                user: user.clone(),
                count: *count,
            })
            .collect();
        all.sort_by(|a, b| (a.front_end, a.peer, &a.user).cmp(&(b.front_end, b.peer, &b.user)));
        all
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn forget_sources(&mut self) {
        self.sources = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_a_limit_and_sums_have_none() {
        let mut counts = LoginCounts::default();
        for n in 0..2 * SOURCES_MAX {
            counts.add(FrontEnd::Amqp, None, &n.to_string(), n == 0);
        }
        let failed = 2 * SOURCES_MAX as u64 - 1;
        assert_eq!(counts.all(), [(FrontEnd::Amqp, LoginCount { succeeded: 1, failed })]);
        assert_eq!(counts.sources().len(), SOURCES_MAX);
        counts.forget_sources();
        assert_eq!((counts.all().len(), counts.sources().len()), (1, 0));
    }
}
