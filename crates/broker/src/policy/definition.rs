//! What a policy says: keys with their values, checked.

use super::keys::{self, Key, On};
use crate::json;
use crate::policy::{ApplyTo, PolicyError, PolicyKind};
use millpond_model::table::{Table, Value};
use serde_json::Value as Json;

/// The definition of a policy: at least one key, each known, with a value that fits, ordered by name.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDefinition(Table);

/// A key of a definition that does nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaningless {
    /// The key.
    pub key: Box<str>,
    /// Why, as a clause.
    pub why: &'static str,
    /// A policy may have it all the same; if not, it is refused.
    pub is_kept: bool,
}

impl PolicyDefinition {
    /// Which keys of a definition that was made for a RabbitMQ do nothing here. Those that nobody knows are none of
    /// them.
    pub fn meaningless(entries: &serde_json::Map<String, Json>) -> Vec<Meaningless> {
        let of = |key: &String| match (keys::elsewhere(key), keys::find(key)) {
            (Some(why), _) => Some(Meaningless { key: key.as_str().into(), why, is_kept: false }),
            (None, Some(Key { argument: None, .. })) => {
                Some(Meaningless { key: key.as_str().into(), why: "it has no effect here", is_kept: true })
            }
            _ => None,
        };
        entries.keys().filter_map(of).collect()
    }

    /// Takes keys and values as typed fields.
    pub fn new(table: &Table) -> Result<Self, PolicyError> {
        if table.is_empty() {
            return Err(PolicyError::EmptyDefinition);
        }
        let mut entries: Vec<_> = table.iter().cloned().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (at, (name, value)) in entries.iter().enumerate() {
            let key = keys::find(name).ok_or_else(|| unknown(name))?;
            if at > 0 && entries[at - 1].0 == *name {
                return Err(PolicyError::BadValue { key: name.to_string(), reason: "is there twice".into() });
            }
            key.shape
                .check(value)
                .map_err(|reason| PolicyError::BadValue { key: name.to_string(), reason })?;
        }
        Ok(Self(entries.into_iter().collect()))
    }

    /// Takes a JSON object, as people and management tools write it.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        let not_an_object = |reason: String| PolicyError::NotAnObject { reason };
        let json: Json = serde_json::from_str(text).map_err(|error| not_an_object(error.to_string()))?;
        let Json::Object(entries) = json else {
            return Err(not_an_object("it is not between braces".to_owned()));
        };
        Self::new(&json::table_of(entries))
    }

    /// As a JSON object.
    pub fn to_json(&self) -> String {
        Json::Object(json::of_table(&self.0)).to_string()
    }

    /// Keys and values as typed fields, ordered by name.
    pub fn as_table(&self) -> &Table {
        &self.0
    }

    /// Whether a policy of this kind for these things may say this.
    pub(super) fn check_use(&self, kind: PolicyKind, apply_to: ApplyTo) -> Result<(), PolicyError> {
        for (key, _) in self.keys() {
            if kind == PolicyKind::Operator && !key.operator {
                return Err(PolicyError::NotForOperators { key: key.name, allowed: operator_keys() });
            }
            let fits = match key.on {
                On::Queues => apply_to != ApplyTo::Exchanges,
                On::Exchanges => matches!(apply_to, ApplyTo::Exchanges | ApplyTo::All),
            };
            if !fits {
                return Err(PolicyError::NotForThese { key: key.name, apply_to });
            }
        }
        Ok(())
    }

    /// What it says, by key.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'static Key, &Value)> {
        self.0.iter().filter_map(|(name, value)| Some((keys::find(name)?, value)))
    }
}

fn unknown(name: &str) -> PolicyError {
    if let Some(why) = keys::elsewhere(name) {
        return PolicyError::Elsewhere { key: name.to_owned(), why };
    }
    PolicyError::UnknownKey { key: name.to_owned(), known: list(keys::KEYS.iter().map(|key| key.name)) }
}

fn operator_keys() -> String {
    list(keys::KEYS.iter().filter(|key| key.operator).map(|key| key.name))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
