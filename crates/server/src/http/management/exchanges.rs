//! `/api/exchanges`.

use super::fields::Fields;
use super::listing::{Listing, parameter};
use super::statistics::{EXCHANGE, Windows, message_stats};
use super::{Answer, Asker, Shared, aside, exchange_name, missing, put_status, vhost_name};
use crate::http::commit::durable;
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use millpond_broker::{Broker, DeclareExchange, ExchangeInfo, Operation, json};
use millpond_model::{ExchangeName, VhostName};
use serde_json::{Value, json};

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/exchanges", get(list))
        .route("/exchanges/{vhost}", get(list_of))
        .route("/exchanges/{vhost}/{exchange}", get(one).put(put).delete(delete))
}

/// An exchange as definitions have it; definitions of one vhost do not name it.
pub(super) fn define(exchange: &ExchangeInfo, vhost: Option<&VhostName>) -> Value {
    let mut shown = json!({
        "name": exchange.name.as_str(),
        "type": exchange.kind,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": json::of_table(&exchange.arguments),
    });
    if let Some(vhost) = vhost {
        shown["vhost"] = vhost.as_str().into();
    }
    shown
}

fn show(broker: &Broker, exchange: &ExchangeInfo, vhost: &VhostName, windows: Windows) -> Value {
    let mut shown = define(exchange, Some(vhost));
    if let Ok(Some(counts)) = broker.exchange_counts(vhost, &exchange.name) {
        shown["message_stats"] = message_stats(&counts, &[EXCHANGE], windows.messages);
    }
    if let Some(policy) = &exchange.policy {
        shown["policy"] = (**policy).into();
    }
    shown
}

fn all(asker: &Asker, vhost: Option<&str>, uri: &Uri) -> Answer {
    let mut found = Vec::new();
    let windows = Windows::read(uri);
    let broker = asker.may(Operation::Enter)?;
    for vhost in asker.vhosts_meant(vhost)? {
        let exchanges = broker.list_exchanges(&vhost).map_err(|_| missing())?;
        found.extend(exchanges.into_iter().map(|exchange| (vhost.clone(), exchange)));
    }
    let show = |(vhost, exchange): &(VhostName, ExchangeInfo)| show(broker, exchange, vhost, windows);
    Listing::read(uri)?.answer_of(found, column, show)
}

fn column((vhost, exchange): &(VhostName, ExchangeInfo), name: &str) -> Option<String> {
    Some(match name {
        "name" => exchange.name.to_string(),
        "vhost" => vhost.to_string(),
        "type" => exchange.kind.to_owned(),
        _ => return None,
    })
}

async fn list(asker: Asker, uri: Uri) -> Answer {
    aside(move || all(&asker, None, &uri)).await
}

async fn list_of(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    aside(move || all(&asker, Some(&vhost), &uri)).await
}

/// An exchange that is there.
pub(super) fn find(asker: &Asker, vhost: &str, exchange: &str) -> Result<(VhostName, ExchangeInfo), Refusal> {
    let (vhost, exchange) = (vhost_name(vhost)?, exchange_name(exchange)?);
    let found = asker.see(&vhost)?.exchange(&vhost, &exchange).map_err(|_| missing())?;
    Ok((vhost, found.ok_or_else(missing)?))
}

async fn one(asker: Asker, Path((vhost, exchange)): Path<(String, String)>, uri: Uri) -> Answer {
    let (vhost, found) = find(&asker, &vhost, &exchange)?;
    Ok(Json(Listing::read(&uri)?.pick(show(asker.see(&vhost)?, &found, &vhost, Windows::read(&uri))))
        .into_response())
}

/// What a request or definitions want an exchange to be.
pub(super) fn request_of(name: ExchangeName, fields: &Fields) -> Result<DeclareExchange, Refusal> {
    Ok(DeclareExchange {
        name,
        kind: fields.text("type")?.unwrap_or("direct").into(),
        passive: false,
        durable: fields.flag("durable")?,
        auto_delete: fields.flag("auto_delete")?,
        internal: fields.flag("internal")?,
        arguments: fields.table("arguments")?,
    })
}

async fn put(asker: Asker, Path((vhost, exchange)): Path<(String, String)>, body: Bytes) -> Answer {
    let (vhost, exchange) = (vhost_name(&vhost)?, exchange_name(&exchange)?);
    let before = asker.see(&vhost)?.exchange(&vhost, &exchange)?;
    let request = request_of(exchange, &Fields::read(&body)?)?;
    let mut session = asker.session(&vhost)?;
    let durability = session.declare_exchange(&request)?;
    durable(&mut session, durability).await?;
    Ok(put_status(before.is_none()).into_response())
}

async fn delete(asker: Asker, Path((vhost, exchange)): Path<(String, String)>, uri: Uri) -> Answer {
    let (vhost, found) = find(&asker, &vhost, &exchange)?;
    let if_unused = parameter(&uri, "if-unused").as_deref() == Some("true");
    let mut session = asker.session(&vhost)?;
    let durability = session.delete_exchange(&found.name, if_unused)?;
    durable(&mut session, durability).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
