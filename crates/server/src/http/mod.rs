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
mod openapi;
mod refusal;
mod serve;
mod trace;

use crate::engine_door::EngineDoor;
use crate::oauth::Oauth;
use crate::options::HttpOptions;
use crate::stop::StopSignal;
use axum::Router;
use axum::middleware::from_fn;
use door::Door;
pub(crate) use facts::{Facts, Listening};
pub use inside::{Api, ApiAnswer, ApiError, ApiRequest};
pub use management::definitions::load_definitions;
pub use management::imported::DefinitionsError;
use millpond_broker::Broker;
pub(crate) use serve::Host;
use std::sync::Arc;

/// What all HTTP listeners of a server share.
#[derive(Debug, Clone)]
pub(crate) struct Doors {
    health: Router,
    events: Router,
    management: Router,
    metrics: Router,
    /// Of a listener for nothing else.
    prometheus: Router,
    console: Router,
}

impl Doors {
    pub(crate) fn new(
        broker: Broker,
        facts: Facts,
        options: &HttpOptions,
        engine: Option<Arc<dyn EngineDoor>>,
        stop: StopSignal,
        oauth: Option<Arc<Oauth>>,
    ) -> Self {
        let console = console::router(oauth.as_ref().and_then(|it| it.login_origin()).as_deref());
        let door = Arc::new(Door::new(broker.clone(), options, facts.http_port(), oauth));
        let facts = Arc::new(facts);
        Self {
            console,
            health: health::router(broker.clone()),
            events: events::router(broker.clone(), door.clone()).layer(from_fn(trace::traced)),
            management: management::router(broker.clone(), facts.clone(), door.clone(), engine.clone(), stop)
                .layer(from_fn(trace::traced)),
            prometheus: metrics::router(broker.clone(), facts.clone(), None, engine.clone()),
            metrics: metrics::router(broker, facts, Some(door), engine),
        }
    }

    /// Metrics for Prometheus alone, which asks for no password.
    pub(crate) fn prometheus(&self) -> Router {
        self.prometheus.clone()
    }
}
