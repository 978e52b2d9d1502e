//! `/api/audit`: who changed what, and who was refused; `/api/auth/attempts`: how often somebody tried to log in.

use super::listing::{Listing, parameter};
use super::{Answer, Asker, Shared, aside, missing};
use crate::http::refusal::Refusal;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use millpond_broker::{AuditQuery, FrontEnd, LoginCount, Operation, read_time_ms};
use serde_json::{Value, json};

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/audit", get(list))
        .route("/auth/attempts/{node}", get(attempts).delete(forget))
        .route("/auth/attempts/{node}/source", get(sources).delete(forget_sources))
}

/// The newest first, unless another order is asked for. `name` of a page finds names of objects, as in other lists.
async fn list(asker: Asker, uri: Uri) -> Answer {
    let (listing, query) = (Listing::read(&uri)?, query(&uri)?);
    aside(move || {
        let (mut entries, total) = asker.administer()?.audit_entries(&query);
        let Some(range) = listing.range().filter(|_| listing.sorted_by().is_none()) else {
            return listing.answer(entries.iter().map(|entry| entry.to_json()).collect());
        };
        entries.retain(|entry| listing.wants(&entry.object.name));
        if listing.is_reversed() {
            entries.reverse();
        }
        let page = entries.iter().skip(range.start).take(range.len()).map(|entry| entry.to_json());
        listing.answer_page(page.collect(), entries.len(), total)
    })
    .await
}

fn query(uri: &Uri) -> Result<AuditQuery, Refusal> {
    let text = |name| parameter(uri, name).filter(|text| !text.is_empty());
    let wrong = |_| Refusal::bad_request("after_id: a whole number from 0 on is expected");
    let after_id = text("after_id").map(|text| text.parse().map_err(wrong)).transpose()?;
    let result = text("result");
    if result.as_deref().is_some_and(|it| !matches!(it, "done" | "refused")) {
        return Err(Refusal::bad_request("result: done or refused is expected"));
    }
    Ok(AuditQuery {
        user: text("user"),
        operation: text("operation"),
        kind: text("kind"),
        vhost: text("vhost"),
        object: text("object"),
        result,
        front_end: text("front_end"),
        since_ms: time(text("since"), "since")?,
        until_ms: time(text("until"), "until")?,
        after_id,
    })
}

/// Milliseconds since 1970, or RFC 3339.
fn time(given: Option<String>, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(given) = given else { return Ok(None) };
    let parsed = given.parse().ok().or_else(|| read_time_ms(&given));
    let wrong = || {
        Refusal::bad_request(format!(
            "{name}: '{given}' is no time: use 2026-01-31T12:00:00Z, or milliseconds since 1970"
        ))
    };
    parsed.map(Some).ok_or_else(wrong)
}

// ---- attempts to log in

/// What RabbitMQ calls the protocols, each with our doors for it.
const PROTOCOLS: [(&str, &[FrontEnd]); 2] =
    [("amqp091", &[FrontEnd::Amqp]), ("http", &[FrontEnd::Management, FrontEnd::Events])];

fn protocol_of(front_end: FrontEnd) -> &'static str {
    let found = PROTOCOLS.iter().find(|(_, doors)| doors.contains(&front_end));
    found.map_or(front_end.as_str(), |(name, _)| name)
}

fn show(protocol: &str, count: LoginCount) -> Value {
    json!({
        "protocol": protocol,
        "auth_attempts": count.succeeded + count.failed,
        "auth_attempts_failed": count.failed,
        "auth_attempts_succeeded": count.succeeded,
    })
}

fn is_node(shared: &Shared, node: &str) -> Result<(), Refusal> {
    if *shared.facts.node == *node { Ok(()) } else { Err(missing()) }
}

async fn attempts(State(shared): State<Shared>, asker: Asker, Path(node): Path<String>, uri: Uri) -> Answer {
    let broker = asker.may(Operation::SeeAll)?;
    is_node(&shared, &node)?;
    let counts = broker.login_counts();
    let mut shown = Vec::new();
    for (protocol, doors) in PROTOCOLS {
        let mut sum = LoginCount::default();
        for (_, count) in counts.iter().filter(|(front_end, _)| doors.contains(front_end)) {
            sum.succeeded += count.succeeded;
            sum.failed += count.failed;
        }
        if sum != LoginCount::default() {
            shown.push(show(protocol, sum));
        }
    }
    Listing::read(&uri)?.answer(shown)
}

async fn sources(State(shared): State<Shared>, asker: Asker, Path(node): Path<String>, uri: Uri) -> Answer {
    let broker = asker.may(Operation::SeeAll)?;
    is_node(&shared, &node)?;
    let shown = broker.login_sources().into_iter().map(|source| {
        let mut shown = show(protocol_of(source.front_end), source.count);
        shown["remote_address"] = source.peer.map(|peer| peer.to_string()).unwrap_or_default().into();
        shown["username"] = (*source.user).into();
        shown
    });
    Listing::read(&uri)?.answer(shown.collect())
}

async fn forget(State(shared): State<Shared>, asker: Asker, Path(node): Path<String>) -> Answer {
    let broker = asker.administer()?;
    is_node(&shared, &node)?;
    broker.forget_login_counts(false);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn forget_sources(State(shared): State<Shared>, asker: Asker, Path(node): Path<String>) -> Answer {
    let broker = asker.administer()?;
    is_node(&shared, &node)?;
    broker.forget_login_counts(true);
    Ok(StatusCode::NO_CONTENT.into_response())
}
