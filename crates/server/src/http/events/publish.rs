//! `POST /events`: CloudEvents in binary, structured or batched mode (HTTP binding, 3) become messages.

use super::query::Query;
use super::{Caller, Events};
use crate::http::commit::durable;
use crate::http::refusal::Refusal;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use millpond_broker::Session;
use millpond_events::{BATCH, CloudEvent, EventError, EventMessage, STRUCTURED, media_type};
use millpond_model::limits::PROPERTIES_MAX_BYTES;
use millpond_model::properties::RawProperties;
use millpond_model::{ExchangeName, Message};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// Most events of a batch.
const BATCH_MAX: usize = 10_000;

/// How long a publisher waits for queues that are over their limits before it is asked to come again.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Header prefix of attributes in binary mode.
const ATTRIBUTE_PREFIX: &str = "ce-";

pub(super) async fn post(
    State(events): State<Arc<Events>>,
    Caller(login): Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let query = Query::read(&uri, &["vhost", "exchange"])?;
    let (vhost, exchange) = (query.vhost()?, query.exchange()?);
    let given = read_events(&headers, &body?)?;
    let mut session = events.sessions.take(&login, &vhost)?;
    let messages: Vec<_> = {
        let now_s = session.now_ms() / 1000;
        given.iter().map(|event| event.to_message(now_s)).collect()
    };
    publish(&mut session, &exchange, &messages).await?;
    // Only now: a request that was dropped halfway takes its session with it.
    events.sessions.put_back(&login.user, &vhost, session);
    Ok((StatusCode::ACCEPTED, Json(json!({ "accepted": messages.len() }))).into_response())
}

/// All events are durable when this is `Ok`; none was taken if not, but for those that a full queue let through.
async fn publish(
    session: &mut Session,
    exchange: &ExchangeName,
    messages: &[EventMessage],
) -> Result<(), Refusal> {
    let ready = poll_fn(|cx| session.poll_publish_ready(cx));
    if tokio::time::timeout(ROOM_WAIT, ready).await.is_err() {
        return Err(Refusal::too_fast("queues that these events go to are full: come again later"));
    }
    let now_ms = session.now_ms();
    let mut batch = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let at = |refusal: Refusal| refusal.with("index", index);
        let properties = message
            .encode_properties()
            .map_err(|error| at(Refusal::bad_request(format!("the event's attributes: {error}"))))?;
        if properties.len() > PROPERTIES_MAX_BYTES {
            let reason = format!(
                "the event's attributes have {} bytes as headers, at most {PROPERTIES_MAX_BYTES} are allowed",
                properties.len()
            );
            return Err(at(Refusal::bad_request(reason)));
        }
        let raw = RawProperties::from_checked(&properties);
        let (to, key) = (exchange.as_str().as_bytes(), message.routing_key.as_bytes());
        let route = session
            .route(to, key, &raw, message.body.len() as u64)
            .map_err(|error| at(Refusal::from(error)))?;
        let rewritten = session.rewrite_properties(&raw);
        let properties = rewritten.as_deref().unwrap_or(&properties);
        batch.push((Message::published_at(now_ms, to, key, properties, true, &message.body), route));
    }
    let durability = session.publish(&mut batch)?;
    durable(session, durability).await?;
    match session.take_refused() {
        refused if refused.is_empty() => Ok(()),
        refused => {
            let reason = format!("a queue took {} of the events no more: it is full", refused.len());
            Err(Refusal::too_fast(reason).with("refused", refused))
        }
    }
}

fn read_events(headers: &HeaderMap, body: &Bytes) -> Result<Vec<CloudEvent>, Refusal> {
    let content_type = match headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => return Err(Refusal::bad_request("the content type is not text")),
    };
    let media = content_type.map(|text| media_type(text).to_ascii_lowercase()).unwrap_or_default();
    let json = || {
        serde_json::from_slice::<Value>(body)
            .map_err(|error| Refusal::bad_request(format!("the body is not JSON: {error}")))
    };
    if media == STRUCTURED {
        return Ok(vec![CloudEvent::from_json(json()?).map_err(|error| bad_event(&error))?]);
    }
    if media == BATCH {
        let Value::Array(items) = json()? else {
            return Err(Refusal::bad_request("a batch is a list of events, and this is no list"));
        };
        if items.len() > BATCH_MAX {
            let reason = format!("the batch has {} events, at most {BATCH_MAX} are taken", items.len());
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        let read = |(index, item)| {
            CloudEvent::from_json(item).map_err(|error| bad_event(&error).with("index", index))
        };
        return items.into_iter().enumerate().map(read).collect();
    }
    if media.starts_with("application/cloudevents") {
        let reason = format!("events come as {STRUCTURED} or {BATCH}, or in binary mode, and not as {media}");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    binary(headers, content_type, body).map(|event| vec![event])
}

/// Attributes as headers `ce-NAME`, the data as the body.
fn binary(headers: &HeaderMap, content_type: Option<&str>, body: &Bytes) -> Result<CloudEvent, Refusal> {
    let mut attributes = Map::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(ATTRIBUTE_PREFIX) else { continue };
        // HTTP binding, 3.1.3.2: values are percent-encoded UTF-8; many senders leave them as they are.
        let text = unquoted(std::str::from_utf8(value.as_bytes()).map_err(|_| bad_text(name))?);
        let text = percent_decode_str(&text).decode_utf8().map_err(|_| bad_text(name))?;
        if attributes.insert(attribute.to_owned(), text.into_owned().into()).is_some() {
            return Err(Refusal::bad_request(format!("the header '{name}' is there twice"))
                .with("attribute", attribute));
        }
    }
    if !attributes.contains_key("specversion") {
        return Err(bad_event(&EventError::Missing { attribute: "specversion" }));
    }
    if let Some(content_type) = content_type {
        attributes.insert("datacontenttype".to_owned(), content_type.into());
    }
    CloudEvent::new(attributes, body.clone()).map_err(|error| bad_event(&error))
}

/// Without the double quotes that senders of earlier versions write, and the backslashes in them (the same place). A
/// text with a quote that nothing ends stays as it is.
fn unquoted(text: &str) -> Cow<'_, str> {
    if !text.contains('"') {
        return text.into();
    }
    let (mut out, mut is_quoted, mut rest) = (String::with_capacity(text.len()), false, text.chars());
    while let Some(c) = rest.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => out.extend(rest.next()),
            c => out.push(c),
        }
    }
    if is_quoted { text.into() } else { out.into() }
}

fn bad_text(name: &HeaderName) -> Refusal {
    Refusal::bad_request(format!("the header '{name}' is not UTF-8"))
}

fn bad_event(error: &EventError) -> Refusal {
    let refusal = Refusal::bad_request(error.to_string());
    match error.attribute() {
        Some(attribute) => refusal.with("attribute", attribute),
        None => refusal,
    }
}
