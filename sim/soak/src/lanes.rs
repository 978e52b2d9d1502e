//! The queues whose messages are counted: how each is declared, published to and consumed.

use anyhow::Result;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

/// How messages get into a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    /// To the queue, with confirms.
    Direct,
    /// The same, with priorities.
    Urgent,
    /// With a delay of up to [`DELAY_MAX_MS`].
    Delayed,
    /// Through a fanout exchange, into this lane and the next two.
    Fan,
    /// In transactions, some of which are rolled back.
    Tx,
    /// With ids, some more than once.
    Once,
    /// With a header that names one of some groups.
    Grouped,
    /// By the publisher of another lane.
    No,
}

/// What consumers do with what they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Ack, one by one or several at once, and give some back.
    Mixed,
    /// Reject some, which go to the queue for dead letters.
    Reject,
    /// Reject some to the same queue, until the delivery limit.
    Fail,
    /// There are none: messages expire.
    Nobody,
    /// Read as a stream.
    Read,
}

/// See the module.
pub(crate) struct Lane {
    /// The queue.
    pub(crate) name: &'static str,
    pub(crate) publish: Publish,
    pub(crate) habit: Habit,
    pub(crate) consumers: u32,
    pub(crate) arguments: fn(&mut FieldTable),
    /// Of its consumers.
    pub(crate) consume: fn(&mut FieldTable),
}

pub(crate) const DELAY_MAX_MS: u32 = 3000;
pub(crate) const PRIORITIES: u64 = 10;
pub(crate) const GROUPS: u64 = 20;
/// Where dead letters of several lanes go.
pub(crate) const DEAD: &str = "soak.dead";
pub(crate) const LATER: &str = "soak.later";
pub(crate) const FAN: &str = "soak.fan";
/// What is published here and purged, deleted and changed by policies is not counted.
pub(crate) const LOSSY: &str = "soak.lossy";

fn nothing(_: &mut FieldTable) {}

fn to_dead(arguments: &mut FieldTable) {
    text(arguments, "x-dead-letter-exchange", "");
    text(arguments, "x-dead-letter-routing-key", DEAD);
}

fn text(arguments: &mut FieldTable, name: &str, value: &str) {
    arguments.insert(name.into(), AMQPValue::LongString(value.into()));
}

fn number(arguments: &mut FieldTable, name: &str, value: i32) {
    arguments.insert(name.into(), AMQPValue::LongInt(value));
}

const fn lane(name: &'static str, publish: Publish, habit: Habit) -> Lane {
    Lane { name, publish, habit, consumers: 2, arguments: nothing, consume: nothing }
}

/// All of them; the place in the list is in each body.
pub(crate) static LANES: [Lane; 17] = [
    Lane { consumers: 3, ..lane("soak.plain", Publish::Direct, Habit::Mixed) },
    Lane {
        arguments: |it| number(it, "x-max-priority", PRIORITIES as i32 - 1),
        ..lane("soak.urgent", Publish::Urgent, Habit::Mixed)
    },
    Lane {
        arguments: |it| {
            text(it, "x-queue-type", "quorum");
            number(it, "x-delivery-limit", 3);
            to_dead(it);
        },
        ..lane("soak.quorum", Publish::Direct, Habit::Fail)
    },
    Lane { arguments: to_dead, ..lane("soak.work", Publish::Direct, Habit::Reject) },
    Lane {
        arguments: |it| {
            to_dead(it);
            number(it, "x-message-ttl", 50);
        },
        ..lane("soak.brief", Publish::Direct, Habit::Nobody)
    },
    lane("soak.due", Publish::Delayed, Habit::Mixed),
    lane("soak.fan.a", Publish::Fan, Habit::Mixed),
    lane("soak.fan.b", Publish::No, Habit::Mixed),
    lane("soak.fan.c", Publish::No, Habit::Mixed),
    lane("soak.tx", Publish::Tx, Habit::Mixed),
    Lane {
        arguments: |it| {
            it.insert("x-message-deduplication".into(), AMQPValue::Boolean(true));
            number(it, "x-cache-ttl", 20_000);
        },
        ..lane("soak.once", Publish::Once, Habit::Mixed)
    },
    Lane {
        consumers: 3,
        arguments: |it| {
            it.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        },
        ..lane("soak.single", Publish::Direct, Habit::Mixed)
    },
    Lane { consume: |it| number(it, "x-rate", 1000), ..lane("soak.paced", Publish::Direct, Habit::Mixed) },
    Lane {
        arguments: |it| {
            text(it, "x-delayed-retry-type", "all");
            number(it, "x-delayed-retry-min", 100);
        },
        ..lane("soak.retry", Publish::Direct, Habit::Mixed)
    },
    Lane {
        consumers: 4,
        arguments: |it| text(it, "x-group-by", "header:group"),
        ..lane("soak.groups", Publish::Grouped, Habit::Mixed)
    },
    Lane {
        arguments: |it| number(it, "x-retain-bytes", 4 << 20),
        ..lane("soak.kept", Publish::Direct, Habit::Mixed)
    },
    Lane {
        consumers: 1,
        arguments: |it| {
            text(it, "x-queue-type", "stream");
            number(it, "x-max-length-bytes", 16 << 20);
            number(it, "x-stream-max-segment-size-bytes", 1 << 20);
        },
        ..lane("soak.stream", Publish::Direct, Habit::Read)
    },
];

/// Declares all that is used; asked for again after each start, when it must still be as it was.
pub(crate) async fn declare(channel: &Channel) -> Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    for lane in &LANES {
        let mut arguments = FieldTable::default();
        (lane.arguments)(&mut arguments);
        channel.queue_declare(lane.name.into(), durable, arguments).await?;
    }
    for name in [DEAD, LOSSY] {
        channel.queue_declare(name.into(), durable, FieldTable::default()).await?;
    }
    let mut later = FieldTable::default();
    text(&mut later, "x-delayed-type", "direct");
    let lasting = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let delayed = ExchangeKind::Custom("x-delayed-message".into());
    channel.exchange_declare(LATER.into(), delayed, lasting, later).await?;
    channel.exchange_declare(FAN.into(), ExchangeKind::Fanout, lasting, FieldTable::default()).await?;
    let fan = LANES.iter().filter(|lane| lane.name.starts_with(FAN)).map(|lane| (lane.name, FAN));
    let due = LANES.iter().filter(|lane| lane.publish == Publish::Delayed).map(|lane| (lane.name, LATER));
    for (queue, exchange) in fan.chain(due) {
        let options = QueueBindOptions::default();
        channel
            .queue_bind(queue.into(), exchange.into(), queue.into(), options, FieldTable::default())
            .await?;
    }
    Ok(())
}
