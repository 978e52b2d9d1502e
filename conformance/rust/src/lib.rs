//! What the lapin contracts share: connections to `$AMQP_URL`, names nobody else uses, and short forms of
//! lapin's calls. Nothing here sleeps: a test waits for an answer of the server.

use futures_lite::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ErrorKind,
    ExchangeKind,
};
use std::io::Write;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a test ends with: any error fails it.
pub type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

static COUNTER: AtomicU32 = AtomicU32::new(0);

static SKIPPED: Once = Once::new();

/// The broker's address, or `None` after a line that says that the contracts were not looked at.
pub fn address(contract: &str) -> Option<String> {
    let Ok(url) = std::env::var("AMQP_URL") else {
        // Written past the test harness, which keeps what a passing test prints to itself.
        SKIPPED.call_once(|| {
            let line = format!("AMQP_URL is not set: {contract} and all other lapin contracts are skipped\n");
            std::io::stderr().write_all(line.as_bytes()).ok();
        });
        return None;
    };
    // lapin reads a path of "/" as the vhost "", where other clients read the default vhost.
    Some(url.strip_suffix('/').unwrap_or(&url).to_owned())
}

/// A name no other test and no other run uses.
pub fn unique(kind: &str) -> ShortString {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("conformance.rust.{kind}.{}.{count}", std::process::id()).into()
}

/// A connection without recovery: a test wants to see the end of its connection.
pub async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}

/// An exclusive queue: gone with its connection.
pub async fn queue(channel: &Channel) -> lapin::Result<ShortString> {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    Ok(channel.queue_declare(unique("q"), options, FieldTable::default()).await?.name().clone())
}

/// An auto-delete exchange: gone with its last binding.
pub async fn exchange(channel: &Channel, kind: ExchangeKind) -> lapin::Result<ShortString> {
    let name = unique("x");
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel.exchange_declare(name.clone(), kind, options, FieldTable::default()).await?;
    Ok(name)
}

/// Ready messages and consumers, by a passive declare.
pub async fn counts(channel: &Channel, queue: &ShortString) -> lapin::Result<(u32, u32)> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
    Ok((declared.message_count(), declared.consumer_count()))
}

/// A channel in confirm mode.
pub async fn confirm_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes one body and waits for what the broker says of it.
pub async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &ShortString,
    body: &[u8],
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel.basic_publish(exchange.into(), key.clone(), options, body, properties).await?.await
}

/// A consumer with a generated tag.
pub async fn consume(channel: &Channel, queue: &ShortString, no_ack: bool) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions { no_ack, ..Default::default() };
    channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await
}

/// The next `count` deliveries of a consumer, fewer if its stream ends before.
pub async fn take(consumer: &mut Consumer, count: usize) -> lapin::Result<Vec<lapin::message::Delivery>> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        match consumer.next().await {
            Some(delivery) => taken.push(delivery?),
            None => break,
        }
    }
    Ok(taken)
}

/// The bodies as text.
pub fn bodies(deliveries: &[lapin::message::Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| String::from_utf8_lossy(&delivery.data).into_owned()).collect()
}

/// Takes and acks all that is ready.
pub async fn drain(channel: &Channel, queue: &ShortString) -> lapin::Result<Vec<String>> {
    let mut all = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(message) = channel.basic_get(queue.clone(), options).await? {
        all.push(String::from_utf8_lossy(&message.data).into_owned());
    }
    Ok(all)
}

/// The reply code with which the server closed the channel or the connection, or `None` if it said no such thing.
pub fn reply_code<T>(result: &lapin::Result<T>) -> Option<u16> {
    match result.as_ref().err().map(lapin::Error::kind) {
        Some(ErrorKind::ProtocolError(error)) => Some(error.get_id()),
        _ => None,
    }
}
