//! Messages as CloudEvents 1.0: what a rule sees. See docs/guide/rules.md, "The event".

use bytes::Bytes;
use millpond_broker::Delivery;
use millpond_model::properties::RawProperties;
use millpond_model::table::{RawTable, RawValue};
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Counts the rules a message has come through.
pub(crate) const HOPS_HEADER: &str = "x-millpond-hops";

/// How deep header tables are shown to jq.
const HEADERS_DEPTH_MAX: usize = 32;

/// What a rule works on.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// The CloudEvent as JSON, with the AMQP part under `amqp`.
    pub(crate) json: Value,
    /// Its `id`.
    pub(crate) id: String,
    /// The bytes that came.
    pub(crate) body: Bytes,
    /// What they are.
    pub(crate) content_type: Option<String>,
    /// The routing key they came with.
    pub(crate) routing_key: String,
    /// Rules they have come through.
    pub(crate) hops: u64,
}

/// Where a message was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) vhost: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) now: SystemTime,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Event {
    /// Reads a message.
    pub(crate) fn of_delivery(delivery: &Delivery, origin: Origin<'_>) -> Self {
        let message = &delivery.message;
        // Properties of a stored message were checked when it came in.
        let properties = RawProperties::from_checked(message.properties());
        let content_type = properties.content_type().map(text).filter(|it| !it.is_empty());
        let (exchange, routing_key) = (text(message.exchange()), text(message.routing_key()));
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
        let made_up_id =
            || format!("{}/{}-{:016x}", origin.queue, delivery.seq, fingerprint(message.record())).into();
        event.entry("id").or_insert_with(|| match properties.message_id() {
            Some(id) if !id.is_empty() => text(id).into(),
            _ => made_up_id(),
        });
        event.entry("source").or_insert_with(|| {
            format!(
                "{}/{exchange}",
                match origin.vhost {
                    "/" => String::new(),
                    other => format!("/{other}"),
                }
            )
            .into()
        });
        event.entry("type").or_insert_with(|| match properties.type_() {
            Some(kind) if !kind.is_empty() => text(kind).into(),
            _ => routing_key.clone().into(),
        });
        event.entry("subject").or_insert_with(|| routing_key.clone().into());
        event.entry("time").or_insert_with(|| {
            let stated = properties.timestamp().and_then(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s)));
            show_time(stated.unwrap_or(origin.now)).into()
        });
        event.entry("specversion").or_insert_with(|| "1.0".into());
        event.insert("amqp".to_owned(), amqp_part(delivery, &properties, origin.queue));
        let hops = properties.headers().and_then(|headers| headers.get(HOPS_HEADER)?.as_i64()).unwrap_or(0);
        Self {
            id: id_of(&event),
            json: Value::Object(event),
            body: message.body_bytes(),
            content_type,
            routing_key,
            hops: u64::try_from(hops).unwrap_or(0),
        }
    }

    /// Takes an event as a person wrote it, for a dry run: what is missing gets the defaults of a message without
    /// properties. Anything but an object with an event's members counts as `data`.
    pub(crate) fn of_json(json: &Value, now: SystemTime) -> Self {
        let is_event = json.as_object().is_some_and(|object| {
            ["data", "data_base64", "specversion", "type", "amqp"].iter().any(|key| object.contains_key(*key))
        });
        let mut event = match json {
            Value::Object(object) if is_event => object.clone(),
            other => Map::from_iter([("data".to_owned(), other.clone())]),
        };
        let routing_key = ["/amqp/routing_key", "/subject", "/type"]
            .iter()
            .find_map(|at| json.pointer(at)?.as_str())
            .unwrap_or_default()
            .to_owned();
        let exchange = json.pointer("/amqp/exchange").and_then(Value::as_str).unwrap_or_default();
        let defaults = [
            ("id", json!("dry-run")),
            ("source", json!(format!("/{exchange}"))),
            ("type", json!(routing_key)),
            ("subject", json!(routing_key)),
            ("time", json!(show_time(now))),
            ("specversion", json!("1.0")),
            (
                "amqp",
                json!({"exchange": exchange, "routing_key": routing_key, "headers": {}, "properties": {},
                       "redelivered": false}),
            ),
        ];
        for (key, value) in defaults {
            event.entry(key).or_insert(value);
        }
        let (body, content_type) = match event.get("data") {
            None => (Vec::new(), None),
            Some(Value::String(text)) => (text.clone().into_bytes(), None),
            Some(data) => (data.to_string().into_bytes(), Some("application/json".to_owned())),
        };
        let stated = event.get("datacontenttype").and_then(Value::as_str).map(str::to_owned);
        let hops = event.get("amqp").and_then(|amqp| amqp.pointer("/headers/x-millpond-hops")?.as_u64());
        Self {
            id: id_of(&event),
            json: Value::Object(event),
            body: body.into(),
            content_type: stated.or(content_type),
            routing_key,
            hops: hops.unwrap_or(0),
        }
    }

    /// The event as structured CloudEvents carry it: without the AMQP part.
    pub(crate) fn to_cloud_event(&self) -> Value {
        let mut json = self.json.clone();
        if let Value::Object(object) = &mut json {
            object.remove("amqp");
        }
        json
    }
}

