//! Messages over the management API: published, taken, purged. For a look and a try; programs use AMQP or `/events`.

use super::exchanges;
use super::fields::Fields;
use super::queues;
use super::{Answer, Asker, Shared};
use crate::http::commit::durable;
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{delete, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millpond_broker::{DeliveryId, GetError, Got, Outcome, Session, json};
use millpond_model::limits::PROPERTIES_MAX_BYTES;
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::{Message, QueueName};
use serde_json::{Map, Value, json};
use std::future::poll_fn;
use std::time::Duration;

/// Most messages that one request takes.
const GET_MAX: i64 = 10_000;
/// Bodies that one request takes before it stops with fewer messages than asked for. Bytes.
const GET_MAX_BYTES: usize = 64 * 1024 * 1024;
/// How long a publish waits for queues that are over their limits before the client is asked to come again.
const ROOM_WAIT: Duration = Duration::from_secs(1);

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/exchanges/{vhost}/{exchange}/publish", post(publish))
        .route("/queues/{vhost}/{queue}/get", post(get))
        .route("/queues/{vhost}/{queue}/contents", delete(purge))
}

// ---- publish

async fn publish(asker: Asker, Path((vhost, exchange)): Path<(String, String)>, body: Bytes) -> Answer {
    let fields = Fields::read(&body)?;
    fields.need(&["properties", "routing_key", "payload", "payload_encoding"])?;
    let (vhost, exchange) = match exchanges::find(&asker, &vhost, &exchange) {
        // As RabbitMQ has it: publishing to an exchange that is not there is a bad request.
        Err(error) if error.status() == StatusCode::NOT_FOUND => {
            let reason = format!("404 NOT_FOUND - no exchange '{exchange}' in vhost '{vhost}'");
            return Err(Refusal::bad_request(reason));
        }
        found => found?,
    };
    let payload = payload_of(&fields)?;
    let properties = properties_of(&fields)?;
    let key = fields.text("routing_key")?.unwrap_or_default();
    if key.len() > millpond_model::limits::SHORT_STRING_MAX_BYTES {
        return Err(Refusal::bad_request(format!("a routing key of {} bytes is over 255", key.len())));
    }
    let mut session = asker.session(&vhost)?;
    let routed = send(&mut session, (exchange.name.as_str(), key), &properties, &payload).await?;
    Ok(Json(json!({ "routed": routed })).into_response())
}

/// Publishes one message, mandatory and confirmed; whether anything took it.
pub(super) async fn send(
    session: &mut Session,
    (exchange, key): (&str, &str),
    properties: &[u8],
    payload: &[u8],
) -> Result<bool, Refusal> {
    let ready = poll_fn(|cx| session.poll_publish_ready(cx));
    if tokio::time::timeout(ROOM_WAIT, ready).await.is_err() {
        return Err(Refusal::too_fast("queues that this message goes to are full: come again later"));
    }
    let raw = RawProperties::from_checked(properties);
    let (to, key) = (exchange.as_bytes(), key.as_bytes());
    let route = session.route(to, key, &raw, payload.len() as u64)?;
    let mut routed = !route.is_unroutable();
    if route.is_nowhere() || route.gives_back() {
        return Ok(false);
    }
    let only_cancels = route.only_cancels();
    let rewritten = session.rewrite_properties(&raw);
    let properties = rewritten.as_deref().unwrap_or(properties);
    let message = Message::published_at(session.now_ms(), to, key, properties, raw.is_persistent(), payload);
    let durability = session.publish(&mut vec![(message, route)])?;
    durable(session, durability).await?;
    if !session.take_refused().is_empty() {
        return Err(Refusal::bad_request("rejected: a queue is full and refuses messages"));
    }
    if only_cancels && !session.take_missed().is_empty() {
        routed = false;
    }
    Ok(routed)
}

pub(super) fn payload_of(fields: &Fields) -> Result<Vec<u8>, Refusal> {
    let payload = fields.text("payload")?.unwrap_or_default();
    match fields.text("payload_encoding")?.unwrap_or("string") {
        "string" => Ok(payload.as_bytes().to_vec()),
        "base64" => STANDARD
            .decode(payload)
            .map_err(|error| Refusal::bad_request(format!("payload: this is no Base64: {error}"))),
        other => Err(Refusal::bad_request(format!(
            "payload_encoding '{other}' is not known: use string or base64"
        ))),
    }
}

/// Encoded.
pub(super) fn properties_of(fields: &Fields) -> Result<Vec<u8>, Refusal> {
    encoded(&properties_in(fields)?)
}

/// Those of a message that a request brings.
pub(super) fn properties_in(fields: &Fields) -> Result<Properties, Refusal> {
    let given = match fields.get("properties") {
        Some(Value::Array(items)) if items.is_empty() => Fields::read(b"")?,
        Some(value) => Fields::of(value.clone())?,
        None => Fields::read(b"")?,
    };
    let text = |name| -> Result<Option<Box<str>>, Refusal> { Ok(given.text(name)?.map(Into::into)) };
    let octet = |name: &str| -> Result<Option<u8>, Refusal> {
        let Some(number) = given.integer(name)? else { return Ok(None) };
        let wrong = |_| Refusal::bad_request(format!("{name}: a number from 0 to 255 is expected"));
        u8::try_from(number).map(Some).map_err(wrong)
    };
    // Some clients write it as a number.
    let expiration = match given.get("expiration") {
        Some(Value::Number(number)) => Some(number.to_string().into()),
        _ => text("expiration")?,
    };
    let timestamp = given.integer("timestamp")?.map(u64::try_from).transpose();
    Ok(Properties {
        content_type: text("content_type")?,
        content_encoding: text("content_encoding")?,
        headers: given.table("headers")?,
        delivery_mode: octet("delivery_mode")?,
        priority: octet("priority")?,
        correlation_id: text("correlation_id")?,
        reply_to: text("reply_to")?,
        expiration,
        message_id: text("message_id")?,
        timestamp: timestamp
            .map_err(|_| Refusal::bad_request("timestamp: seconds since 1970 are expected"))?,
        type_: text("type")?,
        user_id: text("user_id")?,
        app_id: text("app_id")?,
        cluster_id: text("cluster_id")?,
    })
}

