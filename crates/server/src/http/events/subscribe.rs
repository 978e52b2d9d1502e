//! `PUT` and `DELETE /events/NAME`: a queue that collects events, for programs that cannot declare one themselves.

use super::query::Query;
use super::{Caller, Events};
use crate::http::commit::durable;
use crate::http::refusal::Refusal;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use millpond_broker::{Binding, DeclareQueue, Destination};
use millpond_model::QueueName;
use millpond_model::table::{Table, Value as Header};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How deep conditions may nest; they need three levels.
const CONDITIONS_DEPTH_MAX: usize = 4;

/// Declares the queue and binds it by the conditions in the body; what is there already is left.
pub(super) async fn put(
    State(events): State<Arc<Events>>,
    Caller(login): Caller,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let query = Query::read(&uri, &["vhost", "exchange"])?;
    let (vhost, exchange, queue) = (query.vhost()?, query.exchange()?, queue_name(&name?)?);
    let conditions = read_conditions(&body?)?;
    let mut session = events.sessions.take(&login, &vhost)?;
    let passive = DeclareQueue { passive: true, ..lasting(&queue) };
    let is_there = session.declare_queue(&passive).is_ok();
    if !is_there {
        let (_, durability) = session.declare_queue(&lasting(&queue))?;
        durable(&mut session, durability).await?;
    }
    let binding = Binding {
        source: exchange.clone(),
        destination: Destination::Queue(queue.clone()),
        key: Box::default(),
        arguments: conditions,
    };
    let bound = session.bind(&binding).map_err(Refusal::from);
    if bound.is_err() && !is_there {
        // Nothing half done stays.
        let _ = session.delete_queue(&queue, false, true);
    }
    durable(&mut session, bound?).await?;
    events.sessions.put_back(&login.user, &vhost, session);
    let status = if is_there { StatusCode::OK } else { StatusCode::CREATED };
    let answer = json!({ "queue": queue.as_str(), "exchange": exchange.as_str() });
    Ok((status, Json(answer)).into_response())
}

/// Deletes the queue with what is in it; with `if_empty`, only if nothing is.
pub(super) async fn delete(
    State(events): State<Arc<Events>>,
    Caller(login): Caller,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = Query::read(&uri, &["vhost", "if_empty"])?;
    let (vhost, queue, if_empty) = (query.vhost()?, queue_name(&name?)?, query.flag("if_empty", false)?);
    let mut session = events.sessions.take(&login, &vhost)?;
    let passive = DeclareQueue { passive: true, ..lasting(&queue) };
    session.declare_queue(&passive)?;
    let (_, durability) = session.delete_queue(&queue, false, if_empty)?;
    durable(&mut session, durability).await?;
    events.sessions.put_back(&login.user, &vhost, session);
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) fn queue_name(name: &str) -> Result<QueueName, Refusal> {
    match QueueName::new(name) {
        Ok(queue) if !queue.is_empty() => Ok(queue),
        Ok(_) => Err(Refusal::bad_request("the queue's name is empty")),
        Err(error) => Err(Refusal::bad_request(error.to_string())),
    }
}

fn lasting(queue: &QueueName) -> DeclareQueue {
    DeclareQueue {
        name: queue.clone(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
    }
}

/// `{"type": ["order.created", {"prefix": "invoice."}], "source": {"prefix": "/shop/"}}`; nothing: all events.
fn read_conditions(body: &[u8]) -> Result<Table, Refusal> {
    if body.is_empty() {
        return Ok(Table::new());
    }
    let expected = "a JSON object of attributes and what they must be is expected";
    match serde_json::from_slice(body) {
        Ok(Value::Object(conditions)) => table(&conditions, CONDITIONS_DEPTH_MAX),
        Ok(_) => Err(Refusal::bad_request(expected)),
        Err(error) => Err(Refusal::bad_request(format!("{expected}: {error}"))),
    }
}

fn table(object: &Map<String, Value>, depth_left: usize) -> Result<Table, Refusal> {
    let entries = object.iter().map(|(name, value)| Ok((name.as_str(), header(value, depth_left)?)));
    entries.collect()
}

fn header(value: &Value, depth_left: usize) -> Result<Header, Refusal> {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return Err(Refusal::bad_request("the conditions nest too deep"));
    };
    Ok(match value {
        Value::String(text) => Header::from(text.as_str()),
        Value::Array(items) => {
            Header::Array(items.iter().map(|item| header(item, depth_left)).collect::<Result<_, _>>()?)
        }
        Value::Object(inner) => Header::Table(table(inner, depth_left)?),
        Value::Bool(value) => Header::from(value.to_string().as_str()),
        Value::Number(number) => Header::from(number.to_string().as_str()),
        Value::Null => return Err(Refusal::bad_request("a condition is null: leave it out instead")),
    })
}