fn id_of(event: &Map<String, Value>) -> String {
    match event.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// FNV-1a: tells apart messages of two queues that had the same name one after the other.
fn fingerprint(record: &[u8]) -> u64 {
    record.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A message whose body is the whole event (CloudEvents, structured content mode).
fn structured(content_type: Option<&str>, body: &[u8]) -> Option<Map<String, Value>> {
    let media = media_type(content_type?);
    if !media.eq_ignore_ascii_case("application/cloudevents+json") {
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
        let Some(name) = name.strip_prefix("cloudEvents:").or_else(|| name.strip_prefix("cloudEvents_"))
        else {
            continue;
        };
        if !name.is_empty() && !matches!(name, "data" | "data_base64" | "amqp") {
            event.entry(name).or_insert_with(|| header_value(value, HEADERS_DEPTH_MAX));
        }
    }
}

fn media_type(content_type: &str) -> &str {
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

/// The body: JSON parsed, text as text, the rest as base64; nothing for an empty one.
fn put_data(event: &mut Map<String, Value>, content_type: Option<&str>, encoding: &[u8], body: &[u8]) {
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
            event.insert("data_base64".to_owned(), base64(body).into());
        }
    }
}

fn amqp_part(delivery: &Delivery, properties: &RawProperties<'_>, queue: &str) -> Value {
    let texts = [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("message_id", properties.message_id()),
        ("type", properties.type_()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
    ];
    let numbers = [
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
        ("priority", properties.priority().map(u64::from)),
        ("timestamp", properties.timestamp()),
    ];
    let texts =
        texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(text(value?)))));
    let numbers =
        numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
    let headers = properties.headers().map_or_else(Map::new, |headers| table(headers, HEADERS_DEPTH_MAX));
    json!({
        "exchange": text(delivery.message.exchange()),
        "routing_key": text(delivery.message.routing_key()),
        "queue": queue,
        "redelivered": delivery.redelivered,
        "headers": headers,
        "properties": texts.chain(numbers).collect::<Map<_, _>>(),
    })
}

fn table(table: RawTable<'_>, depth_left: usize) -> Map<String, Value> {
    table.iter().map(|(name, value)| (text(name), header_value(value, depth_left))).collect()
}

fn header_value(value: RawValue<'_>, depth_left: usize) -> Value {
    let Some(depth_left) = depth_left.checked_sub(1) else { return Value::Null };
    if let Some(number) = value.as_i64() {
        return number.into();
    }
    match value {
        RawValue::Bool(value) => value.into(),
        RawValue::LongStr(bytes) => text(bytes).into(),
        RawValue::Bytes(bytes) => base64(bytes).into(),
        RawValue::F32(value) => f64::from(value).into(),
        RawValue::F64(value) => value.into(),
        RawValue::Decimal { scale, value } => (f64::from(value) / 10f64.powi(scale.into())).into(),
        RawValue::Timestamp(value) => value.into(),
        RawValue::Array(items) => items.iter().map(|item| header_value(item, depth_left)).collect(),
        RawValue::Table(inner) => Value::Object(table(inner, depth_left)),
        _ => Value::Null,
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// RFC 3339 in UTC, with milliseconds if there are any.
pub fn show_time(time: SystemTime) -> String {
    const SECONDS_MAX: u64 = 253_402_300_799;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    // The year 9999 is the last that RFC 3339 can say.
    let seconds = since.as_secs().min(SECONDS_MAX);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = match since.subsec_millis() {
        0 => String::new(),
        millis => format!(".{millis:03}"),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{millis}Z")
}

/// Year, month and day of a day since 1970, in the Gregorian calendar. Years are counted from March, so that the
/// leap day is a year's last.
fn date_of(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + 719_468;
    let (cycle, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day)
}
