//! Messages that a rule has in hand.

use super::ledger::Record;
use crate::action::{PublishStep, Step};
use crate::plan::{Place, Progress, Todo};
use millpond_broker::{Delivery, DeliveryId, ValueChange};
use std::collections::VecDeque;
use std::sync::Arc;

/// A message that the rule has in hand.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: DeliveryId,
    pub(crate) delivery: Delivery,
    /// The action on the outside whose turn it is.
    pub(crate) now: Option<Now>,
    /// What is known of what is to be done behind it.
    pub(crate) todo: VecDeque<Todo>,
    /// Where to go on behind that.
    pub(crate) progress: Progress,
    /// What is published at the end.
    pub(crate) publishes: Vec<(PublishStep, Place)>,
    /// What the ledger knows of it.
    pub(crate) record: Record,
    /// The last action done, if the ledger does not know of it.
    pub(crate) unrecorded: Option<ValueChange>,
    /// Attempts that failed.
    pub(crate) attempts: u32,
    /// Messages of the same key follow one another.
    pub(crate) order: Option<Box<str>>,
    /// Whether the session's inbox has been told that it is gone: it waits for long.
    pub(crate) released: bool,
}

/// An action on the outside.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) step: Arc<Step>,
    pub(crate) place: Place,
}

impl Held {
    /// What it holds of the session's inbox.
    pub(crate) fn held_bytes(&self) -> usize {
        if self.released { 0 } else { self.delivery.message.size_bytes() }
    }
}
