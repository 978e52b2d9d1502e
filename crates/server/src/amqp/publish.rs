//! basic.publish and its content: assembled, routed and handed over a read buffer at a time.

use super::channel::Mode;
use super::confirm::{self, Range};
use super::core::Core;
use super::give_back;
use super::held::{is_poisoned, lost};
use super::partial::{Partial, Share};
use super::reply::Fault;
use super::tally::Tally;
use crate::options::AmqpOptions;
use millpond_amqp_codec::{
    ContentHeader, Frame, FrameKind, FrameReader, ReplyCode, basic, encode_return_head,
};
use millpond_broker::{Durability, Publish, Route, WriteRefused};
use millpond_model::{Message, MessageBatch};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// A publish that is not whole in the read buffer waits there for the rest if it is no larger than this; a larger
/// one is assembled apart. Bytes of body.
const WAIT_IN_BUFFER_MAX_BYTES: u64 = 32 * 1024;

/// Memory for a body is taken as it comes, and not more than this because its header says so. Bytes.
const BODY_RESERVE_MAX_BYTES: u64 = 1024 * 1024;

/// An idle connection keeps room for so many publishes.
const KEPT_MAX: usize = 16;

/// A publish whose content comes in pieces.
#[derive(Debug)]
pub(crate) enum Assembly {
    /// The content header is to come.
    Header { exchange: Box<[u8]>, routing_key: Box<[u8]>, mandatory: bool },
    /// So much of the body is to come.
    Body(Box<Partial>),
}

/// A whole publish that is to be handed over.
#[derive(Debug)]
struct Pending {
    route: Route,
    channel: u16,
    mandatory: bool,
    /// `None`: the next message of the batch.
    message: Option<Message>,
}

/// What became of a publish method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was taken with its content.
    Whole,
    /// Only the method was taken; header and body come one by one.
    Method,
    /// Nothing was taken: the rest is not there yet.
    Wait,
}

/// How publishes are answered that can be handed over together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Confirmed,
}

/// What a connection has assembled and not handed over.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    batch: MessageBatch,
    batch_used: bool,
    /// Length of the input being taken: its records take no more.
    input_bytes: usize,
    pending: Vec<Pending>,
    /// What bodies hold that have not come whole. Bytes.
    partial_bytes: Arc<AtomicUsize>,
    messages: Vec<Message>,
    publishes: Vec<Publish>,
    ranges: Vec<Range>,
    /// Those of `publishes`, by their place, that a queue may refuse, with their number.
    refusable: Vec<(u32, Range)>,
    /// Those of `publishes`, by their place, that are to take back delayed messages and want to know if there were
    /// none, with their channel.
    pub(super) cancels: Vec<(u32, u16, Message)>,
    /// Words that give deliveries of a channel back.
    pub(super) given_back: Vec<(u16, Message)>,
    /// Publishes without confirms that a full store refused; they wait.
    pub(super) held: Vec<Publish>,
    /// Whether a refusal was logged since the last success.
    pub(super) refusal_logged: bool,
    /// What went wrong with publishes that were taken already, and on which channel.
    pub(super) fault: Option<(u16, Fault)>,
}

impl Publisher {
    /// Whether publishes wait for the store to take writes.
    pub(crate) fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Input of so many bytes is about to be taken, which came just now.
    pub(crate) fn expect(&mut self, input_bytes: usize, now_ms: u64) {
        self.input_bytes = input_bytes;
        self.batch.set_time(now_ms);
    }

    /// Gives memory back when nothing is on its way: the rest of the batch's block, which others may hold too, and
    /// lists that grew for a burst.
    pub(crate) fn shrink(&mut self) {
        if !self.pending.is_empty() {
            return;
        }
        if self.batch_used {
            self.batch_used = false;
            self.batch = MessageBatch::default();
        }
        if self.pending.capacity() > KEPT_MAX {
            (self.pending, self.messages, self.publishes) = Default::default();
        }
        if self.ranges.capacity() > KEPT_MAX {
            self.ranges = Vec::new();
        }
    }
}

