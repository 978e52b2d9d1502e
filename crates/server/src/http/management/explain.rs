//! `/api/explain`: why a message would, or would not, reach a queue.

use super::fields::Fields;
use super::messages::properties_of;
use super::{Answer, Asker, Shared, exchange_name, queue_name, user_name, vhost_name};
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use millpond_broker::{
    Destination, ExplainError, ExplainRequest, Publisher, QueueReason, RouteStep, json as broker_json,
};
use serde_json::{Map, Value, json};

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/explain", post(explain))
}

impl From<ExplainError> for Refusal {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::Vhost(missing) => missing.into(),
            ExplainError::Publish(error) => Self::bad_request(error.to_string()),
        }
    }
}

/// `headers` beside `properties` are put into them.
fn with_headers(fields: &Fields) -> Result<Fields, Refusal> {
    let mut properties = match fields.get("properties") {
        Some(Value::Object(given)) => given.clone(),
        None => Map::new(),
        Some(_) => return Err(Refusal::bad_request("properties: an object is expected")),
    };
    if let Some(headers) = fields.get("headers") {
        properties.insert("headers".to_owned(), headers.clone());
    }
    Fields::of(json!({ "properties": properties }))
}

async fn explain(asker: Asker, body: Bytes) -> Answer {
    let fields = Fields::read(&body)?;
    fields.only(&["vhost", "exchange", "routing_key", "headers", "properties", "queue", "user"])?;
    let vhost = vhost_name(fields.text("vhost")?.unwrap_or("/"))?;
    let broker = asker.see(&vhost)?;
    let key = fields.text("routing_key")?.unwrap_or_default();
    if key.len() > millpond_model::limits::SHORT_STRING_MAX_BYTES {
        return Err(Refusal::bad_request(format!("a routing key of {} bytes is over 255", key.len())));
    }
    let by = match fields.text("user")?.filter(|user| !user.is_empty()).map(user_name).transpose()? {
        None => None,
        Some(user) if user == asker.login().user => Some(Publisher::Login(asker.login().clone())),
        Some(user) => {
            // Who may do what is told to administrators.
            asker.administer()?;
            Some(Publisher::User(user))
        }
    };
    let request = ExplainRequest {
        exchange: exchange_name(fields.text("exchange")?.unwrap_or_default())?,
        routing_key: key.as_bytes().into(),
        properties: properties_of(&with_headers(&fields)?)?,
        queue: fields.text("queue")?.filter(|queue| !queue.is_empty()).map(queue_name).transpose()?,
        by,
    };
    let told = broker.explain(&vhost, &request);
    let told = match told {
        Err(ExplainError::Vhost(_)) => return Err(Refusal::new(StatusCode::NOT_FOUND, "no such vhost")),
        told => told?,
    };
    let queues: Vec<&str> = told.queues.iter().map(|queue| queue.as_str()).collect();
    let refused = told.refused.map(|(code, reason)| json!({ "code": code, "reason": reason }));
    Ok(Json(json!({
        "vhost": vhost.as_str(),
        "exchange": request.exchange.as_str(),
        "routing_key": key,
        "routed": !queues.is_empty(),
        "queues": queues,
        "refused": refused,
        "steps": told.steps.iter().map(step).collect::<Vec<_>>(),
        "truncated": told.truncated,
        "queue_reasons": told.queue_reasons.iter().map(reason).collect::<Vec<_>>(),
    }))
    .into_response())
}

fn step(step: &RouteStep) -> Value {
    let (destination, kind) = match &step.destination {
        Some(Destination::Queue(queue)) => (Some(queue.as_str()), Some("queue")),
        Some(Destination::Exchange(exchange)) => (Some(exchange.as_str()), Some("exchange")),
        None => (None, None),
    };
    let facts: Map<String, Value> =
        step.facts.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    json!({
        "exchange": step.exchange.as_str(),
        "type": step.kind,
        "destination": destination,
        "destination_type": kind,
        "binding_key": step.binding_key,
        "arguments": broker_json::of_table(&step.arguments),
        "matched": step.matched,
        "code": step.code,
        "reason": step.reason,
        "facts": facts,
    })
}

fn reason(reason: &QueueReason) -> Value {
    let facts: Map<String, Value> =
        reason.facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    json!({ "queue": reason.queue.as_str(), "code": reason.code, "reason": reason.reason, "facts": facts })
}
