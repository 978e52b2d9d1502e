//! `GET /events/NAME`: takes events of a queue, waits for the first; and the requests that settle them.

use super::puller::{Settled, Wish};
use super::query::Query;
use super::subscribe::queue_name;
use super::{Caller, Events};
use crate::http::refusal::Refusal;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use millpond_broker::{Login, Outcome};
use millpond_events::BATCH;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Longest time a request waits for an event.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Most events of an answer.
const EVENTS_MAX: usize = 1000;

/// How long an event is the client's alone, unless it says otherwise.
const LEASE_DEFAULT: Duration = Duration::from_secs(60);

/// The shortest and the longest lease.
const LEASE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(12 * 3600);

/// Most receipts of a request.
const RECEIPTS_MAX: usize = 10_000;

pub(super) async fn get(
    State(events): State<Arc<Events>>,
    Caller(login): Caller,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = Query::read(&uri, &["vhost", "wait", "max", "lease"])?;
    let wish = Wish {
        wait: query.time("wait", Duration::ZERO, Duration::ZERO..=WAIT_MAX)?,
        max: query.count("max", 1, EVENTS_MAX)?,
        lease: query.time("lease", LEASE_DEFAULT, LEASE)?,
    };
    let puller = events.pullers.find(&events.broker, &login, &query.vhost()?, &queue_name(&name?)?)?;
    let taken = puller.take(wish).await?;
    let body = serde_json::to_string(&taken).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, BATCH)], body).into_response())
}

pub(super) async fn ack(
    State(events): State<Arc<Events>>,
    Caller(login): Caller,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let query = Query::read(&uri, &["vhost"])?;
    settle(&events, &login, &name?, &query, &body?, Outcome::Accept).await
}

/// Back to the queue, or with `requeue=false` to its dead-letter exchange.
pub(super) async fn nack(
    State(events): State<Arc<Events>>,
    Caller(login): Caller,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let query = Query::read(&uri, &["vhost", "requeue"])?;
    let outcome = if query.flag("requeue", true)? { Outcome::Requeue } else { Outcome::Reject };
    settle(&events, &login, &name?, &query, &body?, outcome).await
}

async fn settle(
    events: &Events,
    login: &Login,
    name: &str,
    query: &Query,
    body: &[u8],
    outcome: Outcome,
) -> Result<Json<Value>, Refusal> {
    let (vhost, queue) = (query.vhost()?, queue_name(name)?);
    let receipts = read_receipts(body)?;
    let settled = match events.pullers.known(login, &vhost, &queue) {
        Some(puller) => puller.settle(receipts, outcome).await?,
        None => Settled { settled: 0, unknown: receipts },
    };
    Ok(Json(json!({ "settled": settled.settled, "unknown": settled.unknown })))
}

/// `{"receipts": ["..."]}`.
fn read_receipts(body: &[u8]) -> Result<Vec<String>, Refusal> {
    let expected = "a JSON object such as {\"receipts\": [\"...\"]} is expected";
    let json: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("{expected}: {error}")))?;
    let Some(items) = json.get("receipts").and_then(Value::as_array) else {
        return Err(Refusal::bad_request(expected));
    };
    if items.len() > RECEIPTS_MAX {
        let reason = format!("{} receipts in one request, at most {RECEIPTS_MAX} are taken", items.len());
        return Err(Refusal::bad_request(reason));
    }
    let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
    texts.collect::<Option<_>>().ok_or_else(|| Refusal::bad_request("a receipt is a text"))
}
