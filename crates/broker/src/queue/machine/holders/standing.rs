//! What the watchdog asks of consumers.

use super::{Holders, Role, block};
use crate::queue::machine::{ConsumerKey, Terms};

impl Holders {
    /// See [`crate::queue::machine::Machine::able_count`].
    pub(in crate::queue::machine) fn able_count(&self) -> u64 {
        self.levels.iter().map(|level| level.round.len() as u64).sum()
    }

    /// The consumer of a slot, if it is there.
    pub(in crate::queue::machine) fn consumer(&self, slot: u32) -> Option<ConsumerKey> {
        match &self.slots.get(slot as usize)?.as_ref()?.role {
            Role::Consumer(consumer) => Some(consumer.key),
            Role::Getter | Role::Former => None,
        }
    }

    /// What a consumer asked for.
    pub(in crate::queue::machine) fn terms(&self, key: ConsumerKey) -> Option<Terms> {
        let holder = self.consumers.get(&key).and_then(|slot| self.slots[*slot as usize].as_ref())?;
        match &holder.role {
            Role::Consumer(consumer) => Some(consumer.terms),
            Role::Getter | Role::Former => None,
        }
    }

    /// See [`crate::queue::machine::Machine::is_closed`].
    pub(in crate::queue::machine) fn is_closed(&self, key: ConsumerKey) -> bool {
        let holder = self.consumers.get(&key).and_then(|slot| self.slots[*slot as usize].as_ref());
        let role = holder.map(|holder| &holder.role);
        matches!(role, Some(Role::Consumer(consumer)) if consumer.blocks & block::CLOSED != 0)
    }

    /// See [`crate::queue::machine::Machine::lacks_active`].
    pub(in crate::queue::machine) fn lacks_active(&self) -> bool {
        let single = self.single.as_ref();
        single.is_some_and(|single| single.active().is_none()) && !self.consumers.is_empty()
    }
}