impl Core {
    /// Takes a publish method, and its content too if all of it is in the read buffer (`rest`).
    #[inline]
    pub(crate) fn take_publish(
        &mut self,
        number: u16,
        publish: basic::Publish<'_>,
        rest: &mut FrameReader<'_>,
    ) -> Result<Taken, Fault> {
        let channel = self.channels.get_mut(number).ok_or_else(not_open)?;
        if channel.is_closing() {
            return Ok(Taken::Method);
        }
        if channel.assembly.is_some() {
            return Err(Fault::new(
                ReplyCode::UnexpectedFrame,
                "expected content of basic.publish, got a method frame",
            ));
        }
        if publish.immediate {
            return Err(Fault::new(ReplyCode::NotImplemented, "immediate=true"));
        }
        // A frame that is malformed or of another channel is met again on the slow way.
        let content = match rest.next() {
            Ok(Some(frame)) if frame.kind == FrameKind::Header && frame.channel == number => frame.payload,
            Ok(None) => return Ok(Taken::Wait),
            _ => return Ok(self.begin_assembly(number, publish)),
        };
        let header = ContentHeader::decode(content)?;
        let body = if header.body_size_bytes == 0 {
            &[][..]
        } else {
            match rest.next() {
                Ok(Some(frame))
                    if frame.kind == FrameKind::Body
                        && frame.channel == number
                        && frame.payload.len() as u64 == header.body_size_bytes =>
                {
                    frame.payload
                }
                Ok(None) if header.body_size_bytes <= WAIT_IN_BUFFER_MAX_BYTES => return Ok(Taken::Wait),
                _ => return Ok(self.begin_assembly(number, publish)),
            }
        };
        let replies = channel.replies;
        self.check_header_size(content.len())?;
        let session = &mut self.session;
        session.set_reply_channel(replies);
        let route =
            session.route(publish.exchange, publish.routing_key, &header.properties, body.len() as u64)?;
        let rewritten = session.rewrite_properties(&header.properties);
        let properties = rewritten.as_deref().unwrap_or(header.properties.as_bytes());
        let persistent = header.properties.is_persistent();
        let batch = &mut self.publisher.batch;
        batch.reserve(self.publisher.input_bytes);
        batch.start(publish.exchange, publish.routing_key, properties, persistent, body.len());
        batch.push_body(body);
        batch.end();
        let pending = Pending { route, channel: number, mandatory: publish.mandatory, message: None };
        self.publisher.pending.push(pending);
        Ok(Taken::Whole)
    }

    #[cold]
    fn begin_assembly(&mut self, number: u16, publish: basic::Publish<'_>) -> Taken {
        if let Some(channel) = self.channels.get_mut(number) {
            channel.assembly = Some(Box::new(Assembly::Header {
                exchange: publish.exchange.into(),
                routing_key: publish.routing_key.into(),
                mandatory: publish.mandatory,
            }));
        }
        Taken::Method
    }

    fn check_header_size(&self, size_bytes: usize) -> Result<(), Fault> {
        let size_max_bytes = self.options.header_max_bytes;
        if size_bytes <= size_max_bytes {
            return Ok(());
        }
        Err(Fault::new(
            ReplyCode::PreconditionFailed,
            format_args!("content header of {size_bytes} bytes is larger than the limit of {size_max_bytes}"),
        ))
    }

    /// A header or body frame outside the fast way.
    pub(crate) fn take_content(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        let unexpected = |what| Fault::new(ReplyCode::UnexpectedFrame, what);
        if frame.channel == 0 {
            return Err(unexpected("content on channel 0"));
        }
        let Some(channel) = self.channels.get_mut(frame.channel) else {
            return Err(unexpected("content on a channel that is not open"));
        };
        if channel.is_closing() {
            return Ok(());
        }
        let Some(assembly) = channel.assembly.take() else {
            return Err(unexpected("expected a method frame, got content"));
        };
        match (*assembly, frame.kind) {
            (Assembly::Header { exchange, routing_key, mandatory }, FrameKind::Header) => {
                self.take_header(frame, &exchange, &routing_key, mandatory)
            }
            (Assembly::Body(partial), FrameKind::Body) => self.take_body(frame, partial),
            (Assembly::Header { .. }, _) => Err(unexpected("expected a content header, got a body frame")),
            (Assembly::Body(_), _) => Err(unexpected("expected a body frame, got a content header")),
        }
    }

    fn take_header(
        &mut self,
        frame: Frame<'_>,
        exchange: &[u8],
        routing_key: &[u8],
        mandatory: bool,
    ) -> Result<(), Fault> {
        let header = ContentHeader::decode(frame.payload)?;
        self.check_header_size(frame.payload.len())?;
        let missing_bytes = header.body_size_bytes;
        let replies = self.channels.get(frame.channel).and_then(|channel| channel.replies);
        self.session.set_reply_channel(replies);
        let route = self.session.route(exchange, routing_key, &header.properties, missing_bytes)?;
        let rewritten = self.session.rewrite_properties(&header.properties);
        let properties = rewritten.as_deref().unwrap_or(header.properties.as_bytes());
        let reserve_bytes = missing_bytes.min(BODY_RESERVE_MAX_BYTES) as usize;
        let mut share = Share::of(&self.publisher.partial_bytes);
        self.check_partial(share.grow_to(reserve_bytes))?;
        let mut batch = MessageBatch::default();
        batch.set_time(self.session.now_ms());
        batch.start(exchange, routing_key, properties, header.properties.is_persistent(), reserve_bytes);
        if missing_bytes == 0 {
            self.complete(frame.channel, batch, route, mandatory);
        } else if let Some(channel) = self.channels.get_mut(frame.channel) {
            let partial = Partial { batch, route, mandatory, missing_bytes, received_bytes: 0, share };
            channel.assembly = Some(Box::new(Assembly::Body(Box::new(partial))));
        }
        Ok(())
    }

