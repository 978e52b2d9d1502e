//! `/api/definitions`: everything that was defined, out and in, in RabbitMQ's JSON (M4).
//!
//! Import adds and changes, and removes nothing. What cannot be taken is left out and named in the answer; the rest
//! is imported all the same. What a RabbitMQ's definitions say of features that are not here is a warning. What is in a vhost is imported with the permissions of an administrator, who could give
//! themselves any.

use super::fields::Fields;
use super::imported::{DefinitionsError, Imported};
use super::node::RABBITMQ_VERSION;
use super::{
    Answer, Asker, Shared, aside, bindings, exchange_name, exchanges, missing, parameters, policies,
    queue_name, queues, user_name, users, vhost_name, vhosts,
};
use crate::http::commit::{durable, saved};
use crate::http::refusal::Refusal;
use crate::progress::Progress;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Json, Router};
use millpond_broker::{
    AuditObject, Broker, Destination, Durability, Meaningless, OpenSession, PolicyDefinition, PolicyKind,
    Saved, Session, UserLimits,
};
use millpond_model::VhostName;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Objects imported between two looks at what else there is to do.
const AT_ONCE: usize = 100;
/// A parameter that RabbitMQ exports, and each node has its own of.
const INTERNAL_CLUSTER_ID: &str = "internal_cluster_id";
/// Beginning of the components of RabbitMQ's federation.
const FEDERATION: &str = "federation-upstream";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/definitions", get(export).post(import))
        .route("/definitions/{vhost}", get(export_vhost).post(import_vhost))
}

// ---- export

async fn export(State(shared): State<Shared>, asker: Asker) -> Answer {
    aside(move || everything(&shared, &asker)).await
}

fn everything(shared: &Shared, asker: &Asker) -> Answer {
    let broker = asker.administer()?;
    let all_users = broker.list_users();
    let mut out = json!({
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "Millpond",
        "product_version": env!("CARGO_PKG_VERSION"),
        "users": all_users.iter().map(users::show).collect::<Vec<_>>(),
        "vhosts": [],
        "permissions": users::show_permissions(&all_users, None),
        "topic_permissions": users::show_topics(&all_users, None),
        "parameters": [],
        "global_parameters": parameters::show_global(shared),
        "policies": [],
        "queues": [],
        "exchanges": [],
        "bindings": [],
    });
    for vhost in broker.list_vhosts() {
        push(&mut out, "vhosts", [vhosts::define(&vhost)]);
        push(&mut out, "parameters", parameters::show_in(broker, &vhost)?);
        topology(broker, &vhost.name, Some(&vhost.name), &mut out)?;
    }
    Ok(Json(out).into_response())
}

async fn export_vhost(asker: Asker, Path(vhost): Path<String>) -> Answer {
    aside(move || everything_in(&asker, &vhost)).await
}

fn everything_in(asker: &Asker, vhost: &str) -> Answer {
    let (broker, vhost) = (asker.administer()?, vhost_name(vhost)?);
    let found = broker.list_vhosts().into_iter().find(|it| it.name == vhost).ok_or_else(missing)?;
    let mut out = json!({
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "Millpond",
        "product_version": env!("CARGO_PKG_VERSION"),
        "description": found.description,
        "parameters": [],
        "policies": [],
        "queues": [],
        "exchanges": [],
        "bindings": [],
    });
    let mut parameters = parameters::show_in(broker, &found)?;
    parameters.iter_mut().filter_map(Value::as_object_mut).for_each(|it| drop(it.remove("vhost")));
    push(&mut out, "parameters", parameters);
    topology(broker, &vhost, None, &mut out)?;
    Ok(Json(out).into_response())
}

fn push(out: &mut Value, list: &str, items: impl IntoIterator<Item = Value>) {
    if let Some(list) = out[list].as_array_mut() {
        list.extend(items);
    }
}

