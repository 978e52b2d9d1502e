//! `/api/health/checks`, `/api/aliveness-test`, `/api/healthchecks/node`: 200 `{"status":"ok"}`, or 503 and why.

use super::messages::send;
use super::{Answer, Asker, Shared, missing, vhost_name};
use crate::http::commit::durable;
use crate::http::refusal::Refusal;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use millpond_broker::{AlarmInfo, Broker, DeclareQueue, Operation, StoreStatus};
use millpond_model::QueueName;
use millpond_model::properties;
use millpond_model::table::Table;
use serde_json::{Value, json};
use std::time::Duration;

/// The queue that a message is sent through.
const ALIVENESS_QUEUE: &str = "aliveness-test";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/aliveness-test/{vhost}", get(aliveness))
        .route("/healthchecks/node", get(alarms))
        .route("/healthchecks/node/{node}", get(alarms_of))
        .route("/health/checks/alarms", get(alarms))
        .route("/health/checks/local-alarms", get(alarms))
        .route("/health/checks/metadata-store/initialized", get(writable))
        .route("/health/checks/metadata-store/initialized/with-data", get(writable))
        .route("/health/checks/virtual-hosts", get(fine))
        .route("/health/checks/certificate-expiration/{within}/{unit}", get(certificates))
        .route("/health/checks/port-listener/{port}", get(port_listener))
        .route("/health/checks/protocol-listener/{protocol}", get(protocol_listener))
        .route(
            "/health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}",
            get(fine_any),
        )
        .route(
            "/health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}",
            get(fine_any),
        )
        .route("/health/checks/node-is-quorum-critical", get(single))
        .route("/health/checks/node-is-mirror-sync-critical", get(single))
        .route("/health/checks/is-in-service", get(in_service))
        .route("/health/checks/ready-to-serve-clients", get(in_service))
        .route("/health/checks/below-node-connection-limit", get(below_limit))
        .route("/health/checks/reached-target-cluster-size", get(single))
}

fn ok() -> Answer {
    Ok(Json(json!({ "status": "ok" })).into_response())
}

fn failed(mut why: Value) -> Answer {
    why["status"] = "failed".into();
    Ok((StatusCode::SERVICE_UNAVAILABLE, Json(why)).into_response())
}

async fn fine(_: Asker) -> Answer {
    ok()
}

async fn fine_any(_: Asker, Path(_path): Path<Vec<(String, String)>>) -> Answer {
    ok()
}

/// What only has a meaning among several nodes.
async fn single(_: Asker) -> Answer {
    Ok(Json(json!({ "status": "ok", "reason": "single node cluster" })).into_response())
}

async fn alarms(State(shared): State<Shared>, asker: Asker) -> Answer {
    let alarms = asker.may(Operation::Enter)?.alarms();
    if alarms.is_empty() {
        return ok();
    }
    let shown: Vec<_> = alarms
        .iter()
        .map(|AlarmInfo { resource, .. }| json!({ "node": shared.facts.node, "resource": resource.as_str() }))
        .collect();
    failed(json!({ "reason": "resource alarm(s) in effect", "alarms": shown }))
}

async fn alarms_of(State(shared): State<Shared>, asker: Asker, Path(node): Path<String>) -> Answer {
    match node == shared.facts.node {
        true => alarms(State(shared), asker).await,
        false => Err(missing()),
    }
}

fn why_not_writable(broker: &Broker) -> Option<String> {
    match broker.store_status() {
        StoreStatus::Writable => None,
        StoreStatus::Full => Some("the store is full: publishes are refused until there is room".to_owned()),
        StoreStatus::Poisoned { cause } => Some(format!("the store is poisoned: {cause}")),
    }
}

async fn writable(asker: Asker) -> Answer {
    match why_not_writable(asker.may(Operation::Enter)?) {
        None => ok(),
        Some(reason) => failed(json!({ "reason": reason })),
    }
}

