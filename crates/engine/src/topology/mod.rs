//! Topology files: exchanges, queues, bindings, policies, schedules and rules in YAML. See docs/guide/topology.md.

mod action;
mod databases;
pub(crate) mod expression;
mod functions;
mod memory;
mod operator;
pub(crate) mod read;
mod rule;
mod source;
mod substitute;
mod trigger;
pub(crate) mod used;
pub(crate) mod yaml;

pub(crate) use action::Doing;
pub(crate) use operator::read_missed;
pub use read::{Diagnostic, TopologyError};
pub(crate) use read::{Fields, Report, did_you_mean};
pub(crate) use rule::{Retry, Rule};
pub(crate) use source::SourceSpec;
pub(crate) use trigger::Trigger;
pub(crate) use yaml::{Kind, Node, shorten};

use crate::action::{MailServer, Provider};
use crate::database::{DatabaseSpec, read_databases};
use crate::function::{Digests, FunctionSpec};
use crate::jq::with_deep_stack;
use crate::trial::{Trial, read_trials};
use millpond_broker::{
    Binding, DeclareExchange, DeclareQueue, Destination, PolicyKind, PolicySpec, ScheduleSpec,
};
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, QueueName};
use operator::{read_policies, read_schedules};
use read::{entries, list};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use used::Used;

/// The file version written here.
const VERSION: i64 = 1;

/// The exchange that sources publish to and rules listen to.
pub(crate) const BUS: &str = "millpond.events";

/// The types an exchange may have.
const EXCHANGE_TYPES: [&str; 11] = [
    "direct",
    "fanout",
    "topic",
    "headers",
    "x-events",
    "x-consistent-hash",
    "x-modulus-hash",
    "x-random",
    "x-local-random",
    "x-recent-history",
    "x-delayed-message",
];

/// What a topology file says, checked, its expressions compiled.
#[derive(Debug, Default)]
pub struct Topology {
    pub(crate) exchanges: Vec<Placed<DeclareExchange>>,
    pub(crate) queues: Vec<Placed<DeclareQueue>>,
    pub(crate) bindings: Vec<Placed<Binding>>,
    pub(crate) rules: Vec<Arc<Rule>>,
    /// Where in `rules` each stands.
    rules_by_name: HashMap<String, usize>,
    pub(crate) user_policies: Vec<Placed<PolicySpec>>,
    pub(crate) operator_policies: Vec<Placed<PolicySpec>>,
    pub(crate) schedules: Vec<Placed<ScheduleSpec>>,
    pub(crate) databases: Vec<Arc<DatabaseSpec>>,
    pub(crate) sources: Vec<Arc<SourceSpec>>,
    pub(crate) trials: Vec<Trial>,
    pub(crate) mail: Vec<Arc<MailServer>>,
    pub(crate) providers: Vec<Arc<Provider>>,
    pub(crate) functions: Vec<Arc<FunctionSpec>>,
    /// Which components the functions have, once that was looked at.
    pub(crate) digests: Digests,
    /// What actions need of other sections and of the settings.
    pub(crate) used: Vec<Used>,
}

/// Something with its place in the file.
#[derive(Debug, Clone)]
pub(crate) struct Placed<T> {
    /// Counted from 1.
    pub(crate) line: usize,
    /// `queues.orders`.
    pub(crate) path: String,
    pub(crate) it: T,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        write!(
            f,
            "{}, {}, {}, {}",
            counted(self.exchanges.len(), "exchange"),
            counted(self.queues.len(), "queue"),
            counted(self.bindings.len(), "binding"),
            counted(self.rules.len(), "rule")
        )?;
        // Most files have none.
        let policies = self.user_policies.len() + self.operator_policies.len();
        for (count, one, many) in [
            (policies, "policy", "policies"),
            (self.schedules.len(), "schedule", "schedules"),
            (self.databases.len(), "database", "databases"),
            (self.sources.len(), "source", "sources"),
            (self.functions.len(), "function", "functions"),
        ] {
            match count {
                0 => {}
                1 => write!(f, ", 1 {one}")?,
                _ => write!(f, ", {count} {many}")?,
            }
        }
        Ok(())
    }
}

impl Topology {
    /// The rule of that name.
    pub(crate) fn rule(&self, name: &str) -> Option<&Arc<Rule>> {
        self.rules.get(*self.rules_by_name.get(name)?)
    }

    /// The source of that name.
    pub(crate) fn source(&self, name: &str) -> Option<&Arc<SourceSpec>> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// Its policies, by kind.
    pub(crate) fn policies(&self) -> [(PolicyKind, &[Placed<PolicySpec>]); 2] {
        [(PolicyKind::User, &self.user_policies), (PolicyKind::Operator, &self.operator_policies)]
    }