/// What is in a vhost. Queues of single connections, and what is built in, are not defined by anybody.
fn topology(
    broker: &Broker,
    vhost: &VhostName,
    named: Option<&VhostName>,
    out: &mut Value,
) -> Result<(), Refusal> {
    let policies = broker.list_policies(vhost, PolicyKind::User)?;
    push(out, "policies", policies.iter().map(|policy| policies::show(policy, named)));
    let mut all = broker.list_queues(vhost)?;
    all.retain(|queue| !queue.exclusive);
    push(out, "queues", all.iter().map(|queue| queues::define(queue, named)));
    let mut exchanges = broker.list_exchanges(vhost)?;
    exchanges.retain(|exchange| !exchange.is_built_in());
    push(out, "exchanges", exchanges.iter().map(|exchange| exchanges::define(exchange, named)));
    let lasting: HashMap<_, ()> = all.into_iter().map(|queue| (queue.name, ())).collect();
    let mut bound = broker.list_bindings(vhost)?;
    bound.retain(|binding| match &binding.destination {
        _ if binding.source.is_empty() => false,
        Destination::Queue(queue) => lasting.contains_key(queue),
        Destination::Exchange(_) => true,
    });
    push(out, "bindings", bound.iter().map(|binding| bindings::define(binding, named)));
    Ok(())
}

// ---- import

async fn import(asker: Asker, progress: Option<Extension<Progress>>, body: Bytes) -> Answer {
    import_all(&asker, progress, &body).await?.answer()
}

async fn import_all(
    asker: &Asker,
    progress: Option<Extension<Progress>>,
    text: &[u8],
) -> Result<Imported, Refusal> {
    let mut given = Fields::read(text)?;
    let mut import = Import::new(asker, None, progress)?;
    import.users(&mut given).await?;
    import.each(&mut given, "vhosts", Import::vhost).await?;
    import.each(&mut given, "global_parameters", Import::global_parameter).await?;
    import.each(&mut given, "permissions", Import::permission).await?;
    import.each(&mut given, "topic_permissions", Import::topic_permission).await?;
    import.in_vhosts(&mut given).await?;
    import.end().await
}

async fn import_vhost(
    asker: Asker,
    Path(vhost): Path<String>,
    progress: Option<Extension<Progress>>,
    body: Bytes,
) -> Answer {
    let vhost = vhost_name(&vhost)?;
    asker.administer()?.totals(&vhost).map_err(|_| missing())?;
    let mut given = Fields::read(&body)?;
    let mut import = Import::new(&asker, Some(vhost), progress)?;
    import.in_vhosts(&mut given).await?;
    import.end().await?.answer()
}

/// Imports definitions (JSON, as RabbitMQ exports them) as the broker's own user; what in them does nothing here. What
/// is there and not in them stays.
pub async fn load_definitions(broker: &Broker, json: &[u8]) -> Result<Vec<String>, DefinitionsError> {
    let asker = Asker(broker.operator(broker.internal_login()));
    match import_all(&asker, None, json).await {
        Ok(imported) => imported.at_the_start(),
        Err(refusal) => Err(DefinitionsError::Refused(refusal.reason().to_owned())),
    }
}

/// An import on its way.
struct Import<'a> {
    asker: &'a Asker,
    broker: &'a Broker,
    /// All of it goes there.
    into: Option<VhostName>,
    /// With what was declared last, for whose end it waits last: the log keeps the order.
    sessions: HashMap<VhostName, (Session, Durability)>,
    saved: Option<Saved>,
    imported: Imported,
    /// In objects.
    progress: Progress,
}

type Take<'a> = fn(&mut Import<'a>, &Fields) -> Result<(), Refusal>;

impl<'a> Import<'a> {
    fn new(
        asker: &'a Asker,
        into: Option<VhostName>,
        progress: Option<Extension<Progress>>,
    ) -> Result<Self, Refusal> {
        let broker = asker.administer()?;
        let progress = progress.map(|Extension(progress)| progress).unwrap_or_default();
        let (sessions, imported) = (HashMap::new(), Imported::default());
        Ok(Self { asker, broker, into, sessions, saved: None, imported, progress })
    }

    async fn in_vhosts(&mut self, given: &mut Fields) -> Result<(), Refusal> {
        self.each(given, "parameters", Self::parameter).await?;
        self.each(given, "policies", Self::policy).await?;
        self.each(given, "queues", Self::queue).await?;
        self.each(given, "exchanges", Self::exchange).await?;
        self.each(given, "bindings", Self::binding).await
    }

    fn list(
        &self,
        given: &mut Fields,
        list: &str,
    ) -> Result<impl Iterator<Item = (usize, Value)> + use<>, Refusal> {
        let objects = given.list(list)?;
        self.progress.expect(objects.len() as u64);
        Ok(objects.into_iter().enumerate())
    }

