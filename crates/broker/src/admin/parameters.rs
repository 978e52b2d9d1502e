//! Parameters: JSON that others keep with the broker, which knows its name and not its meaning.
//!
//! RabbitMQ's plugins and tools keep theirs so: a component (`shovel`, `federation-upstream`) has named ones in a
//! vhost, and the node has some of its own, of which one has a meaning here: [`CLUSTER_NAME`].

use super::VhostMissing;
use crate::audit::AuditObject;
use crate::definition::{encode_parameter, parameter_key};
use crate::{Broker, Saved, WriteRefused};
use millpond_model::VhostName;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The parameter of the node that is told to clients as the name of the cluster.
pub const CLUSTER_NAME: &str = "cluster_name";

/// Parameters that are kept.
const PARAMETERS_MAX: usize = 10_000;
/// Longest value, as text. Bytes.
const VALUE_MAX_BYTES: usize = 1024 * 1024;
/// Longest name, also of a component. Bytes.
const NAME_MAX_BYTES: usize = 255;

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Where it belongs; `None`: it is the node's.
    pub vhost: Option<VhostName>,
    /// Whose it is; empty for the node's.
    pub component: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What it says.
    pub value: Value,
}

/// Why a parameter is not set or cleared.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// There is no such vhost.
    #[error(transparent)]
    Vhost(#[from] VhostMissing),
    /// There is none to be cleared.
    #[error("no parameter '{name}' of component '{component}'")]
    Missing {
        /// As asked.
        component: Box<str>,
        /// As asked.
        name: Box<str>,
    },
    /// Names are short texts.
    #[error("{what} of {size_bytes} bytes: it must have 1 to {NAME_MAX_BYTES}")]
    BadName {
        /// `a name`, `a component`.
        what: &'static str,
        /// How long it is.
        size_bytes: usize,
    },
    /// Its keeper does not take it.
    #[error("{component} '{name}': {reason}")]
    BadValue {
        /// Whose.
        component: Box<str>,
        /// Its name.
        name: Box<str>,
        /// In the keeper's words.
        reason: String,
    },
    /// The name of the cluster is told to clients.
    #[error("cluster_name: a text of 1 to {NAME_MAX_BYTES} bytes is expected")]
    BadClusterName,
    /// Values are held in memory.
    #[error("a value of {size_bytes} bytes is over the limit of {VALUE_MAX_BYTES}")]
    TooLarge {
        /// How long it is.
        size_bytes: usize,
    },
    /// Too many.
    #[error("there are {PARAMETERS_MAX} parameters already, which is the limit: delete some")]
    TooMany,
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
}

/// Who gives the parameters of a component a meaning: a room beside the broker, which does not know it.
pub trait Keeper: Send + Sync + std::fmt::Debug {
    /// The value to be kept, or why it cannot be, for a person; `kept` is what it replaces.
    fn check(
        &self,
        vhost: &VhostName,
        name: &str,
        value: &Value,
        kept: Option<&Value>,
    ) -> Result<Value, String>;

    /// The value as it may be shown: without secrets.
    fn shown(&self, value: &Value) -> Value;

    /// Parameters of the component were set or cleared. Must be quick, and may not call the broker.
    fn changed(&self);

    /// How each one is, for the management API.
    fn states(&self) -> Vec<(VhostName, Value)>;

    /// Has one begin anew; `false`: there is none.
    fn restart(&self, vhost: &VhostName, name: &str) -> bool;
}

/// Keepers by component.
#[derive(Debug, Default)]
pub(crate) struct Keepers(RwLock<BTreeMap<&'static str, Arc<dyn Keeper>>>);

impl Keepers {
    fn get(&self, component: &str) -> Option<Arc<dyn Keeper>> {
        self.0.read().get(component).cloned()
    }

    fn tell_all(&self) {
        self.0.read().values().for_each(|keeper| keeper.changed());
    }
}

type Key = (Option<VhostName>, Box<str>, Box<str>);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    all: Mutex<BTreeMap<Key, Value>>,
    keepers: Keepers,
}

impl Parameters {
    /// Takes one over from the store.
    pub(crate) fn restore(&self, Parameter { vhost, component, name, value }: Parameter) {
        self.all.lock().insert((vhost, component, name), value);
    }

    /// What is stored of them is the caller's to delete.
    pub(crate) fn forget_vhost(&self, vhost: &VhostName) {
        self.all.lock().retain(|key, _| key.0.as_ref() != Some(vhost));
        self.keepers.tell_all();
    }
}

impl Parameter {
    fn check(&self) -> Result<(), ParameterError> {
        let is_short = |text: &str| (1..=NAME_MAX_BYTES).contains(&text.len());
        let bad = |what, text: &str| Err(ParameterError::BadName { what, size_bytes: text.len() });
        if !is_short(&self.name) {
            return bad("a name", &self.name);
        }
        if self.vhost.is_some() && !is_short(&self.component) {
            return bad("a component", &self.component);
        }
        let names_cluster = self.vhost.is_none() && *self.name == *CLUSTER_NAME;
        if names_cluster && !self.value.as_str().is_some_and(is_short) {
            return Err(ParameterError::BadClusterName);
        }
        Ok(())
    }
}

impl Broker {
    /// Every parameter: the node's first, then by vhost, component and name. Without the secrets that keepers know of.
    pub fn list_parameters(&self) -> Vec<Parameter> {
        let mut all = self.parameters_where(|_| true);
        for parameter in &mut all {
            if let Some(keeper) = self.core.parameters.keepers.get(&parameter.component) {
                parameter.value = keeper.shown(&parameter.value);
            }
        }
        all
    }

