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

/// What the data of a message that is not structured are, as far as its properties say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// There are none.
    None,
    /// JSON; if they do not parse, a text if they are UTF-8, bytes otherwise.
    Json,
    /// A text; if they are not UTF-8, bytes.
    Text,
    /// Bytes.
    Bytes,
}

impl Data {
    /// Looks at content type and encoding, not at the body.
    pub fn of(message: &Message) -> Self {
        if message.body().is_empty() {
            return Self::None;
        }
        let properties = RawProperties::from_checked(message.properties());
        Self::said(properties.content_type(), properties.content_encoding().unwrap_or_default())
    }

    fn said(content_type: Option<&[u8]>, encoding: &[u8]) -> Self {
        let is_plain = encoding.is_empty()
            || [b"utf-8".as_slice(), b"utf8", b"identity"].iter().any(|it| encoding.eq_ignore_ascii_case(it));
        let content_type = content_type.filter(|it| !it.is_empty());
        match content_type {
            _ if !is_plain => Self::Bytes,
            None | Some(b"application/json") => Self::Json,
            Some(content_type) => {
                let media = media_type(&String::from_utf8_lossy(content_type)).to_ascii_lowercase();
                match () {
                    () if is_json(&media) => Self::Json,
                    () if is_text(&media) => Self::Text,
                    () => Self::Bytes,
                }
            }
        }
    }
}

impl Origin<'_> {
    /// A message as an event in the JSON format: attributes, and `data` or `data_base64`.
    ///
    /// What the message does not say as an event follows from it: docs/guide/rules.md, "The event".
    pub fn read(&self, message: &Message) -> Map<String, Value> {
        let Some(mut event) = structured(message) else {
            let mut event = self.attributes(message);
            put(&mut event, Data::of(message), message.body());
            return event;
        };
        self.complete(&mut event, message);
        event
    }

    /// As [`Self::read`], without the data of a message that is not structured.
    pub fn attributes(&self, message: &Message) -> Map<String, Value> {
        let mut event = Map::new();
        let properties = RawProperties::from_checked(message.properties());
        if let Some(headers) = properties.headers() {
            take_attributes(headers, &mut event);
        }
        if let Some(content_type) = properties.content_type().filter(|it| !it.is_empty()) {
            event.entry("datacontenttype").or_insert_with(|| text_of(content_type).into());
        }
        self.complete(&mut event, message);
        event
    }

    /// The `id` of a message that is not structured, as [`Self::read`] has it.
    pub fn id(&self, message: &Message) -> Value {
        let properties = RawProperties::from_checked(message.properties());
        let mut stated = Map::new();
        if let Some(headers) = properties.headers() {
            take_attributes(headers, &mut stated);
        }
        stated.remove("id").unwrap_or_else(|| self.own_id(message, &properties).into())
    }

    fn own_id(&self, message: &Message, properties: &RawProperties<'_>) -> String {
        match properties.message_id() {
            Some(id) if !id.is_empty() => text_of(id),
            _ => format!("{}/{}-{:016x}", self.queue, self.seq, fingerprint(message.record())),
        }
    }

    /// Adds what the event does not say.
    fn complete(&self, event: &mut Map<String, Value>, message: &Message) {
        // Properties of a stored message were checked when it came in.
        let properties = RawProperties::from_checked(message.properties());
        let routing_key = || text_of(message.routing_key());
        event.entry("id").or_insert_with(|| self.own_id(message, &properties).into());
        event.entry("source").or_insert_with(|| self.source_of(message.exchange()).into());
        event.entry("type").or_insert_with(|| match properties.type_() {
            Some(kind) if !kind.is_empty() => text_of(kind).into(),
            _ => routing_key().into(),
        });
        event.entry("subject").or_insert_with(|| routing_key().into());
        event.entry("time").or_insert_with(|| show_time(self.time_of(message, &properties)).into());
        event.entry("specversion").or_insert_with(|| SPEC_VERSION.into());
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

/// Tells apart messages of two queues that had the same name one after the other: as FNV-1a, by words.
fn fingerprint(record: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    let (words, rest) = record.as_chunks::<8>();
    let hash = words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(mix(hash, record.len() as u64), |hash, byte| mix(hash, u64::from(*byte)))
}

/// Whether the body of a message may be the whole event (CloudEvents, structured content mode).
pub fn is_structured(message: &Message) -> bool {
    let properties = RawProperties::from_checked(message.properties());
    let content_type = properties.content_type().unwrap_or_default();
    // Long enough, and then looked at closely: most are neither.
    content_type.len() >= STRUCTURED.len()
        && std::str::from_utf8(content_type).is_ok_and(|it| media_type(it).eq_ignore_ascii_case(STRUCTURED))
}

/// The event that the body is; an empty one says nothing.
fn structured(message: &Message) -> Option<Map<String, Value>> {
    if !is_structured(message) {
        return None;
    }
    match serde_json::from_slice(message.body()) {
        Ok(Value::Object(object)) if !object.is_empty() => Some(object),
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
    put(event, Data::said(content_type.map(str::as_bytes), encoding), body);
}

fn put(event: &mut Map<String, Value>, data: Data, body: &[u8]) {
    if body.is_empty() {
        return;
    }
    if data == Data::Json
        && let Ok(data) = serde_json::from_slice(body)
    {
        event.insert("data".to_owned(), data);
        return;
    }
    match std::str::from_utf8(body) {
        Ok(text) if data != Data::Bytes => event.insert("data".to_owned(), text.into()),
        _ => event.insert("data_base64".to_owned(), STANDARD.encode(body).into()),
    };
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
