//! A consuming connection.

use crate::histogram::Histogram;
use crate::run::{BenchError, Common};
use crate::stage::connect;
use millpond_amqp_client::{ChannelId, Connection, Consume, Event};
use std::sync::atomic::Ordering;

/// Deliveries that are acked together, at most; a quarter of the prefetch where that is less.
const ACK_EVERY_MAX: u64 = 100;

/// What a consumer got.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) received: u64,
    pub(crate) latency: Histogram,
}

pub(crate) struct Consumer {
    common: Common,
    connection: Connection,
    channel: ChannelId,
    ack_every: u64,
    unacked: u64,
    last_tag: u64,
    /// Received and not in the progress yet.
    untold: u64,
    got: Received,
}

impl Consumer {
    pub(crate) async fn start(common: Common, queue: &str) -> Result<Self, BenchError> {
        let mut connection = connect(&common.plan, "consumer").await?;
        let channel = connection.open_channel().await?;
        let prefetch = common.plan.prefetch;
        if prefetch > 0 {
            connection.qos(channel, prefetch).await?;
        }
        let consume = Consume { no_ack: prefetch == 0, ..Consume::default() };
        connection.consume(channel, queue, &consume).await?;
        let ack_every = (u64::from(prefetch) / 4).clamp(1, ACK_EVERY_MAX);
        let got = Received { received: 0, latency: Histogram::default() };
        Ok(Self { common, connection, channel, ack_every, unacked: 0, last_tag: 0, untold: 0, got })
    }

    /// Takes deliveries until the end.
    pub(crate) async fn run(mut self) -> Result<Received, BenchError> {
        loop {
            let Self { connection, common, .. } = &mut self;
            let event = tokio::select! {
                biased;
                event = connection.next() => event?,
                _ = common.end.wait_for(|end| *end) => break,
            };
            let mut now = self.common.now_ns();
            self.take(event, now)?;
            // One look at the clock for what came together, and another for each part of a long block.
            while let Some(event) = self.connection.try_next() {
                if self.untold.is_multiple_of(64) {
                    now = self.common.now_ns();
                }
                self.take(event, now)?;
            }
            self.common.progress.received.fetch_add(std::mem::take(&mut self.untold), Ordering::Relaxed);
            self.connection.flush().await?;
        }
        self.ack()?;
        let _ = self.connection.close().await;
        Ok(self.got)
    }

    fn take(&mut self, event: Event, now_ns: u64) -> Result<(), BenchError> {
        let delivery = match event {
            Event::Delivery(delivery) => delivery,
            Event::ChannelClosed { code, text, .. } => {
                return Err(BenchError::Channel { who: "consumer", code, text });
            }
            Event::ConsumerCancelled { .. } => {
                return Err(BenchError::Foreign { reason: "the queue was deleted meanwhile" });
            }
            _ => return Ok(()),
        };
        let Some(sent) = delivery.body.first_chunk() else {
            return Err(BenchError::Foreign { reason: "its body is too short" });
        };
        let sent_ns = u64::from_be_bytes(*sent);
        self.got.latency.record(now_ns.saturating_sub(sent_ns));
        self.got.received += 1;
        self.untold += 1;
        if self.common.plan.prefetch > 0 {
            self.last_tag = delivery.delivery_tag;
            self.unacked += 1;
            if self.unacked >= self.ack_every {
                self.ack()?;
            }
        }
        Ok(())
    }

    fn ack(&mut self) -> Result<(), BenchError> {
        if self.unacked > 0 {
            self.connection.ack(self.channel, self.last_tag, true)?;
            self.unacked = 0;
        }
        Ok(())
    }
}