    /// Takes each object of a list, and notes those that cannot be taken.
    async fn each(&mut self, given: &mut Fields, list: &str, take: Take<'a>) -> Result<(), Refusal> {
        for (at, object) in self.list(given, list)? {
            let fields = Fields::of(object);
            let taken = fields.as_ref().map_err(Clone::clone).and_then(|fields| take(self, fields));
            if let Err(error) = taken {
                self.note(list, at, fields.as_ref().ok(), &error);
            }
            self.progress.add_done(1);
            if at % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn note(&mut self, list: &str, at: usize, fields: Option<&Fields>, error: &Refusal) {
        let text = |name| fields.and_then(|fields| fields.text(name).ok().flatten());
        self.imported.errors.add(|| {
            let named: Vec<_> = ["name", "user", "source", "destination", "vhost"]
                .into_iter()
                .filter_map(|name| Some(format!("{name} '{}'", text(name)?)))
                .collect();
            format!("{list}[{at}] ({}): {}", named.join(", "), error.reason())
        });
    }

    /// A policy without the keys that it could not have here; `None` if nothing is left of it. What does nothing is
    /// named.
    fn sifted(&mut self, (what, name, vhost): (&str, &str, &VhostName), fields: &Fields) -> Option<Fields> {
        let Some(Value::Object(definition)) = fields.get("definition") else { return Some(fields.clone()) };
        let mut kept = definition.clone();
        for found in PolicyDefinition::meaningless(definition) {
            let Meaningless { key, why, is_kept } = found;
            if !is_kept {
                kept.remove(&*key);
            }
            let whole =
                if kept.is_empty() { ", and the policy with it, for it says nothing else" } else { "" };
            let fate = if is_kept { "kept" } else { "left out" };
            self.imported
                .warnings
                .add(|| format!("{what} '{name}' in vhost '{vhost}': '{key}' is {fate}{whole}: {why}"));
        }
        (!kept.is_empty() || definition.is_empty()).then(|| fields.with("definition", kept.into()))
    }

    /// One at a time, because a password may have to be hashed.
    async fn users(&mut self, given: &mut Fields) -> Result<(), Refusal> {
        for (at, object) in self.list(given, "users")? {
            let fields = Fields::of(object);
            let taken = match &fields {
                Ok(fields) => self.user(fields).await,
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = taken {
                self.note("users", at, fields.as_ref().ok(), &error);
            }
            self.progress.add_done(1);
        }
        Ok(())
    }

    async fn user(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["name"])?;
        let name = user_name(fields.text("name")?.unwrap_or_default())?;
        users::set(self.broker, users::spec_of(name.clone(), fields)?).await?;
        let mut limits = UserLimits::default();
        if let Some(Value::Object(given)) = fields.get("limits").filter(|it| it.as_object().is_some()) {
            for (limit, value) in given {
                let value = value.as_i64().and_then(super::limits::limit_of);
                limits = super::limits::with_user_limit(limits, limit, value)?;
            }
            self.saved = Some(self.broker.set_user_limits(&name, limits)?);
        }
        Ok(())
    }

    fn vhost(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["name"])?;
        let spec =
            vhosts::spec_of(self.asker, vhost_name(fields.text("name")?.unwrap_or_default())?, fields)?;
        self.saved = Some(self.broker.set_vhost(&spec)?.1);
        Ok(())
    }

    fn permission(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["user"])?;
        let (user, vhost) = (user_name(fields.text("user")?.unwrap_or_default())?, self.vhost_of(fields)?);
        self.saved = Some(self.broker.set_permissions(&user, &vhost, users::permissions_in(fields)?)?);
        Ok(())
    }

