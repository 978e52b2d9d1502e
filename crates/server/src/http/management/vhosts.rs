//! `/api/vhosts`.

use super::fields::Fields;
use super::listing::Listing;
use super::statistics::{DELIVERIES, PUBLISHES, TRAFFIC, Windows, message_stats, put_lengths, put_members};
use super::{Answer, Asker, Shared, aside, missing, put_status, vhost_name};
use crate::http::commit::saved;
use crate::http::refusal::Refusal;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use millpond_broker::{Permissions, QueueType, VhostInfo, VhostSpec};
use millpond_model::VhostName;
use serde_json::{Map, Value, json};

/// Whether a vhost must not be deleted.
const PROTECTED: &str = "protected_from_deletion";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/vhosts", get(list))
        .route("/vhosts/{vhost}", get(one).put(put).delete(delete))
        .route("/vhosts/{vhost}/start/{node}", post(start))
        .route("/vhosts/{vhost}/deletion/protection", post(protect).delete(unprotect))
}

/// A vhost as definitions have it.
pub(super) fn define(vhost: &VhostInfo) -> Value {
    let mut metadata = json!({ "description": vhost.description, "tags": vhost.tags });
    let mut shown =
        json!({ "name": vhost.name.as_str(), "description": vhost.description, "tags": vhost.tags });
    if vhost.is_protected {
        metadata["protected_from_deletion"] = true.into();
    }
    if let Some(queue_type) = vhost.default_queue_type {
        metadata["default_queue_type"] = queue_type.as_str().into();
        shown["default_queue_type"] = queue_type.as_str().into();
    }
    shown["metadata"] = metadata;
    shown
}

/// A vhost as RabbitMQ shows it. Descriptions are there twice, as it has them.
fn show(shared: &Shared, asker: &Asker, vhost: &VhostInfo, windows: Windows) -> Result<Value, Refusal> {
    let broker = asker.see(&vhost.name)?;
    let totals = broker.totals(&vhost.name)?;
    let counts = broker.vhost_counts(&vhost.name, windows.longest())?;
    let mut shown = define(vhost);
    let default_queue_type = vhost.default_queue_type.map_or("undefined", QueueType::as_str);
    shown["default_queue_type"] = default_queue_type.into();
    shown["tracing"] = false.into();
    shown["cluster_state"] = Map::from_iter([(shared.facts.node.clone(), "running".into())]).into();
    shown["protected_from_deletion"] = vhost.is_protected.into();
    shown["messages"] = (totals.ready + totals.waiting + totals.unacked).into();
    shown["messages_ready"] = totals.ready.into();
    shown["messages_unacknowledged"] = totals.unacked.into();
    put_lengths(&mut shown, Some(&counts), windows.lengths);
    shown["message_stats"] = message_stats(&counts, &[DELIVERIES, PUBLISHES], windows.messages);
    if let Some(shown) = shown.as_object_mut() {
        put_members(shown, &counts, TRAFFIC, windows.data);
    }
    Ok(shown)
}

async fn list(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    aside(move || {
        let (vhosts, windows) = (asker.vhosts()?, Windows::read(&uri));
        let shown: Result<_, _> = vhosts.iter().map(|vhost| show(&shared, &asker, vhost, windows)).collect();
        Listing::read(&uri)?.answer(shown?)
    })
    .await
}

async fn one(State(shared): State<Shared>, asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let found = asker.see(&vhost)?.list_vhosts().into_iter().find(|it| it.name == vhost);
    let shown = show(&shared, &asker, &found.ok_or_else(missing)?, Windows::read(&uri))?;
    Ok(axum::Json(Listing::read(&uri)?.pick(shown)).into_response())
}

async fn put(asker: Asker, Path(vhost): Path<String>, body: Bytes) -> Answer {
    let fields = Fields::read(&body)?;
    let spec = spec_of(&asker, vhost_name(&vhost)?, &fields)?;
    let broker = asker.administer()?;
    let (is_new, done) = broker.set_vhost(&spec)?;
    saved(done).await?;
    if is_new {
        // Whoever makes a vhost may use it, as with RabbitMQ.
        saved(broker.set_permissions(&asker.login().user, &spec.name, Permissions::all())?).await?;
    }
    Ok(put_status(is_new).into_response())
}

/// What a request or definitions want a vhost to be; what they do not say stays as it is.
pub(super) fn spec_of(asker: &Asker, name: VhostName, fields: &Fields) -> Result<VhostSpec, Refusal> {
    if fields.flag("tracing")? {
        return Err(Refusal::bad_request("tracing: this broker does not trace vhosts"));
    }
    let before = asker.administer()?.list_vhosts().into_iter().find(|it| it.name == name);
    let metadata = match fields.get("metadata") {
        Some(metadata) => Fields::of(metadata.clone())?,
        None => Fields::read(b"")?,
    };
    let said = |member: &str| -> Result<Option<String>, Refusal> {
        let text = fields.text(member)?.or(metadata.text(member)?);
        Ok(text.map(str::to_owned))
    };
    let description = match said("description")? {
        Some(description) => description.into(),
        None => before.as_ref().map(|it| it.description.clone()).unwrap_or_default(),
    };
    let tags = match fields.tags("tags")?.or(metadata.tags("tags")?) {
        Some(tags) => tags,
        None => before.as_ref().map(|it| it.tags.clone()).unwrap_or_default(),
    };
    let is_protected = match fields.get(PROTECTED).or(metadata.get(PROTECTED)) {
        Some(_) => fields.flag(PROTECTED)? || metadata.flag(PROTECTED)?,
        None => before.as_ref().is_some_and(|it| it.is_protected),
    };
    let default_queue_type = match said("default_queue_type")?.as_deref() {
        None => before.and_then(|it| it.default_queue_type),
        Some("undefined" | "") => None,
        Some(text) => Some(QueueType::parse(text).ok_or_else(|| {
            Refusal::bad_request(format!(
                "default_queue_type '{text}' is not known: use classic, quorum or stream"
            ))
        })?),
    };
    Ok(VhostSpec { name, description, default_queue_type, tags, is_protected })
}

async fn delete(asker: Asker, Path(vhost): Path<String>) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let broker = asker.administer()?.clone();
    // Of a vhost with many queues, this takes a while.
    let deleted = tokio::task::spawn_blocking(move || broker.delete_vhost(&vhost)).await;
    let done = deleted.map_err(|error| Refusal::unavailable(error.to_string()))??;
    saved(done).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn protect(asker: Asker, Path(vhost): Path<String>) -> Answer {
    set_protection(&asker, &vhost, true).await
}

async fn unprotect(asker: Asker, Path(vhost): Path<String>) -> Answer {
    set_protection(&asker, &vhost, false).await
}

async fn set_protection(asker: &Asker, vhost: &str, is_protected: bool) -> Answer {
    let (broker, vhost) = (asker.administer()?, vhost_name(vhost)?);
    broker.totals(&vhost)?;
    let spec = VhostSpec { is_protected, ..spec_of(asker, vhost, &Fields::read(b"")?)? };
    saved(broker.set_vhost(&spec)?.1).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A vhost that is there runs.
async fn start(asker: Asker, Path((vhost, _node)): Path<(String, String)>) -> Answer {
    let vhost = vhost_name(&vhost)?;
    asker.administer()?.totals(&vhost)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
