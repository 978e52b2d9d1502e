//! The actions of a rule as the file says them.

use super::read::{Report, did_you_mean, list};
use super::yaml::{Kind, Node};
use crate::action::{Action, KINDS};

/// Reads what stands after `do`.
pub(super) fn read_actions(node: &Node, path: &str, report: &mut Report) -> Vec<Action> {
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
        let Kind::Map(found) = &item.kind else {
            report.expected(item, &path, &format!("an action: {}", list(&KINDS)));
            continue;
        };
        let [entry] = found.as_slice() else {
            let kinds = list(&KINDS);
            let text = format!("found {} keys, expected one action: {kinds}", found.len());
            report.add(item.line, &path, text);
            continue;
        };
        let inner = format!("{path}.{}", entry.key);
        if !KINDS.contains(&&*entry.key) {
            let (other, guess) = (&entry.key, did_you_mean(&entry.key, KINDS));
            let text = format!("found the unknown action '{other}', expected {}{guess}", list(&KINDS));
            report.add(entry.line, &path, text);
            continue;
        }
        actions.extend(Action::read(&entry.key, &entry.value, entry.line, &inner, report));
    }
    actions
}
