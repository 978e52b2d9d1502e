//! `GET /api/attention`: what somebody should look at, as kinds and facts; whoever shows it finds the words.
//!
//! Looked at are the queues that hold most and those that grow fastest, so it costs little however many there are.

use super::engine::ask;
use super::statistics::{DEAD, total};
use super::{Answer, Asker, Shared, aside};
use crate::engine_door::EngineRequest;
use crate::tls::TlsStatus;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use millpond_broker::{
    Broker, Count, Figures, Operation, QueueInfo, QueueOrder, QueueOrderBy, QueueType, Resource, Window,
};
use millpond_model::VhostName;
use serde_json::{Value, json};
use std::time::Duration;

/// Queues looked at of each kind of order.
const LOOKED_AT: usize = 50;
/// Longest answer.
const ITEMS_MAX: usize = 100;
/// A queue that grew by so many messages in a minute, and goes on.
const GROWN_MIN: u64 = 100;
/// A consumer that is given less than this share of its pace keeps none.
const PACE_KEPT_MIN: f64 = 0.8;
/// What is near its limit: memory at this share of it, the disk at this multiple.
const MEMORY_HIGH: f64 = 0.9;
const DISK_LOW: u64 = 2;
/// A certificate that does not hold for so long any more.
const CERTIFICATES_SOON: Duration = Duration::from_secs(14 * 86_400);

const LENGTH: &[Count] = &[Count::Ready, Count::Unacked, Count::Waiting];
const MINUTE: Window = Window { age_ms: 60_000, step_ms: 60_000 };

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/attention", get(attention))
}

async fn attention(State(shared): State<Shared>, asker: Asker) -> Answer {
    let mut found = Vec::new();
    if asker.can(Operation::SeeAll) {
        found.extend(machine(&shared.broker));
        found.extend(shared.facts.tls.iter().flat_map(|tls| certificates(&tls.status())));
        found.extend(engine(&shared, &asker).await);
    }
    aside(move || {
        let broker = asker.may(Operation::Enter)?;
        let vhosts = asker.vhosts_meant(None)?;
        found.extend(queues(broker, &vhosts));
        found.truncate(ITEMS_MAX);
        Ok(Json(found).into_response())
    })
    .await
}

fn machine(broker: &Broker) -> Vec<Value> {
    let mut found = Vec::new();
    let alarms = broker.alarms();
    for alarm in &alarms {
        let resource = alarm.resource.as_str();
        found.push(
            json!({ "kind": "alarm", "severity": "error", "resource": resource, "since": alarm.since_ms }),
        );
    }
    let is_told = |resource| alarms.iter().any(|alarm| alarm.resource == resource);
    let audit = broker.audit_status();
    if let Some(reason) = &audit.trouble {
        let path = audit.path.as_ref().map(|path| path.display().to_string());
        found.push(json!({
            "kind": "audit_log_failing", "severity": "error", "name": path, "reason": reason, "lost": audit.lost,
        }));
    }
    let Some((measured, limits)) = broker.resources() else { return found };
    let used = measured.memory_bytes.filter(|_| !is_told(Resource::Memory));
    let limit = limits.memory_max_bytes;
    if let Some(used) = used.filter(|used| *used as f64 > limit as f64 * MEMORY_HIGH) {
        found.push(json!({ "kind": "memory_high", "severity": "warning", "used": used, "limit": limit }));
    }
    let free = measured.disk_free_bytes.filter(|_| !is_told(Resource::Disk));
    let limit = limits.disk_free_min_bytes;
    if let Some(free) = free.filter(|free| *free < limit.saturating_mul(DISK_LOW)) {
        found.push(json!({ "kind": "disk_low", "severity": "warning", "free": free, "limit": limit }));
    }
    found
}

/// Certificates that have ended or soon will, and files that cannot be used.
fn certificates(status: &TlsStatus) -> Vec<Value> {
    let over = status.expire_within(Duration::ZERO);
    let mut found: Vec<_> = (status.expire_within(CERTIFICATES_SOON).into_iter())
        .map(|it| {
            let severity = if over.contains(&it) { "error" } else { "warning" };
            let until_ms = it.not_after_s.saturating_mul(1000);
            json!({ "kind": "certificate_ends", "severity": severity, "name": it.subject, "what": it.what, "until": until_ms })
        })
        .collect();
    if let Some(reason) = &status.trouble {
        found.push(json!({ "kind": "certificates_failing", "severity": "error", "reason": reason }));
    }
    found
}

