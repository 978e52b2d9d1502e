//! What `x-recent-history` exchanges remember: the last messages each, for queues that are bound later.
//!
//! In memory only, as in RabbitMQ: after a restart a history begins anew.

use bytes::Bytes;
use hashbrown::HashMap;
use millpond_model::properties::RawProperties;
use millpond_model::table::RawValue;
use millpond_model::{ExchangeName, Message};
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::sync::Arc;

/// Header of a message that is to be passed on and not kept.
const NO_STORE: &str = "x-recent-history-no-store";

/// The last messages of one exchange.
#[derive(Debug)]
pub(crate) struct History {
    length: usize,
    /// Oldest first.
    messages: Mutex<VecDeque<Message>>,
}

impl History {
    /// Keeps a message, unless its header says no; the oldest makes room.
    pub(crate) fn remember(&self, message: &Message) {
        let headers = RawProperties::from_checked(message.properties()).headers();
        if headers.is_some_and(|headers| headers.get(NO_STORE) == Some(RawValue::Bool(true))) {
            return;
        }
        // A copy of its own: the message's bytes are a slice of its read buffer, which it would keep whole.
        let record = Bytes::copy_from_slice(message.record());
        let message = Message::from_record(record).unwrap_or_else(|_| message.clone());
        let mut messages = self.messages.lock();
        while messages.len() >= self.length {
            messages.pop_front();
        }
        messages.push_back(message);
    }

    /// What is kept, oldest first, as if it had come at `now_ms`: a queue's times to live begin when it gets them.
    pub(crate) fn messages(&self, now_ms: u64) -> Vec<Message> {
        let messages = self.messages.lock();
        let come_now = messages.iter().map(|it| {
            let persistent = it.is_persistent();
            Message::published_at(
                now_ms,
                it.exchange(),
                it.routing_key(),
                it.properties(),
                persistent,
                it.body(),
            )
        });
        come_now.collect()
    }
}

/// The histories of a vhost. An exchange has one from its first message on.
#[derive(Debug, Default)]
pub(crate) struct Histories(RwLock<HashMap<ExchangeName, Arc<History>>>);

impl Histories {
    /// The history of an exchange, if it has one.
    pub(crate) fn get(&self, exchange: &str) -> Option<Arc<History>> {
        self.0.read().get(exchange).cloned()
    }

    /// The history of an exchange that keeps `length` messages. The caller holds the topology, so that none is made
    /// for an exchange that goes.
    pub(crate) fn get_or_begin(&self, exchange: &ExchangeName, length: usize) -> Arc<History> {
        if let Some(history) = self.get(exchange.as_str()) {
            return history;
        }
        let begin = || Arc::new(History { length, messages: Mutex::default() });
        self.0.write().entry(exchange.clone()).or_insert_with(begin).clone()
    }

    /// The exchange goes.
    pub(crate) fn forget(&self, exchange: &str) {
        self.0.write().remove(exchange);
    }
}