    fn topic_permission(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["user"])?;
        let (user, vhost) = (user_name(fields.text("user")?.unwrap_or_default())?, self.vhost_of(fields)?);
        self.saved = Some(self.broker.set_topic_permission(&user, &vhost, users::topic_in(fields)?)?);
        Ok(())
    }

    fn vhost_of(&self, fields: &Fields) -> Result<VhostName, Refusal> {
        if let Some(vhost) = &self.into {
            return Ok(vhost.clone());
        }
        fields.need(&["vhost"])?;
        vhost_name(fields.text("vhost")?.unwrap_or_default())
    }

    fn parameter(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["component", "name"])?;
        let text = |name| -> Result<&str, Refusal> { Ok(fields.text(name)?.unwrap_or_default()) };
        let (vhost, component, name) = (self.vhost_of(fields)?, text("component")?, text("name")?);
        let mut value = fields.get("value").cloned();
        if component == parameters::OPERATOR_POLICY
            && let Some(given @ Value::Object(_)) = &value
        {
            let Some(kept) = self.sifted(("operator policy", name, &vhost), &Fields::of(given.clone())?)
            else {
                return Ok(());
            };
            value = Some(kept.into());
        }
        if component.starts_with(FEDERATION) {
            let why = "it is kept and does nothing: there is no federation, a shovel moves messages between brokers";
            self.imported.warnings.add(|| format!("{component} '{name}' in vhost '{vhost}': {why}"));
        }
        self.saved = Some(parameters::set_in(self.broker, (component, &vhost, name), value.as_ref())?);
        Ok(())
    }

    fn global_parameter(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["name"])?;
        let name = fields.text("name")?.unwrap_or_default();
        // What RabbitMQ tells its clusters apart by is not this one's.
        if name != INTERNAL_CLUSTER_ID {
            self.saved = Some(parameters::set_global_in(self.broker, name, fields.get("value"))?.1);
        }
        Ok(())
    }

    fn policy(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["name"])?;
        let (name, vhost) = (fields.text("name")?.unwrap_or_default(), self.vhost_of(fields)?);
        if let Some(fields) = self.sifted(("policy", name, &vhost), fields) {
            let spec = policies::spec_of(name, &fields)?;
            self.saved = Some(self.broker.set_policy(&vhost, PolicyKind::User, spec)?);
        }
        Ok(())
    }

    /// Does something as the broker's own user, who may do everything.
    fn with_session(
        &mut self,
        fields: &Fields,
        work: impl FnOnce(&mut Session) -> Result<Durability, Refusal>,
    ) -> Result<(), Refusal> {
        let vhost = self.vhost_of(fields)?;
        if !self.sessions.contains_key(&vhost) {
            let login = self.broker.internal_login();
            let request = OpenSession { login, vhost: vhost.clone(), name: "import of definitions".into() };
            self.sessions.insert(vhost.clone(), (self.broker.open_session(request)?, Durability::Now));
        }
        let Some((session, last)) = self.sessions.get_mut(&vhost) else { return Ok(()) };
        if let pending @ Durability::Pending(_) = work(session)? {
            *last = pending;
        }
        Ok(())
    }

    fn queue(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["name"])?;
        let request = queues::request_of(queue_name(fields.text("name")?.unwrap_or_default())?, fields)?;
        if request.name.is_empty() {
            return Err(Refusal::bad_request("the queue's name is empty"));
        }
        self.with_session(fields, |session| Ok(session.declare_queue(&request)?.1))
    }

    fn exchange(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["name", "type"])?;
        let name = exchange_name(fields.text("name")?.unwrap_or_default())?;
        let request = exchanges::request_of(name, fields)?;
        self.with_session(fields, |session| Ok(session.declare_exchange(&request)?))
    }

    fn binding(&mut self, fields: &Fields) -> Result<(), Refusal> {
        fields.need(&["source", "destination", "destination_type"])?;
        let text = |name| -> Result<&str, Refusal> { Ok(fields.text(name)?.unwrap_or_default()) };
        let destination = match text("destination_type")? {
            "queue" => Destination::Queue(queue_name(text("destination")?)?),
            "exchange" => Destination::Exchange(exchange_name(text("destination")?)?),
            other => {
                return Err(Refusal::bad_request(format!(
                    "destination_type '{other}': queue or exchange is expected"
                )));
            }
        };
        let binding = bindings::binding_of(text("source")?, destination, fields)?;
        self.with_session(fields, |session| Ok(session.bind(&binding)?))
    }

    async fn end(self) -> Result<Imported, Refusal> {
        for (mut session, last) in self.sessions.into_values() {
            durable(&mut session, last).await?;
        }
        if let Some(last) = self.saved {
            saved(last).await?;
        }
        let object = match &self.into {
            Some(vhost) => AuditObject::in_vhost("definitions", vhost, ""),
            None => AuditObject::named("definitions", ""),
        };
        let (looked_at, left_out) = (self.progress.get().0, self.imported.errors.count());
        let detail = format!("{looked_at} objects, {left_out} of them left out");
        self.broker.audit("definitions.imported", object, &detail);
        Ok(self.imported)
    }
}
