//! Messages as CloudEvents 1.0: what a rule sees. See docs/guide/rules.md, "The event".

use bytes::Bytes;
use millpond_broker::Delivery;
use millpond_events::{Origin, json_of_table, show_time, text_of};
use millpond_model::properties::RawProperties;
use serde_json::{Map, Value, json};
use std::time::SystemTime;

/// Counts the rules a message has come through.
pub(crate) const HOPS_HEADER: &str = "x-millpond-hops";

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

impl Event {
    /// Reads a message.
    pub(crate) fn of_delivery(delivery: &Delivery, origin: Origin<'_>) -> Self {
        let message = &delivery.message;
        let properties = RawProperties::from_checked(message.properties());
        let mut event = origin.read(message);
        event.insert("amqp".to_owned(), amqp_part(delivery, &properties, origin.queue));
        let hops = properties.headers().and_then(|headers| headers.get(HOPS_HEADER)?.as_i64()).unwrap_or(0);
        Self {
            id: id_of(&event),
            json: Value::Object(event),
            body: message.body_bytes(),
            content_type: properties.content_type().map(text_of).filter(|it| !it.is_empty()),
            routing_key: text_of(message.routing_key()),
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
        texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(text_of(value?)))));
    let numbers =
        numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
    let headers = properties.headers().map_or_else(Map::new, json_of_table);
    json!({
        "exchange": text_of(delivery.message.exchange()),
        "routing_key": text_of(delivery.message.routing_key()),
        "queue": queue,
        "redelivered": delivery.redelivered,
        "headers": headers,
        "properties": texts.chain(numbers).collect::<Map<_, _>>(),
    })
}
