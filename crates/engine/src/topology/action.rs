//! The actions of a rule as the file says them.

use super::expression::jq;
use super::read::{Report, did_you_mean, list};
use super::yaml::{Entry, Kind, Node};
use crate::action::{Action, KINDS};
use crate::fingerprint::Fingerprint;
use crate::jq::{Jq, Needs};
use std::sync::Arc;

/// Longest name of an action. Bytes.
const NAME_MAX_BYTES: usize = 64;

/// Keys of an item beside its action.
const BESIDE: [&str; 3] = ["name", "if", "on_error"];

/// An item of a rule's list: an action, and when and how.
#[derive(Debug)]
pub(crate) struct Doing {
    /// What later actions see its answer under.
    pub(crate) name: Option<Arc<str>>,
    /// Skipped unless it holds.
    pub(crate) condition: Option<Jq>,
    pub(crate) action: Action,
    /// As the file says it.
    pub(crate) kind: &'static str,
    /// What is done instead of the rest if the action fails for good.
    pub(crate) on_error: Vec<Doing>,
    /// Its place in the rule, a part of its idempotency key: `2`, or `2.e0` in the `on_error` of that.
    pub(crate) step: Arc<str>,
    /// Tells whether an action in its place is still the same.
    pub(crate) digest: u64,
}

impl Doing {
    /// What it looks at of the event.
    pub(crate) fn needs(&self) -> Needs {
        self.action.needs().with(self.condition.as_ref().map_or(Needs::NONE, Jq::needs))
    }
}

/// Reads what stands after `do`.
pub(super) fn read_actions(node: &Node, path: &str, report: &mut Report) -> Vec<Doing> {
    let mut names = Vec::new();
    let actions = read_list(node, path, "", &mut names, report);
    for (at, (name, line)) in names.iter().enumerate() {
        if names[..at].iter().any(|(other, _)| other == name) {
            let text = format!("found a second action named '{name}', expected names that differ");
            report.add(*line, path, text);
        }
    }
    actions
}

type Names = Vec<(Arc<str>, usize)>;

fn read_list(node: &Node, path: &str, before: &str, names: &mut Names, report: &mut Report) -> Vec<Doing> {
    let Kind::List(items) = &node.kind else {
        report.expected(node, path, "a list of actions, each after a '-'");
        return Vec::new();
    };
    if items.is_empty() {
        report.add(node.line, path, "found an empty list, expected at least one action");
    }
    let mut actions = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let path = format!("{path}[{number}]");
        actions.extend(read_item(item, &path, format!("{before}{number}"), names, report));
    }
    actions
}

fn read_item(item: &Node, path: &str, step: String, names: &mut Names, report: &mut Report) -> Option<Doing> {
    let Kind::Map(found) = &item.kind else {
        report.expected(item, path, &format!("an action: {}", list(&KINDS)));
        return None;
    };
    let (beside, kinds): (Vec<_>, Vec<_>) = found.iter().partition(|entry| BESIDE.contains(&&*entry.key));
    let [entry] = kinds.as_slice() else {
        let text = format!("found {} keys, expected one action: {}", kinds.len(), list(&KINDS));
        report.add(item.line, path, text);
        return None;
    };
    let Some(kind) = KINDS.iter().find(|kind| **kind == &*entry.key) else {
        let (other, guess) = (&entry.key, did_you_mean(&entry.key, KINDS));
        let text = format!("found the unknown action '{other}', expected {}{guess}", list(&KINDS));
        report.add(entry.line, path, text);
        return None;
    };
    let beside = |key: &str| beside.iter().find(|entry| &*entry.key == key);
    let name = beside("name").and_then(|entry| read_name(entry, path, names, report));
    let condition = beside("if").and_then(|entry| jq(&entry.value, &format!("{path}.if"), report));
    let on_error = match beside("on_error") {
        Some(entry) if step.contains('e') => {
            let text = "found 'on_error' within an 'on_error', expected it at actions of 'do' only";
            report.add(entry.line, path, text);
            Vec::new()
        }
        Some(entry) => {
            read_list(&entry.value, &format!("{path}.on_error"), &format!("{step}.e"), names, report)
        }
        None => Vec::new(),
    };
    let inner = format!("{path}.{}", entry.key);
    let action = Action::read(kind, &entry.value, entry.line, &inner, report)?;
    let digest = digest(&entry.value, Fingerprint::NONE.and_piece(entry.key.as_bytes())).value();
    Some(Doing { name, condition, action, kind, on_error, step: step.into(), digest })
}

fn read_name(entry: &Entry, path: &str, names: &mut Names, report: &mut Report) -> Option<Arc<str>> {
    let path = format!("{path}.name");
    let Kind::Text(name) = &entry.value.kind else {
        report.expected(&entry.value, &path, "a name");
        return None;
    };
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plain || name.len() > NAME_MAX_BYTES {
        let expected = format!("letters, digits and '_', at most {NAME_MAX_BYTES}, for '.results.NAME'");
        report.expected(&entry.value, &path, &expected);
        return None;
    }
    let name: Arc<str> = (&**name).into();
    names.push((name.clone(), entry.line));
    Some(name)
}

/// What the node says, without where.
fn digest(node: &Node, before: Fingerprint) -> Fingerprint {
    match &node.kind {
        Kind::List(items) => items
            .iter()
            .fold(before.and_piece(b"list"), |before, item| digest(item, before))
            .and_piece(b"end"),
        Kind::Map(entries) => {
            let inside = entries.iter().fold(before.and_piece(b"map"), |before, entry| {
                digest(&entry.value, before.and_piece(entry.key.as_bytes()))
            });
            inside.and_piece(b"end")
        }
        other => before.and_piece(format!("{other:?}").as_bytes()),
    }
}
