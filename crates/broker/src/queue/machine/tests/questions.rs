//! Questions that tests ask the machine.

use crate::queue::machine::{Machine, OwnerKey};

impl Machine {
    /// Whether `owner` holds `seq`.
    pub(crate) fn owns(&self, owner: OwnerKey, seq: u64) -> bool {
        self.unacked.holder(seq).is_some_and(|slot| self.holders.owner(slot) == Some(owner))
    }

    /// When the lease of a message ends.
    pub(crate) fn lease_due_ms(&self, seq: u64) -> Option<u64> {
        self.timed.as_ref()?.leases.due_ms(seq)
    }

    /// Consumers, whether they could take anything or not.
    pub(crate) fn consumer_count(&self) -> usize {
        self.holders.consumer_count()
    }

    /// Nothing ready, nothing unacked, nobody consuming.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.count() + self.waiting_count() + self.unacked.count() == 0 && self.consumer_count() == 0
    }

    /// What breaks the law of conservation or the order of the insides, if anything does.
    pub(crate) fn check_conservation(&self) -> Result<(), String> {
        let (ready, waiting, unacked) = (self.ready.count(), self.waiting_count(), self.unacked.count());
        let (settled, purged, dying, dead) = (self.settled, self.purged, self.dying.count(), self.dead);
        if self.enqueued != ready + waiting + unacked + dying + settled + purged + dead {
            return Err(format!(
                "enqueued {} != ready {ready} + waiting {waiting} + unacked {unacked} + dying {dying} + settled {settled} + \
                 purged {purged} + dead {dead}",
                self.enqueued
            ));
        }
        if let Some(timed) = &self.timed {
            timed.leases.check()?;
            if let Some(seq) = timed.leases.seqs().find(|seq| self.unacked.holder(*seq).is_none()) {
                return Err(format!("{seq} has a lease and no holder"));
            }
        }
        self.check_groups()?;
        let mut sum = 0;
        let mut end = 0;
        for piece in self.ready.pieces() {
            if piece.start < end || piece.start >= piece.end {
                return Err(format!("ready piece {piece:?} after {end}"));
            }
            end = piece.end;
            sum += piece.end - piece.start;
        }
        if sum != ready {
            return Err(format!("ready pieces have {sum}, the count says {ready}"));
        }
        self.holders.check(unacked)
    }
}
