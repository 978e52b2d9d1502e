//! The clients: two producers with confirms, one more for the rule and one for messages that die, one with
//! transactions, a consumer on each queue.

use crate::ledger::{
    BOUND, BRIEF, DUE, KEPT, Kind, Ledger, Number, ONCE, PRIORITIES, PUBLISHED, QUEUES, STREAM, URGENT, WORK,
};
use anyhow::{Context, Result, bail};
use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const FANOUT: &str = "crash.all";
/// Messages wait here.
const LATER: &str = "crash.later";
/// The longest they do; some are due while the broker is down.
const DELAY_MAX_MS: u64 = 1500;
/// The queue that the rule consumes.
const INTO_RULE: &str = "crash.in";
/// What the broker is started with: a rule that hands every message on, to two queues in one commit with its ack.
pub(crate) const TOPOLOGY: &str = r#"
queues: {crash.in: {}, crash.moved: {}, crash.copied: {}}
rules:
  move:
    on: {queue: crash.in}
    do:
      - publish: {exchange: "", routing_key: crash.moved}
      - publish: {exchange: "", routing_key: crash.copied}
"#;
/// How long ids are remembered: longer than a broker is down.
const ID_KEPT_MS: i32 = 600_000;
/// How long messages live in the queue from which they expire.
const BRIEF_MS: i32 = 40;
/// Publishes that a producer lets wait for their confirms.
const WINDOW: usize = 200;
const PREFETCH: u16 = 100;
/// The drain ends when all that was promised has come, and nothing came for so long.
const QUIET: Duration = Duration::from_millis(500);

/// How long clients may take to notice that the broker is gone.
const NOTICE: Duration = Duration::from_secs(2);

/// Running clients; they end when the broker does.
pub(crate) struct Load(Vec<JoinHandle<()>>);

impl Load {
    /// Waits until every client has noticed that the broker is gone, and ends those that do not.
    pub(crate) async fn wait(self) {
        for mut task in self.0 {
            // A client ends with the error of its cut connection; that is the point of the exercise. One that was
            // cut off in its handshake may wait for ever; it can learn nothing any more, so it is ended.
            if tokio::time::timeout(NOTICE, &mut task).await.is_err() {
                task.abort();
                // What it still receives belongs to this round.
                let _ = task.await;
            }
        }
    }
}

/// Declares what is used and starts the clients.
pub(crate) async fn start(uri: &str, round: u32, seed: u64, ledger: &Arc<Ledger>) -> Result<Load> {
    declare(uri).await?;
    let mut tasks = Vec::new();
    let mixes: [fn(&mut StdRng) -> Kind; 5] = [any_queue, any_queue, |_| Kind::Rule, any_death, any_special];
    for (index, mix) in (0u64..).zip(mixes) {
        let (uri, ledger) = (uri.to_owned(), Arc::clone(ledger));
        let producer = u64::from(round) * 10 + index;
        tasks.push(spawn(async move { produce(&uri, producer, seed ^ producer, &ledger, mix).await }));
    }
    let (transactor, books) = (uri.to_owned(), Arc::clone(ledger));
    let producer = u64::from(round) * 10 + 9;
    tasks.push(spawn(async move { transact(&transactor, producer, &books).await }));
    let habits = (0..PUBLISHED)
        .map(|queue| (queue, Habit::Requeue))
        .chain([(WORK, Habit::Reject), (KEPT, Habit::AckSome)]);
    for (queue, habit) in habits {
        let (uri, ledger) = (uri.to_owned(), Arc::clone(ledger));
        tasks.push(spawn(async move { consume(&uri, queue, seed ^ queue as u64, &ledger, habit).await }));
    }
    let (reader, books) = (uri.to_owned(), Arc::clone(ledger));
    tasks.push(spawn(async move { read_stream(&reader, &books).await }));
    Ok(Load(tasks))
}

/// Consumes until all that was promised has come, and then until it is quiet.
pub(crate) async fn drain(uri: &str, ledger: &Arc<Ledger>, patience: Duration) -> Result<()> {
    declare(uri).await?;
    let tasks: Vec<_> = (0..QUEUES.len())
        .map(|queue| {
            let (uri, ledger) = (uri.to_owned(), Arc::clone(ledger));
            spawn(async move {
                match queue {
                    STREAM => read_stream(&uri, &ledger).await,
                    _ => consume(&uri, queue, 0, &ledger, Habit::Ack).await,
                }
            })
        })
        .collect();
    let deadline = Instant::now() + patience;
    let mut before = None;
    while Instant::now() < deadline {
        tokio::time::sleep(QUIET).await;
        let now = ledger.deliveries();
        if before == Some(now) && ledger.is_complete() && queues_are_empty(uri).await? {
            break;
        }
        before = Some(now);
    }
    tasks.iter().for_each(JoinHandle::abort);
    Ok(())
}

fn spawn(work: impl Future<Output = Result<()>> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        // See `Load::wait`.
        let _ = work.await;
    })
}

