//! basic.consume, cancel, qos, get, and what settles deliveries.

use super::channel::Mode;
use super::consumers::{Consumer, Kind};
use super::core::{Core, WaitingGet};
use super::define::count;
use super::reply::Fault;
use millpond_amqp_codec::{ReplyCode, basic, encode_get_ok_head};
use millpond_broker::{ConsumeRequest, Count, DeliveryId, GetError, Got, Outcome};
use millpond_model::ConsumerTag;

/// The pseudo queue of direct reply-to (contract A14).
const REPLY_QUEUE: &str = "amq.rabbitmq.reply-to";

fn made_up_tag() -> String {
    format!("amq.ctag-{:032x}", rand::random::<u128>())
}

impl Core {
    pub(super) fn qos(&mut self, number: u16, m: &basic::Qos) -> Result<(), Fault> {
        if m.prefetch_size != 0 {
            let text = format_args!("prefetch_size!=0 ({})", m.prefetch_size);
            return Err(Fault::new(ReplyCode::NotImplemented, text));
        }
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        // For consumers started from now on, each; `global` makes no difference, as in RabbitMQ 4.3 (contract A2), but
        // for streams, which refuse it (A13).
        channel.prefetch = m.prefetch_count;
        channel.prefetch_shared = m.global;
        channel.state.set_prefetch(m.prefetch_count, m.global);
        // What every client can send at any time and never means anything else for what it holds: so it renews leases.
        let held: Vec<_> = channel.unacked.deliveries().collect();
        self.session.renew(&held);
        self.reply(number, basic::QosOk {});
        Ok(())
    }

