//! Parameters: JSON that others keep with the broker, which knows its name and not its meaning.
//!
//! RabbitMQ's plugins and tools keep theirs so: a component (`shovel`, `federation-upstream`) has named ones in a
//! vhost, and the node has some of its own, of which one has a meaning here: [`CLUSTER_NAME`].

use super::VhostMissing;
use crate::definition::{encode_parameter, parameter_key};
use crate::{Broker, Saved, WriteRefused};
use millpond_model::VhostName;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;

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

type Key = (Option<VhostName>, Box<str>, Box<str>);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Mutex<BTreeMap<Key, Value>>);

impl Parameters {
    /// Takes one over from the store.
    pub(crate) fn restore(&self, Parameter { vhost, component, name, value }: Parameter) {
        self.0.lock().insert((vhost, component, name), value);
    }

    /// What is stored of them is the caller's to delete.
    pub(crate) fn forget_vhost(&self, vhost: &VhostName) {
        self.0.lock().retain(|key, _| key.0.as_ref() != Some(vhost));
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
    /// Every parameter: the node's first, then by vhost, component and name.
    pub fn list_parameters(&self) -> Vec<Parameter> {
        let all = self.core.parameters.0.lock();
        let parameter = |((vhost, component, name), value): (&Key, &Value)| Parameter {
            vhost: vhost.clone(),
            component: component.clone(),
            name: name.clone(),
            value: value.clone(),
        };
        all.iter().map(parameter).collect()
    }

    /// Sets a parameter; `true`: it is new.
    pub fn set_parameter(&self, parameter: Parameter) -> Result<(bool, Saved), ParameterError> {
        parameter.check()?;
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
        let mut all = self.core.parameters.0.lock();
        if all.len() >= PARAMETERS_MAX && !all.contains_key(&key) {
            return Err(ParameterError::TooMany);
        }
        let is_new = all.insert(key, json).is_none();
        let mut batch = self.core.store.begin();
        batch.put(&stored, &value);
        Ok((is_new, self.core.save(batch)))
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
        let mut all = self.core.parameters.0.lock();
        if all.remove(&key).is_none() {
            return Err(ParameterError::Missing { component: component.into(), name: name.into() });
        }
        let mut batch = self.core.store.begin();
        batch.delete(&parameter_key(vhost, component, name));
        Ok(self.core.save(batch))
    }

    /// The name of the cluster, if one was set.
    pub fn cluster_name(&self) -> Option<Box<str>> {
        let key = (None, "".into(), CLUSTER_NAME.into());
        self.core.parameters.0.lock().get(&key)?.as_str().map(Into::into)
    }
}
