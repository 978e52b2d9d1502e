//! A connection after its handshake, without its socket: frames in, frames out, the broker in between.

use super::channel::{Channels, Mode};
use super::confirm::Confirms;
use super::consumers::{Consumers, Kind};
use super::outbox::Outbox;
use super::publish::{Publisher, Taken, not_open};
use super::reply::Fault;
use crate::oauth::Oauth;
use crate::options::AmqpOptions;
use millpond_amqp_codec::{Frame, FrameKind, FrameReader, Method, ReplyCode, Sender, basic, channel};
use millpond_broker::{
    Broker, ChannelMode, Count, DeliveryId, Durability, Meter, Outcome, Session, SessionEvent,
};
use millpond_model::{QueueName, UserName};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// Why a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The client has said goodbye; close-ok is due.
    Goodbye,
    /// We say goodbye.
    Fault(Fault),
    /// The socket is closed or broken: nobody to speak to.
    Gone(String),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What was agreed on in the handshake.
#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    pub(crate) user: UserName,
    pub(crate) peer: IpAddr,
    /// For people: `127.0.0.1:4711 -> 127.0.0.1:5672`.
    pub(crate) name: Box<str>,
    pub(crate) channel_max: u16,
    pub(crate) frame_max_bytes: u32,
    pub(crate) heartbeat_secs: u16,
    pub(crate) capabilities: Capabilities,
}

/// What the client says it understands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Capabilities {
    pub(crate) authentication_failure_close: bool,
    pub(crate) consumer_cancel_notify: bool,
    pub(crate) connection_blocked: bool,
}

/// A basic.get whose message is being read from disk.
#[derive(Debug)]
pub(crate) struct WaitingGet {
    pub(crate) channel: u16,
    pub(crate) queue: QueueName,
    pub(crate) no_ack: bool,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) broker: Broker,
    pub(crate) session: Session,
    pub(crate) options: Arc<AmqpOptions>,
    oauth: Option<Arc<Oauth>>,
    pub(crate) user: UserName,
    pub(crate) peer: IpAddr,
    pub(crate) name: Box<str>,
    pub(crate) channel_max: u16,
    pub(crate) frame_max_bytes: u32,
    pub(crate) capabilities: Capabilities,
    pub(crate) channels: Channels,
    pub(crate) consumers: Consumers,
    pub(crate) publisher: Publisher,
    pub(crate) confirms: Confirms,
    pub(crate) out: Outbox,
    /// Accepted deliveries that the broker has not been told of.
    pub(crate) accepted: Vec<DeliveryId>,
    /// Acks that were not counted yet: of which channel, and how many.
    pub(super) acks: (u16, u64),
    /// Where bytes are counted.
    pub(super) traffic: Arc<Meter>,
    /// For moving deliveries about.
    pub(crate) taken: Vec<(u64, DeliveryId)>,
    /// Properties of the delivery in hand, changed.
    pub(super) properties: Vec<u8>,
    /// Events taken out of the session's inbox and not rendered: deliveries, cancels, replies.
    pub(crate) backlog: VecDeque<SessionEvent>,
    pub(crate) waiting_get: Option<WaitingGet>,
    /// The last commit's failure that was logged.
    pub(crate) failure_logged: bool,
    /// It published while an alarm was set, and was told.
    pub(super) is_blocked: bool,
    /// Nothing new is delivered, and the connection ends when nothing is held.
    pub(super) is_draining: bool,
}

impl Core {
    pub(crate) fn new(
        broker: Broker,
        mut session: Session,
        (options, oauth): (Arc<AmqpOptions>, Option<Arc<Oauth>>),
        agreed: &Agreed,
    ) -> Self {
        // A full store refuses publishes instead of stopping the reader: acks must come through, they make room.
        session.set_confirming(true);
        let traffic = session.traffic();
        Self {
            acks: (0, 0),
            traffic,
            broker,
            session,
            options,
            oauth,
            user: agreed.user.clone(),
            peer: agreed.peer,
            name: agreed.name.clone(),
            channel_max: agreed.channel_max,
            frame_max_bytes: agreed.frame_max_bytes,
            capabilities: agreed.capabilities,
            channels: Channels::default(),
            consumers: Consumers::default(),
            publisher: Publisher::default(),
            confirms: Confirms::default(),
            out: Outbox::default(),
            accepted: Vec::new(),
            taken: Vec::new(),
            properties: Vec::new(),
            backlog: VecDeque::new(),
            waiting_get: None,
            failure_logged: false,
            is_blocked: false,
            is_draining: false,
        }
    }

