//! `/api/policies`, `/api/operator-policies`, `/api/parameters`, `/api/global-parameters`.

use super::fields::Fields;
use super::limits::{limit_of, show_vhost_limits, with_vhost_limit};
use super::listing::Listing;
use super::{Answer, Asker, Shared, missing, put_status, vhost_name};
use crate::http::commit::saved;
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{get, put};
use axum::{Json, Router};
use millpond_broker::{
    ApplyTo, Broker, Operation, PolicyDefinition, PolicyKind, PolicySpec, Saved, VhostInfo, VhostLimits, json,
};
use millpond_model::VhostName;
use serde_json::{Value, json};

/// Component of the parameters that limit a vhost.
const VHOST_LIMITS: &str = "vhost-limits";
/// Their name, of which there is one a vhost.
const LIMITS: &str = "limits";
/// Component of the parameters that are operator policies.
const OPERATOR_POLICY: &str = "operator_policy";

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
        .route("/parameters", get(parameters))
        .route("/parameters/{component}", get(parameters_of))
        .route("/parameters/{component}/{vhost}", get(parameters_in))
        .route(
            "/parameters/{component}/{vhost}/{name}",
            put(put_parameter).get(parameter).delete(delete_parameter),
        )
        .route("/global-parameters", get(global_parameters))
        .route("/global-parameters/{name}", get(global_parameter).put(put_global_parameter))
}

fn show_value(policy: &PolicySpec) -> Value {
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
        let policies = asker.see(&vhost)?.list_policies(&vhost, kind)?;
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

// ---- parameters: RabbitMQ's other name for limits of vhosts and operator policies

/// The parameters of a vhost, as definitions have them.
pub(super) fn show_parameters(broker: &Broker, vhost: &VhostInfo) -> Result<Vec<Value>, Refusal> {
    let parameter = |component: &str, name: &str, value: Value| json!({ "component": component, "vhost": vhost.name.as_str(), "name": name, "value": value });
    let mut shown = Vec::new();
    let limits = show_vhost_limits(vhost.limits);
    if !limits.is_empty() {
        shown.push(parameter(VHOST_LIMITS, LIMITS, limits.into()));
    }
    let operators = broker.list_policies(&vhost.name, PolicyKind::Operator)?;
    shown.extend(operators.iter().map(|it| parameter(OPERATOR_POLICY, &it.name, show_value(it))));
    Ok(shown)
}

/// Sets a parameter, as definitions bring it.
pub(super) fn set_parameter(
    broker: &Broker,
    (component, vhost, name): (&str, &VhostName, &str),
    value: Option<&Value>,
) -> Result<Saved, Refusal> {
    let Some(value) = value else { return Err(Refusal::bad_request("[{key_missing,value}]")) };
    match (component, value) {
        (OPERATOR_POLICY, value) => {
            let spec = spec_of(name, &Fields::of(value.clone())?)?;
            Ok(broker.set_policy(vhost, PolicyKind::Operator, spec)?)
        }
        (VHOST_LIMITS, Value::Object(members)) if name == LIMITS => {
            let mut limits = VhostLimits::default();
            for (name, value) in members {
                let wrong = || Refusal::bad_request(format!("{name}: a whole number is expected"));
                limits = with_vhost_limit(limits, name, limit_of(value.as_i64().ok_or_else(wrong)?))?;
            }
            Ok(broker.set_vhost_limits(vhost, limits)?)
        }
        (VHOST_LIMITS, _) => Err(Refusal::bad_request("vhost-limits has one parameter, 'limits', an object")),
        _ => Err(Refusal::bad_request(format!(
            "component {component} not found: there are {VHOST_LIMITS} and {OPERATOR_POLICY}"
        ))),
    }
}

fn some_parameters(
    asker: &Asker,
    vhost: Option<&str>,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>, Refusal> {
    let names = asker.vhosts_meant(vhost)?;
    let mut shown = Vec::new();
    for vhost in asker.vhosts()?.iter().filter(|it| names.contains(&it.name)) {
        if asker.can(Operation::SetPolicy(&vhost.name)) {
            shown.extend(show_parameters(asker.see(&vhost.name)?, vhost)?);
        }
    }
    shown.retain(wanted);
    Ok(shown)
}

async fn parameters(asker: Asker, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(some_parameters(&asker, None, |_| true)?)
}

async fn parameters_of(asker: Asker, Path(component): Path<String>, uri: Uri) -> Answer {
    let of = |it: &Value| it["component"] == *component;
    Listing::read(&uri)?.answer(some_parameters(&asker, None, of)?)
}

async fn parameters_in(asker: Asker, Path((component, vhost)): Path<(String, String)>, uri: Uri) -> Answer {
    let of = |it: &Value| it["component"] == *component;
    Listing::read(&uri)?.answer(some_parameters(&asker, Some(&vhost), of)?)
}

async fn parameter(asker: Asker, Path((component, vhost, name)): Path<(String, String, String)>) -> Answer {
    let is = |it: &Value| it["component"] == *component && it["name"] == *name;
    let found = some_parameters(&asker, Some(&vhost), is)?.pop().ok_or_else(missing)?;
    Ok(Json(found).into_response())
}

async fn put_parameter(
    asker: Asker,
    Path((component, vhost, name)): Path<(String, String, String)>,
    body: Bytes,
) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let broker = asker.administer()?;
    let found = broker.list_vhosts().into_iter().find(|it| it.name == vhost).ok_or_else(missing)?;
    let before = show_parameters(broker, &found)?;
    let fields = Fields::read(&body)?;
    saved(set_parameter(broker, (&component, &vhost, &name), fields.get("value"))?).await?;
    let is_new = !before.iter().any(|it| it["component"] == *component && it["name"] == *name);
    Ok(put_status(is_new).into_response())
}

async fn delete_parameter(
    asker: Asker,
    Path((component, vhost, name)): Path<(String, String, String)>,
) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let broker = asker.administer()?;
    let done = match &*component {
        OPERATOR_POLICY => broker.clear_policy(&vhost, PolicyKind::Operator, &name)?,
        VHOST_LIMITS if name == LIMITS => broker.set_vhost_limits(&vhost, VhostLimits::default())?,
        _ => return Err(missing()),
    };
    saved(done).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What there is of a whole node: its name for clients.
pub(super) fn show_global_parameters(cluster_name: &str) -> Vec<Value> {
    vec![json!({ "name": "cluster_name", "value": cluster_name })]
}

async fn global_parameters(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    asker.administer()?;
    Listing::read(&uri)?.answer(show_global_parameters(&shared.facts.cluster_name))
}

async fn global_parameter(State(shared): State<Shared>, asker: Asker, Path(name): Path<String>) -> Answer {
    asker.administer()?;
    let all = show_global_parameters(&shared.facts.cluster_name);
    let found = all.into_iter().find(|it| it["name"] == *name).ok_or_else(missing)?;
    Ok(Json(found).into_response())
}

async fn put_global_parameter(asker: Asker) -> Answer {
    asker.administer()?;
    Err(Refusal::bad_request(
        "this broker keeps no global parameters: what holds for the node is in its settings",
    ))
}