    /// Its bindings and those that its rules need.
    pub(crate) fn all_bindings(&self) -> impl Iterator<Item = Binding> {
        let own = self.bindings.iter().map(|binding| binding.it.clone());
        own.chain(self.rules.iter().flat_map(|rule| rule.bindings()))
    }

    /// Exchanges and queues of this one that `other` does not name.
    pub(crate) fn left_by(&self, other: &Self) -> Vec<(&'static str, String)> {
        let known: HashSet<_> = other.exchanges.iter().map(|it| &it.it.name).collect();
        let exchanges = self.exchanges.iter().map(|it| &it.it.name).filter(|name| !known.contains(name));
        let known: HashSet<_> = other.queues.iter().map(|it| &it.it.name).collect();
        let queues = self.queues.iter().map(|it| &it.it.name).filter(|name| !known.contains(name));
        let exchanges = exchanges.map(|name| ("exchange", name.to_string()));
        exchanges.chain(queues.map(|name| ("queue", name.to_string()))).collect()
    }
}

/// Reads and checks a topology file; `file` is its name in messages. Every mistake that can be seen without a broker
/// is reported at once, each with its line.
pub fn check(file: &str, text: &str) -> Result<Topology, TopologyError> {
    let mut report = Report::new(file);
    let root = match yaml::parse(text) {
        Ok(Some(root)) => root,
        Ok(None) => {
            report.add(1, "", "found nothing, expected exchanges, queues, bindings or rules");
            return Err(report.into_error());
        }
        Err(error) => {
            report.add(error.line, "", error.reason);
            return Err(report.into_error());
        }
    };
    let known = [
        "version",
        "exchanges",
        "queues",
        "bindings",
        "policies",
        "operator_policies",
        "schedules",
        "databases",
        "sources",
        "mail",
        "providers",
        "functions",
        "rules",
        "tests",
    ];
    let fields = Fields::read(&root, "", &known, &mut report);
    check_version(&fields, &mut report);
    let mut topology = Topology::default();
    if let Some(node) = fields.get("exchanges") {
        topology.exchanges = read_exchanges(node, &mut report);
    }
    if let Some(node) = fields.get("queues") {
        topology.queues = read_queues(node, &mut report);
    }
    if let Some(node) = fields.get("bindings") {
        topology.bindings = read_bindings(node, &mut report);
    }
    if let Some(node) = fields.get("policies") {
        topology.user_policies = read_policies(node, "policies", PolicyKind::User, &mut report);
    }
    if let Some(node) = fields.get("operator_policies") {
        let section = "operator_policies";
        topology.operator_policies = read_policies(node, section, PolicyKind::Operator, &mut report);
    }
    if let Some(node) = fields.get("schedules") {
        topology.schedules = read_schedules(node, &mut report);
    }
    if let Some(node) = fields.get("databases") {
        topology.databases = read_databases(node, &mut report);
    }
    topology.read_services(&fields, &mut report);
    if let Some(node) = fields.get("rules") {
        topology.rules = with_deep_stack(|| rule::read_rules(node, &mut report));
        let names = topology.rules.iter().map(|rule| rule.name.clone());
        topology.rules_by_name = names.zip(0..).collect();
    }
    if let Some(node) = fields.get("tests") {
        topology.trials = read_trials(node, &topology.rules, &mut report);
    }
    topology.check_triggers(&mut report);
    topology.check_memories(&mut report);
    topology.check_databases(&mut report);
    topology.check_used(&mut report);
    if report.is_empty() { Ok(topology) } else { Err(report.into_error()) }
}

fn check_version(fields: &Fields<'_>, report: &mut Report) {
    if let Some(version) = fields.get("version")
        && version.kind != Kind::Int(VERSION)
    {
        let expected = format!("{VERSION}: this file is for another version of Millpond");
        report.expected(version, "version", &expected);
    }
}

impl Topology {
    pub(crate) fn exchange_kind(&self, name: &str) -> Option<&str> {
        match name {
            "amq.topic" => Some("topic"),
            BUS => Some(crate::bus::BUS_TYPE),
            "amq.fanout" => Some("fanout"),
            "amq.headers" | "amq.match" => Some("headers"),
            "amq.direct" => Some("direct"),
            _ => self
                .exchanges
                .iter()
                .find(|exchange| exchange.it.name.as_str() == name)
                .map(|exchange| &*exchange.it.kind),
        }
    }

    /// A rule with memory has queues beside that of its name: no other rule may have the name of one.
    fn check_memories(&self, report: &mut Report) {
        for rule in self.rules.iter().filter(|rule| rule.memory.is_some()) {
            for end in ["due", "late"] {
                if let Some(other) = self.rule(&format!("{}.{end}", rule.name)) {
                    let (name, line) = (&rule.name, rule.line);
                    let text = format!(
                        "found the rule name '{}', expected another: '{name}' on line {line} has a queue of that name for what it remembers",
                        other.name
                    );
                    report.add(other.line, &format!("rules.{}", other.name), text);
                }
            }
        }
    }

