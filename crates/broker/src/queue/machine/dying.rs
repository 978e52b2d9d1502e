//! Messages that are not to be delivered any more and wait to be taken away: their content may have to be read first.

use std::collections::VecDeque;
use std::ops::Range;

/// Why a message is not delivered any more (X1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// A consumer did not want it.
    Rejected,
    /// Its time to live is over.
    Expired,
    /// The queue was too long.
    MaxLength,
    /// Its deliveries failed too often.
    DeliveryLimit,
}

impl Reason {
    /// As `x-death` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// In the order in which they died.
#[derive(Debug, Default)]
pub(super) struct Dying {
    list: VecDeque<(Range<u64>, Reason)>,
    /// Those that have nowhere to go now.
    parked: Vec<(Range<u64>, Reason)>,
    count: u64,
}

impl Dying {
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn push(&mut self, seqs: Range<u64>, reason: Reason) {
        if seqs.is_empty() {
            return;
        }
        self.count += seqs.end - seqs.start;
        match self.list.back_mut() {
            Some((last, why)) if last.end == seqs.start && *why == reason => last.end = seqs.end,
            _ => self.list.push_back((seqs, reason)),
        }
    }

    pub(super) fn first(&self) -> Option<(Range<u64>, Reason)> {
        self.list.front().cloned()
    }

    /// The first ones up to `to` have been taken away; how many.
    pub(super) fn taken(&mut self, to: u64) -> u64 {
        let Some((first, _)) = self.list.front_mut() else { return 0 };
        let n = to.min(first.end).saturating_sub(first.start);
        first.start += n;
        if first.is_empty() {
            self.list.pop_front();
        }
        if self.list.is_empty() && self.list.capacity() > 64 {
            self.list = VecDeque::new();
        }
        self.count -= n;
        n
    }

    /// One that was taken away has nowhere to go: it waits for [`Self::unpark`].
    pub(super) fn park(&mut self, seqs: Range<u64>, reason: Reason) {
        self.count += seqs.end - seqs.start;
        match self.parked.last_mut() {
            Some((last, why)) if last.end == seqs.start && *why == reason => last.end = seqs.end,
            _ => self.parked.push((seqs, reason)),
        }
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Those that had nowhere to go are tried again.
    pub(super) fn unpark(&mut self) {
        self.list.extend(self.parked.drain(..));
    }
}
