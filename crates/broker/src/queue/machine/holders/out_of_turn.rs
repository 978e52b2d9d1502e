//! What groups ask of the holders: a message that may go to one consumer only does not wait for the round.

use super::{Holder, Holders, Role, Turn};
use crate::queue::machine::OwnerKey;

impl Holders {
    /// Consumers that have credit.
    pub(in super::super) fn rounds(&self) -> impl Iterator<Item = u32> {
        self.levels.iter().flat_map(|level| level.round.iter().copied())
    }

    /// How many have.
    pub(in super::super) fn in_rounds(&self) -> usize {
        self.levels.iter().map(|level| level.round.len()).sum()
    }

    /// Whether the one in that slot has.
    pub(in super::super) fn is_in_round(&self, slot: u32) -> bool {
        matches!(self.slots.get(slot as usize), Some(Some(Holder { role: Role::Consumer(it), .. })) if it.in_round)
    }

    /// The slot under which an owner holds what it got, if it holds any.
    pub(in super::super) fn getter(&self, owner: OwnerKey) -> Option<u32> {
        self.getters.get(&owner).copied()
    }

    /// A turn for the consumer in that slot, which has credit, wherever it is in its round.
    pub(in super::super) fn turn_of(&self, slot: u32, now_ms: u64) -> Option<Turn> {
        let holder = self.slots.get(slot as usize)?.as_ref()?;
        let Role::Consumer(consumer) = &holder.role else { return None };
        let pace = consumer.pace.as_ref().map_or(u64::MAX, |pace| pace.allowance(now_ms));
        let limit = consumer.credit(holder.unacked).min(pace);
        Some(consumer.turn(slot, limit, false))
    }

    /// As `given`, of a consumer that got a turn by [`Self::turn_of`]: it stays where it is in its round.
    pub(in super::super) fn given_out_of_turn(&mut self, slot: u32, n: u64, held: u64, now_ms: u64) {
        let Some(Some(holder)) = self.slots.get_mut(slot as usize) else { return };
        let Role::Consumer(consumer) = &mut holder.role else { return };
        holder.unacked += held;
        let paced_ms = consumer.paced_after(n, now_ms);
        self.paced.extend(paced_ms.map(|at_ms| (at_ms, slot)));
        self.refresh(slot);
    }
}
