//! Health checks: `/health`, `/health/live`, `/health/ready`.
//!
//! | Path | 200 | 503 |
//! |---|---|---|
//! | `/health/live` | the process answers | - |
//! | `/health`, `/health/ready` | the store takes writes | it is full or poisoned, or the broker drains; `reason` says which |

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use millpond_broker::{Broker, StoreStatus};
use serde_json::{Value, json};

/// The health checks.
pub(super) fn router(broker: Broker) -> Router {
    Router::new()
        .route("/health", get(ready))
        .route("/health/ready", get(ready))
        .route("/health/live", get(live))
        .with_state(broker)
}

async fn live() -> Json<Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

async fn ready(State(broker): State<Broker>) -> (StatusCode, Json<Value>) {
    let reason = match broker.store_status() {
        _ if broker.is_draining() => "the broker drains: it stops when its clients have settled".to_owned(),
        StoreStatus::Writable => {
            return (StatusCode::OK, Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })));
        }
        StoreStatus::Full => "the store is full: publishes are refused until there is room".to_owned(),
        StoreStatus::Poisoned { cause } => format!("the store is poisoned: {cause}"),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "failed", "reason": reason })))
}