    /// Whether input has to wait for the broker.
    pub(crate) fn is_suspended(&self) -> bool {
        self.waiting_get.is_some() || self.publisher.is_held()
    }

    /// Takes as many whole frames as there are and as the broker allows; how many bytes that were.
    pub(crate) fn take_input(&mut self, input: &[u8]) -> Result<usize, End> {
        self.publisher.expect(input.len(), self.session.now_ms());
        let taken = self.take_frames(input);
        // On a fault too: what came before it is valid.
        self.flush();
        if let Some((number, fault)) = self.take_publish_fault() {
            self.fail(number, fault)?;
        }
        taken
    }

    fn take_frames(&mut self, input: &[u8]) -> Result<usize, End> {
        let mut at = 0;
        while !self.is_suspended() {
            let mut reader = FrameReader::new(&input[at..], self.frame_max_bytes);
            let Some(frame) = reader.next().map_err(Fault::from)? else { break };
            if frame.kind == FrameKind::Method
                && let Some(publish) = basic::Publish::from_payload(frame.payload)
                && frame.channel != 0
            {
                let method_end = reader.consumed();
                match self.take_publish(frame.channel, publish, &mut reader) {
                    Ok(Taken::Whole) => at += reader.consumed(),
                    Ok(Taken::Method) => at += method_end,
                    Ok(Taken::Wait) => break,
                    Err(fault) => {
                        self.fail(frame.channel, fault.of(60, 40))?;
                        at += method_end;
                    }
                }
                continue;
            }
            if !self.take_frame(frame)? {
                break;
            }
            at += reader.consumed();
        }
        Ok(at)
    }

    /// Takes a frame that is not a publish; false: publishes before it have to be taken first, and they wait.
    fn take_frame(&mut self, frame: Frame<'_>) -> Result<bool, End> {
        match frame.kind {
            FrameKind::Heartbeat => {}
            FrameKind::Header | FrameKind::Body => {
                if let Err(fault) = self.take_content(frame) {
                    self.fail(frame.channel, fault.of(60, 40))?;
                }
            }
            FrameKind::Method => {
                if let Some(ack) = basic::Ack::from_payload(frame.payload)
                    && frame.channel != 0
                {
                    if let Err(fault) = self.take_ack(frame.channel, ack) {
                        self.fail(frame.channel, fault.of(60, 80))?;
                    }
                    return Ok(true);
                }
                self.flush();
                if self.publisher.is_held() {
                    return Ok(false);
                }
                self.take_method(frame)?;
            }
        }
        Ok(true)
    }

