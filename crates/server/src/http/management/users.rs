//! Users, their permissions, and who it is that asks.

use super::fields::Fields;
use super::limits::show_user_limits;
use super::listing::Listing;
use super::{Answer, Asker, Shared, exchange_name, missing, put_status, user_name, vhost_name};
use crate::http::commit::saved;
use crate::http::refusal::Refusal;
use crate::login::hashing;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{self, get, post};
use axum::{Json, Router};
use millpond_broker::{
    Broker, HashAlgorithm, NewPassword, Operation, Permissions, TopicPermission, UserInfo, UserSpec,
};
use millpond_model::{ExchangeName, UserName, VhostName};
use serde_json::{Value, json};

/// Users deleted by one request.
const BULK_MAX: usize = 10_000;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/whoami", get(whoami))
        .route("/auth", get(auth))
        .route("/auth/hash_password/{password}", get(hash_password))
        .route("/users", get(list))
        .route("/users/bulk-delete", post(bulk_delete))
        .route("/users/without-permissions", get(without_permissions))
        .route("/users/{user}", get(one).put(put).delete(delete))
        .route("/users/{user}/permissions", get(permissions_of_user))
        .route("/users/{user}/topic-permissions", get(topics_of_user))
        .route("/vhosts/{vhost}/permissions", get(permissions_in_vhost))
        .route("/vhosts/{vhost}/topic-permissions", get(topics_in_vhost))
        .route("/permissions", get(permissions))
        .route("/permissions/{vhost}/{user}", get(permission).put(permit).delete(forbid))
        .route("/topic-permissions", get(topics))
        .route("/topic-permissions/{vhost}/{user}", get(topic).put(permit_topic).delete(forbid_topics))
        .route("/topic-permissions/{vhost}/{user}/{exchange}", routing::delete(forbid_topic))
}

async fn whoami(asker: Asker) -> Answer {
    let name = &asker.login().user;
    asker.may(Operation::Enter)?;
    Ok(Json(json!({ "name": name.as_str(), "tags": asker.0.tags() })).into_response())
}

/// How a page may log somebody in; anybody may ask.
async fn auth(State(shared): State<Shared>) -> Answer {
    let Some(oauth) = shared.door.oauth() else {
        return Ok(Json(json!({ "oauth_enabled": false })).into_response());
    };
    let options = oauth.options();
    let mut shown = json!({
        "oauth_enabled": true,
        "oauth_resource_id": options.resource_server_id,
        "oauth_disable_basic_auth": false,
    });
    if oauth.login_origin().is_some() {
        shown["oauth_client_id"] = json!(options.client_id);
        shown["oauth_provider_url"] = json!(options.issuer);
        shown["oauth_scopes"] = json!(options.login_scopes.join(" "));
    }
    Ok(Json(shown).into_response())
}

async fn hash_password(_: Asker, Path(password): Path<String>) -> Answer {
    Ok(Json(json!({ "ok": Broker::rabbitmq_hash(password.as_bytes()) })).into_response())
}

// ---- users

/// A user as RabbitMQ shows it, and its definitions keep it.
pub(super) fn show(user: &UserInfo) -> Value {
    let (algorithm, hash) = match &user.hash {
        Some((algorithm, hash)) => (*algorithm, &**hash),
        None => (HashAlgorithm::Sha256, ""),
    };
    json!({
        "name": user.name.as_str(),
        "password_hash": hash,
        "hashing_algorithm": algorithm.as_str(),
        "tags": user.tags,
        "limits": show_user_limits(user.limits),
    })
}

async fn list(asker: Asker, uri: Uri) -> Answer {
    let users = asker.administer()?.list_users();
    Listing::read(&uri)?.answer(users.iter().map(show).collect())
}

async fn without_permissions(asker: Asker, uri: Uri) -> Answer {
    let users = asker.administer()?.list_users();
    let shown = users.iter().filter(|user| user.permissions.is_empty()).map(show).collect();
    Listing::read(&uri)?.answer(shown)
}

async fn one(asker: Asker, Path(user): Path<String>, uri: Uri) -> Answer {
    let found = asker.administer()?.user(&user_name(&user)?).map_err(|_| missing())?;
    Ok(Json(Listing::read(&uri)?.pick(show(&found))).into_response())
}

async fn put(asker: Asker, Path(user): Path<String>, body: Bytes) -> Answer {
    let fields = Fields::read(&body)?;
    let spec = spec_of(user_name(&user)?, &fields)?;
    Ok(put_status(set(asker.administer()?, spec).await?).into_response())
}

/// Sets a user, durably; whether it is new.
pub(super) async fn set(broker: &Broker, spec: UserSpec) -> Result<bool, Refusal> {
    let broker = broker.clone();
    let (is_new, done) = hashing(move || broker.set_user(&spec))
        .await
        .ok_or_else(|| Refusal::unavailable("the password could not be hashed"))??;
    saved(done).await?;
    Ok(is_new)
}

