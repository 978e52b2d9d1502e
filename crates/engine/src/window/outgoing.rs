//! What the actions get to work on, as a message.

use super::machine::Act;
use super::{Memory, due_queue, late_queue};
use crate::event::HOPS_HEADER;
use crate::fingerprint::Fingerprint;
use crate::topology::Rule;
use bytes::Bytes;
use millpond_events::{HEADER_PREFIX, HEADER_PREFIX_ALTERNATIVE, STRUCTURED, media_type, show_time, text_of};
use millpond_model::limits::PROPERTIES_MAX_BYTES;
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{RawValue, Table, TableBuf};
use millpond_model::{Message, QueueName};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// The type of an event that stands for several that have all come.
const JOINED: &str = "millpond.all_of";
/// The type of one that says which did not.
const INCOMPLETE: &str = "millpond.all_of.timeout";

/// The message, and the queue it goes to; `None`: there is nothing to do. `in_hand` is the event that led to it.
pub(super) fn message(
    rule: &Rule,
    memory: &Memory,
    key: &str,
    act: Act,
    in_hand: Option<&Message>,
    now_ms: u64,
) -> Option<(QueueName, Message)> {
    match act {
        Act::Now { count } => Some((due_queue(rule), with_count(in_hand?, key, count, now_ms))),
        Act::Kept { event, count } => {
            let event = Message::from_record(event).ok()?;
            Some((due_queue(rule), with_count(&event, key, count, now_ms)))
        }
        Act::Joined { events } if events.len() == memory.wanted.len() => {
            Some((due_queue(rule), joined(rule, memory, key, &events, now_ms)))
        }
        Act::Joined { .. } if memory.on_timeout.is_empty() => None,
        Act::Joined { events } => Some((late_queue(rule), joined(rule, memory, key, &events, now_ms))),
    }
}

/// An event with the attributes `count` and `key`.
fn with_count(event: &Message, key: &str, count: u64, now_ms: u64) -> Message {
    let properties = RawProperties::from_checked(event.properties());
    let is_structured =
        properties.content_type().is_some_and(|it| media_type(&text_of(it)).eq_ignore_ascii_case(STRUCTURED));
    let in_body =
        is_structured.then(|| serde_json::from_slice::<Map<String, Value>>(event.body()).ok()).flatten();
    let body = match in_body {
        Some(mut whole) => {
            whole.insert("count".to_owned(), count.into());
            whole.insert("key".to_owned(), key.into());
            Bytes::from(Value::Object(whole).to_string())
        }
        None => event.body_bytes(),
    };
    let ours = [
        (format!("{HEADER_PREFIX}count"), RawValue::I64(i64::try_from(count).unwrap_or(i64::MAX))),
        (format!("{HEADER_PREFIX}key"), RawValue::LongStr(key.as_bytes())),
    ];
    let mut headers = match properties.headers() {
        Some(all) => TableBuf::without(all, &ours[0].0),
        None => TableBuf::new(),
    };
    // In both spellings: of two the first would count, and that is the sender's.
    let theirs = ["count", "key"].map(|name| format!("{HEADER_PREFIX_ALTERNATIVE}{name}"));
    for name in theirs.iter().chain([&ours[1].0]) {
        headers = TableBuf::without(headers.as_raw(), name);
    }
    for (name, value) in &ours {
        // Names and depths are ours and within the limits; the key is short.
        let _ = headers.push(name, *value);
    }
    // Its time to live was for its own queue.
    let plain = properties.without_expiration().unwrap_or_else(|| event.properties().to_vec());
    let with_headers = RawProperties::from_checked(&plain).with_headers(Some(headers.as_raw()));
    let properties = if with_headers.len() <= PROPERTIES_MAX_BYTES { &with_headers } else { &plain };
    Message::published_at(now_ms, event.exchange(), event.routing_key(), properties, true, &body)
}

/// One event that holds several, and the rules that the one that came furthest has come through.
pub(super) fn joined_event(
    rule: &Rule,
    memory: &Memory,
    key: &str,
    parts: &BTreeMap<usize, Bytes>,
    now_ms: u64,
) -> (Value, u64) {
    let kind = if parts.len() == memory.wanted.len() { JOINED } else { INCOMPLETE };
    let mut hops = 0;
    let mut events = Map::new();
    // The same events give the same id, whenever they are joined once more after a crash.
    let mut fingerprint = Fingerprint::NONE;
    for (number, part) in parts {
        fingerprint = fingerprint.and(part);
        let mut part: Value = serde_json::from_slice(part).unwrap_or_default();
        hops = hops.max(part["hops"].as_u64().unwrap_or(0));
        let name = memory.wanted.get(*number).map_or("", |wanted| &wanted.name);
        events.insert(name.to_owned(), part["event"].take());
    }
    let missing: Vec<_> =
        memory.wanted.iter().map(|it| &*it.name).filter(|it| !events.contains_key(*it)).collect();
    let id = format!("{}/{:016x}", rule.name, fingerprint.value());
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(now_ms)).unwrap_or(UNIX_EPOCH);
    let event = json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("/millpond/rules/{}", rule.name),
        "type": kind,
        "subject": key,
        "time": show_time(time),
        "key": key,
        "missing": missing,
        "events": events,
    });
    (event, hops)
}

/// As a message.
fn joined(rule: &Rule, memory: &Memory, key: &str, parts: &BTreeMap<usize, Bytes>, now_ms: u64) -> Message {
    let (event, hops) = joined_event(rule, memory, key, parts, now_ms);
    let kind = event["type"].as_str().unwrap_or_default();
    let headers: Table = [(HOPS_HEADER, i64::try_from(hops).unwrap_or(i64::MAX))].into_iter().collect();
    let properties = Properties {
        content_type: Some(STRUCTURED.into()),
        delivery_mode: Some(2),
        headers,
        ..Properties::default()
    };
    // Two short properties and a number always fit.
    let properties = properties.encode().unwrap_or_else(|_| vec![0, 0]);
    Message::published_at(now_ms, b"", kind.as_bytes(), &properties, true, event.to_string().as_bytes())
}
