//! What the command line asks about messages: browsed, moved, copied, sent back to where they died, replayed.

use super::{Rooms, when};
use anyhow::{Context, Result};
use millpond_broker::{
    Broker, Browsed, MessageFilter, ReplayPeriod, TransferOf, TransferReport, TransferRequest, TransferTo,
};
use millpond_model::properties::RawProperties;
use millpond_model::table::Value;
use millpond_model::{QueueName, VhostName};
use millpond_server::{Progress, transfers};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::poll_fn;

/// Messages shown when no limit is given.
const SHOWN_DEFAULT_MAX: u64 = 20;
/// Messages looked at in one go.
const CHUNK: usize = 256;
/// Bytes of a body that are shown.
const BODY_SHOWN_MAX_BYTES: usize = 200;

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum MessageRequest {
    /// What is ready in a queue.
    Browse { vhost: String, queue: String, filter: MessageFilterText, limit: Option<u64> },
    /// Bring messages to another queue; `to` is `None`: to where each died.
    Transfer {
        vhost: String,
        from: String,
        to: Option<String>,
        keep: bool,
        filter: MessageFilterText,
        limit: Option<u64>,
        rate: Option<u32>,
        dry_run: bool,
    },
    /// Send what was acked to a queue once more.
    Replay {
        vhost: String,
        from: String,
        to: String,
        period: PeriodText,
        filter: MessageFilterText,
        limit: Option<u64>,
        rate: Option<u32>,
        dry_run: bool,
        json: bool,
    },
}

/// Of which time, as a person writes it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct PeriodText {
    /// A time.
    pub(crate) from: Option<String>,
    /// How long ago: `1h`.
    pub(crate) since: Option<String>,
    /// A time.
    pub(crate) until: Option<String>,
}

impl PeriodText {
    pub(crate) fn read(&self, now_ms: u64) -> Result<ReplayPeriod> {
        let age_ms = self.since.as_deref().map(when::age_ms).transpose()?;
        let since_ms = age_ms.map(|age_ms| now_ms.saturating_sub(age_ms));
        let from_ms = self.from.as_deref().map(when::time_ms).transpose()?.or(since_ms);
        Ok(ReplayPeriod { from_ms, until_ms: self.until.as_deref().map(when::time_ms).transpose()? })
    }
}

/// Which messages, as a person writes it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct MessageFilterText {
    /// `NAME=VALUE`.
    pub(crate) headers: Vec<String>,
    pub(crate) routing_key: Option<String>,
    pub(crate) body: Option<String>,
    #[serde(default)]
    pub(crate) search: Option<String>,
    pub(crate) died_of: Option<String>,
    pub(crate) died_in: Option<String>,
}