async fn in_service(asker: Asker) -> Answer {
    if asker.may(Operation::Enter)?.is_draining() {
        return failed(json!({ "reason": "the broker drains: it stops when its clients have settled" }));
    }
    writable(asker).await
}

async fn below_limit(asker: Asker) -> Answer {
    let broker = asker.may(Operation::Enter)?;
    let (limit, count) = (broker.options().sessions_max, broker.list_connections().len());
    match count < limit {
        true => Ok(Json(json!({ "status": "ok", "current": count, "limit": limit })).into_response()),
        false => {
            failed(json!({ "reason": "node connection limit is reached", "current": count, "limit": limit }))
        }
    }
}

/// Whether the certificates in use hold for so long, and those in the files can be used.
async fn certificates(
    State(shared): State<Shared>,
    _: Asker,
    Path((within, unit)): Path<(String, String)>,
) -> Answer {
    let within: u32 = within.parse().map_err(|_| Refusal::bad_request("Invalid expiration value."))?;
    let days = match unit.as_str() {
        "days" => 1,
        "weeks" => 7,
        "months" => 30,
        "years" => 365,
        _ => {
            let text = format!("{within} {unit}: the unit is days, weeks, months or years");
            return Err(Refusal::bad_request(text));
        }
    };
    let Some(tls) = &shared.facts.tls else { return ok() };
    let status = tls.status();
    if let Some(trouble) = status.trouble {
        return failed(
            json!({ "reason": format!("the certificates in the files cannot be used: {trouble}") }),
        );
    }
    let expire = status.expire_within(Duration::from_secs(u64::from(within).saturating_mul(days * 86_400)));
    if expire.is_empty() {
        return ok();
    }
    let shown: Vec<_> = expire
        .iter()
        .map(|it| json!({ "what": it.what, "subject": it.subject, "validity": it.validity() }))
        .collect();
    failed(json!({ "reason": "Certificates expiring", "expired": shown }))
}

async fn port_listener(State(shared): State<Shared>, _: Asker, Path(port): Path<String>) -> Answer {
    let port: u16 = port.parse().map_err(|_| Refusal::bad_request("Invalid port"))?;
    let ports = shared.facts.ports();
    match ports.contains(&port) {
        true => Ok(Json(json!({ "status": "ok", "port": port })).into_response()),
        false => failed(json!({ "reason": "No active listener", "missing": port, "ports": ports })),
    }
}

async fn protocol_listener(State(shared): State<Shared>, _: Asker, Path(protocol): Path<String>) -> Answer {
    let protocols = shared.facts.protocols();
    let asked = match protocol.as_str() {
        "amqp091" | "amqp0.9.1" => "amqp",
        other => other,
    };
    match protocols.contains(&asked) {
        true => Ok(Json(json!({ "status": "ok", "protocol": protocol })).into_response()),
        false => {
            failed(json!({ "reason": "No active listener", "missing": protocol, "protocols": protocols }))
        }
    }
}

/// Sends a message through a queue of its own, with the permissions of whoever asks.
async fn aliveness(asker: Asker, Path(vhost): Path<String>) -> Answer {
    let vhost = vhost_name(&vhost)?;
    asker.see(&vhost)?.totals(&vhost).map_err(|_| missing())?;
    let queue = QueueName::new(ALIVENESS_QUEUE).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let request = DeclareQueue {
        name: queue.clone(),
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
    };
    let mut session = asker.session(&vhost)?;
    let (_, durability) = session.declare_queue(&request)?;
    durable(&mut session, durability).await?;
    let routed = send(&mut session, ("", ALIVENESS_QUEUE), properties::EMPTY, b"test_message").await?;
    match session.get(&queue, true) {
        Ok(Some(_)) if routed => ok(),
        Ok(_) => failed(json!({ "reason": "the test message did not come back" })),
        Err(error) => failed(json!({ "reason": error.to_string() })),
    }
}
