//! `/api/parameters`, `/api/global-parameters`, `/api/cluster-name`: what others keep here, and RabbitMQ's other name
//! for limits of vhosts and operator policies.

use super::fields::Fields;
use super::limits::{limit_of, show_vhost_limits, with_vhost_limit};
use super::listing::Listing;
use super::policies::{show_value, spec_of};
use super::shovels::SHOVEL;
use super::{Answer, Asker, Management, Shared, missing, put_status, vhost_name};
use crate::http::commit::saved;
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{get, put};
use axum::{Json, Router};
use millpond_broker::{
    Broker, CLUSTER_NAME, Operation, Parameter, PolicyKind, Saved, VhostInfo, VhostLimits,
};
use millpond_model::VhostName;
use serde_json::{Value, json};

/// Component of the parameters that limit a vhost.
const VHOST_LIMITS: &str = "vhost-limits";
/// Their name, of which there is one a vhost.
const LIMITS: &str = "limits";
/// Component of the parameters that are operator policies.
pub(super) const OPERATOR_POLICY: &str = "operator_policy";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/parameters", get(list))
        .route("/parameters/{component}", get(list_of))
        .route("/parameters/{component}/{vhost}", get(list_in))
        .route("/parameters/{component}/{vhost}/{name}", put(set).get(one).delete(delete))
        .route("/global-parameters", get(global_list))
        .route("/global-parameters/{name}", get(global_one).put(set_global).delete(delete_global))
        .route("/cluster-name", get(cluster_name).put(set_cluster_name))
}

// ---- of vhosts

fn show(parameter: &Parameter) -> Value {
    let mut shown = json!({ "name": parameter.name, "value": parameter.value });
    if let Some(vhost) = &parameter.vhost {
        shown["vhost"] = vhost.as_str().into();
        shown["component"] = (*parameter.component).into();
    }
    shown
}

/// The parameters of a vhost, as definitions have them.
pub(super) fn show_in(broker: &Broker, vhost: &VhostInfo) -> Result<Vec<Value>, Refusal> {
    let parameter = |component: &str, name: &str, value: Value| json!({ "component": component, "vhost": vhost.name.as_str(), "name": name, "value": value });
    let mut shown = Vec::new();
    let limits = show_vhost_limits(vhost.limits);
    if !limits.is_empty() {
        shown.push(parameter(VHOST_LIMITS, LIMITS, limits.into()));
    }
    let operators = broker.list_policies(&vhost.name, PolicyKind::Operator)?;
    shown.extend(operators.iter().map(|it| parameter(OPERATOR_POLICY, &it.name, show_value(it))));
    let kept = broker.list_parameters();
    shown.extend(kept.iter().filter(|it| it.vhost.as_ref() == Some(&vhost.name)).map(show));
    Ok(shown)
}

/// Sets a parameter, as definitions bring it. What has a meaning here gets it, the rest is kept.
pub(super) fn set_in(
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
        _ => {
            let (vhost, value) = (Some(vhost.clone()), value.clone());
            let parameter = Parameter { vhost, component: component.into(), name: name.into(), value };
            Ok(broker.set_parameter(parameter)?.1)
        }
    }
}

/// Those that are wanted of what the asker may see. As in RabbitMQ, parameters are for those who may set them.
fn some(asker: &Asker, vhost: Option<&str>, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>, Refusal> {
    asker.may(Operation::SeeParameters)?;
    let names = asker.vhosts_meant(vhost)?;
    let mut shown = Vec::new();
    let mut found = vhost.is_none();
    for vhost in asker.vhosts()?.iter().filter(|it| names.contains(&it.name)) {
        found = true;
        if asker.can(Operation::SetPolicy(&vhost.name)) {
            shown.extend(show_in(asker.see(&vhost.name)?, vhost)?);
        }
    }
    shown.retain(wanted);
    if found { Ok(shown) } else { Err(missing()) }
}

async fn list(asker: Asker, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(some(&asker, None, |_| true)?)
}

async fn list_of(asker: Asker, Path(component): Path<String>, uri: Uri) -> Answer {
    let of = |it: &Value| it["component"] == *component;
    Listing::read(&uri)?.answer(some(&asker, None, of)?)
}

async fn list_in(asker: Asker, Path((component, vhost)): Path<(String, String)>, uri: Uri) -> Answer {
    let of = |it: &Value| it["component"] == *component;
    Listing::read(&uri)?.answer(some(&asker, Some(&vhost), of)?)
}

async fn one(asker: Asker, Path((component, vhost, name)): Path<(String, String, String)>) -> Answer {
    let is = |it: &Value| it["component"] == *component && it["name"] == *name;
    let found = some(&asker, Some(&vhost), is)?.pop().ok_or_else(missing)?;
    Ok(Json(found).into_response())
}

type Named = (String, String, String);

/// The broker, for somebody who may set this parameter; whether it is there already.
fn find<'a>(
    asker: &'a Asker,
    (component, vhost, name): (&str, &VhostName, &str),
) -> Result<(&'a Broker, bool), Refusal> {
    let broker = match component {
        // These two are an administrator's by their own paths too.
        // And a shovel acts in its vhost with all permissions.
        VHOST_LIMITS | OPERATOR_POLICY | SHOVEL => asker.administer()?,
        _ => asker.may(Operation::SetPolicy(vhost))?,
    };
    let found = broker.list_vhosts().into_iter().find(|it| it.name == *vhost).ok_or_else(missing)?;
    let is = |it: &Value| it["component"] == *component && it["name"] == *name;
    Ok((broker, show_in(broker, &found)?.iter().any(is)))
}

