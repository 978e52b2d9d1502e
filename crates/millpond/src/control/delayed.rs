//! What the command line asks about delayed messages.

use super::Rooms;
use anyhow::Result;
use millpond_broker::{Broker, DelayedMessage};
use millpond_model::{ExchangeName, VhostName};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Most messages that one answer lists.
const LIST_MAX: usize = 10_000;

/// How often contents on disk are asked for until they are shown as missing.
const LOOKS: usize = 50;

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum DelayedRequest {
    /// Where messages wait; with an exchange, the next ones due there.
    List { vhost: String, exchange: Option<String>, limit: usize },
    /// Take a message back.
    Cancel { vhost: String, exchange: String, id: u64 },
    /// Take back all messages with this message_id.
    CancelNamed { vhost: String, exchange: String, message_id: String },
}

/// Does what is asked; what to tell the person.
pub(super) async fn carry_out(request: DelayedRequest, rooms: &Rooms) -> Result<String> {
    let broker = &rooms.broker;
    match request {
        DelayedRequest::List { vhost, exchange: None, .. } => exchanges(broker, &VhostName::new(&vhost)?),
        DelayedRequest::List { vhost, exchange: Some(exchange), limit } => {
            messages(broker, &VhostName::new(&vhost)?, &ExchangeName::new(&exchange)?, limit).await
        }
        DelayedRequest::Cancel { vhost, exchange, id } => {
            broker.cancel_delayed(&VhostName::new(&vhost)?, &ExchangeName::new(&exchange)?, id)?.await?;
            Ok(format!("message {id} is cancelled: exchange {exchange} will not release it"))
        }
        DelayedRequest::CancelNamed { vhost, exchange, message_id } => {
            let (vhost, name) = (VhostName::new(&vhost)?, ExchangeName::new(&exchange)?);
            let (count, saved) = broker.cancel_delayed_named(&vhost, &name, message_id.as_bytes())?;
            saved.await?;
            let (messages, they) = if count == 1 { ("message is", "it") } else { ("messages are", "them") };
            Ok(format!("{count} {messages} cancelled: exchange {exchange} will not release {they}"))
        }
    }
}

fn exchanges(broker: &Broker, vhost: &VhostName) -> Result<String> {
    let found = broker.list_delayed_exchanges(vhost)?;
    if found.is_empty() {
        return Ok(format!("no message has waited in vhost {vhost}"));
    }
    let mut out = format!("{:<40} {:>12}  next due", "exchange", "waiting");
    for one in found {
        let next = one.next_due_ms.map_or_else(|| "-".into(), until);
        let _ = write!(out, "\n{:<40} {:>12}  {next}", one.exchange.as_str(), one.waiting);
    }
    Ok(out)
}

async fn messages(
    broker: &Broker,
    vhost: &VhostName,
    exchange: &ExchangeName,
    limit: usize,
) -> Result<String> {
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        found = broker.list_delayed(vhost, exchange, limit.min(LIST_MAX))?;
        if found.iter().all(|one| one.content.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if found.is_empty() {
        return Ok(format!("no message waits at exchange {exchange}"));
    }
    let mut out =
        format!("{:>12}  {:<16} {:>10}  {:<30} message_id", "id", "due", "body bytes", "routing key");
    found.iter().for_each(|one| describe(one, &mut out));
    Ok(out)
}

fn describe(one: &DelayedMessage, out: &mut String) {
    let due = until(one.due_ms);
    let Some(content) = &one.content else {
        let _ = write!(out, "\n{:>12}  {due:<16} {:>10}  (on disk)", one.id, "-");
        return;
    };
    let key = String::from_utf8_lossy(&content.routing_key);
    let message_id = content.message_id.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let _ =
        write!(out, "\n{:>12}  {due:<16} {:>10}  {key:<30} {message_id}", one.id, content.body_size_bytes);
}

/// `in 3.2 s`.
fn until(due_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    match due_ms.checked_sub(now) {
        None => "now".into(),
        Some(ms) if ms < 120_000 => format!("in {:.1} s", ms as f64 / 1e3),
        Some(ms) if ms < 7_200_000 => format!("in {} min", ms / 60_000),
        Some(ms) if ms < 172_800_000 => format!("in {} h", ms / 3_600_000),
        Some(ms) => format!("in {} days", ms / 86_400_000),
    }
}