    pub(super) fn consume(&mut self, number: u16, m: &basic::Consume<'_>) -> Result<(), Fault> {
        let Some(channel) = self.channels.get(number) else { return Ok(()) };
        let limit = self.options.consumers_max_per_channel;
        if channel.consumers.len() >= limit {
            let text = format_args!("reached maximum ({limit}) of consumers per channel");
            return Err(Fault::new(ReplyCode::NotAllowed, text));
        }
        let same = |slot: &u32| self.consumers.get(*slot).filter(|c| c.tag.as_str() == m.consumer_tag);
        if !m.consumer_tag.is_empty()
            && let Some(kind) = channel.consumers.iter().find_map(same).map(|consumer| consumer.kind)
        {
            if self.change_consumer(number, m, kind)? {
                return Ok(());
            }
            let text = format_args!("attempt to reuse consumer tag '{}'", m.consumer_tag);
            return Err(Fault::new(ReplyCode::NotAllowed, text));
        }
        let tag = match m.consumer_tag {
            "" => ConsumerTag::new(&made_up_tag())?,
            tag => ConsumerTag::new(tag)?,
        };
        if m.queue == REPLY_QUEUE {
            return self.consume_replies(number, m, &tag);
        }
        let queue = self.queue_name(number, m.queue)?;
        let priority = match m.arguments.get("x-priority") {
            None => 0,
            Some(value) => value.as_i64().ok_or_else(|| {
                let kind = value.to_value().type_name();
                let text = format_args!(
                    "invalid arg 'x-priority' for consumer: {{unacceptable_type,{kind}}}, use an integer"
                );
                Fault::new(ReplyCode::PreconditionFailed, text)
            })?,
        };
        let (prefetch, prefetch_shared) = (channel.prefetch.into(), channel.prefetch_shared);
        let (slot, cookie) = self.consumers.insert(Consumer {
            channel: number,
            tag: tag.clone(),
            no_ack: m.no_ack,
            kind: Kind::Starting,
        });
        let started = self.session.consume(ConsumeRequest {
            queue,
            tag: tag.clone(),
            no_ack: m.no_ack,
            exclusive: m.exclusive,
            priority,
            prefetch,
            prefetch_shared,
            cookie,
            channel: number,
            arguments: m.arguments.to_table(),
        });
        match started {
            Ok(id) => self.consumer_started(number, slot, Kind::Queue(id), m.no_wait, &tag),
            Err(error) => {
                self.consumers.remove(slot);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// A consumer that is started again only to change its pace or lease: whether it is one. Answered then.
    fn change_consumer(&mut self, number: u16, m: &basic::Consume<'_>, kind: Kind) -> Result<bool, Fault> {
        let changes = ["x-rate", "x-consumer-timeout"];
        let Kind::Queue(id) = kind else { return Ok(false) };
        if !changes.iter().any(|name| m.arguments.get(name).is_some()) {
            return Ok(false);
        }
        let queue = self.queue_name(number, m.queue)?;
        if !self.session.consumes_from(id, &queue) {
            return Ok(false);
        }
        self.session.change_consumer(id, &m.arguments.to_table())?;
        if !m.no_wait {
            self.reply(number, basic::ConsumeOk { consumer_tag: m.consumer_tag });
        }
        Ok(true)
    }

    fn consume_replies(
        &mut self,
        number: u16,
        m: &basic::Consume<'_>,
        tag: &ConsumerTag,
    ) -> Result<(), Fault> {
        if !m.no_ack {
            return Err(Fault::new(ReplyCode::PreconditionFailed, "reply consumer cannot acknowledge"));
        }
        if self.channels.get(number).is_some_and(|channel| channel.replies.is_some()) {
            return Err(Fault::new(ReplyCode::PreconditionFailed, "reply consumer already set"));
        }
        let (slot, cookie) = self.consumers.insert(Consumer {
            channel: number,
            tag: tag.clone(),
            no_ack: true,
            kind: Kind::Starting,
        });
        if let Err(error) = self.session.open_reply_inbox(cookie) {
            self.consumers.remove(slot);
            return Err(error.into());
        }
        if let Some(channel) = self.channels.get_mut(number) {
            channel.replies = Some(cookie);
        }
        self.consumer_started(number, slot, Kind::Replies, m.no_wait, tag);
        Ok(())
    }

    fn consumer_started(&mut self, number: u16, slot: u32, kind: Kind, no_wait: bool, tag: &ConsumerTag) {
        if let Some(consumer) = self.consumers.get_mut(slot) {
            consumer.kind = kind;
        }
        if let Some(channel) = self.channels.get_mut(number) {
            channel.consumers.push(slot);
            channel.state.set_consumers(channel.consumers.len());
        }
        if self.is_draining {
            self.starve(slot);
        }
        if !no_wait {
            self.reply(number, basic::ConsumeOk { consumer_tag: tag.as_str() });
        }
    }

    pub(super) fn cancel(&mut self, number: u16, m: &basic::Cancel<'_>) -> Result<(), Fault> {
        let found = self.channels.get(number).and_then(|channel| {
            let same =
                |slot: &&u32| self.consumers.get(**slot).is_some_and(|c| c.tag.as_str() == m.consumer_tag);
            channel.consumers.iter().find(same).copied()
        });
        if let Some(slot) = found {
            match self.consumers.get(slot).map(|consumer| consumer.kind) {
                Some(Kind::Queue(id)) => self.session.cancel(id),
                Some(Kind::Replies) => self.session.close_reply_inbox(self.consumers.cookie(slot)),
                Some(Kind::Starting) | None => {}
            }
            // What was handed out before is delivered before the answer.
            self.render_all();
            self.forget_consumer(slot);
        }
        if !m.no_wait {
            self.reply(number, basic::CancelOk { consumer_tag: m.consumer_tag });
        }
        Ok(())
    }

    /// Takes a consumer off the tables.
    pub(super) fn forget_consumer(&mut self, slot: u32) -> Option<Consumer> {
        let consumer = self.consumers.remove(slot)?;
        if let Some(channel) = self.channels.get_mut(consumer.channel) {
            channel.consumers.retain(|other| *other != slot);
            channel.state.set_consumers(channel.consumers.len());
            if consumer.kind == Kind::Replies {
                channel.replies = None;
            }
        }
        Some(consumer)
    }

    pub(super) fn get(&mut self, number: u16, m: &basic::Get<'_>) -> Result<(), Fault> {
        let queue = self.queue_name(number, m.queue)?;
        if self.is_draining {
            self.reply(number, basic::GetEmpty::default());
            return Ok(());
        }
        self.get_from(WaitingGet { channel: number, queue, no_ack: m.no_ack })
    }

    /// Answers basic.get, or puts it by until its message is read from disk.
    pub(super) fn get_from(&mut self, get: WaitingGet) -> Result<(), Fault> {
        match self.session.get(&get.queue, get.no_ack) {
            Ok(Some(got)) => self.render_got(&get, &got),
            Ok(None) => {
                if let Some(channel) = self.channels.get(get.channel) {
                    channel.state.count(Count::GetEmpty, 1);
                }
                self.reply(get.channel, basic::GetEmpty::default());
            }
            Err(GetError::Loading) => self.waiting_get = Some(get),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn render_got(&mut self, get: &WaitingGet, got: &Got) {
        let Some(channel) = self.channels.get_mut(get.channel) else { return };
        let tag = channel.next_delivery_tag();
        if !get.no_ack {
            channel.unacked.push(tag, DeliveryId { queue: got.queue, seq: got.delivery.seq });
        }
        let redelivered = got.delivery.redelivered;
        channel.state.count(if get.no_ack { Count::GetNoAck } else { Count::Get }, 1);
        channel.state.count(Count::Redeliver, redelivered.into());
        channel.state.set_unacked(channel.unacked.len());
        let message = &got.delivery.message;
        let out = self.out.buffer();
        encode_get_ok_head(out, get.channel, tag, redelivered, message.address(), count(got.ready));
        self.out.content(get.channel, message, self.frame_max_bytes);
    }

    /// basic.ack; told to the broker with all others of the read buffer.
    #[inline]
    pub(super) fn take_ack(&mut self, number: u16, ack: basic::Ack) -> Result<(), Fault> {
        let channel = self.channels.get_mut(number).ok_or_else(super::publish::not_open)?;
        if channel.is_closing() {
            return Ok(());
        }
        if channel.assembly.is_some() {
            let text = "expected content of basic.publish, got basic.ack";
            return Err(Fault::new(ReplyCode::UnexpectedFrame, text));
        }
        self.taken.clear();
        if !channel.unacked.take(ack.delivery_tag, ack.multiple, &mut self.taken) {
            return Err(unknown_tag(ack.delivery_tag));
        }
        match &mut channel.mode {
            Mode::Transaction(transaction) => transaction.settle(&self.taken, Outcome::Accept),
            Mode::Plain | Mode::Confirm(_) => self.accepted.extend(self.taken.iter().map(|(_, id)| *id)),
        }
        let count = self.taken.len() as u64;
        if self.acks.0 != number {
            self.count_acks(number);
        }
        self.acks.1 += count;
        Ok(())
    }

    /// basic.nack and basic.reject.
    pub(super) fn nack(
        &mut self,
        number: u16,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        self.taken.clear();
        if !channel.unacked.take(tag, multiple, &mut self.taken) {
            return Err(unknown_tag(tag));
        }
        channel.state.set_unacked(channel.unacked.len());
        match &mut channel.mode {
            Mode::Transaction(transaction) => transaction.settle(&self.taken, outcome),
            Mode::Plain | Mode::Confirm(_) => {
                let ids: Vec<_> = self.taken.iter().map(|(_, id)| *id).collect();
                self.session.settle(&ids, outcome);
            }
        }
        Ok(())
    }

    pub(super) fn recover(&mut self, number: u16, requeue: bool, answered: bool) -> Result<(), Fault> {
        if !requeue {
            return Err(Fault::new(ReplyCode::NotImplemented, "requeue=false"));
        }
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        self.taken.clear();
        channel.unacked.take_all(&mut self.taken);
        channel.state.set_unacked(0);
        let ids: Vec<_> = self.taken.drain(..).map(|(_, id)| id).collect();
        if answered {
            self.reply(number, basic::RecoverOk {});
        }
        self.session.settle(&ids, Outcome::Requeue);
        Ok(())
    }
}

fn unknown_tag(tag: u64) -> Fault {
    Fault::new(ReplyCode::PreconditionFailed, format_args!("unknown delivery tag {tag}"))
}
