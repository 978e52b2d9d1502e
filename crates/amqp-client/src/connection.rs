//! An open connection: what is sent, what comes, and that it lives.

use crate::error::{ClientError, ConnectError};
use crate::event::Event;
use crate::incoming::{self, Incoming, Partial, Reply, Whole};
use crate::options::{ClientOptions, Limits};
use crate::uri::Uri;
use crate::wire::Wire;
use bytes::Bytes;
use millpond_amqp_codec::{
    Frame, FrameKind, FrameReader, HEARTBEAT, Method, basic, channel, connection, encode_ack, encode_content,
};
use millpond_model::limits::SHORT_STRING_MAX_BYTES;
use millpond_model::properties;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Deliveries that are kept for a holder who does not take them: beyond, nothing is read while something is flushed,
/// and a call that waits for its answer fails. Bytes.
pub const EVENTS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What an event counts beside its bytes.
const EVENT_BYTES: usize = 128;

/// How long closing in peace may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel of a connection, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(crate) u16);

impl ChannelId {
    /// As on the wire.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message to be published.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Empty: the default exchange.
    pub exchange: &'a [u8],
    /// For the default exchange, the queue.
    pub routing_key: &'a [u8],
    /// Comes back as [`Event::Returned`] when it reaches no queue.
    pub mandatory: bool,
    /// An encoded property list, see `millpond_model::properties`.
    pub properties: &'a [u8],
    /// Anything.
    pub body: &'a [u8],
}

impl Default for Publish<'_> {
    fn default() -> Self {
        Self { exchange: b"", routing_key: b"", mandatory: false, properties: properties::EMPTY, body: b"" }
    }
}

#[derive(Debug, Default)]
pub(crate) struct ChannelState {
    /// Of the next publish; 0: the channel does not confirm.
    pub(crate) next_tag: u64,
    partial: Option<Partial>,
}

/// A call whose answer has not come.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) channel: u16,
    pub(crate) method: &'static str,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    pub(crate) limits: Limits,
    pub(crate) options: ClientOptions,
    pub(crate) channels: HashMap<u16, ChannelState>,
    events: VecDeque<Event>,
    events_bytes: usize,
    pub(crate) call: Option<Call>,
    pub(crate) reply: Option<Result<Reply, (u16, String)>>,
    is_over: bool,
    is_blocked: bool,
    last_received: Instant,
    last_sent: Instant,
    beat: Pin<Box<Sleep>>,
    product: String,
}

