//! A publishing connection.

use crate::histogram::Histogram;
use crate::run::{BenchError, Common};
use crate::stage::connect;
use millpond_amqp_client::{ChannelId, Confirm, Connection, Event, Publish};
use millpond_model::properties::Properties;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Sent at once at most. Bytes.
const BATCH_BYTES: usize = 64 * 1024;

/// Messages sent at once at most.
const BATCH_MESSAGES: u64 = 1000;

/// At a given rate, what is due is sent this often.
const PACE_STEP: Duration = Duration::from_millis(1);

/// How long the confirms of the last publishes are waited for.
const CONFIRM_WAIT: Duration = Duration::from_secs(30);

/// What a producer did.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) published: u64,
    pub(crate) confirmed: u64,
    pub(crate) refused: u64,
    pub(crate) latency: Histogram,
}

pub(crate) struct Producer {
    common: Common,
    connection: Connection,
    channel: ChannelId,
    exchange: String,
    key: String,
    properties: Vec<u8>,
    body: Vec<u8>,
    /// When the publishes were sent that are not confirmed; the first of them has the number `first_open`.
    open: VecDeque<Option<u64>>,
    first_open: u64,
    unconfirmed: u64,
    done: Published,
    /// Of its own; all it will ever publish.
    limit: Option<u64>,
}

impl Producer {
    pub(crate) async fn start(common: Common, exchange: &str, key: &str) -> Result<Self, BenchError> {
        let mut connection = connect(&common.plan, "producer").await?;
        let channel = connection.open_channel().await?;
        if common.plan.confirm_window > 0 {
            connection.confirm_select(channel).await?;
        }
        let delivery_mode = common.plan.persistent.then_some(2);
        let properties = Properties { delivery_mode, ..Properties::default() }.encode().unwrap_or_default();
        let body = (0..common.plan.size_bytes).map(|at| at as u8).collect();
        Ok(Self {
            common,
            connection,
            channel,
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            properties,
            body,
            open: VecDeque::new(),
            first_open: 1,
            unconfirmed: 0,
            done: Published { published: 0, confirmed: 0, refused: 0, latency: Histogram::default() },
            limit: None,
        })
    }

    /// It ends by itself after so many.
    pub(crate) fn with_limit(mut self, messages: u64) -> Self {
        self.limit = Some(messages);
        self
    }

    /// Publishes until it is to stop, then waits for what is not confirmed.
    pub(crate) async fn run(mut self) -> Result<Published, BenchError> {
        match self.common.plan.rate {
            Some(rate) => self.paced(rate as f64 / self.common.plan.producers as f64).await?,
            None => self.full().await?,
        }
        self.connection.flush().await?;
        let rest = async {
            while self.unconfirmed > 0 {
                let event = self.connection.next().await?;
                self.take(event)?;
            }
            Ok::<_, BenchError>(())
        };
        if let Ok(result) = tokio::time::timeout(CONFIRM_WAIT, rest).await {
            result?;
        }
        let _ = self.connection.close().await;
        Ok(self.done)
    }

    fn is_to_stop(&self) -> bool {
        *self.common.stop.borrow() || self.limit.is_some_and(|limit| self.done.published >= limit)
    }

    /// As fast as confirms and the socket let it.
    async fn full(&mut self) -> Result<(), BenchError> {
        let mut batch = (BATCH_BYTES / self.body.len()).max(1) as u64;
        if batch > BATCH_MESSAGES {
            batch = BATCH_MESSAGES;
        }
        while !self.is_to_stop() {
            let room = self.room(batch);
            let room = self.limit.map_or(room, |limit| room.min(limit - self.done.published));
            if room == 0 {
                let event = self.wait().await?;
                if let Some(event) = event {
                    self.take(event)?;
                }
            } else {
                let now = self.common.now_ns();
                for _ in 0..room {
                    self.put(now)?;
                }
                self.count(room);
                self.connection.flush().await?;
            }
            while let Some(event) = self.connection.try_next() {
                self.take(event)?;
            }
        }
        Ok(())
    }