async fn set(asker: Asker, Path((component, vhost, name)): Path<Named>, body: Bytes) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let place = (&*component, &vhost, &*name);
    let (broker, is_there) = find(&asker, place)?;
    let fields = Fields::read(&body)?;
    saved(set_in(broker, place, fields.get("value"))?).await?;
    Ok(put_status(!is_there).into_response())
}

async fn delete(asker: Asker, Path((component, vhost, name)): Path<Named>) -> Answer {
    let vhost = vhost_name(&vhost)?;
    let (broker, is_there) = find(&asker, (&component, &vhost, &name))?;
    if !is_there {
        return Err(missing());
    }
    let done = match &*component {
        OPERATOR_POLICY => broker.clear_policy(&vhost, PolicyKind::Operator, &name)?,
        VHOST_LIMITS => broker.set_vhost_limits(&vhost, VhostLimits::default())?,
        _ => broker.clear_parameter(Some(&vhost), &component, &name)?,
    };
    saved(done).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

// ---- of the node

/// The node's parameters, as definitions have them: the name of the cluster is always there.
pub(super) fn show_global(shared: &Management) -> Vec<Value> {
    let mut kept = shared.broker.list_parameters();
    kept.retain(|it| it.vhost.is_none());
    let mut shown: Vec<_> = kept.iter().map(show).collect();
    if kept.iter().all(|it| *it.name != *CLUSTER_NAME) {
        shown.insert(0, json!({ "name": CLUSTER_NAME, "value": shared.facts.cluster_name(&shared.broker) }));
    }
    shown
}

/// Sets a parameter of the node; `true`: it is new.
pub(super) fn set_global_in(
    broker: &Broker,
    name: &str,
    value: Option<&Value>,
) -> Result<(bool, Saved), Refusal> {
    let Some(value) = value else { return Err(Refusal::bad_request("[{key_missing,value}]")) };
    let parameter = Parameter { vhost: None, component: "".into(), name: name.into(), value: value.clone() };
    Ok(broker.set_parameter(parameter)?)
}

async fn global_list(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    asker.may(Operation::SeeParameters)?;
    Listing::read(&uri)?.answer(show_global(&shared))
}

async fn global_one(State(shared): State<Shared>, asker: Asker, Path(name): Path<String>) -> Answer {
    asker.may(Operation::SeeParameters)?;
    let found = show_global(&shared).into_iter().find(|it| it["name"] == *name).ok_or_else(missing)?;
    Ok(Json(found).into_response())
}

async fn set_global(asker: Asker, Path(name): Path<String>, body: Bytes) -> Answer {
    let broker = asker.administer()?;
    let fields = Fields::read(&body)?;
    let (is_new, done) = set_global_in(broker, &name, fields.get("value"))?;
    saved(done).await?;
    Ok(put_status(is_new && name != CLUSTER_NAME).into_response())
}

async fn delete_global(asker: Asker, Path(name): Path<String>) -> Answer {
    saved(asker.administer()?.clear_parameter(None, "", &name)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn cluster_name(State(shared): State<Shared>, _: Asker) -> Answer {
    Ok(Json(json!({ "name": shared.facts.cluster_name(&shared.broker) })).into_response())
}

async fn set_cluster_name(asker: Asker, body: Bytes) -> Answer {
    let broker = asker.administer()?;
    let fields = Fields::read(&body)?;
    fields.need(&["name"])?;
    saved(set_global_in(broker, CLUSTER_NAME, fields.get("name"))?.1).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