    /// Whether a rule says of its exchange what that type of exchange looks at.
    fn check_triggers(&self, report: &mut Report) {
        for rule in &self.rules {
            if let Trigger::Events { bus, .. } = &rule.on
                && let Some(kind) = self.exchange_kind(bus.as_str())
                && kind != "x-events"
            {
                let text = format!("found the {kind} exchange '{bus}', expected one of type x-events");
                report.add(rule.line, &format!("rules.{}.on.bus", rule.name), text);
            }
            let Trigger::Exchange { exchange, key, headers } = &rule.on else { continue };
            let kind = self.exchange_kind(exchange.as_str());
            let expected = match kind {
                Some("headers") if headers.is_empty() => "'headers', for it is a headers exchange",
                Some("topic") if key.is_none() => {
                    "a 'key', for it is a topic exchange ('#' is every message)"
                }
                Some("direct") if key.is_none() => "a 'key', for it is a direct exchange",
                Some("x-consistent-hash") if key.is_none() => {
                    "a 'key', for it is an x-consistent-hash exchange (its share, '1' for one)"
                }
                Some(
                    "fanout" | "headers" | "x-events" | "x-modulus-hash" | "x-random" | "x-local-random",
                ) => continue,
                Some("x-recent-history") => continue,
                _ if key.is_none() && headers.is_empty() => "a 'key' or 'headers'",
                _ => continue,
            };
            let text = format!("found exchange '{exchange}' alone, expected {expected}");
            report.add(rule.line, &format!("rules.{}.on", rule.name), text);
        }
    }
}

fn read_exchanges(node: &Node, report: &mut Report) -> Vec<Placed<DeclareExchange>> {
    let mut out = Vec::new();
    for entry in entries(node, "exchanges", "a mapping from names to exchanges", report) {
        let path = format!("exchanges.{}", entry.key);
        let known = ["type", "durable", "auto_delete", "internal", "arguments"];
        let fields = Fields::read(&entry.value, &path, &known, report);
        let name = exchange_name(&entry.key, entry.line, &path, report);
        if let Some(name) = &name
            && (name.is_empty() || name.as_str().starts_with("amq."))
        {
            report.add(
                entry.line,
                &path,
                "found a name of the broker's own, expected one that is not empty and does not begin with 'amq.'",
            );
        }
        let expected = list(&EXCHANGE_TYPES);
        fields.required("type", &format!("'type': {expected}"), report);
        let kind = fields.text("type", &expected, report).unwrap_or("direct");
        if !EXCHANGE_TYPES.contains(&kind) {
            let guess = did_you_mean(kind, EXCHANGE_TYPES);
            let line = fields.get("type").map_or(entry.line, |node| node.line);
            let text = format!("found '{}', expected {expected}{guess}", shorten(kind));
            report.add(line, &format!("{path}.type"), text);
        }
        let request = DeclareExchange {
            name: name.unwrap_or_else(empty_exchange),
            kind: kind.into(),
            passive: false,
            durable: fields.bool("durable", true, report),
            auto_delete: fields.bool("auto_delete", false, report),
            internal: fields.bool("internal", false, report),
            arguments: arguments(&fields, report),
        };
        out.push(Placed { line: entry.line, path, it: request });
    }
    out
}

fn read_queues(node: &Node, report: &mut Report) -> Vec<Placed<DeclareQueue>> {
    let mut out = Vec::new();
    for entry in entries(node, "queues", "a mapping from names to queues", report) {
        let path = format!("queues.{}", entry.key);
        let fields = Fields::read(&entry.value, &path, &["durable", "auto_delete", "arguments"], report);
        let name = queue_name(&entry.key, entry.line, &path, report);
        if let Some(name) = &name
            && (name.is_empty() || name.as_str().starts_with("amq."))
        {
            report.add(
                entry.line,
                &path,
                "found a name of the broker's own, expected one that is not empty and does not begin with 'amq.'",
            );
        }
        let request = DeclareQueue {
            name: name.unwrap_or_else(empty_queue),
            passive: false,
            durable: fields.bool("durable", true, report),
            exclusive: false,
            auto_delete: fields.bool("auto_delete", false, report),
            arguments: arguments(&fields, report),
        };
        out.push(Placed { line: entry.line, path, it: request });
    }
    out
}

