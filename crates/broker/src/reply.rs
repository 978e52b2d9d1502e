//! Direct reply-to (contract A14): replies go straight from a publisher to the requester's inbox, past every queue.

use crate::session::inbox::Inbox;
use hashbrown::HashMap;
use millpond_model::QueueName;
use parking_lot::RwLock;
use std::sync::Arc;

/// What a requester consumes from, and what it writes into reply_to.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// What it is rewritten to begins so.
pub(crate) const REPLY_TO_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Where a reply goes.
#[derive(Debug, Clone)]
pub(crate) struct ReplyBox {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) cookie: u64,
}

/// The open reply inboxes of a vhost, by name.
#[derive(Debug, Default)]
pub(crate) struct ReplyBoxes(RwLock<HashMap<QueueName, ReplyBox>>);

impl ReplyBoxes {
    /// Opens one under a name that cannot be guessed.
    pub(crate) fn open(&self, inbox: Arc<Inbox>, cookie: u64) -> QueueName {
        let opaque: u128 = rand::random();
        let name = QueueName::new(&format!("{REPLY_TO_PREFIX}{opaque:032x}")).expect("54 bytes are a name");
        self.0.write().insert(name.clone(), ReplyBox { inbox, cookie });
        name
    }

    /// Closes one.
    pub(crate) fn close(&self, name: &QueueName) {
        self.0.write().remove(name);
    }

    /// Finds one.
    pub(crate) fn get(&self, name: &str) -> Option<ReplyBox> {
        self.0.read().get(name).cloned()
    }
}
