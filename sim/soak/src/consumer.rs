//! Consumers: they come and go, ack, give back and reject; and the reader of a stream.

use crate::lanes::{DEAD, Habit, LANES};
use crate::ledger::{Flags, Number};
use crate::world::{Client, World, about};
use anyhow::{Context, Result, ensure};
use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    BasicRejectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer as Deliveries};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a consumer stays.
const LIFE: Duration = Duration::from_secs(8);
/// Deliveries that are acked at once by those who ack several.
const SEVERAL: usize = 10;

/// What a body says: the lane and the number.
fn read(body: &[u8]) -> Option<(usize, Number)> {
    let (lane, rest) = body.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*lane).into(), Number::from_be_bytes(*rest.first_chunk()?)))
}

/// The next delivery; `None`: it is time to go.
async fn next(deliveries: &mut Deliveries, until: Instant) -> Result<Option<Delivery>> {
    match tokio::time::timeout_at(until, deliveries.next()).await {
        Err(_) => Ok(None),
        Ok(None) => anyhow::bail!("the consumer was ended"),
        Ok(Some(delivery)) => Ok(Some(delivery?)),
    }
}

/// Goes in one of the ways in which programs go.
async fn go(connection: Connection, channel: Channel, tag: &str, dice: &mut StdRng) -> Result<()> {
    match dice.random_range(0..4) {
        0 => {
            channel.basic_cancel(tag.into(), BasicCancelOptions::default()).await?;
            connection.close(200, "done".into()).await?;
        }
        1 => channel.close(200, "done".into()).await?,
        2 => connection.close(200, "done".into()).await?,
        // It just goes.
        _ => {}
    }
    Ok(())
}

/// One of a lane's consumers, or (`None`) of those of dead letters.
pub(crate) struct Consumer(pub(crate) Option<usize>);

impl Consumer {
    fn queue(&self) -> &'static str {
        self.0.map_or(DEAD, |lane| LANES[lane].name)
    }

    /// Notes a delivery and settles it; `several`: acks together with those before it.
    async fn settle(
        &self,
        world: &World,
        delivery: Delivery,
        held: &mut Vec<(usize, Number)>,
        several: bool,
        dice: &mut StdRng,
    ) -> Result<()> {
        let Delivery { data, redelivered, acker, .. } = delivery;
        let (lane, number) = read(&data).context("a body that nobody published")?;
        // A fan's messages name the first of its lanes.
        let lane = self.0.unwrap_or(lane);
        let ledger = &world.ledger;
        ledger.receive(lane, number, Flags { redelivered, aside: self.0.is_none() });
        let habit = self.0.map_or(Habit::Mixed, |lane| LANES[lane].habit);
        let chance = dice.random_range(0..100);
        let back = BasicNackOptions { requeue: true, multiple: false };
        match habit {
            Habit::Reject if chance < 30 => {
                acker.nack(BasicNackOptions { requeue: false, multiple: false }).await?;
            }
            Habit::Fail if chance < 10 => drop(acker.reject(BasicRejectOptions { requeue: true }).await?),
            Habit::Mixed if chance < 3 && !redelivered => drop(acker.nack(back).await?),
            Habit::Mixed if chance < 4 && !redelivered => {
                acker.reject(BasicRejectOptions { requeue: true }).await?;
            }
            _ if several => {
                held.push((lane, number));
                if held.len() >= SEVERAL {
                    held.drain(..).for_each(|(lane, number)| ledger.done(lane, number));
                    acker.ack(BasicAckOptions { multiple: true }).await?;
                }
            }
            _ => {
                ledger.done(lane, number);
                acker.ack(BasicAckOptions::default()).await?;
            }
        }
        Ok(())
    }
}

impl Client for Consumer {
    fn name(&self) -> String {
        format!("consumer of {}", self.queue())
    }

    fn drains(&self) -> bool {
        true
    }

