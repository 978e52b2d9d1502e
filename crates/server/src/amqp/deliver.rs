//! The broker's events, rendered into the outbox.

use super::consumers::{Consumer, Kind};
use super::core::{Core, End};
use super::reply::Fault;
use millpond_amqp_codec::{ReplyCode, basic, encode_deliver_head};
use millpond_broker::{CommitError, Count, Deliveries, DeliveryId, Outcome, SessionEvent};
use millpond_model::Message;
use millpond_model::properties::RawProperties;

/// The header that says at which offset of a stream a message is (contract A13).
const STREAM_OFFSET: &str = "x-stream-offset";

/// No more deliveries are rendered while so much waits for the socket. Bytes.
const OUTPUT_HIGH_BYTES: usize = 1024 * 1024;

impl Core {
    /// Takes events in: what concerns commits is done at once, the rest waits its turn.
    pub(crate) fn take_events(&mut self, events: &mut Vec<SessionEvent>) -> Result<(), End> {
        for event in events.drain(..) {
            match event {
                SessionEvent::Committed { token, result } => self.committed(token, &result)?,
                SessionEvent::Drain => self.begin_drain(),
                SessionEvent::Shutdown => {
                    let text = "broker forced connection closure with reason 'shutdown'";
                    return Err(Fault::new(ReplyCode::ConnectionForced, text).into());
                }
                SessionEvent::Closed { reason } => {
                    return Err(Fault::new(ReplyCode::ConnectionForced, reason).into());
                }
                event @ (SessionEvent::Deliveries(_)
                | SessionEvent::ConsumerCancelled { .. }
                | SessionEvent::LeasesEnded { .. }
                | SessionEvent::Reply { .. }) => self.backlog.push_back(event),
            }
        }
        Ok(())
    }

    fn committed(&mut self, token: u64, result: &Result<(), CommitError>) -> Result<(), End> {
        if let Err(error) = result {
            if !self.failure_logged {
                self.failure_logged = true;
                tracing::error!(connection = %self.name, reason = %error, "a commit failed: publishes are nacked");
            }
            if self.out.waits_for(token) {
                return Err(Fault::new(ReplyCode::InternalError, format_args!("not durable: {error}")).into());
            }
        } else {
            self.failure_logged = false;
        }
        self.out.committed(token);
        self.confirms.committed(token, result.is_ok(), &self.channels, &mut self.out);
        Ok(())
    }

    /// Renders what waits, as far as the socket keeps up; whether anything was.
    pub(crate) fn render(&mut self) -> bool {
        let mut rendered = false;
        while self.out.pending_bytes() < OUTPUT_HIGH_BYTES
            && let Some(event) = self.backlog.pop_front()
        {
            self.render_event(event);
            rendered = true;
        }
        rendered
    }

    /// Renders all that waits; it is bounded by the inbox's limit.
    pub(crate) fn render_all(&mut self) {
        while let Some(event) = self.backlog.pop_front() {
            self.render_event(event);
        }
    }

    fn render_event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Deliveries(deliveries) => self.render_deliveries(&deliveries),
            SessionEvent::ConsumerCancelled { cookie, queue } => {
                let Some((slot, _)) = self.consumers.by_cookie(cookie) else { return };
                let Some(Consumer { channel, tag, kind, .. }) = self.forget_consumer(slot) else { return };
                if let Kind::Queue(id) = kind {
                    // The queue knows it no more; the session would go on counting it.
                    self.session.cancel(id);
                }
                tracing::debug!(connection = %self.name, channel, consumer = %tag, %queue, "consumer cancelled");
                if self.capabilities.consumer_cancel_notify {
                    self.reply(channel, basic::Cancel { consumer_tag: tag.as_str(), no_wait: true });
                }
            }
            SessionEvent::LeasesEnded { queue, seqs } => {
                tracing::debug!(connection = %self.name, ?seqs, "leases have ended");
                for channel in self.channels.iter_mut() {
                    channel.unacked.end_leases(queue, &seqs);
                }
            }
            SessionEvent::Reply { cookie, message } => self.render_reply(cookie, &message),
            // Done when they were taken in.
            SessionEvent::Committed { .. }
            | SessionEvent::Drain
            | SessionEvent::Shutdown
            | SessionEvent::Closed { .. } => {}
        }
    }

    fn render_deliveries(&mut self, deliveries: &Deliveries) {
        let size_bytes = deliveries.items.iter().map(|item| item.message.size_bytes()).sum();
        let Some((_, consumer)) = self.consumers.by_cookie(deliveries.cookie) else {
            // Its channel went while they were on their way.
            let mut requeued = Vec::new();
            push_ids(deliveries, &mut requeued);
            self.session.settle(&requeued, Outcome::Requeue);
            self.session.deliveries_written(size_bytes);
            return;
        };
        let (number, frame_max_bytes) = (consumer.channel, self.frame_max_bytes);
        let Some(channel) = self.channels.get_mut(number) else { return };
        let mut redelivered = 0;
        for item in &deliveries.items {
            redelivered += u64::from(item.redelivered);
            let tag = channel.next_delivery_tag();
            if !consumer.no_ack {
                channel.unacked.push(tag, DeliveryId { queue: deliveries.queue, seq: item.seq });
            }
            let message = &item.message;
            let consumer_tag = consumer.tag.as_str();
            encode_deliver_head(
                self.out.buffer(),
                number,
                consumer_tag,
                tag,
                item.redelivered,
                message.address(),
            );
            if deliveries.queue.is_stream() {
                self.properties.clear();
                RawProperties::from_checked(message.properties()).put_with_header(
                    STREAM_OFFSET,
                    item.seq as i64,
                    &mut self.properties,
                );
                self.out.content_with(number, &self.properties, message, frame_max_bytes);
            } else {
                self.out.content(number, message, frame_max_bytes);
            }
        }
        let delivered = if consumer.no_ack { Count::DeliverNoAck } else { Count::Deliver };
        channel.state.count(delivered, deliveries.items.len() as u64);
        channel.state.count(Count::Redeliver, redelivered);
        channel.state.set_unacked(channel.unacked.len());
        self.out.deliveries_end(size_bytes);
    }

    fn render_reply(&mut self, cookie: u64, message: &Message) {
        let Some((_, consumer)) = self.consumers.by_cookie(cookie) else { return };
        let number = consumer.channel;
        let Some(channel) = self.channels.get_mut(number) else { return };
        let tag = channel.next_delivery_tag();
        encode_deliver_head(self.out.buffer(), number, consumer.tag.as_str(), tag, false, message.address());
        self.out.content(number, message, self.frame_max_bytes);
    }

    /// Takes deliveries out of the backlog whose consumers are gone.
    pub(crate) fn drop_backlog_of_the_gone(&mut self, requeued: &mut Vec<DeliveryId>) {
        let (consumers, session) = (&self.consumers, &mut self.session);
        self.backlog.retain(|event| match event {
            SessionEvent::Deliveries(deliveries) if consumers.by_cookie(deliveries.cookie).is_none() => {
                push_ids(deliveries, requeued);
                session.deliveries_written(deliveries.items.iter().map(|i| i.message.size_bytes()).sum());
                false
            }
            _ => true,
        });
    }
}

fn push_ids(deliveries: &Deliveries, out: &mut Vec<DeliveryId>) {
    out.extend(deliveries.items.iter().map(|item| DeliveryId { queue: deliveries.queue, seq: item.seq }));
}
