//! `/api/schedules`, `/api/delayed`: what will be published later.

use super::fields::Fields;
use super::listing::{Listing, parameter};
use super::messages::{encoded, payload_of, properties_in};
use super::{Answer, Asker, Shared, exchange_name, missing, put_status, vhost_name};
use crate::http::commit::saved;
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use millpond_broker::{
    Broker, CancelDelayedError, DelayedMessage, Missed, Operation, Right, ScheduleError, ScheduleInfo,
    ScheduleSpec, Thing, json as broker_json,
};
use millpond_model::VhostName;
use millpond_model::properties::RawProperties;
use serde_json::{Value, json};

/// Messages of one answer unless the request says how many.
const COUNT_DEFAULT: usize = 100;
/// Most messages of one answer.
const COUNT_MAX: usize = 10_000;
/// Further moments that a schedule shows.
const NEXT_SHOWN: usize = 5;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/schedules", get(schedules))
        .route("/schedules/{vhost}", get(schedules_of))
        .route("/schedules/{vhost}/{schedule}", get(schedule).put(set).delete(remove))
        .route("/schedules/{vhost}/{schedule}/run", post(run))
        .route("/schedules/{vhost}/{schedule}/pause", put(pause))
        .route("/schedules/{vhost}/{schedule}/resume", put(resume))
        .route("/delayed", get(delayed))
        .route("/delayed/{vhost}", get(delayed_in))
        .route("/delayed/{vhost}/{exchange}", get(delayed_of).delete(cancel_named))
        .route("/delayed/{vhost}/{exchange}/{id}", delete(cancel))
}

impl From<ScheduleError> for Refusal {
    fn from(error: ScheduleError) -> Self {
        let reason = error.to_string();
        match error {
            ScheduleError::Vhost(missing) => missing.into(),
            ScheduleError::Missing { .. } => Self::new(StatusCode::NOT_FOUND, reason),
            ScheduleError::Refused(refused) => refused.into(),
            _ => Self::bad_request(reason),
        }
    }
}

impl From<CancelDelayedError> for Refusal {
    fn from(error: CancelDelayedError) -> Self {
        let reason = error.to_string();
        match error {
            CancelDelayedError::Vhost(missing) => missing.into(),
            CancelDelayedError::Missing { .. } | CancelDelayedError::Unnamed { .. } => {
                Self::new(StatusCode::NOT_FOUND, reason)
            }
            CancelDelayedError::Loading { .. } => Self::unavailable(reason),
            CancelDelayedError::Refused(refused) => refused.into(),
        }
    }
}

// ---- schedules

fn show(one: &ScheduleInfo) -> Value {
    let spec = &one.spec;
    json!({
        "name": &*spec.name,
        "vhost": one.vhost.as_str(),
        "cron": &*spec.cron,
        "zone": &*spec.zone,
        "exchange": spec.exchange.as_str(),
        "routing_key": String::from_utf8_lossy(&spec.routing_key),
        "missed": spec.missed.to_string(),
        "state": if one.paused { "paused" } else { "running" },
        "last_ms": one.last_ms,
        "next_ms": one.next_ms,
        "fired": one.fired,
        "unrouted": one.unrouted,
        "payload_bytes": spec.body.len(),
    })
}

fn list(asker: &Asker, vhost: Option<&str>, uri: &Uri) -> Answer {
    let mut shown = Vec::new();
    for vhost in asker.vhosts_meant(vhost)? {
        shown.extend(asker.see(&vhost)?.list_schedules(&vhost)?.iter().map(show));
    }
    Listing::read(uri)?.answer(shown)
}

async fn schedules(asker: Asker, uri: Uri) -> Answer {
    list(&asker, None, &uri)
}

async fn schedules_of(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    list(&asker, Some(&vhost), &uri)
}

async fn schedule(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let all = asker.see(&vhost)?.list_schedules(&vhost)?;
    let found = all.into_iter().find(|it| *it.spec.name == *name).ok_or_else(missing)?;
    let mut shown = show(&found);
    let after = |at: &u64| found.calendar.next_after(*at);
    shown["next"] = std::iter::successors(found.next_ms, after)
        .take(NEXT_SHOWN)
        .map(|at_ms| json!({ "at_ms": at_ms, "text": found.calendar.show(at_ms) }))
        .collect();
    if asker.can(seeing(&vhost, found.spec.exchange.as_str())) {
        shown["payload"] = String::from_utf8_lossy(&found.spec.body).into();
        shown["headers"] = broker_json::of_table(&found.spec.properties.headers).into();
    }
    Ok(Json(shown).into_response())
}

/// Whoever may bind to an exchange could see what is published to it.
fn seeing<'a>(vhost: &'a VhostName, exchange: &'a str) -> Operation<'a> {
    Operation::Use(vhost, Right::Read, Thing::Exchange(exchange))
}

/// The broker, for somebody who may set schedules of a vhost and publish such a message themselves.
fn may_publish<'a>(asker: &'a Asker, vhost: &VhostName, spec: &ScheduleSpec) -> Result<&'a Broker, Refusal> {
    let broker = asker.may(Operation::SetPolicy(vhost))?;
    spec.check().map_err(ScheduleError::from)?;
    let (properties, size) = (encoded(&spec.properties)?, spec.body.len() as u64);
    let properties = RawProperties::from_checked(&properties);
    // What a client is asked that publishes: permissions, topic permissions, whose name it bears.
    let mut session = asker.session(vhost)?;
    session.route(spec.exchange.as_str().as_bytes(), &spec.routing_key, &properties, size)?;
    Ok(broker)
}

