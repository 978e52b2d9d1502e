//! `/api/vhost-limits`, `/api/user-limits`.

use super::fields::Fields;
use super::listing::Listing;
use super::{Answer, Asker, Shared, missing, user_name, vhost_name};
use crate::http::commit::saved;
use crate::http::refusal::Refusal;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{get, put};
use millpond_broker::{Broker, Operation, UserLimits, VhostInfo, VhostLimits};
use millpond_model::VhostName;
use serde_json::{Map, Value, json};

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/vhost-limits", get(of_vhosts))
        .route("/vhost-limits/{vhost}", get(of_vhost))
        .route("/vhost-limits/{vhost}/{limit}", put(set_of_vhost).delete(clear_of_vhost))
        .route("/user-limits", get(of_users))
        .route("/user-limits/{user}", get(of_user))
        .route("/user-limits/{user}/{limit}", put(set_of_user).delete(clear_of_user))
}

/// What is limited, by RabbitMQ's names.
pub(super) fn show_vhost_limits(limits: VhostLimits) -> Map<String, Value> {
    members([("max-connections", limits.connections_max), ("max-queues", limits.queues_max)])
}

/// What is limited, by RabbitMQ's names.
pub(super) fn show_user_limits(limits: UserLimits) -> Map<String, Value> {
    members([("max-connections", limits.connections_max), ("max-channels", limits.channels_max)])
}

fn members<const N: usize>(limits: [(&str, Option<u64>); N]) -> Map<String, Value> {
    limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.into()))).collect()
}

/// The limits with one of them changed.
pub(super) fn with_vhost_limit(
    mut limits: VhostLimits,
    name: &str,
    value: Option<u64>,
) -> Result<VhostLimits, Refusal> {
    match name {
        "max-connections" => limits.connections_max = value,
        "max-queues" => limits.queues_max = value,
        _ => return Err(unknown(name, "max-connections and max-queues")),
    }
    Ok(limits)
}

/// The limits with one of them changed.
pub(super) fn with_user_limit(
    mut limits: UserLimits,
    name: &str,
    value: Option<u64>,
) -> Result<UserLimits, Refusal> {
    match name {
        "max-connections" => limits.connections_max = value,
        "max-channels" => limits.channels_max = value,
        _ => return Err(unknown(name, "max-connections and max-channels")),
    }
    Ok(limits)
}

fn unknown(name: &str, known: &str) -> Refusal {
    Refusal::bad_request(format!("the limit '{name}' is not known: there are {known}"))
}

/// A limit; a negative one is none.
pub(super) fn limit_of(value: i64) -> Option<u64> {
    u64::try_from(value).ok()
}

fn read(body: &[u8]) -> Result<Option<u64>, Refusal> {
    let fields = Fields::read(body)?;
    fields.need(&["value"])?;
    Ok(fields.integer("value")?.and_then(limit_of))
}

fn shown_vhost(vhost: &VhostInfo) -> Option<Value> {
    let value = show_vhost_limits(vhost.limits);
    (!value.is_empty()).then(|| json!({ "vhost": vhost.name.as_str(), "value": value }))
}

async fn of_vhosts(asker: Asker, uri: Uri) -> Answer {
    let shown = asker.vhosts()?.iter().filter_map(shown_vhost).collect();
    Listing::read(&uri)?.answer(shown)
}

async fn of_vhost(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let found = find(asker.see(&vhost)?, &vhost)?;
    Listing::read(&uri)?.answer(shown_vhost(&found).into_iter().collect())
}

fn find(broker: &Broker, vhost: &VhostName) -> Result<VhostInfo, Refusal> {
    broker.list_vhosts().into_iter().find(|it| it.name == *vhost).ok_or_else(missing)
}

async fn set_of_vhost(asker: Asker, Path((vhost, limit)): Path<(String, String)>, body: Bytes) -> Answer {
    change_vhost(&asker, &vhost, &limit, read(&body)?).await
}

async fn clear_of_vhost(asker: Asker, Path((vhost, limit)): Path<(String, String)>) -> Answer {
    change_vhost(&asker, &vhost, &limit, None).await
}

async fn change_vhost(asker: &Asker, vhost: &str, limit: &str, value: Option<u64>) -> Answer {
    let (broker, vhost) = (asker.administer()?, vhost_name(vhost)?);
    let limits = with_vhost_limit(find(broker, &vhost)?.limits, limit, value)?;
    saved(broker.set_vhost_limits(&vhost, limits)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn shown_user(user: &str, limits: UserLimits) -> Option<Value> {
    let value = show_user_limits(limits);
    (!value.is_empty()).then(|| json!({ "user": user, "value": value }))
}

async fn of_users(asker: Asker, uri: Uri) -> Answer {
    let mut limited = asker.may(Operation::Enter)?.list_user_limits();
    if !asker.can(Operation::Administer) {
        limited.retain(|(user, _)| *user == asker.login().user);
    }
    let shown = limited.iter().filter_map(|(user, limits)| shown_user(user.as_str(), *limits)).collect();
    Listing::read(&uri)?.answer(shown)
}

async fn of_user(asker: Asker, Path(user): Path<String>, uri: Uri) -> Answer {
    let found = asker.administer()?.user(&user_name(&user)?)?;
    Listing::read(&uri)?.answer(shown_user(&user, found.limits).into_iter().collect())
}

async fn set_of_user(asker: Asker, Path((user, limit)): Path<(String, String)>, body: Bytes) -> Answer {
    change_user(&asker, &user, &limit, read(&body)?).await
}

async fn clear_of_user(asker: Asker, Path((user, limit)): Path<(String, String)>) -> Answer {
    change_user(&asker, &user, &limit, None).await
}

async fn change_user(asker: &Asker, user: &str, limit: &str, value: Option<u64>) -> Answer {
    let (broker, user) = (asker.administer()?, user_name(user)?);
    let found = broker.user(&user).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let limits = with_user_limit(found.limits, limit, value)?;
    saved(broker.set_user_limits(&user, limits)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
