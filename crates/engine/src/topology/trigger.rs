//! What a rule listens to: `on`.

use super::read::{Fields, Report, did_you_mean, entries};
use super::yaml::{Entry, Kind, Node, shorten};
use super::{BUS, exchange_name, named_exchange, named_queue, read_table, routing_key};
use millpond_broker::check_event_conditions;
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, QueueName};

/// Keys of `on` that are no attributes of events.
const PLACES: [&str; 6] = ["exchange", "key", "headers", "queue", "stream", "bus"];

/// The attributes that every event has, and those that CloudEvents 1.0 knows beside them.
const ATTRIBUTES: [&str; 8] =
    ["type", "source", "subject", "id", "time", "specversion", "datacontenttype", "dataschema"];

/// What the value of an attribute may be.
const CONDITION: &str = "a text, {prefix: ...}, {suffix: ...}, or a list of these";

/// Which messages a rule acts on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Trigger {
    /// Events of a bus whose attributes are as one of these say; they come by the rule's own queue.
    Events { bus: ExchangeName, any_of: Vec<Table> },
    /// Those an exchange routes to the rule's own queue.
    Exchange { exchange: ExchangeName, key: Option<Box<[u8]>>, headers: Table },
    /// Those of a queue.
    Queue(QueueName),
    /// Those of a stream, which keeps the rule's place in it.
    Stream(QueueName),
}

impl Trigger {
    /// The exchange it takes from by a queue of its own.
    pub(crate) fn bound_to(&self) -> Option<&ExchangeName> {
        match self {
            Self::Events { bus: exchange, .. } | Self::Exchange { exchange, .. } => Some(exchange),
            Self::Queue(_) | Self::Stream(_) => None,
        }
    }

    /// The queue of somebody else that it takes from.
    pub(crate) fn taken_from(&self) -> Option<&QueueName> {
        match self {
            Self::Queue(queue) | Self::Stream(queue) => Some(queue),
            Self::Events { .. } | Self::Exchange { .. } => None,
        }
    }
}

/// Reads `on`; `None`: it is wrong, which is reported.
pub(super) fn read_trigger(node: &Node, path: &str, report: &mut Report) -> Option<Trigger> {
    let expected = "a mapping with attributes of events ('type', 'source', 'subject', ...), or with 'exchange', \
                    'queue' or 'stream'";
    let all = entries(node, path, expected, report);
    let says = |key: &str| all.iter().any(|entry| &*entry.key == key && entry.value.kind != Kind::Null);
    let mut places = ["exchange", "queue", "stream"].into_iter().filter(|key| says(key));
    match (places.next(), places.next()) {
        (Some(one), Some(other)) => {
            let text = format!("found both '{one}' and '{other}', expected one of them");
            report.add(node.line, path, text);
            None
        }
        (Some("exchange"), _) => read_exchange(node, path, report),
        (Some(place), _) => read_queue(node, path, place, report),
        (None, _) => read_events(node, all, path, expected, report),
    }
}

fn read_exchange(node: &Node, path: &str, report: &mut Report) -> Option<Trigger> {
    let fields = Fields::read(node, path, &["exchange", "key", "headers"], report);
    let exchange = named_exchange(&fields, "exchange", report);
    let key = routing_key(&fields, "key", report);
    let headers = fields.get("headers");
    let headers =
        headers.map_or_else(Table::new, |node| read_table(node, &fields.path_of("headers"), report));
    let exchange = exchange?;
    if exchange.is_empty() {
        let text = "found the default exchange, expected another: use 'queue' to act on a queue's messages";
        report.add(node.line, path, text);
        return None;
    }
    Some(Trigger::Exchange { exchange, key, headers })
}

fn read_queue(node: &Node, path: &str, place: &str, report: &mut Report) -> Option<Trigger> {
    let all = entries(node, path, "a mapping", report);
    for entry in all.iter().filter(|entry| matches!(&*entry.key, "key" | "headers")) {
        let text = format!("found '{}' beside '{place}', expected it beside 'exchange' only", entry.key);
        report.add(entry.line, path, text);
    }
    let rest = all.iter().filter(|entry| !matches!(&*entry.key, "key" | "headers"));
    for entry in rest.filter(|entry| &*entry.key != place) {
        let text = format!("found '{}' beside '{place}', expected '{place}' alone", shorten(&entry.key));
        report.add(entry.line, path, text);
    }
    let fields = Fields::of(all, node.line, path);
    let queue = named_queue(&fields, place, report)?;
    Some(if place == "stream" { Trigger::Stream(queue) } else { Trigger::Queue(queue) })
}