impl Connection {
    /// Connects, logs in and opens the vhost.
    pub async fn open(uri: &Uri, options: &ClientOptions) -> Result<Self, ConnectError> {
        let timeout = uri.connection_timeout.unwrap_or(options.connect_timeout);
        match tokio::time::timeout(timeout, crate::handshake::open(uri, options)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::TimedOut { address: uri.address(), timeout }),
        }
    }

    pub(crate) fn new(wire: Wire, limits: Limits, options: ClientOptions, product: String) -> Self {
        let now = Instant::now();
        Self {
            wire,
            limits,
            options,
            channels: HashMap::new(),
            events: VecDeque::new(),
            events_bytes: 0,
            call: None,
            reply: None,
            is_over: false,
            is_blocked: false,
            last_received: now,
            last_sent: now,
            beat: Box::pin(tokio::time::sleep_until(now + limits.heartbeat / 2)),
            product,
        }
    }

    /// What was agreed on.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The broker's product and version, as it says: `RabbitMQ 3.10.8`.
    pub fn product(&self) -> &str {
        &self.product
    }

    /// Whether the broker has said that it takes no publishes now.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Bytes that wait for [`Self::flush`].
    pub fn unsent_bytes(&self) -> usize {
        self.wire.output.len()
    }

    // ---- sending

    /// Puts a publish into the buffer; nothing is sent before [`Self::flush`], [`Self::next`] or a call. Returns the
    /// number by which it is confirmed, 0 where the channel does not confirm.
    pub fn publish(&mut self, channel: ChannelId, publish: &Publish<'_>) -> Result<u64, ClientError> {
        short("an exchange's name", publish.exchange)?;
        short("a routing key", publish.routing_key)?;
        let frame_max_bytes = self.limits.frame_max_bytes;
        let state = self.open_channel_state(channel)?;
        let tag = state.next_tag;
        if tag > 0 {
            state.next_tag += 1;
        }
        let method = basic::Publish {
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            mandatory: publish.mandatory,
            ..basic::Publish::default()
        };
        let out = &mut self.wire.output;
        Method::from(method).encode(channel.0, out);
        encode_content(out, channel.0, publish.properties, publish.body, frame_max_bytes);
        Ok(tag)
    }

    /// Puts an ack of a delivery, or of all up to it, into the buffer.
    pub fn ack(&mut self, channel: ChannelId, delivery_tag: u64, multiple: bool) -> Result<(), ClientError> {
        self.open_channel_state(channel)?;
        encode_ack(&mut self.wire.output, channel.0, delivery_tag, multiple);
        Ok(())
    }

    /// Puts a nack into the buffer: the delivery, or all up to it, are taken back by the queue or given up.
    pub fn nack(
        &mut self,
        channel: ChannelId,
        delivery_tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), ClientError> {
        self.open_channel_state(channel)?;
        self.put(channel.0, basic::Nack { delivery_tag, multiple, requeue });
        Ok(())
    }

    pub(crate) fn put<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        method.into().encode(channel, &mut self.wire.output);
    }

    /// Sends all that is in the buffer. Meanwhile what comes is read, so that neither side waits for the other.
    /// Dropped, it goes on with the next one.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.check_alive()?;
        loop {
            match self.poll_write(cx)? {
                Poll::Ready(()) => return Poll::Ready(Ok(())),
                Poll::Pending if self.events_bytes >= EVENTS_MAX_BYTES => {
                    return self.poll_beat(cx).map_ok(|()| ());
                }
                Poll::Pending => {}
            }
            match self.poll_read(cx)? {
                Poll::Ready(()) => self.check_alive()?,
                Poll::Pending => return self.poll_beat(cx),
            }
        }
    }

    // ---- receiving

    /// What comes next. Sends what is in the buffer, too. Dropped, it loses nothing.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.take_event() {
                // What is in the buffer must not wait for the last of many events.
                return Ok(event);
            }
            poll_fn(|cx| self.poll_progress(cx)).await?;
        }
    }

    /// As [`Self::next`], without waiting: what was read already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.take_event()
    }

    /// Sends what is in the buffer and heartbeats, and reads nothing: for a holder who has no room for more. Ends only
    /// with an error. Dropped, it loses nothing.
    pub async fn keep_alive(&mut self) -> ClientError {
        poll_fn(|cx| {
            if let Err(error) = self.check_alive().and_then(|()| self.poll_write(cx)) {
                return Poll::Ready(error);
            }
            // What is not read cannot be missed.
            self.last_received = Instant::now();
            match self.poll_beat(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(error),
                _ => Poll::Pending,
            }
        })
        .await
    }

    fn take_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.events_bytes -= size_bytes(&event);
        Some(event)
    }

    /// Ready when something was read.
    pub(crate) fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.check_alive()?;
        let _ = self.poll_write(cx)?;
        match self.poll_read(cx)? {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.poll_beat(cx),
        }
    }

    fn check_alive(&self) -> Result<(), ClientError> {
        if self.is_over { Err(ClientError::Over) } else { Ok(()) }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, ClientError> {
        let before = self.wire.output.len();
        let result = self.wire.poll_write(cx);
        if self.wire.output.len() < before {
            self.last_sent = Instant::now();
        }
        match result {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => match self.poll_read(cx) {
                // Its last words say more than the broken pipe.
                Err(closed @ ClientError::Closed { .. }) => Err(closed),
                _ => Err(self.fail(error.into())),
            },
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, ClientError> {
        match self.wire.poll_read(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(self.fail(error.into())),
            Poll::Ready(Ok(0)) => Err(self.fail(ClientError::End)),
            Poll::Ready(Ok(_)) => {
                self.last_received = Instant::now();
                while let Some(block) = self.wire.take_frames().map_err(|error| self.fail(error.into()))? {
                    self.take_in(&block).map_err(|error| self.fail(error))?;
                }
                Ok(Poll::Ready(()))
            }
        }
    }

    /// Nothing is to be had from it any more.
    fn fail(&mut self, error: ClientError) -> ClientError {
        self.is_over = true;
        error
    }

    /// Sends a heartbeat when one is due, and gives a silent broker up. Pending otherwise.
    fn poll_beat(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let heartbeat = self.limits.heartbeat;
        if heartbeat.is_zero() {
            return Poll::Pending;
        }
        while self.beat.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let silence = now - self.last_received;
            if silence > heartbeat * 2 {
                return Poll::Ready(Err(self.fail(ClientError::Silent { silence })));
            }
            if now - self.last_sent >= heartbeat / 2 && self.wire.output.is_empty() {
                self.wire.output.extend_from_slice(&HEARTBEAT);
                let _ = self.poll_write(cx)?;
            }
            self.beat.as_mut().reset(now + heartbeat / 2);
        }
        Poll::Pending
    }

    fn take_in(&mut self, block: &Bytes) -> Result<(), ClientError> {
        let mut frames = FrameReader::new(block, self.wire.frame_max_bytes);
        while let Some(frame) = frames.next()? {
            self.take_frame(block, &frame)?;
        }
        Ok(())
    }

    fn take_frame(&mut self, block: &Bytes, frame: &Frame<'_>) -> Result<(), ClientError> {
        let channel = frame.channel;
        let is_whole = match frame.kind {
            FrameKind::Heartbeat => return Ok(()),
            FrameKind::Method => {
                let incoming = incoming::method(block, channel, frame.payload)?;
                return self.take_method(channel, incoming);
            }
            FrameKind::Header => {
                let limit_bytes = self.options.message_max_bytes;
                self.partial(channel)?.header(block, frame.payload, limit_bytes)?
            }
            FrameKind::Body => self.partial(channel)?.body(block, frame.payload)?,
        };
        let whole = is_whole.then(|| self.channels.get_mut(&channel)?.partial.take()).flatten();
        match whole.map(Partial::finish) {
            Some(Whole::Event(event)) => self.keep(event),
            Some(Whole::Reply(reply)) => self.answer(channel, Ok(reply)),
            None => Ok(()),
        }
    }

    fn partial(&mut self, channel: u16) -> Result<&mut Partial, ClientError> {
        let state = self.channels.get_mut(&channel);
        state.and_then(|it| it.partial.as_mut()).ok_or(ClientError::Unexpected { what: "content", channel })
    }

    fn take_method(&mut self, channel: u16, incoming: Incoming) -> Result<(), ClientError> {
        match incoming {
            Incoming::Event(event) => {
                match event {
                    Event::Blocked { .. } => self.is_blocked = true,
                    Event::Unblocked => self.is_blocked = false,
                    _ => {}
                }
                self.keep(event)
            }
            Incoming::Partial(partial) => {
                let state = self.channels.get_mut(&channel);
                let state = state.ok_or(ClientError::Unexpected { what: "a message", channel })?;
                state.partial = Some(partial);
                Ok(())
            }
            Incoming::Reply(reply) => self.answer(channel, Ok(reply)),
            Incoming::ChannelClose { code, text } => {
                self.put(channel, channel::CloseOk {});
                self.channels.remove(&channel);
                if self.call.as_ref().is_some_and(|call| call.channel == channel) {
                    return self.answer(channel, Err((code, text)));
                }
                self.keep(Event::ChannelClosed { channel: ChannelId(channel), code, text })
            }
            Incoming::Close { code, text } => {
                self.put(0, connection::CloseOk {});
                Err(ClientError::Closed { code, text })
            }
            Incoming::Flow(active) => {
                self.put(channel, channel::FlowOk { active });
                Ok(())
            }
            Incoming::Cancel { consumer_tag, no_wait } => {
                if !no_wait {
                    self.put(channel, basic::CancelOk { consumer_tag: &consumer_tag });
                }
                self.keep(Event::ConsumerCancelled { channel: ChannelId(channel), consumer_tag })
            }
        }
    }

    fn keep(&mut self, event: Event) -> Result<(), ClientError> {
        self.events_bytes += size_bytes(&event);
        self.events.push_back(event);
        // A block that was read on the way may go over it a little; a holder who takes nothing may not.
        if self.events_bytes > 2 * EVENTS_MAX_BYTES {
            return Err(ClientError::Overrun { limit_bytes: 2 * EVENTS_MAX_BYTES });
        }
        Ok(())
    }

    fn answer(&mut self, channel: u16, reply: Result<Reply, (u16, String)>) -> Result<(), ClientError> {
        match &self.call {
            Some(call) if call.channel == channel => {
                self.reply = Some(reply);
                Ok(())
            }
            _ => {
                let what = reply.as_ref().map_or("channel.close", Reply::name);
                Err(ClientError::Unexpected { what, channel })
            }
        }
    }

    pub(crate) fn open_channel_state(
        &mut self,
        channel: ChannelId,
    ) -> Result<&mut ChannelState, ClientError> {
        self.channels.get_mut(&channel.0).ok_or(ClientError::NoChannel { channel: channel.0 })
    }

    /// Closes in peace: what is in the buffer is sent, and the broker's goodbye is waited for, but not for long.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let goodbye = async {
            self.call(
                0,
                connection::Close { reply_code: 200, ..Default::default() },
                &["connection.close-ok"],
            )
            .await?;
            Ok(())
        };
        let result = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
        self.wire.shutdown().await;
        match result {
            Ok(result) => result,
            Err(_) => Err(ClientError::TimedOut { method: "connection.close", timeout: CLOSE_TIMEOUT }),
        }
    }
}

fn size_bytes(event: &Event) -> usize {
    EVENT_BYTES
        + match event {
            Event::Delivery(delivery) => delivery.size_bytes(),
            Event::Returned(returned) => returned.properties.len() + returned.body.len(),
            _ => 0,
        }
}

pub(crate) fn short(what: &'static str, text: &[u8]) -> Result<(), ClientError> {
    match text.len() {
        size_bytes if size_bytes > SHORT_STRING_MAX_BYTES => Err(ClientError::TooLong { what, size_bytes }),
        _ => Ok(()),
    }
}
