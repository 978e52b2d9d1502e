//! `/api/policies`, `/api/operator-policies`.

use super::fields::Fields;
use super::listing::Listing;
use super::{Answer, Asker, Shared, missing, put_status, vhost_name};
use crate::http::commit::saved;
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use millpond_broker::{ApplyTo, Broker, Operation, PolicyDefinition, PolicyKind, PolicySpec, json};
use millpond_model::VhostName;
use serde_json::{Value, json};

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/policies", get(list_user))
        .route("/policies/{vhost}", get(list_user_of))
        .route("/policies/{vhost}/{name}", get(one_user).put(put_user).delete(delete_user))
        .route("/operator-policies", get(list_operator))
        .route("/operator-policies/{vhost}", get(list_operator_of))
        .route(
            "/operator-policies/{vhost}/{name}",
            get(one_operator).put(put_operator).delete(delete_operator),
        )
}

pub(super) fn show_value(policy: &PolicySpec) -> Value {
    json!({
        "pattern": policy.pattern,
        "apply-to": policy.apply_to.as_str(),
        "definition": json::of_table(policy.definition.as_table()),
        "priority": policy.priority,
    })
}

/// A policy as RabbitMQ shows it; definitions of one vhost do not name it.
pub(super) fn show(policy: &PolicySpec, vhost: Option<&VhostName>) -> Value {
    let mut shown = show_value(policy);
    shown["name"] = (*policy.name).into();
    if let Some(vhost) = vhost {
        shown["vhost"] = vhost.as_str().into();
    }
    shown
}

/// What a request or definitions want a policy to be.
pub(super) fn spec_of(name: &str, fields: &Fields) -> Result<PolicySpec, Refusal> {
    fields.need(&["pattern", "definition"])?;
    let definition = fields.get("definition").cloned().unwrap_or_default();
    Ok(PolicySpec {
        name: name.into(),
        pattern: fields.text("pattern")?.unwrap_or_default().into(),
        apply_to: ApplyTo::parse(fields.text("apply-to")?.unwrap_or("all"))?,
        priority: fields.integer("priority")?.unwrap_or(0),
        definition: PolicyDefinition::from_json(&definition.to_string())?,
    })
}

fn list(asker: &Asker, kind: PolicyKind, vhost: Option<&str>, uri: &Uri) -> Answer {
    let mut shown = Vec::new();
    for vhost in asker.vhosts_meant(vhost)? {
        let policies = asker.see(&vhost)?.list_policies(&vhost, kind).map_err(|_| missing())?;
        shown.extend(policies.iter().map(|policy| show(policy, Some(&vhost))));
    }
    Listing::read(uri)?.answer(shown)
}

fn find(asker: &Asker, kind: PolicyKind, vhost: &VhostName, name: &str) -> Result<PolicySpec, Refusal> {
    let policies = asker.see(vhost)?.list_policies(vhost, kind).map_err(|_| missing())?;
    policies.into_iter().find(|policy| *policy.name == *name).ok_or_else(missing)
}

fn one(asker: &Asker, kind: PolicyKind, vhost: &str, name: &str) -> Answer {
    let vhost = vhost_name(vhost)?;
    Ok(Json(show(&find(asker, kind, &vhost, name)?, Some(&vhost))).into_response())
}

/// The broker, for somebody who may change policies of that kind.
fn may_set<'a>(asker: &'a Asker, kind: PolicyKind, vhost: &VhostName) -> Result<&'a Broker, Refusal> {
    match kind {
        PolicyKind::User => asker.may(Operation::SetPolicy(vhost)),
        PolicyKind::Operator => asker.administer(),
    }
}

async fn set(asker: &Asker, kind: PolicyKind, path: (String, String), body: Bytes) -> Answer {
    let vhost = vhost_name(&path.0)?;
    let broker = may_set(asker, kind, &vhost)?;
    let spec = spec_of(&path.1, &Fields::read(&body)?)?;
    let before = broker.list_policies(&vhost, kind)?;
    let is_new = before.iter().all(|policy| policy.name != spec.name);
    saved(broker.set_policy(&vhost, kind, spec)?).await?;
    Ok(put_status(is_new).into_response())
}

async fn clear(asker: &Asker, kind: PolicyKind, path: (String, String)) -> Answer {
    let vhost = vhost_name(&path.0)?;
    saved(may_set(asker, kind, &vhost)?.clear_policy(&vhost, kind, &path.1)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list_user(asker: Asker, uri: Uri) -> Answer {
    list(&asker, PolicyKind::User, None, &uri)
}

async fn list_user_of(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    list(&asker, PolicyKind::User, Some(&vhost), &uri)
}

async fn one_user(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    one(&asker, PolicyKind::User, &vhost, &name)
}

async fn put_user(asker: Asker, Path(path): Path<(String, String)>, body: Bytes) -> Answer {
    set(&asker, PolicyKind::User, path, body).await
}

async fn delete_user(asker: Asker, Path(path): Path<(String, String)>) -> Answer {
    clear(&asker, PolicyKind::User, path).await
}

async fn list_operator(asker: Asker, uri: Uri) -> Answer {
    list(&asker, PolicyKind::Operator, None, &uri)
}

async fn list_operator_of(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    list(&asker, PolicyKind::Operator, Some(&vhost), &uri)
}

async fn one_operator(asker: Asker, Path((vhost, name)): Path<(String, String)>) -> Answer {
    one(&asker, PolicyKind::Operator, &vhost, &name)
}

async fn put_operator(asker: Asker, Path(path): Path<(String, String)>, body: Bytes) -> Answer {
    set(&asker, PolicyKind::Operator, path, body).await
}

async fn delete_operator(asker: Asker, Path(path): Path<(String, String)>) -> Answer {
    clear(&asker, PolicyKind::Operator, path).await
}