    fn take_method(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let number = frame.channel;
        // A closing channel's methods are not even looked at, but for the two that end it.
        if self.channels.get(number).is_some_and(|channel| channel.is_closing()) {
            match Method::decode(frame.payload) {
                Ok(Method::ChannelCloseOk(_)) => self.remove_channel(number),
                Ok(Method::ChannelClose(_)) => self.reply(number, channel::CloseOk {}),
                _ => {}
            }
            return Ok(());
        }
        let method = Method::decode(frame.payload).map_err(|error| {
            let id =
                |at: usize| frame.payload.get(at..at + 2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
            Fault::from(error).of(id(0), id(2))
        })?;
        let (class_id, method_id) = (method.class_id(), method.method_id());
        if number == 0 {
            return self.take_connection_method(&method).map_err(|end| match end {
                End::Fault(fault) => End::Fault(fault.of(class_id, method_id)),
                other => other,
            });
        }
        let taken = self.check_state(number, &method).and_then(|()| self.dispatch(number, &method));
        match taken {
            Ok(()) => Ok(()),
            Err(fault) => self.fail(number, fault.of(class_id, method_id)),
        }
    }

    fn check_state(&self, number: u16, method: &Method<'_>) -> Result<(), Fault> {
        match self.channels.get(number) {
            None if !matches!(method, Method::ChannelOpen(_)) => return Err(not_open()),
            Some(channel) if channel.assembly.is_some() => {
                let text = format_args!("expected content of basic.publish, got {}", method.name());
                return Err(Fault::new(ReplyCode::UnexpectedFrame, text));
            }
            _ => {}
        }
        if method.class_id() == 10 || method.sender() == Sender::Server {
            return Err(Fault::new(
                ReplyCode::CommandInvalid,
                format_args!("{} is not possible here", method.name()),
            ));
        }
        Ok(())
    }

    fn dispatch(&mut self, number: u16, method: &Method<'_>) -> Result<(), Fault> {
        match method {
            Method::ChannelOpen(_) => self.open_channel(number),
            Method::ChannelClose(_) => {
                self.leave_channel(number);
                self.remove_channel(number);
                self.reply(number, channel::CloseOk {});
                Ok(())
            }
            Method::ChannelFlow(flow) if flow.active => {
                self.reply(number, channel::FlowOk { active: true });
                Ok(())
            }
            Method::ChannelFlow(_) => Err(Fault::new(ReplyCode::NotImplemented, "active=false")),
            Method::ExchangeDeclare(m) => self.declare_exchange(number, m),
            Method::ExchangeDelete(m) => self.delete_exchange(number, m),
            Method::ExchangeBind(m) => self.bind_exchange(number, m),
            Method::ExchangeUnbind(m) => self.unbind_exchange(number, m),
            Method::QueueDeclare(m) => self.declare_queue(number, m),
            Method::QueueBind(m) => self.bind_queue(number, m),
            Method::QueueUnbind(m) => self.unbind_queue(number, m),
            Method::QueuePurge(m) => self.purge_queue(number, m),
            Method::QueueDelete(m) => self.delete_queue(number, m),
            Method::BasicQos(m) => self.qos(number, m),
            Method::BasicConsume(m) => self.consume(number, m),
            Method::BasicCancel(m) => self.cancel(number, m),
            Method::BasicGet(m) => self.get(number, m),
            Method::BasicAck(m) => self.take_ack(number, *m),
            Method::BasicNack(m) => {
                let outcome = if m.requeue { Outcome::Requeue } else { Outcome::Reject };
                self.nack(number, m.delivery_tag, m.multiple, outcome)
            }
            Method::BasicReject(m) => {
                let outcome = if m.requeue { Outcome::Fail } else { Outcome::Reject };
                self.nack(number, m.delivery_tag, false, outcome)
            }
            Method::BasicRecover(m) => self.recover(number, m.requeue, true),
            Method::BasicRecoverAsync(m) => self.recover(number, m.requeue, false),
            Method::ConfirmSelect(m) => self.select_confirms(number, m.no_wait),
            Method::TxSelect(_) => self.tx_select(number),
            Method::TxCommit(_) => self.tx_commit(number),
            Method::TxRollback(_) => self.tx_rollback(number),
            Method::AccessRequest(_) => {
                self.reply(number, millpond_amqp_codec::access::RequestOk { ticket: 1 });
                Ok(())
            }
            // The client's side of a cancel that the server sent.
            Method::BasicCancelOk(_) => Ok(()),
            other => Err(Fault::new(
                ReplyCode::CommandInvalid,
                format_args!("{} is not possible here", other.name()),
            )),
        }
    }

    /// Methods of channel 0 after the handshake.
    fn take_connection_method(&mut self, method: &Method<'_>) -> Result<(), End> {
        match method {
            Method::ConnectionClose(_) => Err(End::Goodbye),
            Method::ConnectionUpdateSecret(m) => Ok(self.update_secret(m.new_secret)?),
            other => {
                let text = format_args!("unexpected method {} on channel 0", other.name());
                Err(Fault::new(ReplyCode::ChannelError, text).into())
            }
        }
    }

    /// A token in place of one that ends, or the password once more.
    fn update_secret(&mut self, secret: &[u8]) -> Result<(), Fault> {
        let renewed = match &self.oauth {
            Some(oauth) if Oauth::is_token(secret) => {
                oauth.log_in_now(&self.broker, secret, self.peer).map_err(|error| error.to_string())
            }
            _ => {
                let login = self.broker.login(self.user.as_str(), secret, Some(self.peer));
                login.map_err(|error| error.to_string())
            }
        };
        // Rights by a token are not handed to a user of the table, nor the other way round.
        let same_kind = |it: &millpond_broker::Login| {
            it.expires_ms().is_some() == self.session.login().expires_ms().is_some()
        };
        let fits = |it: &millpond_broker::Login| it.user == self.user && same_kind(it);
        let renewed =
            renewed.and_then(|it| if fits(&it) { Ok(it) } else { Err("it is somebody else's".into()) });
        match renewed {
            Ok(login) => {
                self.session.go_on_as(login);
                self.reply(0, millpond_amqp_codec::connection::UpdateSecretOk {});
                Ok(())
            }
            Err(reason) => {
                tracing::warn!(connection = %self.name, reason, "a new secret was refused");
                Err(Fault::new(ReplyCode::NotAllowed, "new secret was refused"))
            }
        }
    }

    fn open_channel(&mut self, number: u16) -> Result<(), Fault> {
        let (open, limit) = (self.channels.len(), self.channel_max);
        if self.channels.get(number).is_some() {
            return Err(Fault::new(ReplyCode::ChannelError, "second 'channel.open' seen"));
        }
        if limit != 0 && open >= usize::from(limit) {
            return Err(Fault::new(
                ReplyCode::NotAllowed,
                format_args!(
                    "number of channels opened ({open}) has reached the negotiated channel_max ({limit})"
                ),
            ));
        }
        let state = self.session.channel_opened(number)?;
        self.channels.open(number, state);
        self.reply(number, channel::OpenOk::default());
        Ok(())
    }

    /// Forgets a channel that is closed on both sides.
    fn remove_channel(&mut self, number: u16) {
        self.channels.remove(number);
        self.session.channel_closed(number);
    }

    fn select_confirms(&mut self, number: u16, no_wait: bool) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        match channel.mode {
            Mode::Transaction(_) => {
                let text = "cannot switch from tx to confirm mode";
                return Err(Fault::new(ReplyCode::PreconditionFailed, text));
            }
            Mode::Plain => {
                channel.mode = Mode::Confirm(0);
                channel.state.set_mode(ChannelMode::Confirm);
            }
            Mode::Confirm(_) => {}
        }
        if !no_wait {
            self.reply(number, millpond_amqp_codec::confirm::SelectOk {});
        }
        Ok(())
    }

