//! The node: overview, nodes, and what there is no more than one of.

use super::listing::Listing;
use super::statistics::{CHURN, DELIVERIES, PUBLISHES, Windows, message_stats, put_lengths, put_members};
use super::{Answer, Asker, Shared, aside, missing, vhost_name};
use crate::http::Facts;
use crate::http::refusal::Refusal;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use millpond_broker::{Operation, Resource};
use serde_json::{Map, Value, json};

/// The version of RabbitMQ whose management API this is: clients read it to know what they may ask for.
pub(in crate::http) const RABBITMQ_VERSION: &str = "4.1.0";

/// Types of exchanges, with what RabbitMQ's page says of them.
const EXCHANGE_TYPES: [(&str, &str); 11] = [
    ("direct", "AMQP direct exchange, as per the AMQP specification"),
    ("fanout", "AMQP fanout exchange, as per the AMQP specification"),
    ("headers", "AMQP headers exchange, as per the AMQP specification"),
    ("topic", "AMQP topic exchange, as per the AMQP specification"),
    ("x-consistent-hash", "Consistent hashing exchange"),
    ("x-delayed-message", "Delayed message exchange"),
    ("x-events", "By attributes of events"),
    ("x-local-random", "To one of the queues by chance"),
    ("x-modulus-hash", "Modulus hashing exchange"),
    ("x-random", "To one of the bindings by chance"),
    ("x-recent-history", "Recent history exchange"),
];

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/overview", get(overview))
        .route("/nodes", get(nodes))
        .route("/nodes/{node}", get(node))
        .route("/nodes/{node}/memory", get(memory))
        .route("/extensions", get(none))
        .route("/feature-flags", get(feature_flags))
        .route("/feature-flags/{name}/enable", put(enable_feature))
        .route("/deprecated-features", get(none))
        .route("/deprecated-features/used", get(none))
        .route("/federation-links", get(none))
        .route("/federation-links/{vhost}", get(none_in))
        .route("/version", get(version))
        .route("/rebalance/queues", post(rebalance))
        .route("/reset", delete(reset))
        .route("/reset/{node}", delete(reset_node))
}

fn exchange_types() -> Vec<Value> {
    let show =
        |(name, description): &(_, _)| json!({ "name": name, "description": description, "enabled": true });
    EXCHANGE_TYPES.iter().map(show).collect()
}

async fn overview(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    aside(move || sum_up(&shared, &asker, &uri)).await
}

/// Sums over the vhosts that the asker may see.
fn sum_up(shared: &Shared, asker: &Asker, uri: &Uri) -> Answer {
    let broker = asker.may(Operation::Enter)?;
    let vhosts = asker.vhosts()?;
    let (mut ready, mut waiting, mut unacked) = (0, 0, 0);
    let (mut queues, mut exchanges, mut consumers) = (0, 0, 0);
    for vhost in &vhosts {
        // One that has just gone has nothing.
        let Ok(totals) = broker.totals(&vhost.name) else { continue };
        (ready, waiting, unacked) =
            (ready + totals.ready, waiting + totals.waiting, unacked + totals.unacked);
        (queues, exchanges, consumers) =
            (queues + totals.queues, exchanges + totals.exchanges, consumers + totals.consumers);
    }
    let mut connections = broker.list_connections();
    connections.retain(|it| vhosts.iter().any(|vhost| vhost.name == it.vhost));
    let channels: usize = connections.iter().map(|it| it.channels.len()).sum();
    let windows = Windows::read(uri);
    let names: Vec<_> = vhosts.iter().map(|vhost| vhost.name.clone()).collect();
    let counts = match asker.can(Operation::SeeAll) {
        true => Some(broker.node_counts(windows.longest())),
        false => broker.counts_of(&names, windows.longest()),
    };
    let mut shown = json!({
        "management_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "Millpond",
        "product_version": env!("CARGO_PKG_VERSION"),
        "rates_mode": "basic",
        "sample_retention_policies": { "global": [600, 3600, 86400], "basic": [60], "detailed": [60] },
        "cluster_name": shared.facts.cluster_name(broker),
        "node": shared.facts.node,
        "exchange_types": exchange_types(),
        "disable_stats": false,
        "enable_queue_totals": true,
        "is_op_policy_updating_enabled": true,
        "queue_totals": {
            "messages": ready + waiting + unacked,
            "messages_ready": ready,
            "messages_unacknowledged": unacked,
        },
        "object_totals": {
            "channels": channels,
            "connections": connections.len(),
            "consumers": consumers,
            "exchanges": exchanges,
            "queues": queues,
        },
        "statistics_db_event_queue": 0,
    });
    put_lengths(&mut shown["queue_totals"], counts.as_ref(), windows.lengths);
    if let Some(counts) = &counts {
        shown["message_stats"] = message_stats(counts, &[DELIVERIES, PUBLISHES], windows.messages);
        let mut churn = Map::new();
        put_members(&mut churn, counts, CHURN, windows.data);
        shown["churn_rates"] = churn.into();
    }
    if asker.can(Operation::SeeAll) {
        shown["listeners"] = shared.facts.listeners().into();
        shown["contexts"] = shared.facts.contexts().into();
    }
    Ok(Json(Listing::read(uri)?.pick(shown)).into_response())
}

