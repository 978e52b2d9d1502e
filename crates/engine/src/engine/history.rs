//! Versions of rules: every definition that was applied has a number, kept with its text and its time.

use super::Engine;
use crate::apply::{difference, node_lines};
use crate::dry_run::RuleError;
use crate::fingerprint::Fingerprint;
use crate::topology::Topology;
use bytes::Bytes;
use millpond_broker::CommitError;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Prefix of the keys; the value is a JSON list of versions, oldest first.
const VERSION_PREFIX: &str = "version/";

/// Versions kept of a rule; the oldest go first.
const VERSIONS_MAX: usize = 50;

/// A definition that a rule had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleVersion {
    /// Counted from 1.
    pub number: u64,
    /// Of the definition; a definition that comes back has the same.
    pub hash: String,
    /// When it was applied first: milliseconds since 1970.
    pub since_ms: u64,
    /// The file it stood in, as given.
    pub file: String,
    /// The definition, as YAML.
    pub definition: Vec<String>,
    /// The definition, to be worked with; null: it was kept without.
    pub(crate) rule: Value,
    /// What differs from the version before: lines with `- `, `+ ` or two blanks.
    pub difference: Vec<String>,
}

impl RuleVersion {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "version": self.number, "hash": self.hash, "since_ms": self.since_ms, "file": self.file,
            "definition": self.definition.join("\n"), "difference": self.difference,
        })
    }
}

/// The versions of all rules, those that were removed included.
#[derive(Debug, Default)]
pub(super) struct Histories(BTreeMap<String, Vec<RuleVersion>>);

impl Histories {
    /// What was kept.
    pub(super) fn read(values: &[(Bytes, Bytes)]) -> Self {
        let read = |(key, value): &(Bytes, Bytes)| {
            let name = std::str::from_utf8(key).ok()?.strip_prefix(VERSION_PREFIX)?.to_owned();
            let list: Vec<Value> = serde_json::from_slice(value).ok()?;
            Some((name, list.iter().filter_map(version).collect()))
        };
        Self(values.iter().filter_map(read).collect())
    }

    /// The number of the version that was applied last; 0: none.
    pub(super) fn version(&self, rule: &str) -> u64 {
        self.0.get(rule).and_then(|versions| versions.last()).map_or(0, |version| version.number)
    }
}

fn version(value: &Value) -> Option<RuleVersion> {
    let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let lines = value.get("definition")?.as_array()?.iter();
    Some(RuleVersion {
        number: value.get("number")?.as_u64()?,
        hash: text("hash")?,
        since_ms: value.get("since_ms")?.as_u64()?,
        file: text("file")?,
        definition: lines.filter_map(|line| Some(line.as_str()?.to_owned())).collect(),
        rule: value.get("rule").cloned().unwrap_or_default(),
        difference: Vec::new(),
    })
}

/// Over the lines: tells versions apart for people.
fn hash(lines: &[String]) -> String {
    let hash = lines.iter().fold(Fingerprint::NONE, |hash, line| hash.and(line.as_bytes()).and(b"\n"));
    format!("{:016x}", hash.value())
}

impl Engine {
    /// Gives the rules of a topology that are not as they were a new version, durably. Done before they run: a number
    /// that was kept and never ran does no harm, one that ran and was not kept would be given twice.
    pub(super) async fn keep_versions(&self, file: &str, topology: &Topology) -> Result<(), CommitError> {
        for rule in &topology.rules {
            let name = rule.name.clone();
            let definition = node_lines(&rule.definition);
            let hash = hash(&definition);
            let mut versions = self.inner.state.lock().histories.0.get(&name).cloned().unwrap_or_default();
            if versions.last().is_some_and(|last| last.hash == hash && last.definition == definition) {
                continue;
            }
            let number = versions.last().map_or(1, |last| last.number + 1);
            let since_ms = self.inner.tools.broker.options().clock.now_ms();
            let difference = Vec::new();
            let (file, rule) = (file.to_owned(), rule.definition.without_digests().to_json());
            versions.push(RuleVersion { number, hash, since_ms, file, definition, rule, difference });
            let surplus = versions.len().saturating_sub(VERSIONS_MAX);
            versions.drain(..surplus);
            let list: Vec<_> = versions
                .iter()
                .map(|it| {
                    json!({"number": it.number, "hash": it.hash, "since_ms": it.since_ms, "file": it.file,
                           "definition": it.definition, "rule": it.rule})
                })
                .collect();
            let key = format!("{VERSION_PREFIX}{name}");
            self.put(key.as_bytes(), Some(Value::from(list).to_string().as_bytes())).await?;
            self.inner.state.lock().histories.0.insert(name, versions);
        }
        Ok(())
    }

    /// The versions of a rule, oldest first, also of one that was removed; at most 50.
    pub fn rule_history(&self, rule: &str) -> Result<Vec<RuleVersion>, RuleError> {
        let state = self.inner.state.lock();
        let Some(versions) = state.histories.0.get(rule) else {
            return Err(RuleError::missing(rule, state.histories.0.keys().map(String::as_str)));
        };
        let mut versions = versions.clone();
        for at in 1..versions.len() {
            versions[at].difference = difference(&versions[at - 1].definition, &versions[at].definition);
        }
        Ok(versions)
    }
}
