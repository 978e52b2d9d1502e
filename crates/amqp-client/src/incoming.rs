//! Frames become events and answers.

use crate::connection::ChannelId;
use crate::error::ClientError;
use crate::event::{Confirm, Delivery, Event, Got, Returned};
use bytes::{Bytes, BytesMut};
use millpond_amqp_codec::{ContentHeader, Method, basic};

/// An answer to a call.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nothing but its name.
    Plain(&'static str),
    QueueDeclared {
        queue: String,
        messages: u32,
        consumers: u32,
    },
    Count(&'static str, u32),
    ConsumerTag(&'static str, String),
    Got(Box<Got>),
    GetEmpty,
}

impl Reply {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Plain(name) | Self::Count(name, _) | Self::ConsumerTag(name, _) => name,
            Self::QueueDeclared { .. } => "queue.declare-ok",
            Self::Got(_) => "basic.get-ok",
            Self::GetEmpty => "basic.get-empty",
        }
    }
}

/// What a method is to the holder.
pub(crate) enum Incoming {
    Event(Event),
    Reply(Reply),
    /// Content follows.
    Partial(Partial),
    /// channel.close.
    ChannelClose {
        code: u16,
        text: String,
    },
    /// connection.close.
    Close {
        code: u16,
        text: String,
    },
    /// channel.flow: to be answered.
    Flow(bool),
    /// basic.cancel, which may want an answer.
    Cancel {
        consumer_tag: String,
        no_wait: bool,
    },
}

/// A message whose frames are not all there.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) head: Head,
    /// Of the body; `None`: the header has not come.
    size_bytes: Option<u64>,
    message: Delivery,
    pieces: BytesMut,
}

#[derive(Debug)]
pub(crate) enum Head {
    Deliver,
    GetOk { left: u32 },
    Return { code: u16, text: String },
}

/// A message that is all there.
pub(crate) enum Whole {
    Event(Event),
    Reply(Reply),
}

impl Partial {
    fn new(head: Head, channel: u16, exchange: Bytes, routing_key: Bytes) -> Self {
        let message = Delivery {
            channel: ChannelId(channel),
            consumer_tag: Bytes::new(),
            delivery_tag: 0,
            redelivered: false,
            exchange,
            routing_key,
            properties: Bytes::new(),
            body: Bytes::new(),
        };
        Self { head, size_bytes: None, message, pieces: BytesMut::new() }
    }

    /// Takes the header; whether the message is whole.
    pub(crate) fn header(
        &mut self,
        block: &Bytes,
        payload: &[u8],
        limit_bytes: u64,
    ) -> Result<bool, ClientError> {
        let header = ContentHeader::decode(payload)?;
        let size_bytes = header.body_size_bytes;
        if self.size_bytes.is_some() {
            let channel = self.message.channel.number();
            return Err(ClientError::Unexpected { what: "a second content header", channel });
        }
        if size_bytes > limit_bytes {
            return Err(ClientError::MessageTooLarge { size_bytes, limit_bytes });
        }
        self.message.properties = block.slice_ref(header.properties.as_bytes());
        self.size_bytes = Some(size_bytes);
        Ok(size_bytes == 0)
    }

    /// Takes a piece of the body; whether the message is whole.
    pub(crate) fn body(&mut self, block: &Bytes, payload: &[u8]) -> Result<bool, ClientError> {
        let channel = self.message.channel.number();
        let unexpected = |what| ClientError::Unexpected { what, channel };
        let Some(size_bytes) = self.size_bytes else {
            return Err(unexpected("a body without its header"));
        };
        let have = self.pieces.len() as u64 + payload.len() as u64;
        if have > size_bytes {
            return Err(unexpected("more of a body than its header says"));
        }
        if self.pieces.is_empty() && have == size_bytes {
            self.message.body = block.slice_ref(payload);
            return Ok(true);
        }
        self.pieces.extend_from_slice(payload);
        if have == size_bytes {
            self.message.body = std::mem::take(&mut self.pieces).freeze();
        }
        Ok(have == size_bytes)
    }