pub(super) fn encoded(properties: &Properties) -> Result<Vec<u8>, Refusal> {
    let encoded = properties.encode().map_err(|error| Refusal::bad_request(error.to_string()))?;
    match encoded.len() > PROPERTIES_MAX_BYTES {
        true => Err(Refusal::bad_request(format!(
            "the properties have {} bytes, at most {PROPERTIES_MAX_BYTES} are allowed",
            encoded.len()
        ))),
        false => Ok(encoded),
    }
}

// ---- get

/// How a body is shown.
#[derive(Debug, Clone, Copy)]
struct Showing {
    base64: bool,
    truncate: usize,
}

async fn get(asker: Asker, Path((vhost, queue)): Path<(String, String)>, body: Bytes) -> Answer {
    let fields = Fields::read(&body)?;
    fields.need(&["ackmode", "count", "encoding"])?;
    let outcome = match fields.text("ackmode")?.unwrap_or_default() {
        "ack_requeue_true" => Outcome::Requeue,
        "ack_requeue_false" => Outcome::Accept,
        "reject_requeue_true" => Outcome::Fail,
        "reject_requeue_false" => Outcome::Reject,
        other => {
            return Err(Refusal::bad_request(format!(
                "ackmode '{other}' is not known: use ack_requeue_true, ack_requeue_false, reject_requeue_true or reject_requeue_false"
            )));
        }
    };
    let showing = showing_of(&fields)?;
    let count = fields.integer("count")?.unwrap_or(1);
    if !(0..=GET_MAX).contains(&count) {
        return Err(Refusal::bad_request(format!("count={count}: a number from 0 to {GET_MAX} is expected")));
    }
    let (vhost, found) = queues::find(&asker, &vhost, &queue)?;
    let mut session = asker.session(&vhost)?;
    let taken = take(&mut session, &found.name, count as usize).await?;
    let shown: Vec<_> = taken.iter().map(|got| show(got, showing)).collect();
    let ids: Vec<_> =
        taken.iter().map(|got| DeliveryId { queue: got.queue, seq: got.delivery.seq }).collect();
    session.settle(&ids, outcome);
    Ok(Json(shown).into_response())
}

fn showing_of(fields: &Fields) -> Result<Showing, Refusal> {
    let base64 = match fields.text("encoding")?.unwrap_or_default() {
        "auto" => false,
        "base64" => true,
        other => {
            return Err(Refusal::bad_request(format!("encoding '{other}' is not known: use auto or base64")));
        }
    };
    let truncate = fields.integer("truncate")?.map_or(usize::MAX, |bytes| bytes.max(0) as usize);
    Ok(Showing { base64, truncate })
}

async fn take(session: &mut Session, queue: &QueueName, count: usize) -> Result<Vec<Got>, Refusal> {
    let mut taken: Vec<Got> = Vec::new();
    let mut size_bytes = 0;
    while taken.len() < count && size_bytes < GET_MAX_BYTES {
        match session.get(queue, false) {
            Ok(Some(got)) => {
                size_bytes += got.delivery.message.size_bytes();
                taken.push(got);
            }
            Ok(None) => break,
            Err(GetError::Loading) => poll_fn(|cx| session.poll_loaded(cx)).await,
            Err(GetError::Queue(error)) => return Err(error.into()),
        }
    }
    Ok(taken)
}

/// A body and how it is encoded.
pub(super) fn show_payload(body: &[u8], base64: bool, truncate: usize) -> (String, &'static str) {
    let body = &body[..body.len().min(truncate)];
    match std::str::from_utf8(body) {
        Ok(text) if !base64 => (text.to_owned(), "string"),
        _ => (STANDARD.encode(body), "base64"),
    }
}

fn show(got: &Got, showing: Showing) -> Value {
    let message = &got.delivery.message;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (payload, encoding) = show_payload(message.body(), showing.base64, showing.truncate);
    json!({
        "payload_bytes": message.body_size_bytes(),
        "redelivered": got.delivery.redelivered,
        "exchange": text(message.exchange()),
        "routing_key": text(message.routing_key()),
        "message_count": got.ready,
        "properties": show_properties(&RawProperties::from_checked(message.properties())),
        "payload": payload,
        "payload_encoding": encoding,
    })
}

/// Those that are there; RabbitMQ shows none as an empty list.
pub(super) fn show_properties(properties: &RawProperties<'_>) -> Value {
    let mut shown = Map::new();
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
        ("cluster_id", properties.cluster_id()),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            shown.insert(name.to_owned(), String::from_utf8_lossy(value).into());
        }
    }
    let numbers = [
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
        ("priority", properties.priority().map(u64::from)),
        ("timestamp", properties.timestamp()),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            shown.insert(name.to_owned(), value.into());
        }
    }
    if let Some(headers) = properties.headers() {
        shown.insert("headers".to_owned(), json::of_table(&headers.to_table()).into());
    }
    if shown.is_empty() { Value::Array(Vec::new()) } else { shown.into() }
}

// ---- purge

async fn purge(asker: Asker, Path((vhost, queue)): Path<(String, String)>) -> Answer {
    let (vhost, found) = queues::find(&asker, &vhost, &queue)?;
    let mut session = asker.session(&vhost)?;
    let (_, durability) = session.purge_queue(&found.name)?;
    durable(&mut session, durability).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
