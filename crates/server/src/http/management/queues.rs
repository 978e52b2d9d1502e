//! `/api/queues`.

use super::connections::{Connections, show_consumer};
use super::fields::Fields;
use super::listing::{Listing, parameter};
use super::statistics::{self, DELIVERIES, Windows, message_stats, put_lengths};
use super::{Answer, Asker, Shared, aside, missing, put_status, queue_name, vhost_name};
use crate::http::commit::durable;
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use millpond_broker::{
    Broker, DeclareQueue, Operation, QueueInfo, QueueOrder, QueueOrderBy, QueueType, json,
};
use millpond_model::{QueueName, VhostName};
use serde_json::{Value, json};

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/queues", get(list))
        .route("/queues/detailed", get(list))
        .route("/queues/{vhost}", get(list_of))
        .route("/queues/{vhost}/{queue}", get(one).put(put).delete(delete))
}

/// A queue as definitions have it; definitions of one vhost do not name it.
pub(super) fn define(queue: &QueueInfo, vhost: Option<&VhostName>) -> Value {
    let mut shown = json!({
        "name": queue.name.as_str(),
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "arguments": json::of_table(&queue.declared),
    });
    if let Some(vhost) = vhost {
        shown["vhost"] = vhost.as_str().into();
    }
    shown
}

fn show(queue: &QueueInfo, vhost: &VhostName, node: &str, windows: Windows) -> Value {
    let mut shown = json!({
        "name": queue.name.as_str(),
        "vhost": vhost.as_str(),
        "type": queue.queue_type.as_str(),
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "exclusive": queue.exclusive,
        "arguments": json::of_table(&queue.declared),
        "node": node,
        "state": if queue.paused { "paused" } else { "running" },
        "paused": queue.paused,
        "messages": queue.ready + queue.waiting + queue.unacked,
        "messages_ready": queue.ready,
        "messages_unacknowledged": queue.unacked,
        "consumers": queue.consumers,
        "effective_policy_definition": json::of_table(&queue.policy_definition),
    });
    put_lengths(&mut shown, queue.counts.as_ref(), windows.lengths);
    if let Some(counts) = &queue.counts {
        shown["message_stats"] = message_stats(counts, &[DELIVERIES], windows.messages);
    }
    // Left out rather than null, over which rabbitmqadmin falls.
    for (member, policy) in [("policy", &queue.policy), ("operator_policy", &queue.operator_policy)] {
        if let Some(policy) = policy {
            shown[member] = (**policy).into();
        }
    }
    if queue.waiting > 0 {
        shown["messages_delayed"] = queue.waiting.into();
    }
    if queue.queue_type != QueueType::Classic {
        shown["leader"] = node.into();
        shown["members"] = json!([node]);
        shown["online"] = json!([node]);
    }
    shown
}

/// The order that a list of queues is to have; what no queue has sorts nothing.
fn order_of(listing: &Listing) -> QueueOrder<'_> {
    let by = match listing.sorted_by() {
        Some([column]) => match column.as_str() {
            "name" => QueueOrderBy::Name,
            "type" => QueueOrderBy::Type,
            "state" => QueueOrderBy::State,
            "durable" => QueueOrderBy::Durable,
            "exclusive" => QueueOrderBy::Exclusive,
            "auto_delete" => QueueOrderBy::AutoDelete,
            "policy" => QueueOrderBy::Policy,
            "operator_policy" => QueueOrderBy::OperatorPolicy,
            "messages" => QueueOrderBy::Messages,
            "messages_ready" => QueueOrderBy::Ready,
            "messages_unacknowledged" => QueueOrderBy::Unacked,
            "messages_delayed" => QueueOrderBy::Waiting,
            "consumers" => QueueOrderBy::Consumers,
            _ => QueueOrderBy::Vhost,
        },
        Some([arguments, name]) if arguments == "arguments" => QueueOrderBy::Argument(name),
        Some(path) => match statistics::column(path) {
            Some((counts, true)) => QueueOrderBy::Rates(counts),
            Some((counts, false)) => QueueOrderBy::Counts(counts),
            None => QueueOrderBy::Vhost,
        },
        None => QueueOrderBy::Vhost,
    };
    QueueOrder { by, reverse: listing.is_reversed() }
}