impl MessageFilterText {
    fn read(self) -> Result<MessageFilter> {
        let header = |text: &String| {
            let (name, value) = text
                .split_once('=')
                .with_context(|| format!("a header to look for is NAME=VALUE, not '{text}'"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        Ok(MessageFilter {
            headers: self.headers.iter().map(header).collect::<Result<_>>()?,
            routing_key: self.routing_key,
            body: self.body.map(String::into_bytes),
            died_of: self.died_of,
            died_in: self.died_in,
            text: self.search,
        })
    }
}

/// Does what is asked; what to tell the person.
pub(super) async fn carry_out(request: MessageRequest, rooms: &Rooms, progress: &Progress) -> Result<String> {
    match request {
        MessageRequest::Browse { vhost, queue, filter, limit } => {
            let limit = limit.unwrap_or(SHOWN_DEFAULT_MAX);
            browse(&rooms.broker, &VhostName::new(&vhost)?, &QueueName::new(&queue)?, &filter.read()?, limit)
                .await
        }
        MessageRequest::Transfer { vhost, from, to, keep, filter, limit, rate, dry_run } => {
            let to = match to {
                Some(name) => TransferTo::Queue(QueueName::new(&name)?),
                None => TransferTo::WhereItDied,
            };
            let (from, filter) = (QueueName::new(&from)?, filter.read()?);
            let request = TransferRequest {
                from,
                to,
                to_vhost: None,
                of: TransferOf::Ready,
                keep,
                filter,
                limit,
                dry_run,
            };
            let report = transfer(&rooms.broker, &VhostName::new(&vhost)?, request, (rate, progress)).await?;
            Ok(describe(&report, if keep { "copied" } else { "moved" }, dry_run))
        }
        MessageRequest::Replay { vhost, from, to, period, filter, limit, rate, dry_run, json } => {
            let of = TransferOf::Retained(period.read(rooms.broker.options().clock.now_ms())?);
            let (from, to) = (QueueName::new(&from)?, TransferTo::Queue(QueueName::new(&to)?));
            let request = TransferRequest {
                from,
                to,
                to_vhost: None,
                of,
                keep: true,
                filter: filter.read()?,
                limit,
                dry_run,
            };
            let report = transfer(&rooms.broker, &VhostName::new(&vhost)?, request, (rate, progress)).await?;
            Ok(if json { as_json(&report, dry_run) } else { describe(&report, "replayed", dry_run) })
        }
    }
}

async fn browse(
    broker: &Broker,
    vhost: &VhostName,
    queue: &QueueName,
    filter: &MessageFilter,
    limit: u64,
) -> Result<String> {
    let mut browse = broker.browse(vhost, queue)?;
    let (mut text, mut shown, mut seen, mut more) = (String::new(), 0, Vec::new(), true);
    while more && shown < limit {
        seen.clear();
        more = poll_fn(|cx| browse.poll_next(cx, CHUNK, &mut seen)).await;
        for found in seen.iter().filter(|it| filter.matches(&it.message)).take((limit - shown) as usize) {
            show(&mut text, found)?;
            shown += 1;
        }
    }
    if more {
        write!(text, "the first {shown}; --limit shows more")?;
    } else {
        write!(text, "{shown} ready")?;
    }
    Ok(text)
}

fn show(text: &mut String, found: &Browsed) -> std::fmt::Result {
    let message = &found.message;
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let properties = RawProperties::from_checked(message.properties());
    let (exchange, key) = (lossy(message.exchange()), lossy(message.routing_key()));
    writeln!(text, "{} exchange '{exchange}' key '{key}' {} bytes", found.place, message.body().len())?;
    if let Some(id) = properties.message_id() {
        writeln!(text, "  message-id {}", lossy(id))?;
    }
    for (name, value) in properties.headers().unwrap_or_default().iter() {
        writeln!(text, "  {}: {}", lossy(name), plain(&value.to_value()))?;
    }
    let body = message.body();
    let cut = if body.len() > BODY_SHOWN_MAX_BYTES { "..." } else { "" };
    writeln!(text, "  {}{cut}", lossy(&body[..body.len().min(BODY_SHOWN_MAX_BYTES)]))
}

/// A header's value as a person reads it.
pub(super) fn plain(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::LongStr(bytes) | Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Array(values) => format!("[{}]", joined(values.iter().map(plain).collect())),
        Value::Table(table) => {
            let entry = |(name, value): &(Box<str>, Value)| format!("{name}: {}", plain(value));
            format!("{{{}}}", joined(table.iter().map(entry).collect()))
        }
        Value::Bool(value) => value.to_string(),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => String::new(),
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

async fn transfer(
    broker: &Broker,
    vhost: &VhostName,
    request: TransferRequest,
    (rate, progress): (Option<u32>, &Progress),
) -> Result<TransferReport> {
    // What is looked at is known for what is ready; of a replay only how far it is.
    if let (TransferOf::Ready, Some(queue)) = (&request.of, broker.queue(vhost, &request.from)?) {
        progress.expect(queue.ready);
    }
    Ok(transfers::run(broker.transfer(vhost, request)?, rate, progress).await?.0)
}

fn describe(report: &TransferReport, done: &str, dry_run: bool) -> String {
    let done = if dry_run { "would go" } else { done };
    let mut lines = vec![format!("{} of {} messages {done}", report.moved_count(), report.looked_at)];
    lines.extend(report.moved.iter().map(|(queue, count)| format!("  {count} to {queue}")));
    lines.extend(report.stayed.iter().map(|(reason, count)| format!("  {count} stayed: {reason}")));
    lines.join("\n")
}

fn as_json(report: &TransferReport, dry_run: bool) -> String {
    let moved: BTreeMap<&str, u64> = report.moved.iter().map(|(queue, n)| (queue.as_str(), *n)).collect();
    json!({
        "dry_run": dry_run,
        "looked_at": report.looked_at,
        "replayed": report.moved_count(),
        "to": moved,
        "stayed": report.stayed,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_model::table::Table;

    #[test]
    fn headers_are_shown_as_a_person_reads_them() {
        let mut death = Table::new();
        death.push("queue", "work");
        death.push("count", 2i64);
        let table: [(Value, &str); 5] = [
            ("text".into(), "text"),
            (7i32.into(), "7"),
            (true.into(), "true"),
            (Value::Void, ""),
            (vec![Value::from(death), Value::Timestamp(5)].into(), "[{queue: work, count: 2}, 5]"),
        ];
        for (value, wanted) in table {
            assert_eq!(plain(&value), wanted);
        }
    }
}