    /// Closes a channel for a soft fault; hands a hard one on.
    pub(super) fn fail(&mut self, number: u16, fault: Fault) -> Result<(), End> {
        if fault.code.is_hard() || number == 0 {
            return Err(End::Fault(fault));
        }
        tracing::info!(connection = %self.name, channel = number, reason = %fault.text, "channel closed");
        self.flush();
        self.leave_channel(number);
        let (class_id, method_id) = fault.method;
        let reply_code = fault.code.code();
        self.reply(number, channel::Close { reply_code, reply_text: &fault.text, class_id, method_id });
        if let Some(channel) = self.channels.get_mut(number) {
            channel.close();
        }
        Ok(())
    }

    /// Gives back what a channel holds: its consumers end, then what is not settled is requeued.
    fn leave_channel(&mut self, number: u16) {
        let Some(channel) = self.channels.get_mut(number) else { return };
        let consumers = std::mem::take(&mut channel.consumers);
        let mut taken = std::mem::take(&mut self.taken);
        channel.unacked.take_all(&mut taken);
        if let Mode::Transaction(transaction) = &mut channel.mode {
            taken.extend(transaction.roll_back());
            taken.sort_unstable_by_key(|(tag, _)| *tag);
        }
        for slot in consumers {
            let cookie = self.consumers.cookie(slot);
            match self.consumers.remove(slot).map(|consumer| consumer.kind) {
                Some(Kind::Queue(id)) => self.session.cancel(id),
                Some(Kind::Replies) => self.session.close_reply_inbox(cookie),
                Some(Kind::Starting) | None => {}
            }
        }
        let mut requeued: Vec<DeliveryId> = taken.drain(..).map(|(_, id)| id).collect();
        self.taken = taken;
        self.drop_backlog_of_the_gone(&mut requeued);
        if !requeued.is_empty() {
            self.session.settle(&requeued, Outcome::Requeue);
        }
    }

    /// Hands over what was collected: publishes first, then acks.
    #[inline]
    pub(crate) fn flush(&mut self) {
        self.flush_publishes();
        if !self.accepted.is_empty() {
            self.session.settle(&self.accepted, Outcome::Accept);
            self.accepted.clear();
        }
        self.count_acks(0);
    }

    /// Counts the acks of the channel in hand, before those of another, `number`, are counted.
    #[inline]
    pub(super) fn count_acks(&mut self, number: u16) {
        let (of, n) = std::mem::replace(&mut self.acks, (number, 0));
        if n != 0
            && let Some(channel) = self.channels.get(of)
        {
            channel.state.count(Count::Ack, n);
            channel.state.set_unacked(channel.unacked.len());
        }
    }

    /// Appends a method.
    pub(crate) fn reply<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        method.into().encode(channel, self.out.buffer());
    }

    /// Appends a method that may leave when a change is durable.
    pub(crate) fn reply_when<'a>(
        &mut self,
        channel: u16,
        durability: Durability,
        no_wait: bool,
        method: impl Into<Method<'a>>,
    ) {
        if no_wait {
            return;
        }
        if let Durability::Pending(token) = durability {
            self.out.barrier(token);
        }
        self.reply(channel, method);
    }
}
