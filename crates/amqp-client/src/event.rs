//! What comes from the broker by itself.

use crate::connection::ChannelId;
use bytes::Bytes;

/// Something for the holder of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message for a consumer.
    Delivery(Delivery),
    /// Publishes of a confirming channel are settled.
    Confirm(Confirm),
    /// A mandatory publish reached no queue.
    Returned(Returned),
    /// The broker ended a consumer: its queue went.
    ConsumerCancelled {
        /// Of the consumer.
        channel: ChannelId,
        /// Which.
        consumer_tag: String,
    },
    /// The broker closed a channel; it must not be used any more.
    ChannelClosed {
        /// Which.
        channel: ChannelId,
        /// The reply code.
        code: u16,
        /// The reply text.
        text: String,
    },
    /// The broker takes no publishes for a while (connection.blocked).
    Blocked {
        /// Its words.
        reason: String,
    },
    /// It takes publishes again.
    Unblocked,
}

/// A message handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Where it came.
    pub channel: ChannelId,
    /// For whom.
    pub consumer_tag: Bytes,
    /// To settle it by.
    pub delivery_tag: u64,
    /// Whether it was handed out before.
    pub redelivered: bool,
    /// The exchange it was published to.
    pub exchange: Bytes,
    /// The key it was published with.
    pub routing_key: Bytes,
    /// The encoded property list, see `millpond_model::properties`.
    pub properties: Bytes,
    /// The whole body.
    pub body: Bytes,
}

impl Delivery {
    pub(crate) fn size_bytes(&self) -> usize {
        self.exchange.len() + self.routing_key.len() + self.properties.len() + self.body.len()
    }
}

/// basic.ack or basic.nack for publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// Of the publishes.
    pub channel: ChannelId,
    /// As [`crate::Connection::publish`] gave it out.
    pub tag: u64,
    /// And all unsettled ones before it.
    pub multiple: bool,
    /// Whether the broker took them.
    pub is_ack: bool,
}

/// basic.return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// Where it was published.
    pub channel: ChannelId,
    /// 312.
    pub code: u16,
    /// The reply text.
    pub text: String,
    /// The exchange it was published to.
    pub exchange: Bytes,
    /// The key it was published with.
    pub routing_key: Bytes,
    /// The encoded property list.
    pub properties: Bytes,
    /// The whole body.
    pub body: Bytes,
}

/// What basic.get found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The message; its consumer tag is empty.
    pub delivery: Delivery,
    /// Ready messages left in the queue.
    pub left: u32,
}