    pub(crate) fn finish(self) -> Whole {
        let message = self.message;
        match self.head {
            Head::Deliver => Whole::Event(Event::Delivery(message)),
            Head::GetOk { left } => Whole::Reply(Reply::Got(Box::new(Got { delivery: message, left }))),
            Head::Return { code, text } => Whole::Event(Event::Returned(Returned {
                channel: message.channel,
                code,
                text,
                exchange: message.exchange,
                routing_key: message.routing_key,
                properties: message.properties,
                body: message.body,
            })),
        }
    }
}

fn deliver(block: &Bytes, channel: u16, m: &basic::Deliver<'_>) -> Incoming {
    let mut partial =
        Partial::new(Head::Deliver, channel, block.slice_ref(m.exchange), block.slice_ref(m.routing_key));
    partial.message.consumer_tag = block.slice_ref(m.consumer_tag.as_bytes());
    partial.message.delivery_tag = m.delivery_tag;
    partial.message.redelivered = m.redelivered;
    Incoming::Partial(partial)
}

/// Reads a method frame of the server.
pub(crate) fn method(block: &Bytes, channel: u16, payload: &[u8]) -> Result<Incoming, ClientError> {
    let confirm = |tag, multiple, is_ack| {
        Incoming::Event(Event::Confirm(Confirm { channel: ChannelId(channel), tag, multiple, is_ack }))
    };
    Ok(match Method::decode(payload)? {
        Method::BasicDeliver(m) => deliver(block, channel, &m),
        Method::BasicAck(m) => confirm(m.delivery_tag, m.multiple, true),
        Method::BasicNack(m) => confirm(m.delivery_tag, m.multiple, false),
        Method::BasicGetOk(m) => {
            let head = Head::GetOk { left: m.message_count };
            let mut partial =
                Partial::new(head, channel, block.slice_ref(m.exchange), block.slice_ref(m.routing_key));
            partial.message.delivery_tag = m.delivery_tag;
            partial.message.redelivered = m.redelivered;
            Incoming::Partial(partial)
        }
        Method::BasicReturn(m) => {
            let head = Head::Return { code: m.reply_code, text: m.reply_text.to_owned() };
            Incoming::Partial(Partial::new(
                head,
                channel,
                block.slice_ref(m.exchange),
                block.slice_ref(m.routing_key),
            ))
        }
        Method::BasicCancel(m) => {
            Incoming::Cancel { consumer_tag: m.consumer_tag.to_owned(), no_wait: m.no_wait }
        }
        Method::ChannelClose(m) => {
            Incoming::ChannelClose { code: m.reply_code, text: m.reply_text.to_owned() }
        }
        Method::ConnectionClose(m) => Incoming::Close { code: m.reply_code, text: m.reply_text.to_owned() },
        Method::ChannelFlow(m) => Incoming::Flow(m.active),
        Method::ConnectionBlocked(m) => Incoming::Event(Event::Blocked { reason: m.reason.to_owned() }),
        Method::ConnectionUnblocked(_) => Incoming::Event(Event::Unblocked),
        Method::BasicGetEmpty(_) => Incoming::Reply(Reply::GetEmpty),
        Method::BasicConsumeOk(m) => {
            Incoming::Reply(Reply::ConsumerTag("basic.consume-ok", m.consumer_tag.to_owned()))
        }
        Method::BasicCancelOk(m) => {
            Incoming::Reply(Reply::ConsumerTag("basic.cancel-ok", m.consumer_tag.to_owned()))
        }
        Method::QueueDeclareOk(m) => Incoming::Reply(Reply::QueueDeclared {
            queue: m.queue.to_owned(),
            messages: m.message_count,
            consumers: m.consumer_count,
        }),
        Method::QueuePurgeOk(m) => Incoming::Reply(Reply::Count("queue.purge-ok", m.message_count)),
        Method::QueueDeleteOk(m) => Incoming::Reply(Reply::Count("queue.delete-ok", m.message_count)),
        other if other.name().ends_with("-ok") => Incoming::Reply(Reply::Plain(other.name())),
        other => return Err(ClientError::Unexpected { what: other.name(), channel }),
    })
}