fn read_bindings(node: &Node, report: &mut Report) -> Vec<Placed<Binding>> {
    let Kind::List(items) = &node.kind else {
        report.expected(node, "bindings", "a list of bindings, each after a '-'");
        return Vec::new();
    };
    let mut out = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let path = format!("bindings[{number}]");
        let known = ["exchange", "queue", "to_exchange", "key", "arguments"];
        let fields = Fields::read(item, &path, &known, report);
        fields.required("exchange", "'exchange', where messages come from", report);
        let source = named_exchange(&fields, "exchange", report);
        let queue = named_queue(&fields, "queue", report);
        let to_exchange = named_exchange(&fields, "to_exchange", report);
        let destination = match (queue, to_exchange, fields.get("queue"), fields.get("to_exchange")) {
            (_, _, Some(_), Some(_)) => {
                let text = "found both 'queue' and 'to_exchange', expected one: a binding leads to one place";
                report.add(item.line, &path, text);
                continue;
            }
            (_, _, None, None) => {
                report.add(item.line, &path, "found no 'queue', expected 'queue' or 'to_exchange'");
                continue;
            }
            (Some(queue), ..) => Destination::Queue(queue),
            (_, Some(exchange), ..) => Destination::Exchange(exchange),
            _ => continue,
        };
        let key = routing_key(&fields, "key", report).unwrap_or_default();
        let arguments = arguments(&fields, report);
        let Some(source) = source else { continue };
        out.push(Placed { line: item.line, path, it: Binding { source, destination, key, arguments } });
    }
    out
}

// ---- what exchanges, queues, bindings and rules have in common

fn empty_exchange() -> ExchangeName {
    ExchangeName::new("").expect("empty is short enough")
}

fn empty_queue() -> QueueName {
    QueueName::new("").expect("empty is short enough")
}

fn exchange_name(text: &str, line: usize, path: &str, report: &mut Report) -> Option<ExchangeName> {
    check_text(text, line, path, report)?;
    ExchangeName::new(text).map_err(|error| report.add(line, path, error.to_string())).ok()
}

fn queue_name(text: &str, line: usize, path: &str, report: &mut Report) -> Option<QueueName> {
    check_text(text, line, path, report)?;
    QueueName::new(text).map_err(|error| report.add(line, path, error.to_string())).ok()
}

/// Line ends in names are stripped by the broker (as RabbitMQ does), so such a name would not be found again.
fn check_text(text: &str, line: usize, path: &str, report: &mut Report) -> Option<()> {
    if text.contains(['\r', '\n']) {
        report.add(line, path, format!("found a line end in the name '{}', expected none", shorten(text)));
        return None;
    }
    Some(())
}

pub(crate) fn named_exchange(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<ExchangeName> {
    let text = fields.text(key, "the name of an exchange", report)?;
    let line = fields.get(key).map_or(fields.line, |node| node.line);
    exchange_name(text, line, &fields.path_of(key), report)
}

pub(crate) fn named_queue(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<QueueName> {
    let text = fields.text(key, "the name of a queue", report)?;
    let line = fields.get(key).map_or(fields.line, |node| node.line);
    queue_name(text, line, &fields.path_of(key), report)
}

pub(crate) fn routing_key(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<Box<[u8]>> {
    let text = fields.text(key, "a binding key", report)?;
    if text.len() > millpond_model::limits::SHORT_STRING_MAX_BYTES {
        let line = fields.get(key).map_or(fields.line, |node| node.line);
        let text = format!("found a key of {} bytes, expected at most 255", text.len());
        report.add(line, &fields.path_of(key), text);
        return None;
    }
    Some(text.as_bytes().into())
}

fn arguments(fields: &Fields<'_>, report: &mut Report) -> Table {
    match fields.get("arguments") {
        Some(node) => read_table(node, &fields.path_of("arguments"), report),
        None => Table::new(),
    }
}

/// YAML as a field table.
pub(crate) fn read_table(node: &Node, path: &str, report: &mut Report) -> Table {
    let table: Table = entries(node, path, "a mapping", report)
        .iter()
        .map(|entry| (entry.key.clone(), to_value(&entry.value)))
        .collect();
    if let Err(error) = table.encode() {
        report.add(node.line, path, error.to_string());
    }
    table
}

/// YAML as a field value; integers take the width that clients choose for them too.
fn to_value(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Void,
        Kind::Bool(value) => Value::Bool(*value),
        Kind::Int(value) => i32::try_from(*value).map_or(Value::I64(*value), Value::I32),
        Kind::Float(value) => Value::F64(*value),
        Kind::Text(text) => Value::from(&**text),
        Kind::List(items) => Value::Array(items.iter().map(to_value).collect()),
        Kind::Map(entries) => {
            Value::Table(entries.iter().map(|entry| (entry.key.clone(), to_value(&entry.value))).collect())
        }
    }
}
