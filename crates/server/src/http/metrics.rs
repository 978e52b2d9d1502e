//! `/metrics`: the node in figures, as Prometheus reads them, by RabbitMQ's names. Sums only: no names of queues, so that
//! no password is asked for, as with RabbitMQ.

use super::Facts;
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use millpond_broker::{Broker, Resource};
use std::fmt::Write;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The version of the text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Requests answered at once: each looks at all queues, some milliseconds of them, and anybody may ask.
static COUNTING: Semaphore = Semaphore::const_new(1);

#[derive(Debug)]
struct Metrics {
    broker: Broker,
    facts: Arc<Facts>,
}

/// The metrics.
pub(super) fn router(broker: Broker, facts: Arc<Facts>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(Arc::new(Metrics { broker, facts }))
}

async fn metrics(State(shared): State<Arc<Metrics>>) -> Response {
    // Never closed; if it were, there would only be more at once.
    let _slot = COUNTING.acquire().await;
    let text = tokio::task::spawn_blocking(move || text(&shared)).await.unwrap_or_default();
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

fn text(Metrics { broker, facts }: &Metrics) -> String {
    let (mut queues, mut ready, mut waiting, mut unacked, mut consumers) = (0, 0, 0, 0, 0);
    for vhost in broker.list_vhosts() {
        // One that has just gone has nothing.
        let Ok(totals) = broker.totals(&vhost.name) else { continue };
        queues += totals.queues;
        ready += totals.ready;
        waiting += totals.waiting;
        unacked += totals.unacked;
        consumers += totals.consumers;
    }
    let connections = broker.list_connections();
    let channels: usize = connections.iter().map(|it| it.channels.len()).sum();
    let alarms = broker.alarms();
    let has_alarm = |resource| u64::from(alarms.iter().any(|alarm| alarm.resource == resource));
    let process = Facts::process();
    let (node, cluster) = (label(&facts.node), label(&facts.cluster_name(broker)));
    let identity = format!("{{rabbitmq_node=\"{node}\",rabbitmq_cluster=\"{cluster}\"}}");
    let build = format!("{{product_name=\"Millpond\",product_version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    let gauges: [(&str, &str, &str, u64); 16] = [
        ("rabbitmq_identity_info", "Node and cluster", &identity, 1),
        ("rabbitmq_build_info", "Product and version", &build, 1),
        ("rabbitmq_connections", "Connections that are open", "", connections.len() as u64),
        ("rabbitmq_channels", "Channels that are open", "", channels as u64),
        ("rabbitmq_consumers", "Consumers", "", consumers),
        ("rabbitmq_queues", "Queues", "", queues),
        ("rabbitmq_queue_messages", "All messages in queues", "", ready + waiting + unacked),
        ("rabbitmq_queue_messages_ready", "Messages to be delivered", "", ready),
        ("rabbitmq_queue_messages_unacked", "Messages delivered and not settled", "", unacked),
        (
            "millpond_queue_messages_delayed",
            "Messages that wait before they are delivered again",
            "",
            waiting,
        ),
        ("rabbitmq_process_resident_memory_bytes", "Memory", "", process.memory_bytes),
        ("rabbitmq_process_open_fds", "Open files and sockets", "", process.files as u64),
        ("rabbitmq_process_max_fds", "How many may be open", "", process.files_max),
        (
            "rabbitmq_alarms_memory_used_watermark",
            "1 if there is an alarm for memory",
            "",
            has_alarm(Resource::Memory),
        ),
        (
            "rabbitmq_alarms_free_disk_space_watermark",
            "1 if there is an alarm for the disk",
            "",
            has_alarm(Resource::Disk),
        ),
        ("millpond_uptime_milliseconds", "Since the start", "", facts.uptime_ms()),
    ];
    let mut out = String::new();
    for (name, help, labels, value) in gauges {
        // Writing to a text does not fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{labels} {value}");
    }
    out
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