    /// The parameters of a component in all vhosts, as they are, secrets too: for its keeper.
    pub fn kept_parameters(&self, component: &str) -> Vec<Parameter> {
        self.parameters_where(|key| *key.1 == *component)
    }

    fn parameters_where(&self, wanted: impl Fn(&Key) -> bool) -> Vec<Parameter> {
        let all = self.core.parameters.all.lock();
        let parameter = |((vhost, component, name), value): (&Key, &Value)| Parameter {
            vhost: vhost.clone(),
            component: component.clone(),
            name: name.clone(),
            value: value.clone(),
        };
        all.iter().filter(|(key, _)| wanted(key)).map(parameter).collect()
    }

    /// From now on this keeper is asked before a parameter of the component is set, and told of changes.
    pub fn set_keeper(&self, component: &'static str, keeper: Arc<dyn Keeper>) {
        self.core.parameters.keepers.0.write().insert(component, keeper);
    }

    /// How the things are that the parameters of a component define; empty without a keeper.
    pub fn parameter_states(&self, component: &str) -> Vec<(VhostName, Value)> {
        self.core.parameters.keepers.get(component).map(|keeper| keeper.states()).unwrap_or_default()
    }

    /// Has the thing that a parameter defines begin anew; `false`: there is none.
    pub fn restart_parameter(&self, component: &str, vhost: &VhostName, name: &str) -> bool {
        let restarted =
            self.core.parameters.keepers.get(component).is_some_and(|keeper| keeper.restart(vhost, name));
        if restarted {
            self.audit("parameter.restarted", audited(Some(vhost), component, name), "");
        }
        restarted
    }

    /// Sets a parameter; `true`: it is new.
    pub fn set_parameter(&self, parameter: Parameter) -> Result<(bool, Saved), ParameterError> {
        parameter.check()?;
        let keeper = self.core.parameters.keepers.get(&parameter.component);
        let parameter = match (&keeper, parameter.vhost.clone()) {
            (Some(keeper), Some(vhost)) => self.checked(&**keeper, &vhost, parameter)?,
            _ => parameter,
        };
        let value = encode_parameter(&parameter.value);
        if value.len() > VALUE_MAX_BYTES {
            return Err(ParameterError::TooLarge { size_bytes: value.len() });
        }
        self.core.check_writable()?;
        // Held, so that the vhost stays.
        let vhosts = self.core.vhosts.read();
        if let Some(vhost) = parameter.vhost.as_ref().filter(|vhost| !vhosts.contains_key(*vhost)) {
            return Err(VhostMissing { vhost: vhost.clone() }.into());
        }
        let Parameter { vhost, component, name, value: json } = parameter;
        let stored = parameter_key(vhost.as_ref(), &component, &name);
        let key = (vhost, component, name);
        let mut all = self.core.parameters.all.lock();
        if all.len() >= PARAMETERS_MAX && !all.contains_key(&key) {
            return Err(ParameterError::TooMany);
        }
        let object = audited(key.0.as_ref(), &key.1, &key.2);
        let is_new = all.insert(key, json).is_none();
        if let Some(keeper) = keeper {
            keeper.changed();
        }
        let mut batch = self.core.store.begin();
        batch.put(&stored, &value);
        // Without the value: it may hold passwords, and the broker knows not where.
        self.audit("parameter.set", object, if is_new { "new" } else { "changed" });
        Ok((is_new, self.core.save(batch)))
    }

    /// With the value that its keeper wants kept.
    fn checked(
        &self,
        keeper: &dyn Keeper,
        vhost: &VhostName,
        mut parameter: Parameter,
    ) -> Result<Parameter, ParameterError> {
        let key = (Some(vhost.clone()), parameter.component.clone(), parameter.name.clone());
        let kept = self.core.parameters.all.lock().get(&key).cloned();
        match keeper.check(vhost, &parameter.name, &parameter.value, kept.as_ref()) {
            Ok(value) => parameter.value = value,
            Err(reason) => {
                let Parameter { component, name, .. } = parameter;
                return Err(ParameterError::BadValue { component, name, reason });
            }
        }
        Ok(parameter)
    }

    /// Removes a parameter.
    pub fn clear_parameter(
        &self,
        vhost: Option<&VhostName>,
        component: &str,
        name: &str,
    ) -> Result<Saved, ParameterError> {
        self.core.check_writable()?;
        let key = (vhost.cloned(), component.into(), name.into());
        let mut all = self.core.parameters.all.lock();
        if all.remove(&key).is_none() {
            return Err(ParameterError::Missing { component: component.into(), name: name.into() });
        }
        if let Some(keeper) = self.core.parameters.keepers.get(component) {
            keeper.changed();
        }
        let mut batch = self.core.store.begin();
        batch.delete(&parameter_key(vhost, component, name));
        self.audit("parameter.cleared", audited(vhost, component, name), "");
        Ok(self.core.save(batch))
    }

    /// The name of the cluster, if one was set.
    pub fn cluster_name(&self) -> Option<Box<str>> {
        let key = (None, "".into(), CLUSTER_NAME.into());
        self.core.parameters.all.lock().get(&key)?.as_str().map(Into::into)
    }
}

/// A parameter by the name of its component: `shovel`, `federation-upstream`; of the node: `global_parameter`.
fn audited(vhost: Option<&VhostName>, component: &str, name: &str) -> AuditObject {
    match vhost {
        None => AuditObject::named("global_parameter", name),
        Some(vhost) => AuditObject::in_vhost("parameter", vhost, format!("{component}/{name}")),
    }
}