fn show_node(shared: &Shared, asker: &Asker) -> Result<Value, Refusal> {
    let facts = &shared.facts;
    let broker = asker.may(Operation::SeeAll)?;
    let alarms = broker.alarms();
    let has_alarm = |resource: Resource| alarms.iter().any(|alarm| alarm.resource == resource);
    let process = Facts::process();
    let mut shown = json!({
        "name": facts.node,
        "type": "disc",
        "running": true,
        "being_drained": broker.is_draining(),
        "os_pid": std::process::id().to_string(),
        "uptime": facts.uptime_ms(),
        "mem_used": process.memory_bytes,
        "mem_alarm": has_alarm(Resource::Memory),
        "disk_free_alarm": has_alarm(Resource::Disk),
        "fd_used": process.files,
        "fd_total": process.files_max,
        "sockets_used": broker.list_connections().len(),
        "sockets_total": broker.options().sessions_max,
        "processors": std::thread::available_parallelism().map_or(1, |count| count.get()),
        "rates_mode": "basic",
        "partitions": [],
        "enabled_plugins": ["rabbitmq_management"],
        "exchange_types": exchange_types(),
        "auth_mechanisms": [
            { "name": "PLAIN", "description": "SASL PLAIN authentication mechanism", "enabled": true },
            { "name": "AMQPLAIN", "description": "QPid AMQPLAIN mechanism", "enabled": true },
        ],
        "contexts": facts.contexts(),
        "applications": [
            { "name": "millpond", "description": "Millpond", "version": env!("CARGO_PKG_VERSION") },
        ],
        "mem_calculation_strategy": "rss",
        "cluster_links": [],
        "config_files": [],
        "log_files": [],
        "run_queue": 0,
    });
    if let Some((measured, limits)) = broker.resources() {
        shown["mem_limit"] = limits.memory_max_bytes.into();
        shown["disk_free_limit"] = limits.disk_free_min_bytes.into();
        if let Some(bytes) = measured.disk_free_bytes {
            shown["disk_free"] = bytes.into();
        }
    }
    Ok(shown)
}

async fn nodes(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(vec![show_node(&shared, &asker)?])
}

async fn node(State(shared): State<Shared>, asker: Asker, Path(node): Path<String>, uri: Uri) -> Answer {
    let shown = show_node(&shared, &asker)?;
    if node != shared.facts.node {
        return Err(missing());
    }
    Ok(Json(Listing::read(&uri)?.pick(shown)).into_response())
}

/// Where the process keeps what: the system says only how much there is of all.
async fn memory(State(shared): State<Shared>, asker: Asker, Path(node): Path<String>) -> Answer {
    asker.may(Operation::SeeAll)?;
    if node != shared.facts.node {
        return Err(missing());
    }
    let bytes = Facts::process().memory_bytes;
    let total = json!({ "rss": bytes, "allocated": bytes, "erlang": 0 });
    Ok(Json(json!({ "memory": { "other_system": bytes, "strategy": "rss", "total": total } }))
        .into_response())
}

/// What RabbitMQ came to have by and by, and is always there here. Clients ask before they use it.
const FEATURES: [(&str, &str); 8] = [
    ("classic_queue_type_delivery_support", "Delivery to classic queues"),
    ("direct_exchange_routing_v2", "Routing of direct exchanges by a table"),
    ("implicit_default_bindings", "Bindings of the default exchange are not stored"),
    ("quorum_queue", "Queues of the type quorum"),
    ("stream_queue", "Queues of the type stream"),
    ("stream_filtering", "Filters of streams"),
    ("user_limits", "Limits of users"),
    ("virtual_host_metadata", "Description and tags of vhosts"),
];

async fn feature_flags(_: Asker, uri: Uri) -> Answer {
    let show = |(name, description): &(&str, &str)| {
        json!({
            "name": name, "desc": description, "doc_url": "", "state": "enabled", "stability": "required",
            "provided_by": "millpond",
        })
    };
    Listing::read(&uri)?.answer(FEATURES.iter().map(show).collect())
}

async fn enable_feature(asker: Asker, Path(name): Path<String>) -> Answer {
    asker.administer()?;
    match FEATURES.iter().any(|(known, _)| *known == name) {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Refusal::bad_request("unsupported")),
    }
}

/// There is no database of statistics that could be in disorder.
async fn reset(asker: Asker) -> Answer {
    asker.administer()?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn reset_node(State(shared): State<Shared>, asker: Asker, Path(node): Path<String>) -> Answer {
    asker.administer()?;
    match node == shared.facts.node {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(missing()),
    }
}

/// There is nothing of the kind in a vhost either.
async fn none_in(asker: Asker, Path(vhost): Path<String>) -> Answer {
    let vhost = vhost_name(&vhost)?;
    asker.see(&vhost)?.totals(&vhost).map_err(|_| missing())?;
    Ok(Json(json!([])).into_response())
}

async fn none(_: Asker) -> Answer {
    Ok(Json(json!([])).into_response())
}

async fn version(_: Asker) -> Answer {
    Ok(Json(json!(RABBITMQ_VERSION)).into_response())
}

/// Queues of a single node are balanced.
async fn rebalance(asker: Asker) -> Answer {
    asker.administer()?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