/// All queues of these vhosts; of a page only the queues on it are looked at.
fn all(shared: &Shared, asker: &Asker, vhost: Option<&str>, uri: &Uri) -> Answer {
    let listing = Listing::read(uri)?;
    let vhosts = asker.vhosts_meant(vhost)?;
    let broker = asker.may(Operation::Enter)?;
    let windows = Windows::read(uri);
    let fits = |name: &str| listing.wants(name);
    let fits: Option<&dyn Fn(&str) -> bool> = if listing.is_filtered() { Some(&fits) } else { None };
    let range = listing.range().unwrap_or(0..usize::MAX);
    let page = broker.page_queues(&vhosts, fits, order_of(&listing), range).map_err(|_| missing())?;
    let show = |(vhost, queue): &(VhostName, QueueInfo)| show(queue, vhost, &shared.facts.node, windows);
    listing.answer_page(page.queues.iter().map(show).collect(), page.fitting, page.total)
}

async fn list(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    aside(move || all(&shared, &asker, None, &uri)).await
}

async fn list_of(State(shared): State<Shared>, asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    aside(move || all(&shared, &asker, Some(&vhost), &uri)).await
}

/// A queue that is there.
pub(super) fn find(asker: &Asker, vhost: &str, queue: &str) -> Result<(VhostName, QueueInfo), Refusal> {
    let (vhost, queue) = (vhost_name(vhost)?, queue_name(queue)?);
    let found = asker.see(&vhost)?.queue(&vhost, &queue).map_err(|_| missing())?;
    Ok((vhost, found.ok_or_else(missing)?))
}

async fn one(
    State(shared): State<Shared>,
    asker: Asker,
    Path((vhost, queue)): Path<(String, String)>,
    uri: Uri,
) -> Answer {
    let (vhost, found) = find(&asker, &vhost, &queue)?;
    let mut shown = show(&found, &vhost, &shared.facts.node, Windows::read(&uri));
    let broker = asker.see(&vhost)?;
    let connections = Connections::of(broker);
    let consumers = consumers_of(broker, (&vhost, &found.name), &connections, &shared.facts.node);
    shown["consumer_details"] = consumers.into();
    Ok(Json(Listing::read(&uri)?.pick(shown)).into_response())
}

/// The consumers of a queue; none if it is gone.
pub(super) fn consumers_of(
    broker: &Broker,
    queue: (&VhostName, &QueueName),
    connections: &Connections,
    node: &str,
) -> Vec<Value> {
    let Ok(figures) = broker.queue_figures(queue.0, queue.1) else { return Vec::new() };
    figures.consumers.iter().map(|it| show_consumer(it, queue, connections, node)).collect()
}

/// What a request or definitions want a queue to be.
pub(super) fn request_of(name: QueueName, fields: &Fields) -> Result<DeclareQueue, Refusal> {
    Ok(DeclareQueue {
        name,
        passive: false,
        durable: fields.flag("durable")?,
        exclusive: false,
        auto_delete: fields.flag("auto_delete")?,
        arguments: fields.table("arguments")?,
    })
}

async fn put(asker: Asker, Path((vhost, queue)): Path<(String, String)>, body: Bytes) -> Answer {
    let (vhost, queue) = (vhost_name(&vhost)?, queue_name(&queue)?);
    if queue.is_empty() {
        return Err(Refusal::bad_request("the queue's name is empty"));
    }
    let before = asker.see(&vhost)?.queue(&vhost, &queue)?;
    let request = request_of(queue, &Fields::read(&body)?)?;
    let mut session = asker.session(&vhost)?;
    let (_, durability) = session.declare_queue(&request)?;
    durable(&mut session, durability).await?;
    Ok(put_status(before.is_none()).into_response())
}

async fn delete(asker: Asker, Path((vhost, queue)): Path<(String, String)>, uri: Uri) -> Answer {
    let (vhost, found) = find(&asker, &vhost, &queue)?;
    let is_set = |name| parameter(&uri, name).as_deref() == Some("true");
    let mut session = asker.session(&vhost)?;
    let (_, durability) = session.delete_queue(&found.name, is_set("if-unused"), is_set("if-empty"))?;
    durable(&mut session, durability).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