async fn connect(uri: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// Declares all that is used, as it may be already.
pub(crate) async fn declare(uri: &str) -> Result<()> {
    let (connection, channel) = connect(uri).await.context("the broker listens, but does not let us in")?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(FANOUT.into(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    for index in (0..PUBLISHED).chain(WORK..QUEUES.len()) {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(QUEUES[index].into(), durable, arguments(index)).await?;
    }
    let mut by_key = FieldTable::default();
    by_key.insert("x-delayed-type".into(), AMQPValue::LongString("direct".into()));
    let delayed = ExchangeKind::Custom("x-delayed-message".into());
    channel.exchange_declare(LATER.into(), delayed, durable, by_key).await?;
    let (due, binding) = (QUEUES[DUE], QueueBindOptions::default());
    channel.queue_bind(due.into(), LATER.into(), due.into(), binding, FieldTable::default()).await?;
    for queue in &QUEUES[..BOUND] {
        let binding = QueueBindOptions::default();
        channel.queue_bind((*queue).into(), FANOUT.into(), "".into(), binding, FieldTable::default()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// What a queue is declared with.
fn arguments(queue: usize) -> FieldTable {
    let mut arguments = FieldTable::default();
    if queue == URGENT {
        arguments.insert("x-max-priority".into(), AMQPValue::LongInt(PRIORITIES as i32 - 1));
    }
    if queue == WORK || queue == BRIEF {
        let key = AMQPValue::LongString(QUEUES[queue + 1].into());
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
        arguments.insert("x-dead-letter-routing-key".into(), key);
    }
    match queue {
        BRIEF => drop(arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(BRIEF_MS))),
        ONCE => {
            arguments.insert("x-message-deduplication".into(), AMQPValue::Boolean(true));
            arguments.insert("x-cache-ttl".into(), AMQPValue::LongInt(ID_KEPT_MS));
        }
        KEPT => drop(arguments.insert("x-retain".into(), AMQPValue::LongString("1D".into()))),
        STREAM => drop(arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()))),
        _ => {}
    }
    arguments
}

async fn queues_are_empty(uri: &str) -> Result<bool> {
    let (connection, channel) = connect(uri).await?;
    let mut ready = 0;
    for queue in QUEUES[..STREAM].iter().copied().chain([INTO_RULE, "move.failed"]) {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        ready += channel.queue_declare(queue.into(), passive, FieldTable::default()).await?.message_count();
    }
    connection.close(200, "done".into()).await?;
    Ok(ready == 0)
}

async fn publish(
    channel: &Channel,
    (exchange, key): (&str, &str),
    number: Number,
    size: usize,
) -> Result<impl Future<Output = lapin::Result<lapin::Confirmation>> + use<>> {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(size.max(8), number as u8);
    let mut persistent = BasicProperties::default().with_delivery_mode(2);
    if key == QUEUES[URGENT] {
        persistent = persistent.with_priority((number % PRIORITIES) as u8);
    } else if key == QUEUES[ONCE] {
        persistent = persistent.with_message_id(number.to_string().into());
    } else if exchange == LATER {
        let mut headers = FieldTable::default();
        headers.insert("x-delay".into(), AMQPValue::LongLongInt((number * 7919 % DELAY_MAX_MS) as i64));
        persistent = persistent.with_headers(headers);
    }
    Ok(channel
        .basic_publish(exchange.into(), key.into(), BasicPublishOptions::default(), &body, persistent)
        .await?)
}

fn any_queue(dice: &mut StdRng) -> Kind {
    match dice.random_range(0..8) {
        0 => Kind::Fanout,
        other => Kind::Single(other % PUBLISHED),
    }
}

fn any_death(dice: &mut StdRng) -> Kind {
    if dice.random_range(0..2) == 0 { Kind::Rejectable } else { Kind::Mortal }
}

fn any_special(dice: &mut StdRng) -> Kind {
    [Kind::Delayed, Kind::Once, Kind::Kept, Kind::Streamed][dice.random_range(0..4)]
}

/// The exchange and the key of a message.
fn address(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Single(queue) => ("", QUEUES[queue]),
        Kind::Rule => ("", INTO_RULE),
        Kind::Rejectable => ("", QUEUES[WORK]),
        Kind::Mortal => ("", QUEUES[BRIEF]),
        Kind::Delayed => (LATER, QUEUES[DUE]),
        Kind::Once => ("", QUEUES[ONCE]),
        Kind::Kept => ("", QUEUES[KEPT]),
        Kind::Streamed => ("", QUEUES[STREAM]),
        Kind::Fanout | Kind::Transaction => (FANOUT, ""),
    }
}

/// Publishes again what an earlier round left open, as a publisher does that wants each message there once.
async fn repeat(channel: &Channel, ledger: &Ledger, numbers: Vec<Number>) -> Result<()> {
    let mut confirms = Vec::with_capacity(numbers.len());
    for number in numbers {
        confirms.push((number, publish(channel, address(Kind::Once), number, 8).await?));
    }
    for (number, confirm) in confirms {
        note_confirm(ledger, number, confirm.await?)?;
    }
    Ok(())
}

fn note_confirm(ledger: &Ledger, number: Number, confirmation: lapin::Confirmation) -> Result<()> {
    match confirmation {
        lapin::Confirmation::Ack(_) => ledger.confirm(number),
        other => bail!("number {number} was not confirmed: {other:?}"),
    }
    Ok(())
}

async fn produce(
    uri: &str,
    producer: u64,
    seed: u64,
    ledger: &Ledger,
    mix: impl Fn(&mut StdRng) -> Kind,
) -> Result<()> {
    let mut dice = StdRng::seed_from_u64(seed);
    let (_connection, channel) = connect(uri).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let specials = mix(&mut dice);
    if [Kind::Delayed, Kind::Once, Kind::Kept, Kind::Streamed].contains(&specials) {
        repeat(&channel, ledger, ledger.unsure(Kind::Once)).await?;
    }
    let mut waiting = VecDeque::new();
    loop {
        let kind = mix(&mut dice);
        let number = ledger.send(producer, kind);
        let size = if dice.random_range(0..50) == 0 { 20_000 } else { dice.random_range(8..300) };
        // Some ids come twice at once.
        if kind == Kind::Once && dice.random_range(0..4) == 0 {
            drop(publish(&channel, address(kind), number, size).await?);
        }
        let confirm = publish(&channel, address(kind), number, size).await?;
        waiting.push_back((number, confirm));
        while waiting.len() >= WINDOW {
            let Some((number, confirm)) = waiting.pop_front() else { break };
            note_confirm(ledger, number, confirm.await?)?;
        }
    }
}

async fn transact(uri: &str, producer: u64, ledger: &Ledger) -> Result<()> {
    let (_connection, channel) = connect(uri).await?;
    channel.tx_select().await?;
    loop {
        let number = ledger.send(producer, Kind::Transaction);
        for queue in [QUEUES[0], QUEUES[1]] {
            // Without confirm mode there is nothing to wait for: the commit is the promise.
            drop(publish(&channel, ("", queue), number, 50).await?);
        }
        channel.tx_commit().await?;
        ledger.confirm(number);
    }
}

/// What a consumer does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Note and ack all.
    Ack,
    /// Note all, and requeue some the first time.
    Requeue,
    /// Ack half and hold the rest, and note nothing: what was acked is remembered by the queue.
    AckSome,
    /// Reject half; what it gets comes again elsewhere or not at all, so nothing is noted but the acks.
    Reject,
}

async fn consume(uri: &str, queue: usize, seed: u64, ledger: &Ledger, habit: Habit) -> Result<()> {
    let mut dice = StdRng::seed_from_u64(seed);
    let (_connection, channel) = connect(uri).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut deliveries =
        channel.basic_consume(QUEUES[queue].into(), "".into(), options, FieldTable::default()).await?;
    while let Some(delivery) = deliveries.next().await {
        let Delivery { data, redelivered, acker, .. } = delivery?;
        let number = data.first_chunk().map_or(0, |bytes| Number::from_be_bytes(*bytes));
        if !matches!(habit, Habit::Reject | Habit::AckSome) {
            ledger.receive(queue, number, redelivered);
        }
        if habit == Habit::AckSome && dice.random_range(0..2) == 0 {
            acker.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
            continue;
        }
        if habit == Habit::Requeue && !redelivered && dice.random_range(0..20) == 0 {
            acker.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
        } else if habit == Habit::Reject && dice.random_range(0..2) == 0 {
            acker.nack(BasicNackOptions { requeue: false, multiple: false }).await?;
        } else {
            if habit == Habit::Reject {
                ledger.ack(number);
            }
            acker.ack(BasicAckOptions::default()).await?;
        }
    }
    Ok(())
}

/// Reads the stream from the last offset that is sure, or from its beginning.
async fn read_stream(uri: &str, ledger: &Ledger) -> Result<()> {
    let (_connection, channel) = connect(uri).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    let from = ledger.sure_offset().unwrap_or(0);
    arguments.insert("x-stream-offset".into(), AMQPValue::LongLongInt(from as i64));
    let options = BasicConsumeOptions::default();
    let mut deliveries = channel.basic_consume(QUEUES[STREAM].into(), "".into(), options, arguments).await?;
    while let Some(delivery) = deliveries.next().await {
        let Delivery { data, properties, acker, .. } = delivery?;
        let number = data.first_chunk().map_or(0, |bytes| Number::from_be_bytes(*bytes));
        let offset = properties.headers().as_ref().and_then(|headers| headers.inner().get("x-stream-offset"));
        let Some(AMQPValue::LongLongInt(offset)) = offset else {
            bail!("number {number} came out of the stream without its offset");
        };
        ledger.read(*offset as u64, number);
        acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