    /// The next event, or none when it is to stop.
    async fn wait(&mut self) -> Result<Option<Event>, BenchError> {
        let Self { connection, common, .. } = self;
        tokio::select! {
            event = connection.next() => Ok(Some(event?)),
            _ = common.stop.wait_for(|stop| *stop) => Ok(None),
        }
    }

    /// How many more may be published now: a quarter of the window at least, so that it is not woken for each.
    fn room(&self, batch: u64) -> u64 {
        let window = u64::from(self.common.plan.confirm_window);
        if window == 0 {
            return batch;
        }
        let room = window.saturating_sub(self.unconfirmed);
        if room < window.div_ceil(4) { 0 } else { room.min(batch) }
    }

    /// Each message at its moment. One that cannot leave then counts from then all the same.
    async fn paced(&mut self, per_second: f64) -> Result<(), BenchError> {
        let begin_ns = self.common.now_ns();
        let due_ns = |number: u64| begin_ns + (number as f64 / per_second * 1e9) as u64;
        let mut step = tokio::time::interval(PACE_STEP);
        step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.is_to_stop() {
            let now = self.common.now_ns();
            let mut count = 0;
            while due_ns(self.done.published + count) <= now
                && count < BATCH_MESSAGES
                && self.has_window(count)
            {
                let due = due_ns(self.done.published + count);
                self.put(due)?;
                count += 1;
            }
            self.count(count);
            if count > 0 {
                self.connection.flush().await?;
            }
            let Self { connection, common, .. } = self;
            let event = tokio::select! {
                event = connection.next() => Some(event?),
                _ = step.tick() => None,
                _ = common.stop.wait_for(|stop| *stop) => None,
            };
            if let Some(event) = event {
                self.take(event)?;
            }
            while let Some(event) = self.connection.try_next() {
                self.take(event)?;
            }
        }
        Ok(())
    }

    fn has_window(&self, more: u64) -> bool {
        let window = u64::from(self.common.plan.confirm_window);
        window == 0 || self.unconfirmed + more.min(1) <= window
    }

    fn put(&mut self, sent_ns: u64) -> Result<(), BenchError> {
        let number = self.done.published;
        self.body[..8].copy_from_slice(&sent_ns.to_be_bytes());
        self.body[8..16].copy_from_slice(&number.to_be_bytes());
        let publish = Publish {
            exchange: self.exchange.as_bytes(),
            routing_key: self.key.as_bytes(),
            mandatory: false,
            properties: &self.properties,
            body: &self.body,
        };
        let tag = self.connection.publish(self.channel, &publish)?;
        if tag > 0 {
            self.open.push_back(Some(sent_ns));
            self.unconfirmed += 1;
        }
        Ok(())
    }

    fn count(&mut self, messages: u64) {
        self.done.published += messages;
        self.common.progress.published.fetch_add(messages, Ordering::Relaxed);
    }

    fn take(&mut self, event: Event) -> Result<(), BenchError> {
        match event {
            Event::Confirm(confirm) => self.confirm(confirm),
            Event::ChannelClosed { code, text, .. } => {
                return Err(BenchError::Channel { who: "producer", code, text });
            }
            _ => {}
        }
        Ok(())
    }

    fn confirm(&mut self, confirm: Confirm) {
        let now = self.common.now_ns();
        let from = if confirm.multiple { self.first_open } else { confirm.tag };
        for tag in from..=confirm.tag {
            let Some(at) = tag.checked_sub(self.first_open) else { continue };
            let Some(sent) = self.open.get_mut(at as usize).and_then(Option::take) else { continue };
            self.unconfirmed -= 1;
            if confirm.is_ack {
                self.done.confirmed += 1;
                self.done.latency.record(now.saturating_sub(sent));
            } else {
                self.done.refused += 1;
            }
        }
        while matches!(self.open.front(), Some(None)) {
            self.open.pop_front();
            self.first_open += 1;
        }
    }
}
