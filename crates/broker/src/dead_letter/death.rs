//! What a message says of its deaths: `x-death` and its neighbours (X2-X5).

use crate::queue::machine::Reason;
use crate::queue::settings::DeadLetterTo;
use millpond_model::properties::RawProperties;
use millpond_model::table::{Table, Value};
use millpond_model::{Message, QueueName};

/// One death.
pub(super) struct Death<'a> {
    pub(super) queue: &'a QueueName,
    pub(super) reason: Reason,
    pub(super) now_ms: u64,
    pub(super) to: &'a DeadLetterTo,
}

/// Queues and reasons of all deaths, the last one first.
pub(super) struct History(Vec<(String, String)>);

impl History {
    /// Whether the message died in that queue before, and no client rejected it since (X7).
    pub(super) fn is_cycle(&self, queue: &str) -> bool {
        let Some(last) = self.0.iter().position(|(of, _)| of == queue) else { return false };
        self.0[..=last].iter().all(|(_, reason)| reason != Reason::Rejected.name())
    }
}

impl Death<'_> {
    /// The message as it goes to the dead-letter exchange.
    pub(super) fn of(&self, message: &Message) -> (Message, History) {
        let properties = RawProperties::from_checked(message.properties());
        let mut headers = properties.headers().map(|headers| headers.to_table()).unwrap_or_default();
        let deaths = self.deaths(message, &headers, properties.expiration());
        let history =
            History(deaths.iter().map(|death| (text(death, "queue"), text(death, "reason"))).collect());
        headers.set("x-death", deaths.into_iter().map(Value::from).collect::<Vec<_>>());
        let exchange = long_str(message.exchange());
        if headers.get("x-first-death-reason").is_none() {
            headers.push("x-first-death-exchange", exchange.clone());
            headers.push("x-first-death-queue", self.queue.as_str());
            headers.push("x-first-death-reason", self.reason.name());
        }
        headers.set("x-last-death-exchange", exchange);
        headers.set("x-last-death-queue", self.queue.as_str());
        headers.set("x-last-death-reason", self.reason.name());
        if self.to.routing_key.is_some() {
            headers.remove("CC");
        }
        let routing_key = self.to.routing_key.as_deref().unwrap_or(message.routing_key());
        let immortal = properties.without_expiration();
        let properties = immortal.as_deref().map_or(properties, RawProperties::from_checked);
        // Headers with no encoding (nested too deep): the message goes with those it came with.
        let headers = headers.encode().ok();
        let encoded = headers.map(|headers| properties.with_headers(Some(headers.as_raw())));
        let encoded = encoded.as_deref().unwrap_or(properties.as_bytes());
        let moved = Message::published_at(
            self.now_ms,
            self.to.exchange.as_str().as_bytes(),
            routing_key,
            encoded,
            message.is_persistent(),
            message.body(),
        );
        (moved, history)
    }

    /// The entries of `x-death`, this one first; one of the same queue and reason is counted up (X3).
    fn deaths(&self, message: &Message, headers: &Table, expiration: Option<&[u8]>) -> Vec<Table> {
        let mut deaths: Vec<Table> = match headers.get("x-death") {
            Some(Value::Array(entries)) => entries
                .iter()
                .filter_map(|entry| if let Value::Table(table) = entry { Some(table.clone()) } else { None })
                .collect(),
            _ => Vec::new(),
        };
        let same = |death: &Table| {
            text(death, "queue") == self.queue.as_str() && text(death, "reason") == self.reason.name()
        };
        let this = match deaths.iter().position(same) {
            Some(at) => {
                let mut again = deaths.remove(at);
                let count = again.get("count").and_then(Value::as_i64).unwrap_or(0);
                again.set("count", count.saturating_add(1));
                again
            }
            None => self.first(message, headers, expiration),
        };
        deaths.insert(0, this);
        deaths
    }

    /// The entry of a first death of this kind.
    fn first(&self, message: &Message, headers: &Table, expiration: Option<&[u8]>) -> Table {
        let mut keys = vec![long_str(message.routing_key())];
        if let Some(Value::Array(copies)) = headers.get("CC") {
            keys.extend(copies.iter().cloned());
        }
        let mut entry = Table::new();
        entry.push("count", 1i64);
        entry.push("reason", self.reason.name());
        entry.push("queue", self.queue.as_str());
        entry.push("time", Value::Timestamp(self.now_ms / 1000));
        entry.push("exchange", long_str(message.exchange()));
        entry.push("routing-keys", keys);
        if let Some(expiration) = expiration {
            entry.push("original-expiration", long_str(expiration));
        }
        entry
    }
}

fn long_str(bytes: &[u8]) -> Value {
    Value::LongStr(bytes.into())
}

fn text(table: &Table, name: &str) -> String {
    table.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
