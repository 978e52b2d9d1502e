//! What the broker tells a session.

use crate::request::QueueRef;
use millpond_model::{Message, QueueName};
use millpond_store::CommitError;
use std::ops::Range;
use std::sync::Arc;

/// A message handed out.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Sequence number in its queue.
    pub seq: u64,
    /// Whether it was handed out before.
    pub redelivered: bool,
    /// The message.
    pub message: Message,
}

/// Messages for one consumer, in order.
#[derive(Debug)]
pub struct Deliveries {
    /// The consumer's cookie (`ConsumeRequest::cookie`).
    pub cookie: u64,
    /// The queue, for settling.
    pub queue: QueueRef,
    /// At least one.
    pub items: Vec<Delivery>,
}

/// Something for a session.
#[derive(Debug)]
pub enum SessionEvent {
    /// Messages for a consumer.
    Deliveries(Deliveries),
    /// The broker ended a consumer (its queue went).
    ConsumerCancelled {
        /// The consumer's cookie.
        cookie: u64,
        /// The queue it had.
        queue: QueueName,
    },
    /// Deliveries that this session has not settled in time went back to their queue. Settling them is of no effect
    /// any more; some may come again, as new deliveries.
    LeasesEnded {
        /// The queue, as deliveries name it.
        queue: QueueRef,
        /// Their sequence numbers there.
        seqs: Vec<Range<u64>>,
    },
    /// A reply to a direct reply-to request of this session.
    Reply {
        /// The cookie given to `Session::open_reply_inbox`.
        cookie: u64,
        /// The reply.
        message: Message,
    },
    /// A commit has come to its end.
    Committed {
        /// From `Durability::Pending`.
        token: u64,
        /// Durable, or why not.
        result: Result<(), CommitError>,
    },
    /// The process is about to go down: settle what you hold, take nothing new. Only to sessions of clients.
    Drain,
    /// The process is going down: close the connection (320).
    Shutdown,
    /// The broker wants this session to end (320); why, for the client.
    Closed {
        /// `vhost 'orders' is deleted`
        reason: Arc<str>,
    },
}
