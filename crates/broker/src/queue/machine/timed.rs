//! What only queues with leases, a pace or delayed retries have.

use super::leases::Leases;
use super::pace::{Pace, Rate};
use super::retry::{Retry, Waiting};
use super::{OwnerKey, Past, Return};
use std::ops::Range;

/// A lease has ended: these messages left their holder and are on their way to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseEnd {
    /// Who held them.
    pub(crate) owner: OwnerKey,
    /// Which.
    pub(crate) seqs: Range<u64>,
}

/// What a queue asks for by its arguments and policies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TimedSettings {
    /// How long a delivery may stay unsettled, where its consumer does not say.
    pub(crate) lease_ms: Option<u64>,
    /// The pace of all deliveries to consumers together.
    pub(crate) rate: Option<Rate>,
    /// What happens to requeued messages.
    pub(crate) retry: Option<Retry>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Timed {
    pub(super) lease_ms: Option<u64>,
    pub(super) leases: Leases,
    pub(super) retry: Option<Retry>,
    pub(super) waiting: Waiting,
    pub(super) pace: Option<Pace>,
}

impl Timed {
    pub(super) fn apply(&mut self, settings: TimedSettings, now_ms: u64) {
        self.lease_ms = settings.lease_ms;
        self.retry = settings.retry;
        match (&mut self.pace, settings.rate) {
            (Some(pace), Some(rate)) if pace.rate() != rate => pace.change(rate, now_ms),
            (Some(_), Some(_)) => {}
            (pace, rate) => *pace = rate.map(|rate| Pace::new(rate, now_ms)),
        }
    }

    /// How many messages the queue's pace lets go now.
    #[inline]
    pub(super) fn allowance(&self, now_ms: u64) -> u64 {
        self.pace.as_ref().map_or(u64::MAX, |pace| pace.allowance(now_ms))
    }

    /// A consumer was given messages; `lease_ms` is what it asked for itself. `held`: not settled at once.
    pub(super) fn given(&mut self, seqs: Range<u64>, held: bool, lease_ms: Option<u64>, now_ms: u64) {
        if let Some(pace) = &mut self.pace {
            pace.take(seqs.end - seqs.start, now_ms);
        }
        if held {
            self.lease(seqs, lease_ms, now_ms);
        }
    }

    /// Somebody holds messages from now on.
    pub(super) fn lease(&mut self, seqs: Range<u64>, lease_ms: Option<u64>, now_ms: u64) {
        if let Some(length_ms) = lease_ms.or(self.lease_ms).filter(|ms| *ms != 0) {
            self.leases.add(seqs, now_ms, length_ms);
        }
    }

    /// Whether messages that come back wait; those that do are kept here.
    pub(super) fn keep(&mut self, seqs: Range<u64>, how: Return, past: Past, now_ms: u64) -> bool {
        if let Return::After(delay_ms) = how {
            seqs.for_each(|seq| self.waiting.add(seq, now_ms.saturating_add(delay_ms), past));
            return true;
        }
        let Some(retry) = self.retry else { return false };
        for seq in seqs {
            let Some(delay_ms) = retry.delay_ms(how, seq, past.handed) else { return false };
            self.waiting.add(seq, now_ms.saturating_add(delay_ms), past);
        }
        true
    }
}