    async fn live(&mut self, world: &World) -> Result<()> {
        let mut dice = world.dice();
        let (connection, channel) = world.connect().await?;
        let several = dice.random_range(0..3) == 0;
        let least = if several { 2 * SEVERAL as u16 } else { 1 };
        channel.basic_qos(dice.random_range(least..300), BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        if let Some(lane) = self.0 {
            (LANES[lane].consume)(&mut arguments);
        }
        let options = BasicConsumeOptions::default();
        let mut deliveries =
            channel.basic_consume(self.queue().into(), "".into(), options, arguments).await?;
        let until = Instant::now() + about(&mut dice, LIFE);
        let mut held = Vec::new();
        while let Some(delivery) = next(&mut deliveries, until).await? {
            self.settle(world, delivery, &mut held, several, &mut dice).await?;
        }
        let tag = deliveries.tag();
        go(connection, channel, tag.as_str(), &mut dice).await
    }
}

/// Reads a stream from where it was, and looks that each offset is there and says what it said.
pub(crate) struct Reader {
    lane: usize,
    /// Which numbers were read last, by offset.
    read: BTreeMap<u64, Number>,
}

/// How far back a reader remembers.
const REMEMBERED: usize = 20_000;

impl Reader {
    pub(crate) fn new(lane: usize) -> Self {
        Self { lane, read: BTreeMap::new() }
    }

    /// Notes what is at an offset. What a kill undid may be another message the next time; what was confirmed not.
    fn note(&mut self, offset: u64, number: Number, confirmed: Number) -> Result<()> {
        if let Some((last, was)) = self.read.range(..offset).next_back() {
            ensure!(*last + 1 == offset, "offset {offset} follows {last}");
            ensure!(*was < number, "number {number} at {offset} follows {was} of the same publisher");
        }
        if let Some(was) = self.read.insert(offset, number)
            && was != number
        {
            ensure!(
                was > confirmed,
                "offset {offset} was number {was}, which was confirmed, and is {number} now"
            );
            self.read.split_off(&(offset + 1));
        }
        while self.read.len() > REMEMBERED {
            self.read.pop_first();
        }
        Ok(())
    }
}

impl Client for Reader {
    fn name(&self) -> String {
        format!("reader of {}", LANES[self.lane].name)
    }

    fn drains(&self) -> bool {
        true
    }

    async fn live(&mut self, world: &World) -> Result<()> {
        let mut dice = world.dice();
        let (connection, channel) = world.connect().await?;
        channel.basic_qos(dice.random_range(10..500), BasicQosOptions::default()).await?;
        // From the last one that is sure to be there; what follows is read again.
        let sure = world.ledger.highest_confirmed(self.lane);
        let from = self.read.iter().rev().find(|(_, number)| **number <= sure).map(|(offset, _)| *offset);
        if from.is_none() {
            self.read.clear();
        }
        let start = from.map_or_else(
            || AMQPValue::LongString("first".into()),
            |offset| AMQPValue::LongLongInt(offset as i64),
        );
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), start);
        let options = BasicConsumeOptions::default();
        let queue = LANES[self.lane].name;
        let mut deliveries = channel.basic_consume(queue.into(), "".into(), options, arguments).await?;
        let until = Instant::now() + about(&mut dice, LIFE);
        while let Some(Delivery { data, properties, acker, .. }) = next(&mut deliveries, until).await? {
            let (_, number) = read(&data).context("a body that nobody published")?;
            let headers = properties.headers().as_ref();
            let offset = headers.and_then(|headers| match headers.inner().get("x-stream-offset") {
                Some(AMQPValue::LongLongInt(offset)) => u64::try_from(*offset).ok(),
                _ => None,
            });
            let offset = offset.context("a message of a stream without its offset")?;
            world.ledger.receive(self.lane, number, Flags { redelivered: false, aside: true });
            self.note(offset, number, world.ledger.highest_confirmed(self.lane))?;
            world.ledger.done(self.lane, number);
            acker.ack(BasicAckOptions::default()).await?;
        }
        let tag = deliveries.tag();
        go(connection, channel, tag.as_str(), &mut dice).await
    }
}
