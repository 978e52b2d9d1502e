//! A set of destinations, each with the number of bindings that lead there.

use hashbrown::HashMap;
use millpond_model::ExchangeName;
use std::hash::Hash;

/// Where a binding leads, as the matchers know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target<Q> {
    Queue(Q),
    Exchange(ExchangeName),
}

/// Up to this many, looking at each is faster than an index, and smaller.
const SCAN_MAX: usize = 16;

/// No order is kept.
#[derive(Debug)]
pub(super) struct Targets<Q> {
    list: Vec<(Target<Q>, u32)>,
    /// Positions in `list`, once there are more than `SCAN_MAX`.
    index: Option<Box<HashMap<Target<Q>, usize>>>,
}

impl<Q> Default for Targets<Q> {
    fn default() -> Self {
        Self { list: Vec::new(), index: None }
    }
}

impl<Q: Clone + Eq + Hash> Targets<Q> {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Target<Q>> {
        self.list.iter().map(|(target, _)| target)
    }

    pub(super) fn add(&mut self, target: Target<Q>) {
        if let Some(at) = self.position(&target) {
            self.list[at].1 += 1;
            return;
        }
        if let Some(index) = &mut self.index {
            index.insert(target.clone(), self.list.len());
        }
        self.list.push((target, 1));
        if self.index.is_none() && self.list.len() > SCAN_MAX {
            let positions = self.list.iter().enumerate().map(|(at, (target, _))| (target.clone(), at));
            self.index = Some(Box::new(positions.collect()));
        }
    }

    /// Takes away one of the bindings that lead there.
    pub(super) fn remove(&mut self, target: &Target<Q>) {
        let Some(at) = self.position(target) else { return };
        self.list[at].1 -= 1;
        if self.list[at].1 > 0 {
            return;
        }
        self.list.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.remove(target);
            if let Some((moved, _)) = self.list.get(at) {
                index.insert(moved.clone(), at);
            }
        }
        if self.list.len() <= SCAN_MAX / 2 {
            self.index = None;
        }
    }

    fn position(&self, target: &Target<Q>) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(target).copied(),
            None => self.list.iter().position(|(t, _)| t == target),
        }
    }
}
