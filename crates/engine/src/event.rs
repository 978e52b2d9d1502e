//! Messages as CloudEvents 1.0: what a rule sees. See docs/guide/rules.md, "The event".

use crate::jq::{Needs, name_val, parse_json, text_val, to_json, to_val};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jaq_json::Val;
use millpond_broker::Delivery;
use millpond_events::{Data, Origin, is_structured, json_of_table, show_time, text_of};
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use serde_json::{Map, Value, json};
use std::time::SystemTime;

/// Counts the rules a message has come through.
pub(crate) const HOPS_HEADER: &str = "x-millpond-hops";

/// What a rule works on.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// The CloudEvent as jq sees it, with the AMQP part under `amqp`; of its members those that were asked for.
    pub(crate) val: Val,
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

/// The members of a message's event that are needed, by name.
fn members(delivery: &Delivery, origin: Origin<'_>, needs: Needs) -> jaq_json::Map {
    let message = &delivery.message;
    let mut event = jaq_json::Map::default();
    let mut put = |json: Map<String, Value>| {
        event.extend(json.iter().map(|(name, value)| (text_val(name), to_val(value))));
    };
    if is_structured(message) {
        put(origin.read(message));
    } else {
        if needs.some_of(Needs::ATTRIBUTES) {
            put(origin.attributes(message));
        }
        if needs.some_of(Needs::DATA) {
            put_data(&mut event, message);
        }
    }
    if needs.some_of(Needs::AMQP) {
        let properties = RawProperties::from_checked(message.properties());
        event.insert(name_val("amqp"), to_val(&amqp_part(delivery, &properties, origin.queue)));
    }
    if needs.some_of(Needs::ATTRIBUTES) {
        // Sorted, so that the same event has the same text.
        event.sort_keys();
    }
    event
}

fn put_data(event: &mut jaq_json::Map, message: &Message) {
    let data = Data::of(message);
    let body = message.body_bytes();
    if data == Data::None {
        return;
    }
    if data == Data::Json
        && let Ok(data) = parse_json(&body)
    {
        event.insert(name_val("data"), data);
        return;
    }
    match std::str::from_utf8(&body) {
        Ok(text) if data != Data::Bytes => event.insert(name_val("data"), text_val(text)),
        _ => event.insert(name_val("data_base64"), text_val(&STANDARD.encode(&body))),
    };
}

impl Event {
    /// What an expression sees of a message, if it looks at nothing but what it `needs`.
    pub(crate) fn glance(delivery: &Delivery, origin: Origin<'_>, needs: Needs) -> Val {
        Val::obj(members(delivery, origin, needs))
    }

    /// Reads a message, as far as it `needs` to be.
    pub(crate) fn of_delivery(delivery: &Delivery, origin: Origin<'_>, needs: Needs) -> Self {
        let message = &delivery.message;
        let properties = RawProperties::from_checked(message.properties());
        let event = members(delivery, origin, needs);
        let id = event.get(&name_val("id")).map(val_text);
        let id = id.unwrap_or_else(|| match origin.id(message) {
            Value::String(id) => id,
            other => other.to_string(),
        });
        let hops = properties.headers().and_then(|headers| headers.get(HOPS_HEADER)?.as_i64()).unwrap_or(0);
        Self {
            val: Val::obj(event),
            id,
            body: message.body_bytes(),
            content_type: properties.content_type().map(text_of).filter(|it| !it.is_empty()),
            routing_key: text_of(message.routing_key()),
            hops: u64::try_from(hops).unwrap_or(0),
        }
    }

    /// The same with a further member, which jq sees and the event as such does not have.
    pub(crate) fn with_member(mut self, name: &'static str, value: &Value) -> Self {
        if let Val::Obj(members) = &mut self.val {
            std::sync::Arc::make_mut(members).insert(name_val(name), to_val(value));
        }
        self
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
        let val = to_val(&Value::Object(event));
        let id = match &val {
            Val::Obj(event) => event.get(&name_val("id")).map(val_text),
            _ => None,
        };
        Self {
            id: id.unwrap_or_default(),
            val,
            body: body.into(),
            content_type: stated.or(content_type),
            routing_key,
            hops: hops.unwrap_or(0),
        }
    }

    /// The event as structured CloudEvents carry it: without what only rules see. Its members must have been asked
    /// for.
    pub(crate) fn to_cloud_event(&self) -> Value {
        // Nothing that nests deeper is read.
        let mut json = to_json(&self.val).unwrap_or_default();
        if let Value::Object(object) = &mut json {
            for name in ["amqp", "results", "error"] {
                object.remove(name);
            }
        }
        json
    }
}

fn val_text(val: &Val) -> String {
    match val {
        Val::TStr(text) => String::from_utf8_lossy(text).into_owned(),
        other => to_json(other).unwrap_or_default().to_string(),
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
