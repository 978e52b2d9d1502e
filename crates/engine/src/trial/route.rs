//! Which rules a message reaches, by the bindings of the file.
//!
//! The broker's router serves millions of bindings of a running broker and is not to be had without one; what a file
//! holds is few, and is asked one by one.

use crate::topology::{Rule, Topology};
use millpond_broker::{Binding, Destination};
use millpond_model::table::{Table, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What routing looks at.
#[derive(Debug, Clone, Default)]
pub(super) struct Address {
    /// `None`: to wherever rules listen.
    pub(super) exchange: Option<String>,
    /// Straight into this queue.
    pub(super) queue: Option<String>,
    pub(super) key: String,
    pub(super) headers: Table,
    /// Attributes of the event, as texts.
    pub(super) attributes: Vec<(String, String)>,
}

/// The rules that get it, each once.
pub(super) fn reached(topology: &Topology, address: &Address) -> Vec<Arc<Rule>> {
    let bindings: Vec<Binding> = topology.all_bindings().collect();
    let mut queues: BTreeSet<String> = address.queue.iter().cloned().collect();
    let mut exchanges: Vec<String> = match (&address.exchange, &address.queue) {
        (Some(exchange), _) if exchange.is_empty() => {
            queues.insert(address.key.clone());
            Vec::new()
        }
        (Some(exchange), _) => vec![exchange.clone()],
        (None, Some(_)) => Vec::new(),
        (None, None) => {
            let sources: BTreeSet<_> = bindings.iter().map(|it| it.source.as_str().to_owned()).collect();
            sources.into_iter().collect()
        }
    };
    let mut seen: BTreeSet<String> = exchanges.iter().cloned().collect();
    while let Some(exchange) = exchanges.pop() {
        for binding in bindings.iter().filter(|it| it.source.as_str() == exchange) {
            if !takes(topology, binding, address) {
                continue;
            }
            match &binding.destination {
                Destination::Queue(queue) => {
                    queues.insert(queue.as_str().to_owned());
                }
                Destination::Exchange(next) => {
                    if seen.insert(next.as_str().to_owned()) {
                        exchanges.push(next.as_str().to_owned());
                    }
                }
            }
        }
    }
    topology.rules.iter().filter(|rule| queues.contains(rule.queue().as_str())).cloned().collect()
}

fn takes(topology: &Topology, binding: &Binding, address: &Address) -> bool {
    let source = binding.source.as_str();
    let mut kind = topology.exchange_kind(source).unwrap_or("topic");
    let delayed = topology.exchanges.iter().find(|it| it.it.name.as_str() == source);
    if kind == "x-delayed-message"
        && let Some(inner) = delayed.and_then(|it| it.it.arguments.get("x-delayed-type")?.as_str())
    {
        kind = inner;
    }
    match kind {
        "direct" => *binding.key == *address.key.as_bytes(),
        "topic" => topic(&String::from_utf8_lossy(&binding.key), &address.key),
        "headers" => headers(&binding.arguments, &address.headers),
        "x-events" => {
            let key = String::from_utf8_lossy(&binding.key);
            (key.is_empty() || attribute(address, "type").as_deref() == Some(&*key))
                && events(&binding.arguments, address)
        }
        // Fanout, and those that choose one of several: a rule that listens there may get it.
        _ => true,
    }
}

/// `*` is one word, `#` any number of them.
fn topic(pattern: &str, key: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let words: Vec<&str> = if key.is_empty() { Vec::new() } else { key.split('.').collect() };
    // Row by row: which beginnings of the key the patterns so far take.
    let mut row = vec![false; words.len() + 1];
    row[0] = true;
    for part in pattern.iter().filter(|part| !(part.is_empty() && words.is_empty())) {
        let mut next = vec![false; words.len() + 1];
        for at in 0..=words.len() {
            next[at] = match *part {
                "#" => row[at] || (at > 0 && next[at - 1]),
                "*" => at > 0 && row[at - 1],
                word => at > 0 && row[at - 1] && words[at - 1] == word,
            };
        }
        row = next;
    }
    row[words.len()]
}

fn headers(wanted: &Table, found: &Table) -> bool {
    let mode = wanted.get("x-match").and_then(Value::as_str).unwrap_or("all");
    let with_x = mode.ends_with("-with-x");
    let mut conditions = wanted
        .iter()
        .filter(|(name, _)| &**name != "x-match" && (with_x || !name.starts_with("x-")))
        .map(|(name, value)| match (value, found.get(name)) {
            (Value::Void, found) => found.is_some(),
            (value, Some(found)) => {
                value == found || (value.as_i64().is_some() && value.as_i64() == found.as_i64())
            }
            (_, None) => false,
        });
    if mode.starts_with("any") { conditions.any(|holds| holds) } else { conditions.all(|holds| holds) }
}

fn events(wanted: &Table, address: &Address) -> bool {
    wanted
        .iter()
        .all(|(name, pattern)| attribute(address, name).is_some_and(|found| accepts(pattern, &found)))
}

/// With the defaults of a message that says none: docs/guide/rules.md, "The event".
fn attribute(address: &Address, name: &str) -> Option<String> {
    let said = address.attributes.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone());
    said.or_else(|| match name {
        "type" | "subject" => Some(address.key.clone()),
        "source" => Some(format!("/{}", address.exchange.as_deref().unwrap_or_default())),
        "specversion" => Some("1.0".to_owned()),
        _ => None,
    })
}

fn accepts(pattern: &Value, found: &str) -> bool {
    match pattern {
        Value::Array(any) => any.iter().any(|pattern| accepts(pattern, found)),
        Value::Table(around) => {
            let part = |name| around.get(name).and_then(Value::as_str).unwrap_or_default();
            found.starts_with(part("prefix")) && found.ends_with(part("suffix"))
        }
        Value::Bool(value) => found == value.to_string(),
        other => match (other.as_str(), other.as_i64()) {
            (Some(text), _) => text == found,
            (None, Some(number)) => number.to_string() == found,
            (None, None) => false,
        },
    }
}
