//! Messages as events.

use crate::{HEADER_PREFIX, HEADER_PREFIX_ALTERNATIVE, SPEC_VERSION, STRUCTURED, show_time};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::{RawTable, RawValue};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How deep header tables are shown as JSON.
const HEADERS_DEPTH_MAX: usize = 32;

/// Where a message was found; part of the id of one that has none.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Its vhost.
    pub vhost: &'a str,
    /// The queue it was taken from.
    pub queue: &'a str,
    /// Its place in the queue, the same whenever it is delivered.
    pub seq: u64,
    /// The time of an event that says none, if its message was not stamped.
    pub now: SystemTime,
}

impl Origin<'_> {
    /// A message as an event in the JSON format: attributes, and `data` or `data_base64`.
    ///
    /// What the message does not say as an event follows from it: docs/guide/rules.md, "The event".
    pub fn read(&self, message: &Message) -> Map<String, Value> {
        // Properties of a stored message were checked when it came in.
        let properties = RawProperties::from_checked(message.properties());
        let content_type = properties.content_type().map(text_of).filter(|it| !it.is_empty());
        let routing_key = text_of(message.routing_key());
        let mut event = structured(content_type.as_deref(), message.body()).unwrap_or_default();
        if event.is_empty() {
            if let Some(headers) = properties.headers() {
                take_attributes(headers, &mut event);
            }
            if let Some(content_type) = &content_type {
                event.entry("datacontenttype").or_insert_with(|| content_type.clone().into());
            }
            let encoding = properties.content_encoding().unwrap_or_default();
            put_data(&mut event, content_type.as_deref(), encoding, message.body());
        }
        event.entry("id").or_insert_with(|| match properties.message_id() {
            Some(id) if !id.is_empty() => text_of(id).into(),
            _ => format!("{}/{}-{:016x}", self.queue, self.seq, fingerprint(message.record())).into(),
        });
        event.entry("source").or_insert_with(|| self.source_of(message.exchange()).into());
        event.entry("type").or_insert_with(|| match properties.type_() {
            Some(kind) if !kind.is_empty() => text_of(kind).into(),
            _ => routing_key.clone().into(),
        });
        event.entry("subject").or_insert_with(|| routing_key.into());
        event.entry("time").or_insert_with(|| show_time(self.time_of(message, &properties)).into());
        event.entry("specversion").or_insert_with(|| SPEC_VERSION.into());
        event
    }

    fn source_of(&self, exchange: &[u8]) -> String {
        let exchange = text_of(exchange);
        match self.vhost {
            "/" => format!("/{exchange}"),
            vhost => format!("/{vhost}/{exchange}"),
        }
    }

    fn time_of(&self, message: &Message, properties: &RawProperties<'_>) -> SystemTime {
        let stated = properties.timestamp().map(Duration::from_secs);
        let stamped = || message.published_ms().map(Duration::from_millis);
        stated.or_else(stamped).and_then(|since| UNIX_EPOCH.checked_add(since)).unwrap_or(self.now)
    }
}

/// Bytes as a text; what is not UTF-8 is replaced.
pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// FNV-1a: tells apart messages of two queues that had the same name one after the other.
fn fingerprint(record: &[u8]) -> u64 {
    record.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A message whose body is the whole event (CloudEvents, structured content mode).
fn structured(content_type: Option<&str>, body: &[u8]) -> Option<Map<String, Value>> {
    if !media_type(content_type?).eq_ignore_ascii_case(STRUCTURED) {
        return None;
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// Attributes in binary content mode: headers with the prefix of the AMQP binding, in both spellings it allows.
fn take_attributes(headers: RawTable<'_>, event: &mut Map<String, Value>) {
    for (name, value) in headers.iter() {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let Some(name) =
            name.strip_prefix(HEADER_PREFIX).or_else(|| name.strip_prefix(HEADER_PREFIX_ALTERNATIVE))
        else {
            continue;
        };
        if !name.is_empty() && !matches!(name, "data" | "data_base64" | "amqp") {
            event.entry(name).or_insert_with(|| json_of_header(value));
        }
    }
}

/// A content type without its parameters.
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_json(media: &str) -> bool {
    media == "application/json" || media == "text/json" || media.ends_with("+json")
}

fn is_text(media: &str) -> bool {
    media.starts_with("text/")
        || media.ends_with("+xml")
        || matches!(
            media,
            "application/xml"
                | "application/yaml"
                | "application/javascript"
                | "application/x-www-form-urlencoded"
                | "application/x-ndjson"
        )
}

/// Puts a body of a content type and encoding into an event, as `data` or `data_base64`: JSON parsed, text as text, the
/// rest as base64; nothing for an empty one.
pub fn put_data(event: &mut Map<String, Value>, content_type: Option<&str>, encoding: &[u8], body: &[u8]) {
    if body.is_empty() {
        return;
    }
    let media = content_type.map(|it| media_type(it).to_ascii_lowercase());
    let media = media.as_deref();
    let is_plain = encoding.is_empty()
        || encoding.eq_ignore_ascii_case(b"utf-8")
        || encoding.eq_ignore_ascii_case(b"utf8")
        || encoding.eq_ignore_ascii_case(b"identity");
    if is_plain
        && media.is_none_or(is_json)
        && let Ok(data) = serde_json::from_slice(body)
    {
        event.insert("data".to_owned(), data);
        return;
    }
    match std::str::from_utf8(body) {
        Ok(text) if is_plain && media.is_none_or(|media| is_json(media) || is_text(media)) => {
            event.insert("data".to_owned(), text.into());
        }
        _ => {
            event.insert("data_base64".to_owned(), STANDARD.encode(body).into());
        }
    }
}

/// A header table as JSON; beyond a depth of 32 the rest is null.
pub fn json_of_table(headers: RawTable<'_>) -> Map<String, Value> {
    table(headers, HEADERS_DEPTH_MAX)
}

/// A header's value as JSON: bytes as base64, a table as an object, what JSON cannot say as null.
pub fn json_of_header(value: RawValue<'_>) -> Value {
    header_value(value, HEADERS_DEPTH_MAX)
}

fn table(table: RawTable<'_>, depth_left: usize) -> Map<String, Value> {
    table.iter().map(|(name, value)| (text_of(name), header_value(value, depth_left))).collect()
}

fn header_value(value: RawValue<'_>, depth_left: usize) -> Value {
    let Some(depth_left) = depth_left.checked_sub(1) else { return Value::Null };
    if let Some(number) = value.as_i64() {
        return number.into();
    }
    match value {
        RawValue::Bool(value) => value.into(),
        RawValue::LongStr(bytes) => text_of(bytes).into(),
        RawValue::Bytes(bytes) => STANDARD.encode(bytes).into(),
        RawValue::F32(value) => f64::from(value).into(),
        RawValue::F64(value) => value.into(),
        RawValue::Decimal { scale, value } => (f64::from(value) / 10f64.powi(scale.into())).into(),
        RawValue::Timestamp(value) => value.into(),
        RawValue::Array(items) => items.iter().map(|item| header_value(item, depth_left)).collect(),
        RawValue::Table(inner) => Value::Object(table(inner, depth_left)),
        _ => Value::Null,
    }
}