    fn check_partial(&self, size_bytes: usize) -> Result<(), Fault> {
        let size_max_bytes = self.options.partial_bodies_max_bytes;
        if size_bytes <= size_max_bytes {
            return Ok(());
        }
        Err(Fault::new(
            ReplyCode::PreconditionFailed,
            format_args!(
                "message bodies in parts of {size_bytes} bytes on one connection are larger than the limit of {size_max_bytes}"
            ),
        ))
    }

    fn take_body(&mut self, frame: Frame<'_>, mut partial: Box<Partial>) -> Result<(), Fault> {
        let Some(missing_bytes) = partial.missing_bytes.checked_sub(frame.payload.len() as u64) else {
            return Err(Fault::new(
                ReplyCode::UnexpectedFrame,
                "the body is longer than its content header says",
            ));
        };
        partial.missing_bytes = missing_bytes;
        partial.received_bytes += frame.payload.len();
        let total_bytes = partial.share.grow_to(partial.received_bytes);
        self.check_partial(total_bytes)?;
        partial.batch.push_body(frame.payload);
        if missing_bytes == 0 {
            let Partial { batch, route, mandatory, .. } = *partial;
            self.complete(frame.channel, batch, route, mandatory);
        } else if let Some(channel) = self.channels.get_mut(frame.channel) {
            channel.assembly = Some(Box::new(Assembly::Body(partial)));
        }
        Ok(())
    }

    fn complete(&mut self, channel: u16, mut batch: MessageBatch, route: Route, mandatory: bool) {
        batch.end();
        let message = batch.finish().pop();
        self.publisher.pending.push(Pending { route, channel, mandatory, message });
    }

    /// Hands everything assembled to the broker, or to its channel's transaction.
    pub(crate) fn flush_publishes(&mut self) {
        if self.publisher.pending.is_empty() {
            return;
        }
        let mut pending = std::mem::take(&mut self.publisher.pending);
        let mut messages = std::mem::take(&mut self.publisher.messages);
        self.publisher.batch_used = true;
        self.publisher.batch.finish_into(&mut messages);
        let mut from_batch = messages.drain(..);
        let mut kind = Kind::Plain;
        let mut tally = Tally::default();
        for mut publish in pending.drain(..) {
            let Some(message) = publish.message.take().or_else(|| from_batch.next()) else { continue };
            tally.is_of(publish.channel, &self.channels);
            let Some(channel) = self.channels.get_mut(publish.channel) else { continue };
            tally.published += 1;
            match &mut channel.mode {
                Mode::Transaction(_) if publish.route.gives_back() => {
                    self.publisher.fault = Some((publish.channel, give_back::in_transaction()));
                    continue;
                }
                Mode::Transaction(transaction) => {
                    transaction.publish(message, publish.route, publish.mandatory);
                    if transaction.size_bytes() > self.options.transaction_max_bytes {
                        self.publisher.fault = Some((publish.channel, overfull(&self.options)));
                    }
                    continue;
                }
                Mode::Confirm(last) => {
                    *last += 1;
                    let (number, epoch) = (*last, channel.epoch);
                    tally.to_confirm += 1;
                    if kind != Kind::Confirmed {
                        self.hand_over(kind);
                        kind = Kind::Confirmed;
                    }
                    self.publisher.count(publish.channel, epoch, number);
                    if publish.route.may_refuse() {
                        let range = Range { channel: publish.channel, epoch, first: number, last: number };
                        self.publisher.refusable.push((self.publisher.publishes.len() as u32, range));
                    }
                }
                Mode::Plain => {
                    if kind != Kind::Plain {
                        self.hand_over(kind);
                        kind = Kind::Plain;
                    }
                }
            }
            if publish.route.gives_back() {
                self.publisher.given_back.push((publish.channel, message));
                continue;
            }
            if publish.route.is_unroutable() && self.goes_nowhere(&publish, &message, &mut tally) {
                continue;
            }
            if publish.mandatory && publish.route.only_cancels() {
                let place = self.publisher.publishes.len() as u32;
                self.publisher.cancels.push((place, publish.channel, message.clone()));
            }
            self.publisher.publishes.push((message, publish.route));
        }
        drop(from_batch);
        tally.tell(&self.channels);
        self.publisher.pending = pending;
        self.publisher.messages = messages;
        self.hand_over(kind);
        self.note_published();
        self.give_back_published();
    }

