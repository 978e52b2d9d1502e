//! Messages of the same key, one after the other.

use super::Held;
use std::collections::{HashMap, VecDeque};

/// Those that wait for one before them, by key. Their number is bounded by what a rule may have in hand.
#[derive(Debug, Default)]
pub(super) struct Order {
    busy: HashMap<Box<str>, VecDeque<Held>>,
}

impl Order {
    /// Gives a message back that may begin; keeps one that has to wait.
    pub(super) fn enter(&mut self, held: Held) -> Option<Held> {
        let Some(key) = &held.order else { return Some(held) };
        match self.busy.get_mut(key) {
            Some(waiting) => {
                waiting.push_back(held);
                None
            }
            None => {
                self.busy.insert(key.clone(), VecDeque::new());
                Some(held)
            }
        }
    }

    /// A message has come to its end; the next of its key.
    pub(super) fn leave(&mut self, key: Option<&str>) -> Option<Held> {
        let key = key?;
        let next = self.busy.get_mut(key)?.pop_front();
        if next.is_none() {
            self.busy.remove(key);
        }
        next
    }
}
