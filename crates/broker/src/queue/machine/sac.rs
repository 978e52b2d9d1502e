//! Single active consumer (contract A5): all but one consumer stand by.
//!
//! The active one stays until it goes; then the longest waiting of the highest priority follows. On a queue with
//! takeover (quorum), one of a higher priority is preferred at once: the active one gets nothing more and hands over
//! when what it holds has come back.

use super::ConsumerKey;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug)]
pub(super) struct SingleActive {
    takeover: bool,
    /// Best first; the active one too. Keys ascend in the order of arrival.
    order: BTreeSet<(Reverse<i64>, ConsumerKey)>,
    active: Option<(i64, ConsumerKey)>,
}

/// What is to be done with a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It gets messages.
    Activate(ConsumerKey),
    /// It gets none any more until it holds none, and then stands by.
    Drain(ConsumerKey),
}

impl SingleActive {
    pub(super) fn new(takeover: bool) -> Self {
        Self { takeover, order: BTreeSet::new(), active: None }
    }

    pub(super) fn active(&self) -> Option<ConsumerKey> {
        self.active.map(|(_, key)| key)
    }

    pub(super) fn add(&mut self, priority: i64, key: ConsumerKey) -> Option<Change> {
        self.order.insert((Reverse(priority), key));
        self.change()
    }

    pub(super) fn remove(&mut self, priority: i64, key: ConsumerKey) -> Option<Change> {
        self.order.remove(&(Reverse(priority), key));
        self.active.take_if(|(_, active)| *active == key);
        self.change()
    }

    /// The one that drains holds nothing any more.
    pub(super) fn drained(&mut self) -> Option<Change> {
        self.active = None;
        self.change()
    }

    fn change(&mut self) -> Option<Change> {
        let (Reverse(priority), best) = *self.order.first()?;
        match self.active {
            None => {
                self.active = Some((priority, best));
                Some(Change::Activate(best))
            }
            Some((of_active, active)) if self.takeover && priority > of_active => Some(Change::Drain(active)),
            // The one that it was to hand over to may have gone.
            Some((_, active)) => Some(Change::Activate(active)),
        }
    }
}
