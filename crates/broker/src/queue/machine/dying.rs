//! Messages that are not to be delivered any more and wait to be taken away: their content may have to be read first.

use super::{Machine, OwnerKey};
use crate::stats::Count;
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

    /// As which it is counted that a message was dead-lettered.
    pub(crate) fn count(self) -> Count {
        match self {
            Self::Rejected => Count::DeadRejected,
            Self::Expired => Count::DeadExpired,
            Self::MaxLength => Count::DeadMaxLength,
            Self::DeliveryLimit => Count::DeadDeliveryLimit,
        }
    }
}

/// Nothing, as nearly always, is one pointer.
#[derive(Debug, Default)]
pub(super) struct Dying(Option<Box<Lists>>);

/// In the order in which they died.
#[derive(Debug, Default)]
struct Lists {
    list: VecDeque<(Range<u64>, Reason)>,
    /// Those that have nowhere to go now.
    parked: Vec<(Range<u64>, Reason)>,
    count: u64,
}

impl Dying {
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |lists| lists.count)
    }

    pub(super) fn push(&mut self, seqs: Range<u64>, reason: Reason) {
        if seqs.is_empty() {
            return;
        }
        let lists = self.0.get_or_insert_default();
        lists.count += seqs.end - seqs.start;
        match lists.list.back_mut() {
            Some((last, why)) if last.end == seqs.start && *why == reason => last.end = seqs.end,
            _ => lists.list.push_back((seqs, reason)),
        }
    }

    pub(super) fn first(&self) -> Option<(Range<u64>, Reason)> {
        self.0.as_ref()?.list.front().cloned()
    }

    /// The first ones up to `to` have been taken away; how many.
    pub(super) fn taken(&mut self, to: u64) -> u64 {
        let Some(lists) = &mut self.0 else { return 0 };
        let Some((first, _)) = lists.list.front_mut() else { return 0 };
        let n = to.min(first.end).saturating_sub(first.start);
        first.start += n;
        if first.is_empty() {
            lists.list.pop_front();
        }
        lists.count -= n;
        if lists.count == 0 {
            self.0 = None;
        }
        n
    }

    /// One that was taken away has nowhere to go: it waits for [`Self::unpark`].
    pub(super) fn park(&mut self, seqs: Range<u64>, reason: Reason) {
        let lists = self.0.get_or_insert_default();
        lists.count += seqs.end - seqs.start;
        match lists.parked.last_mut() {
            Some((last, why)) if last.end == seqs.start && *why == reason => last.end = seqs.end,
            _ => lists.parked.push((seqs, reason)),
        }
    }

    pub(super) fn has_parked(&self) -> bool {
        self.0.as_ref().is_some_and(|lists| !lists.parked.is_empty())
    }

    /// Those that had nowhere to go are tried again.
    pub(super) fn unpark(&mut self) {
        if let Some(lists) = &mut self.0 {
            lists.list.extend(lists.parked.drain(..));
        }
    }
}

impl Machine {
    /// Changes after how many failed deliveries a message dies.
    pub(crate) fn set_delivery_limit(&mut self, limit: Option<u16>) {
        self.delivery_limit = limit;
    }

    /// Those of `seqs` that `owner` holds are dying. How many.
    pub(crate) fn doom(&mut self, owner: OwnerKey, seqs: Range<u64>, reason: Reason) -> u64 {
        let Self { unacked, holders, dying, timed, groups, .. } = self;
        let mut n = 0;
        unacked.take(seqs, |slot, seqs, _| {
            let mine = holders.owner(slot) == Some(owner);
            if mine {
                n += seqs.end - seqs.start;
                holders.returned(slot, seqs.end - seqs.start);
                if let Some(timed) = timed {
                    timed.leases.remove(seqs.clone());
                }
                if let Some(groups) = groups {
                    groups.left(seqs.clone());
                }
                dying.push(seqs, reason);
            }
            mine
        });
        n
    }

    /// The first `n` ready messages, as far as they are in the first piece, are dying. How many.
    pub(crate) fn doom_ready(&mut self, n: u64, reason: Reason) -> u64 {
        let Some(piece) = self.ready.first() else { return 0 };
        let n = n.min(piece.end - piece.start);
        self.ready.take_first(n);
        if let Some(groups) = &mut self.groups {
            groups.removed(piece.start..piece.start + n);
        }
        self.dying.push(piece.start..piece.start + n, reason);
        n
    }

    /// The lowest ready messages from `seq` on, in one piece.
    pub(crate) fn ready_from(&self, seq: u64) -> Option<Range<u64>> {
        self.ready.from(seq).map(|piece| piece.start.max(seq)..piece.end)
    }

    /// Those of `seqs` that are ready are dying.
    pub(crate) fn doom_range(&mut self, seqs: Range<u64>, reason: Reason) {
        for gone in self.ready.remove(seqs) {
            if let Some(groups) = &mut self.groups {
                groups.removed(gone.clone());
            }
            self.dying.push(gone, reason);
        }
    }

    /// New messages that die without ever having been ready.
    pub(crate) fn stillborn(&mut self, seqs: Range<u64>, reason: Reason) {
        self.enqueued += seqs.end - seqs.start;
        self.dying.push(seqs, reason);
    }

    /// Those that died first, alike.
    #[inline]
    pub(crate) fn first_dying(&self) -> Option<(Range<u64>, Reason)> {
        self.dying.first()
    }

    /// The first dying ones, up to `to`, are taken away: they are no matter of this queue any more.
    pub(crate) fn buried(&mut self, to: u64) {
        let start = self.dying.first().map_or(to, |(seqs, _)| seqs.start);
        self.dead += self.dying.taken(to);
        self.ready.forget_weights(start..to);
    }

    /// A message that was taken away has nowhere to go: it stays, dying, until [`Self::retry_parked`].
    pub(crate) fn park(&mut self, seqs: Range<u64>, reason: Reason) {
        self.dead -= seqs.end - seqs.start;
        self.dying.park(seqs, reason);
    }

    /// Whether there are such.
    pub(crate) fn has_parked(&self) -> bool {
        self.dying.has_parked()
    }

    /// They are to be taken away again.
    pub(crate) fn retry_parked(&mut self) {
        self.dying.unpark();
    }
}
