//! Publishers: one a lane, at a steady rate, with confirms or in transactions.

use crate::lanes::{DELAY_MAX_MS, FAN, GROUPS, LANES, LATER, PRIORITIES, Publish};
use crate::ledger::Number;
use crate::world::{Client, World, about};
use anyhow::{Result, bail};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};
use rand::Rng;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// How often some messages are published.
const EVERY: Duration = Duration::from_millis(50);
/// How long a connection is kept.
const LIFE: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Publisher {
    lane: usize,
    /// Published with an id, and no confirm was seen: to be published again.
    unsure: Vec<Number>,
}

impl Publisher {
    pub(crate) fn new(lane: usize) -> Self {
        Self { lane, unsure: Vec::new() }
    }

    fn how(&self) -> Publish {
        LANES[self.lane].publish
    }

    /// The lanes that a message of this one comes into.
    fn lanes(&self) -> std::ops::Range<usize> {
        let count = if self.how() == Publish::Fan { 3 } else { 1 };
        self.lane..self.lane + count
    }

    /// Publishes so many, and waits for their confirms.
    async fn some(
        &mut self,
        world: &World,
        channel: &Channel,
        count: usize,
        dice: &mut StdRng,
    ) -> Result<()> {
        let mut numbers = Vec::with_capacity(count);
        for _ in 0..count {
            let mut sent = self.lanes().map(|lane| world.ledger.send(lane));
            let number = sent.next().unwrap_or_default();
            // The lanes of a fan are numbered alike: nobody else publishes there.
            sent.for_each(drop);
            numbers.push(number);
        }
        if self.how() == Publish::Once {
            self.unsure.extend(&numbers);
        }
        self.publish(world, channel, &numbers, dice).await?;
        if self.how() == Publish::Tx {
            return self.end_transaction(world, channel, &numbers, dice).await;
        }
        self.unsure.clear();
        Ok(())
    }

    async fn publish(
        &self,
        world: &World,
        channel: &Channel,
        numbers: &[Number],
        dice: &mut StdRng,
    ) -> Result<()> {
        let mut confirms = Vec::with_capacity(numbers.len());
        for &number in numbers {
            // Some come twice at once, and the queue must take one.
            let times = if self.how() == Publish::Once && dice.random_range(0..4) == 0 { 2 } else { 1 };
            for _ in 0..times {
                confirms.push((number, self.one(channel, number, dice).await?));
            }
        }
        if self.how() == Publish::Tx {
            return Ok(());
        }
        for (number, confirm) in confirms {
            match confirm.await? {
                Confirmation::Ack(_) => self.lanes().for_each(|lane| world.ledger.confirm(lane, number)),
                other => bail!("number {number} was not confirmed: {other:?}"),
            }
        }
        Ok(())
    }

    async fn one(
        &self,
        channel: &Channel,
        number: Number,
        dice: &mut StdRng,
    ) -> Result<impl Future<Output = lapin::Result<Confirmation>> + use<>> {
        let mut body = (self.lane as u16).to_be_bytes().to_vec();
        body.extend(number.to_be_bytes());
        let size = if dice.random_range(0..100) == 0 { 20_000 } else { dice.random_range(10..600) };
        body.resize(size, 7);
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        let mut headers = FieldTable::default();
        match self.how() {
            Publish::Urgent => properties = properties.with_priority((number % PRIORITIES) as u8),
            Publish::Once => properties = properties.with_message_id(number.to_string().into()),
            Publish::Delayed => {
                let delay = AMQPValue::LongUInt(dice.random_range(0..=DELAY_MAX_MS));
                headers.insert("x-delay".into(), delay);
            }
            Publish::Grouped => {
                let group = format!("group {}", number % GROUPS);
                headers.insert("group".into(), AMQPValue::LongString(group.into()));
            }
            _ => {}
        }
        let properties = properties.with_headers(headers);
        let (exchange, key) = match self.how() {
            Publish::Delayed => (LATER, LANES[self.lane].name),
            Publish::Fan => (FAN, ""),
            _ => ("", LANES[self.lane].name),
        };
        let options = BasicPublishOptions::default();
        Ok(channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await?)
    }

    async fn end_transaction(
        &self,
        world: &World,
        channel: &Channel,
        numbers: &[Number],
        dice: &mut StdRng,
    ) -> Result<()> {
        if dice.random_range(0..10) == 0 {
            channel.tx_rollback().await?;
            numbers.iter().for_each(|number| world.ledger.take_back(self.lane, *number));
        } else {
            channel.tx_commit().await?;
            numbers.iter().for_each(|number| world.ledger.confirm(self.lane, *number));
        }
        Ok(())
    }
}

impl Client for Publisher {
    fn name(&self) -> String {
        format!("publisher of {}", LANES[self.lane].name)
    }

    fn drains(&self) -> bool {
        false
    }

    async fn live(&mut self, world: &World) -> Result<()> {
        let mut dice = world.dice();
        let (connection, channel) = world.connect().await?;
        match self.how() {
            Publish::Tx => channel.tx_select().await?,
            _ => channel.confirm_select(ConfirmSelectOptions::default()).await?,
        }
        if !self.unsure.is_empty() {
            self.unsure.iter().for_each(|number| world.ledger.repeat(self.lane, *number));
            let again = self.unsure.clone();
            self.publish(world, &channel, &again, &mut dice).await?;
            self.unsure.clear();
        }
        let until = Instant::now() + about(&mut dice, LIFE);
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut due = 0.0;
        while Instant::now() < until {
            ticks.tick().await;
            due += world.rate * EVERY.as_secs_f64();
            let count = due as usize;
            due -= count as f64;
            self.some(world, &channel, count, &mut dice).await?;
        }
        connection.close(200, "done".into()).await?;
        Ok(())
    }
}
