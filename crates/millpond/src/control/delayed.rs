//! What the command line asks about delayed messages.

use super::{Listing, Rooms, Shown};
use anyhow::Result;
use millpond_broker::{Broker, DelayedMessage};
use millpond_model::{ExchangeName, VhostName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
pub(super) async fn carry_out(request: DelayedRequest, rooms: &Rooms) -> Result<Shown> {
    let broker = &rooms.broker;
    Ok(match request {
        DelayedRequest::List { vhost, exchange: None, .. } => {
            exchanges(broker, &VhostName::new(&vhost)?)?.into()
        }
        DelayedRequest::List { vhost, exchange: Some(exchange), limit } => {
            messages(broker, &VhostName::new(&vhost)?, &ExchangeName::new(&exchange)?, limit).await?.into()
        }
        DelayedRequest::Cancel { vhost, exchange, id } => {
            broker.cancel_delayed(&VhostName::new(&vhost)?, &ExchangeName::new(&exchange)?, id)?.await?;
            format!("message {id} is cancelled: exchange {exchange} will not release it").into()
        }
        DelayedRequest::CancelNamed { vhost, exchange, message_id } => {
            let (vhost, name) = (VhostName::new(&vhost)?, ExchangeName::new(&exchange)?);
            let (count, saved) = broker.cancel_delayed_named(&vhost, &name, message_id.as_bytes())?;
            saved.await?;
            let (messages, they) = if count == 1 { ("message is", "it") } else { ("messages are", "them") };
            format!("{count} {messages} cancelled: exchange {exchange} will not release {they}").into()
        }
    })
}

fn exchanges(broker: &Broker, vhost: &VhostName) -> Result<Listing> {
    let rows = broker.list_delayed_exchanges(vhost)?.into_iter().map(|one| {
        let next = one.next_due_ms.map(until);
        [one.exchange.to_string().into(), one.waiting.into(), next.into()]
    });
    let empty = format!("no message has waited in vhost {vhost}");
    Ok(Listing::new(&["EXCHANGE", "WAITING", "NEXT DUE"], empty).with(rows))
}

async fn messages(
    broker: &Broker,
    vhost: &VhostName,
    exchange: &ExchangeName,
    limit: usize,
) -> Result<Listing> {
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        found = broker.list_delayed(vhost, exchange, limit.min(LIST_MAX))?;
        if found.iter().all(|one| one.content.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let empty = format!("no message waits at exchange {exchange}");
    let head = ["ID", "DUE", "BODY BYTES", "ROUTING KEY", "MESSAGE ID"];
    Ok(Listing::new(&head, empty).with(found.iter().map(row)))
}

/// Of a message whose content is still on disk, what is known without it.
fn row(one: &DelayedMessage) -> [Value; 5] {
    let (id, due) = (one.id.into(), until(one.due_ms).into());
    let Some(content) = &one.content else {
        return [id, due, Value::Null, "(on disk)".into(), Value::Null];
    };
    let key = String::from_utf8_lossy(&content.routing_key).into_owned();
    let message_id = content.message_id.as_deref().map(|id| String::from_utf8_lossy(id).into_owned());
    [id, due, content.body_size_bytes.into(), key.into(), message_id.into()]
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