/// Rules and sources; nothing without an engine, or for somebody who may not see it.
async fn engine(shared: &Shared, asker: &Asker) -> Vec<Value> {
    let mut found = Vec::new();
    for (request, is_rule) in [(EngineRequest::Rules, true), (EngineRequest::Sources, false)] {
        let Ok(Value::Array(all)) = ask(shared, asker, Operation::SeeEngine, request).await else { continue };
        for it in all {
            let failing = it["reason"].is_string();
            let kind = match (it["state"].as_str(), is_rule) {
                (Some("stopped"), true) => "rule_stopped",
                (_, true) if failing => "rule_failing",
                (_, false) if failing => "source_failing",
                _ => continue,
            };
            let (name, reason, failed) = (&it["name"], &it["reason"], &it["failed"]);
            found.push(json!({
                "kind": kind, "severity": "warning", "name": name, "reason": reason, "failed": failed,
            }));
        }
    }
    found
}

fn queues(broker: &Broker, vhosts: &[VhostName]) -> Vec<Value> {
    let mut found = Vec::new();
    let look = |by| {
        let order = QueueOrder { by, reverse: true };
        broker.page_queues(vhosts, None, order, 0..LOOKED_AT).map(|page| page.queues).unwrap_or_default()
    };
    for stuck in broker.stuck_queues().now.iter().filter(|it| vhosts.contains(&it.vhost)) {
        let (vhost, name) = (stuck.vhost.as_str(), stuck.queue.as_str());
        found.push(json!({
            "kind": "queue_stuck", "severity": "error", "vhost": vhost, "name": name,
            "messages": stuck.ready, "since": stuck.since_ms,
        }));
    }
    for (vhost, queue) in look(QueueOrderBy::Rates(LENGTH)) {
        let Some(counts) = &queue.counts else { continue };
        let rate = LENGTH.iter().map(|count| counts.rate(*count)).sum::<f64>();
        if rate > 0.0 && grown(counts, LENGTH) >= GROWN_MIN && queue.queue_type != QueueType::Stream {
            found.push(about("queue_growing", &vhost, &queue, json!({ "rate": rate })));
        }
    }
    for (vhost, queue) in look(QueueOrderBy::Messages) {
        let is_stream = queue.queue_type == QueueType::Stream;
        if queue.ready > 0 && queue.consumers == 0 && !is_stream {
            found.push(about("queue_without_consumers", &vhost, &queue, json!({})));
        }
        if queue.ready > 0 && queue.consumers > 0 && !is_stream {
            found.extend(behind(broker, &vhost, &queue));
        }
    }
    for (vhost, queue) in look(QueueOrderBy::Counts(DEAD)) {
        let Some(counts) = queue.counts.as_ref().filter(|counts| total(counts, DEAD) > 0) else { continue };
        let dead = grown(counts, DEAD);
        if dead > 0 {
            found.push(about("dead_letters", &vhost, &queue, json!({ "messages": dead })));
        }
    }
    found
}

/// Consumers that are given less than they promised to take, though there is enough.
fn behind(broker: &Broker, vhost: &VhostName, queue: &QueueInfo) -> Vec<Value> {
    let Ok(figures) = broker.queue_figures(vhost, &queue.name) else { return Vec::new() };
    let behind = figures.consumers.iter().filter_map(|consumer| {
        let pace = consumer.pace?;
        let delivered = pace.delivered_per_s?;
        (delivered < pace.promised_per_s * PACE_KEPT_MIN).then(|| {
            let facts = json!({
                "rate_promised": pace.promised_per_s, "rate_delivered": delivered,
                "consumer_tag": consumer.tag.as_str(),
            });
            about("consumer_behind", vhost, queue, facts)
        })
    });
    behind.collect()
}

/// By how much something has grown within the last minute.
fn grown(counts: &Figures, which: &[Count]) -> u64 {
    let change = |count: &Count| match counts.samples(*count, MINUTE).as_slice() {
        // What is now: the newest sample may be an interval old.
        [.., (_, before)] => counts.get(*count) as i64 - *before as i64,
        [] => 0,
    };
    u64::try_from(which.iter().map(change).sum::<i64>()).unwrap_or(0)
}

fn about(kind: &str, vhost: &VhostName, queue: &QueueInfo, facts: Value) -> Value {
    let mut shown = json!({
        "kind": kind, "severity": "warning", "vhost": vhost.as_str(), "name": queue.name.as_str(),
        "messages": queue.ready + queue.unacked + queue.waiting,
    });
    if let (Some(shown), Value::Object(facts)) = (shown.as_object_mut(), facts) {
        shown.extend(facts);
    }
    shown
}