    /// A message that no queue takes: returned, if it is to be; whether that is all there is to it.
    #[cold]
    fn goes_nowhere(&mut self, publish: &Pending, message: &Message, tally: &mut Tally) -> bool {
        if publish.mandatory {
            tally.returned += 1;
            self.return_message(publish.channel, message);
        } else {
            tally.dropped += 1;
        }
        publish.route.count_if_nowhere()
    }

    /// basic.return.
    pub(crate) fn return_message(&mut self, channel: u16, message: &Message) {
        encode_return_head(self.out.buffer(), channel, ReplyCode::NoRoute, message.address());
        self.out.content(channel, message, self.frame_max_bytes);
    }

    fn hand_over(&mut self, kind: Kind) {
        let publisher = &mut self.publisher;
        if publisher.publishes.is_empty() && publisher.ranges.is_empty() {
            return;
        }
        let result = match publisher.publishes.is_empty() {
            true => Ok(Durability::Now),
            false => self.session.publish(&mut publisher.publishes),
        };
        match result {
            Ok(durability) => {
                publisher.refusal_logged = false;
                publisher.publishes.clear();
                self.return_missed();
                if !self.publisher.refusable.is_empty() {
                    let refused = self.session.take_refused();
                    self.publisher.split_refused(&refused);
                }
                self.answer(durability);
            }
            Err(refused) => self.refused(kind, &refused),
        }
    }

    fn answer(&mut self, durability: Durability) {
        let mut refused = self.publisher.refusable.drain(..).map(|(_, range)| range).peekable();
        for range in self.publisher.ranges.drain(..) {
            match durability {
                _ if refused.next_if_eq(&range).is_some() => {
                    self.confirms.resolve(range, true, &self.channels, &mut self.out);
                }
                Durability::Now => self.confirms.resolve(range, false, &self.channels, &mut self.out),
                Durability::Pending(token) => self.confirms.wait(range, token),
            }
        }
    }

    #[cold]
    fn refused(&mut self, kind: Kind, refused: &WriteRefused) {
        let publisher = &mut self.publisher;
        publisher.cancels.clear();
        if !publisher.refusal_logged {
            publisher.refusal_logged = true;
            tracing::warn!(connection = %self.name, reason = %refused, "publishes are refused");
        }
        match kind {
            Kind::Confirmed => {
                publisher.publishes.clear();
                publisher.refusable.clear();
                for range in publisher.ranges.drain(..) {
                    self.confirms.resolve(range, true, &self.channels, &mut self.out);
                }
            }
            Kind::Plain if is_poisoned(refused) => {
                publisher.publishes.clear();
                publisher.fault = Some((0, lost(refused)));
            }
            Kind::Plain => {
                publisher.held.append(&mut publisher.publishes);
                // Now the publisher does wait until there is room.
                self.session.set_confirming(false);
            }
        }
    }

    /// What went wrong since the last call with publishes that were taken: the channel (0 for all) and the fault.
    pub(crate) fn take_publish_fault(&mut self) -> Option<(u16, Fault)> {
        self.publisher.fault.take()
    }
}

impl Publisher {
    /// Keeps of the refusable publishes those that were refused (by their place), and cuts the ranges so that each
    /// of them is one of its own.
    #[cold]
    fn split_refused(&mut self, refused: &[u32]) {
        self.refusable.retain(|(place, _)| refused.binary_search(place).is_ok());
        confirm::cut_out(&mut self.ranges, self.refusable.iter().map(|(_, one)| *one));
    }

    /// A publish to be confirmed.
    #[inline]
    fn count(&mut self, channel: u16, epoch: u32, number: u64) {
        match self.ranges.last_mut() {
            Some(range) if range.channel == channel && range.epoch == epoch && range.last + 1 == number => {
                range.last = number;
            }
            _ => self.ranges.push(Range { channel, epoch, first: number, last: number }),
        }
    }
}

#[cold]
fn overfull(options: &AmqpOptions) -> Fault {
    let limit = options.transaction_max_bytes;
    let text = format_args!("a transaction holds more than {limit} bytes: commit more often");
    Fault::new(ReplyCode::PreconditionFailed, text).of(60, 40)
}

#[cold]
pub(crate) fn not_open() -> Fault {
    Fault::new(ReplyCode::ChannelError, "expected 'channel.open'")
}
