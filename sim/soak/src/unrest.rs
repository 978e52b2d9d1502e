//! Unrest beside the counted load: connections that come and go, queues that are made, purged and deleted, policies
//! that change. Nothing is promised here; what is looked at is that it harms nobody and leaves nothing behind.

use crate::lanes::LOSSY;
use crate::world::{Client, World, about};
use anyhow::Result;
use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use rand::Rng;
use rand::rngs::StdRng;
use std::time::Duration;

/// Names of queues that come and go: so many, so that what the broker keeps a name has an end.
const NAMES: u32 = 20;

/// What one of the restless does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrest {
    /// Connects, opens channels, declares queues of its own, goes.
    Connections,
    /// Makes queues of all kinds, publishes, purges, deletes.
    Queues,
    /// Publishes without confirms to a queue, reads some of it, purges it.
    Losses,
    /// Sets and clears policies.
    Policies,
}

impl Client for Unrest {
    fn name(&self) -> String {
        format!("{self:?}")
    }

    fn drains(&self) -> bool {
        false
    }

    fn is_reckless(&self) -> bool {
        // Queues go while others use them.
        *self != Self::Policies
    }

    async fn live(&mut self, world: &World) -> Result<()> {
        let mut dice = world.dice();
        tokio::time::sleep(about(&mut dice, Duration::from_millis(300))).await;
        match self {
            Self::Connections => connections(world, &mut dice).await,
            Self::Queues => queues(world, &mut dice).await,
            Self::Losses => losses(world, &mut dice).await,
            Self::Policies => policies(world, &mut dice).await,
        }
    }
}

async fn publish(channel: &Channel, exchange: &str, key: &str, size: usize) -> Result<()> {
    let options = BasicPublishOptions { mandatory: size.is_multiple_of(2), ..Default::default() };
    let properties = BasicProperties::default().with_delivery_mode(1 + (size % 2) as u8);
    // Without confirm mode there is nothing to wait for.
    drop(channel.basic_publish(exchange.into(), key.into(), options, &vec![7; size], properties).await?);
    Ok(())
}

async fn connections(world: &World, dice: &mut StdRng) -> Result<()> {
    let (connection, _) = world.connect().await?;
    for _ in 0..dice.random_range(1..5) {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
        let (options, key) = (QueueBindOptions::default(), format!("soak.{}.#", dice.random_range(0..9)));
        let name = queue.name().clone();
        channel
            .queue_bind(name.clone(), "amq.topic".into(), key.as_str().into(), options, FieldTable::default())
            .await?;
        for n in 0..dice.random_range(0..20) {
            publish(&channel, "amq.topic", &format!("soak.{}.x", n % 9), n).await?;
        }
        if let Some(got) = channel.basic_get(name, BasicGetOptions::default()).await? {
            got.delivery.acker.ack(BasicAckOptions::default()).await?;
        }
    }
    if dice.random_range(0..2) == 0 {
        connection.close(200, "done".into()).await?;
    }
    Ok(())
}

fn any_arguments(dice: &mut StdRng) -> FieldTable {
    let mut arguments = FieldTable::default();
    let kinds = ["classic", "classic", "quorum", "stream"];
    let kind = kinds[dice.random_range(0..kinds.len())];
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let limits = [
        ("x-max-length", 10),
        ("x-message-ttl", 100),
        ("x-expires", 2000),
        ("x-max-priority", 5),
        ("x-max-length-bytes", 5000),
    ];
    // A stream has limits of its own, and a quorum queue its priorities.
    if kind == "classic" && dice.random_range(0..6) != 0 {
        let (name, value) = limits[dice.random_range(0..limits.len())];
        arguments.insert(name.into(), AMQPValue::LongInt(value));
    }
    arguments
}

async fn queues(world: &World, dice: &mut StdRng) -> Result<()> {
    let (connection, channel) = world.connect().await?;
    for _ in 0..dice.random_range(1..6) {
        let name = format!("soak.temp.{}", dice.random_range(0..NAMES));
        // It may be there with other arguments: then this channel ends, and all begins anew.
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name.as_str().into(), durable, any_arguments(dice)).await?;
        for n in 0..dice.random_range(0..200) {
            publish(&channel, "", &name, n).await?;
        }
        if dice.random_range(0..2) == 0 {
            channel.queue_purge(name.as_str().into(), QueuePurgeOptions::default()).await?;
        }
        if dice.random_range(0..3) == 0 {
            channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn losses(world: &World, dice: &mut StdRng) -> Result<()> {
    let (connection, channel) = world.connect().await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut deliveries =
        channel.basic_consume(LOSSY.into(), "".into(), options, FieldTable::default()).await?;
    for n in 0..dice.random_range(10..500) {
        publish(&channel, "", LOSSY, n * 10).await?;
    }
    let quiet = Duration::from_millis(200);
    while let Ok(Some(delivery)) = tokio::time::timeout(quiet, deliveries.next()).await {
        delivery?;
    }
    channel.queue_purge(LOSSY.into(), QueuePurgeOptions::default()).await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Policies for the queues that come and go may lose messages; those for the counted ones only set what is never
/// reached, which has all queues look again at what they act by.
async fn policies(world: &World, dice: &mut StdRng) -> Result<()> {
    let temporary = [
        "{\"max-length\": 5}",
        "{\"message-ttl\": 50}",
        "{\"expires\": 1000}",
        "{\"max-length-bytes\": 100}",
    ];
    let counted =
        ["{\"max-length\": 100000000}", "{\"consumer-timeout\": 600000}", "{\"message-ttl\": 86400000}"];
    let (name, pattern, choices) = match dice.random_range(0..2) {
        0 => ("soak-temporary", "^soak\\.(temp|lossy)", &temporary[..]),
        _ => ("soak-counted", "^soak\\.[a-ks]", &counted[..]),
    };
    let definition = choices[dice.random_range(0..choices.len())];
    world.place.ask(&["policies", "set", name, pattern, definition, "--apply-to", "queues"]).await?;
    tokio::time::sleep(about(dice, Duration::from_secs(2))).await;
    world.place.ask(&["policies", "clear", name]).await?;
    tokio::time::sleep(about(dice, Duration::from_secs(1))).await;
    Ok(())
}
