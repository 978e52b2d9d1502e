//! HTTP front end: health checks, metrics, the management API, the console, and events in and out for programs without
//! AMQP.

mod commit;
mod console;
mod door;
mod events;
mod facts;
mod health;
mod inside;
mod management;
mod metrics;
mod refusal;

use crate::engine_door::EngineDoor;
use crate::options::HttpOptions;
use crate::stop::StopSignal;
use axum::Router;
use axum::http::StatusCode;
use door::Door;
pub(crate) use facts::Facts;
pub use inside::{Api, ApiAnswer, ApiError, ApiRequest};
pub use management::definitions::{DefinitionsError, load_definitions};
use millpond_broker::Broker;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

const NOT_FOUND: &str = "not found: health checks are at /health, /health/ready and /health/live, events at /events, the console at /, the management API at /api, metrics at /metrics\n";

/// What all HTTP listeners of a server share.
#[derive(Debug, Clone)]
pub(crate) struct Doors {
    health: Router,
    events: Router,
    management: Router,
    metrics: Router,
}

impl Doors {
    pub(crate) fn new(
        broker: Broker,
        facts: Facts,
        options: &HttpOptions,
        engine: Option<Arc<dyn EngineDoor>>,
        stop: StopSignal,
    ) -> Self {
        let door = Arc::new(Door::new(broker.clone(), options, facts.http_port()));
        let facts = Arc::new(facts);
        Self {
            health: health::router(broker.clone()),
            events: events::router(broker.clone(), door.clone()),
            management: management::router(broker.clone(), facts.clone(), door, engine, stop),
            metrics: metrics::router(broker, facts),
        }
    }
}

/// Answers until stopped.
pub(crate) async fn serve(listener: TcpListener, doors: Doors, mut stop: StopSignal) {
    let router = Router::new()
        .merge(doors.health)
        .merge(doors.events)
        .merge(doors.management)
        .merge(doors.metrics)
        .merge(console::router())
        .fallback(|| async { (StatusCode::NOT_FOUND, NOT_FOUND) })
        .into_make_service_with_connect_info::<SocketAddr>();
    // Connections that idle, or wait for events, must not hold the stop up, so the whole service is dropped.
    tokio::select! {
        served = axum::serve(listener, router) => {
            if let Err(error) = served {
                tracing::error!(%error, "the HTTP listener ended");
            }
        }
        () = stop.stopped() => {}
    }
}