/// `{"cron", "zone", "exchange", "routing_key", "missed", "properties", "payload", "payload_encoding"}`.
async fn set(asker: Asker, Path((vhost, name)): Path<(String, String)>, body: Bytes) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let fields = Fields::read(&body)?;
    fields.need(&["cron"])?;
    fields.only(&[
        "name",
        "vhost",
        "cron",
        "zone",
        "exchange",
        "routing_key",
        "missed",
        "properties",
        "payload",
        "payload_encoding",
    ])?;
    let key = fields.text("routing_key")?.unwrap_or_default();
    let missed = fields.text("missed")?.unwrap_or("once");
    let wrong = || Refusal::bad_request(format!("missed: skip, once or all is expected, not '{missed}'"));
    let spec = ScheduleSpec {
        name: name.into(),
        cron: fields.text("cron")?.unwrap_or_default().into(),
        zone: fields.text("zone")?.unwrap_or("UTC").into(),
        exchange: exchange_name(fields.text("exchange")?.unwrap_or_default())?,
        routing_key: key.as_bytes().into(),
        properties: properties_in(&fields)?,
        body: payload_of(&fields)?.into(),
        missed: Missed::parse(missed).ok_or_else(wrong)?,
    };
    let broker = may_publish(&asker, &vhost, &spec)?;
    let is_new = broker.list_schedules(&vhost)?.iter().all(|it| it.spec.name != spec.name);
    saved(broker.set_schedule(&vhost, spec)?.1).await?;
    Ok(put_status(is_new).into_response())
}

async fn run(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let all = asker.may(Operation::SetPolicy(&vhost))?.list_schedules(&vhost)?;
    let found = all.into_iter().find(|it| *it.spec.name == *name).ok_or_else(missing)?;
    let broker = may_publish(&asker, &vhost, &found.spec)?;
    let (routed, done) = broker.run_schedule(&vhost, &name)?;
    saved(done).await?;
    Ok(Json(json!({ "routed": routed })).into_response())
}

async fn set_paused(asker: &Asker, vhost: &str, name: &str, paused: bool) -> Answer {
    let vhost = vhost_name(vhost)?;
    saved(asker.may(Operation::SetPolicy(&vhost))?.pause_schedule(&vhost, name, paused)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn pause(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    set_paused(&asker, &vhost, &name, true).await
}

async fn resume(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    set_paused(&asker, &vhost, &name, false).await
}

async fn remove(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    let vhost = vhost_name(&vhost)?;
    saved(asker.may(Operation::SetPolicy(&vhost))?.remove_schedule(&vhost, &name)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

// ---- delayed messages

async fn delayed(asker: Asker, uri: Uri) -> Answer {
    list_delayed(&asker, None, &uri)
}

async fn delayed_in(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    list_delayed(&asker, Some(&vhost), &uri)
}

fn list_delayed(asker: &Asker, vhost: Option<&str>, uri: &Uri) -> Answer {
    let mut shown = Vec::new();
    for vhost in asker.vhosts_meant(vhost)? {
        shown.extend(asker.see(&vhost)?.list_delayed_exchanges(&vhost)?.iter().map(|it| {
            json!({"name": it.exchange.as_str(), "vhost": vhost.as_str(), "waiting": it.waiting,
                   "next_due_ms": it.next_due_ms})
        }));
    }
    Listing::read(uri)?.answer(shown)
}

/// Of a message whose content is on disk only the number and the time are known.
fn show_delayed(one: &DelayedMessage) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let content = one.content.as_ref();
    json!({
        "id": one.id,
        "due_ms": one.due_ms,
        "routing_key": content.map(|it| text(&it.routing_key)),
        "message_id": content.and_then(|it| it.message_id.as_deref()).map(text),
        "payload_bytes": content.map(|it| it.body_size_bytes),
    })
}

async fn delayed_of(asker: Asker, Path((vhost, exchange)): Path<(String, String)>, uri: Uri) -> Answer {
    let (vhost, exchange) = (vhost_name(&vhost)?, exchange_name(&exchange)?);
    let count = parameter(&uri, "count").and_then(|count| count.parse().ok()).unwrap_or(COUNT_DEFAULT);
    asker.see(&vhost)?;
    let broker = asker.may(seeing(&vhost, exchange.as_str()))?;
    let found = broker.list_delayed(&vhost, &exchange, count.min(COUNT_MAX))?;
    Ok(Json(found.iter().map(show_delayed).collect::<Value>()).into_response())
}

/// Whoever may publish to an exchange may take back what waits there.
fn may_cancel<'a>(
    asker: &'a Asker,
    vhost: &VhostName,
    exchange: &str,
) -> Result<&'a millpond_broker::Broker, Refusal> {
    asker.may(Operation::Use(vhost, Right::Write, Thing::Exchange(exchange)))
}

async fn cancel(asker: Asker, Path((vhost, exchange, id)): Path<(String, String, u64)>) -> Answer {
    let (vhost, exchange) = (vhost_name(&vhost)?, exchange_name(&exchange)?);
    saved(may_cancel(&asker, &vhost, exchange.as_str())?.cancel_delayed(&vhost, &exchange, id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn cancel_named(asker: Asker, Path((vhost, exchange)): Path<(String, String)>, uri: Uri) -> Answer {
    let (vhost, exchange) = (vhost_name(&vhost)?, exchange_name(&exchange)?);
    let id = parameter(&uri, "message_id").filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Refusal::bad_request("message_id: say which messages are to be cancelled"))?;
    let broker = may_cancel(&asker, &vhost, exchange.as_str())?;
    let (count, done) = broker.cancel_delayed_named(&vhost, &exchange, id.as_bytes())?;
    saved(done).await?;
    Ok(Json(json!({ "cancelled": count })).into_response())
}
