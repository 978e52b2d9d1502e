//! Exchanges whose bindings are all alike, of which each message takes one: by its key's hash, or by chance.

use super::BindingSlot;
use super::hash::StableHash;
use super::targets::Target;

/// Bindings in the order of their slots, which a restart does not change.
#[derive(Debug)]
pub(super) struct Lots<Q> {
    bindings: Vec<(BindingSlot, Target<Q>)>,
}

impl<Q> Default for Lots<Q> {
    fn default() -> Self {
        Self { bindings: Vec::new() }
    }
}

impl<Q> Lots<Q> {
    pub(super) fn add(&mut self, slot: &BindingSlot, target: Target<Q>) {
        if let Err(at) = self.bindings.binary_search_by(|(there, _)| there.cmp(slot)) {
            self.bindings.insert(at, (slot.clone(), target));
        }
    }

    pub(super) fn remove(&mut self, slot: &BindingSlot) {
        if let Ok(at) = self.bindings.binary_search_by(|(there, _)| there.cmp(slot)) {
            self.bindings.remove(at);
        }
    }

    /// The key's hash modulo the number of bindings.
    pub(super) fn by_key(&self, key: &[u8]) -> Option<&Target<Q>> {
        let mut hash = StableHash::new();
        hash.push(key);
        let at = hash.finish().checked_rem(self.bindings.len() as u64)?;
        self.bindings.get(at as usize).map(|(_, target)| target)
    }

    /// Any one, each as likely.
    pub(super) fn by_chance(&self) -> Option<&Target<Q>> {
        let at = match self.bindings.len() {
            0 => return None,
            1 => 0,
            len => rand::random_range(0..len),
        };
        self.bindings.get(at).map(|(_, target)| target)
    }
}