/// What a request or definitions want a user to be.
pub(super) fn spec_of(name: UserName, fields: &Fields) -> Result<UserSpec, Refusal> {
    let tags = fields.tags("tags")?.ok_or_else(|| {
        Refusal::bad_request(
            "tags_not_present: \"tags\" is a list of texts, or a text of tags with commas between them",
        )
    })?;
    let password = match (fields.text("password")?, fields.text("password_hash")?) {
        // As with RabbitMQ, an empty password lets nobody in.
        (Some(""), _) => NewPassword::None,
        (Some(password), _) => NewPassword::Plain(password.as_bytes().into()),
        (None, None | Some("")) => NewPassword::None,
        (None, Some(hash)) => {
            let word = fields.text("hashing_algorithm")?.unwrap_or(HashAlgorithm::Sha256.as_str());
            let algorithm = HashAlgorithm::parse(word)
                .ok_or_else(|| Refusal::bad_request(format!("hashing_algorithm '{word}' is not known")))?;
            NewPassword::Hashed { algorithm, hash: hash.into() }
        }
    };
    Ok(UserSpec { name, password, tags: Some(tags) })
}

async fn delete(asker: Asker, Path(user): Path<String>) -> Answer {
    saved(asker.administer()?.delete_user(&user_name(&user)?)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// All of them or none; one that is not there refuses the rest.
async fn bulk_delete(asker: Asker, body: Bytes) -> Answer {
    let broker = asker.administer()?;
    let mut fields = Fields::read(&body)?;
    fields.need(&["users"])?;
    let names = fields.list("users")?;
    if names.len() > BULK_MAX {
        return Err(Refusal::bad_request(format!(
            "{} users in one request, at most {BULK_MAX} are taken",
            names.len()
        )));
    }
    let names: Result<Vec<_>, _> =
        names.iter().map(|it| user_name(it.as_str().unwrap_or_default())).collect();
    let names = names?;
    for name in &names {
        broker.user(name).map_err(|error| Refusal::bad_request(error.to_string()))?;
    }
    for name in &names {
        saved(broker.delete_user(name)?).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

// ---- permissions

fn show_permission(user: &UserName, vhost: &VhostName, permissions: &Permissions) -> Value {
    let Permissions { configure, write, read } = permissions;
    json!({
        "user": user.as_str(), "vhost": vhost.as_str(), "configure": configure, "write": write, "read": read,
    })
}

fn show_topic(user: &UserName, vhost: &VhostName, permission: &TopicPermission) -> Value {
    let TopicPermission { exchange, write, read } = permission;
    json!({
        "user": user.as_str(), "vhost": vhost.as_str(), "exchange": exchange.as_str(), "write": write, "read": read,
    })
}

/// What these users may do, in one vhost or all.
pub(super) fn show_permissions(users: &[UserInfo], vhost: Option<&VhostName>) -> Vec<Value> {
    let all = users.iter().flat_map(|user| user.permissions.iter().map(move |it| (user, it)));
    let all = all.filter(|(_, (of, _))| vhost.is_none_or(|vhost| of == vhost));
    all.map(|(user, (vhost, permissions))| show_permission(&user.name, vhost, permissions)).collect()
}

/// What these users may do with topic exchanges, in one vhost or all.
pub(super) fn show_topics(users: &[UserInfo], vhost: Option<&VhostName>) -> Vec<Value> {
    let all = users.iter().flat_map(|user| user.topic_permissions.iter().map(move |it| (user, it)));
    let all = all.filter(|(_, (of, _))| vhost.is_none_or(|vhost| of == vhost));
    all.map(|(user, (vhost, permission))| show_topic(&user.name, vhost, permission)).collect()
}

async fn permissions(asker: Asker, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(show_permissions(&asker.administer()?.list_users(), None))
}

async fn topics(asker: Asker, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(show_topics(&asker.administer()?.list_users(), None))
}

/// A user, for an administrator or themselves.
fn themselves(asker: &Asker, user: &str) -> Result<Vec<UserInfo>, Refusal> {
    let user = user_name(user)?;
    let broker = match asker.login().user == user {
        true => asker.may(Operation::Enter)?,
        false => asker.administer()?,
    };
    Ok(vec![broker.user(&user).map_err(|_| missing())?])
}

async fn permissions_of_user(asker: Asker, Path(user): Path<String>, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(show_permissions(&themselves(&asker, &user)?, None))
}

async fn topics_of_user(asker: Asker, Path(user): Path<String>, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(show_topics(&themselves(&asker, &user)?, None))
}

/// All users, for an administrator, once the vhost is known to be there.
fn users_in(asker: &Asker, vhost: &VhostName) -> Result<Vec<UserInfo>, Refusal> {
    let broker = asker.administer()?;
    broker.list_policies(vhost, millpond_broker::PolicyKind::User).map_err(|_| missing())?;
    Ok(broker.list_users())
}

async fn permissions_in_vhost(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    let vhost = vhost_name(&vhost)?;
    Listing::read(&uri)?.answer(show_permissions(&users_in(&asker, &vhost)?, Some(&vhost)))
}

async fn topics_in_vhost(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    let vhost = vhost_name(&vhost)?;
    Listing::read(&uri)?.answer(show_topics(&users_in(&asker, &vhost)?, Some(&vhost)))
}

fn pair((vhost, user): (String, String)) -> Result<(VhostName, UserName), Refusal> {
    Ok((vhost_name(&vhost)?, user_name(&user)?))
}

async fn permission(asker: Asker, Path(path): Path<(String, String)>) -> Answer {
    let (vhost, user) = pair(path)?;
    let found = asker.administer()?.user(&user).map_err(|_| missing())?;
    let shown = show_permissions(&[found], Some(&vhost)).pop().ok_or_else(missing)?;
    Ok(Json(shown).into_response())
}

async fn permit(asker: Asker, Path(path): Path<(String, String)>, body: Bytes) -> Answer {
    let (vhost, user) = pair(path)?;
    let broker = asker.administer()?;
    let fields = Fields::read(&body)?;
    let permissions = permissions_in(&fields)?;
    let before = there(broker, &vhost, &user)?;
    let is_new = before.permissions.iter().all(|(of, _)| *of != vhost);
    saved(broker.set_permissions(&user, &vhost, permissions)?).await?;
    Ok(put_status(is_new).into_response())
}

/// The user who is to get permissions in a vhost. RabbitMQ calls it a bad request if one of them is missing.
fn there(broker: &Broker, vhost: &VhostName, user: &UserName) -> Result<UserInfo, Refusal> {
    broker.totals(vhost).map_err(|error| Refusal::bad_request(error.to_string()))?;
    broker.user(user).map_err(|error| Refusal::bad_request(error.to_string()))
}

/// What a request or definitions allow.
pub(super) fn permissions_in(fields: &Fields) -> Result<Permissions, Refusal> {
    fields.need(&["configure", "write", "read"])?;
    let text = |name| -> Result<Box<str>, Refusal> { Ok(fields.text(name)?.unwrap_or_default().into()) };
    Ok(Permissions { configure: text("configure")?, write: text("write")?, read: text("read")? })
}

async fn forbid(asker: Asker, Path(path): Path<(String, String)>) -> Answer {
    let (vhost, user) = pair(path)?;
    let broker = asker.administer()?;
    let before = broker.user(&user).map_err(|_| missing())?;
    if before.permissions.iter().all(|(of, _)| *of != vhost) {
        return Err(missing());
    }
    saved(broker.clear_permissions(&user, &vhost)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn topic(asker: Asker, Path(path): Path<(String, String)>, uri: Uri) -> Answer {
    let (vhost, user) = pair(path)?;
    let found = asker.administer()?.user(&user).map_err(|_| missing())?;
    let shown = show_topics(&[found], Some(&vhost));
    if shown.is_empty() {
        return Err(missing());
    }
    Listing::read(&uri)?.answer(shown)
}

async fn permit_topic(asker: Asker, Path(path): Path<(String, String)>, body: Bytes) -> Answer {
    let (vhost, user) = pair(path)?;
    let broker = asker.administer()?;
    let permission = topic_in(&Fields::read(&body)?)?;
    let before = there(broker, &vhost, &user)?;
    let is_new = before.topic_permissions.iter().all(|(of, _)| *of != vhost);
    saved(broker.set_topic_permission(&user, &vhost, permission)?).await?;
    Ok(put_status(is_new).into_response())
}

/// What a request or definitions allow with a topic exchange.
pub(super) fn topic_in(fields: &Fields) -> Result<TopicPermission, Refusal> {
    fields.need(&["exchange", "write", "read"])?;
    let text = |name| -> Result<&str, Refusal> { Ok(fields.text(name)?.unwrap_or_default()) };
    let exchange = exchange_name(text("exchange")?)?;
    Ok(TopicPermission { exchange, write: text("write")?.into(), read: text("read")?.into() })
}

async fn forbid_topics(asker: Asker, Path((vhost, user)): Path<(String, String)>) -> Answer {
    forbid_topics_of(&asker, pair((vhost, user))?, None).await
}

async fn forbid_topic(asker: Asker, Path((vhost, user, exchange)): Path<(String, String, String)>) -> Answer {
    forbid_topics_of(&asker, pair((vhost, user))?, Some(exchange_name(&exchange)?)).await
}

/// Takes away what a user may do with the topic exchange, or with all of them.
async fn forbid_topics_of(
    asker: &Asker,
    (vhost, user): (VhostName, UserName),
    exchange: Option<ExchangeName>,
) -> Answer {
    let broker = asker.administer()?;
    let before = broker.user(&user).map_err(|_| missing())?;
    let is_meant = |of: &VhostName, it: &TopicPermission| {
        *of == vhost && exchange.as_ref().is_none_or(|exchange| it.exchange == *exchange)
    };
    if !before.topic_permissions.iter().any(|(of, it)| is_meant(of, it)) {
        return Err(missing());
    }
    saved(broker.clear_topic_permissions(&user, &vhost, exchange.as_ref())?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