fn read_events(
    node: &Node,
    all: &[Entry],
    path: &str,
    expected: &str,
    report: &mut Report,
) -> Option<Trigger> {
    if all.is_empty() {
        if matches!(node.kind, Kind::Null | Kind::Map(_)) {
            let text = format!("found nothing to listen to, expected {expected}");
            report.add(node.line, path, text);
        }
        return None;
    }
    let fields = Fields::of(all, node.line, path);
    let bus = read_bus(&fields, report);
    let conditions = read_conditions(all, node.line, path, report)?;
    Some(Trigger::Events { bus: bus?, any_of: vec![conditions] })
}

/// The exchange that `bus` names.
pub(super) fn read_bus(fields: &Fields<'_>, report: &mut Report) -> Option<ExchangeName> {
    let Some(node) = fields.get("bus") else { return ExchangeName::new(BUS).ok() };
    let text = fields.text("bus", "the name of an x-events exchange", report)?;
    exchange_name(text, node.line, &fields.path_of("bus"), report)
}

/// Conditions on attributes, as the arguments of a binding say them; `bus` is none.
pub(super) fn read_conditions(
    entries: &[Entry],
    line: usize,
    path: &str,
    report: &mut Report,
) -> Option<Table> {
    let mut conditions = Some(Table::new());
    for entry in entries.iter().filter(|entry| &*entry.key != "bus") {
        let path = format!("{path}.{}", entry.key);
        let guess = match ATTRIBUTES.contains(&&*entry.key) {
            true => String::new(),
            false => did_you_mean(&entry.key, ATTRIBUTES.into_iter().chain(PLACES)),
        };
        let is_name = entry.key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !is_name || !guess.is_empty() || PLACES.contains(&&*entry.key) || entry.key.is_empty() {
            let text = format!(
                "found '{}', expected 'type', 'source', 'subject' or another attribute of events (lower-case letters and digits), or 'exchange', 'queue' or 'stream'{guess}",
                shorten(&entry.key)
            );
            report.add(entry.line, &path, text);
            conditions = None;
            continue;
        }
        let value = match &entry.value.kind {
            Kind::List(items) if items.is_empty() => {
                report.expected(&entry.value, &path, CONDITION);
                None
            }
            Kind::List(items) => {
                let all: Vec<_> = (0..)
                    .zip(items)
                    .map(|(number, item)| read_condition(item, &format!("{path}[{number}]"), report))
                    .collect();
                all.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
            }
            _ => read_condition(&entry.value, &path, report),
        };
        match (value, &mut conditions) {
            (Some(value), Some(conditions)) => conditions.push(entry.key.clone(), value),
            _ => conditions = None,
        }
    }
    let conditions = conditions?;
    if let Err(reason) = check_event_conditions(&conditions) {
        report.add(line, path, reason);
        return None;
    }
    Some(conditions)
}

fn read_condition(node: &Node, path: &str, report: &mut Report) -> Option<Value> {
    match &node.kind {
        Kind::Text(text) => Some(Value::from(&**text)),
        Kind::Int(number) => Some(Value::from(number.to_string())),
        Kind::Bool(value) => Some(Value::from(value.to_string())),
        Kind::Map(parts) if !parts.is_empty() => {
            let fields = Fields::read(node, path, &["prefix", "suffix"], report);
            let mut out = Table::new();
            for part in parts.iter().filter(|part| matches!(&*part.key, "prefix" | "suffix")) {
                let text = fields.text(&part.key, "a text", report)?;
                out.push(part.key.clone(), text);
            }
            (out.len() == parts.len()).then_some(Value::Table(out))
        }
        _ => {
            report.expected(node, path, CONDITION);
            None
        }
    }
}
