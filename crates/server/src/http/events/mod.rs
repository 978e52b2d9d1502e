//! Events over HTTP, for programs without AMQP: `POST /events` publishes, `GET /events/NAME` takes, with long polling.
//!
//! | Request | Does |
//! |---|---|
//! | `POST /events` | publishes one event or a batch to the bus; 202 when they are durable |
//! | `PUT /events/NAME` | makes a queue and binds it to the bus, by conditions on attributes |
//! | `GET /events/NAME?wait=30s&max=100` | takes events of a queue, waits for the first |
//! | `POST /events/NAME/ack`, `/nack` | settles what was taken, by receipts |
//! | `DELETE /events/NAME` | removes the queue |
//!
//! `publish`: in. `subscribe`: queues and their bindings. `pull`: out, over a `puller` a user and queue.

mod publish;
mod pull;
mod puller;
mod query;
mod sessions;
mod subscribe;

use super::door::Door;
use super::refusal::Refusal;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use millpond_broker::{Broker, FrontEnd, Login};
use puller::Pullers;
use sessions::Sessions;
use std::sync::Arc;

/// Exchange that events are published to unless the request says otherwise.
const BUS: &str = "millpond.events";

/// Largest request: a batch of events.
const BODY_MAX_BYTES: usize = 16 * 1024 * 1024;

/// What the handlers share.
#[derive(Debug)]
struct Events {
    broker: Broker,
    door: Arc<Door>,
    sessions: Sessions,
    pullers: Pullers,
}

/// Who asks. Every handler takes it before the body, so that nobody's body is read before it is known whose it is.
struct Caller(Login);

impl FromRequestParts<Arc<Events>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, events: &Arc<Events>) -> Result<Self, Refusal> {
        events.door.login(parts, FrontEnd::Events).await.map(Self)
    }
}

/// Taking events is no reading: left to itself the router would take some for a `HEAD` and throw them away.
async fn no_head(_: Caller) -> Response {
    let allow = [(header::ALLOW, "GET,PUT,DELETE")];
    (StatusCode::METHOD_NOT_ALLOWED, allow).into_response()
}

/// The doors for events.
pub(super) fn router(broker: Broker, door: Arc<Door>) -> Router {
    let sessions = Sessions::new(broker.clone());
    let events = Events { sessions, door, pullers: Pullers::default(), broker };
    Router::new()
        .route("/events", post(publish::post))
        .route("/events/{name}", get(pull::get).head(no_head).put(subscribe::put).delete(subscribe::delete))
        .route("/events/{name}/ack", post(pull::ack))
        .route("/events/{name}/nack", post(pull::nack))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(Arc::new(events))
}
