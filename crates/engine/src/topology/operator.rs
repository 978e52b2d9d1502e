//! What an operator would say: policies and schedules, as the file has them.

use super::read::{Fields, Report, entries};
use super::yaml::{Entry, Kind, Node, shorten};
use super::{Placed, named_exchange, read_table, routing_key};
use millpond_broker::{ApplyTo, Missed, PolicyDefinition, PolicyKind, PolicySpec, ScheduleSpec};
use millpond_model::limits::SHORT_STRING_MAX_BYTES;
use millpond_model::properties::Properties;
use millpond_model::table::Table;

/// Properties of a message that are texts.
const TEXT_PROPERTIES: [&str; 8] = [
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "app_id",
];

pub(super) fn read_policies(
    node: &Node,
    section: &str,
    kind: PolicyKind,
    report: &mut Report,
) -> Vec<Placed<PolicySpec>> {
    let read = |entry: &Entry, report: &mut Report| {
        let path = format!("{section}.{}", entry.key);
        let known = ["pattern", "apply_to", "priority", "definition"];
        let fields = Fields::read(&entry.value, &path, &known, report);
        fields.required("pattern", "'pattern', a regular expression for names", report);
        fields.required("definition", "'definition', what the policy says", report);
        let pattern = fields.text("pattern", "a regular expression", report)?;
        let apply_to = fields.text("apply_to", "what it is for", report).unwrap_or("all");
        let apply_to = ApplyTo::parse(apply_to)
            .map_err(|error| report.add(entry.line, &fields.path_of("apply_to"), error.to_string()));
        let definition = fields.get("definition")?;
        let table = read_table(definition, &fields.path_of("definition"), report);
        let definition = PolicyDefinition::new(&table)
            .map_err(|error| report.add(definition.line, &fields.path_of("definition"), error.to_string()));
        let spec = PolicySpec {
            name: entry.key.clone(),
            pattern: pattern.into(),
            apply_to: apply_to.ok()?,
            priority: fields.integer("priority", 0, i64::MIN..=i64::MAX, report),
            definition: definition.ok()?,
        };
        if let Err(error) = spec.check(kind) {
            report.add(entry.line, &path, error.to_string());
        }
        Some(Placed { line: entry.line, path, it: spec })
    };
    let entries = entries(node, section, "a mapping from names to policies", report);
    entries.iter().filter_map(|entry| read(entry, report)).collect()
}

pub(super) fn read_schedules(node: &Node, report: &mut Report) -> Vec<Placed<ScheduleSpec>> {
    let entries = entries(node, "schedules", "a mapping from names to schedules", report);
    entries.iter().filter_map(|entry| read_schedule(entry, report)).collect()
}

fn read_schedule(entry: &Entry, report: &mut Report) -> Option<Placed<ScheduleSpec>> {
    let path = format!("schedules.{}", entry.key);
    let known = ["cron", "zone", "exchange", "routing_key", "headers", "properties", "body", "missed"];
    let fields = Fields::read(&entry.value, &path, &known, report);
    fields.required("cron", "'cron', such as '0 9 * * MON-FRI'", report);
    fields.required(
        "exchange",
        "'exchange' ('' is the default exchange, whose keys are queue names)",
        report,
    );
    let cron = fields.text("cron", "a cron expression", report);
    let exchange = named_exchange(&fields, "exchange", report);
    let missed = read_missed(&fields, report);
    let (body, content_type) = fields.get("body").map_or((Vec::new(), None), body_of);
    let mut properties = read_properties(&fields, report);
    properties.content_type = properties.content_type.or(content_type.map(Into::into));
    properties.headers = fields
        .get("headers")
        .map_or_else(Table::new, |node| read_table(node, &fields.path_of("headers"), report));
    let spec = ScheduleSpec {
        name: entry.key.clone(),
        cron: cron?.into(),
        zone: fields.text("zone", "a time zone", report).unwrap_or("UTC").into(),
        exchange: exchange?,
        routing_key: routing_key(&fields, "routing_key", report).unwrap_or_default(),
        properties,
        body: body.into(),
        missed,
    };
    if let Err(error) = spec.check() {
        report.add(entry.line, &path, error.to_string());
    }
    Some(Placed { line: entry.line, path, it: spec })
}

/// `missed`: what becomes of moments at which the broker was down.
pub(crate) fn read_missed(fields: &Fields<'_>, report: &mut Report) -> Missed {
    let Some(node) = fields.get("missed") else { return Missed::default() };
    let text = super::read::text(node, &fields.path_of("missed"), "skip, once or all", report);
    text.and_then(Missed::parse).unwrap_or_else(|| {
        if text.is_some() {
            report.expected(node, &fields.path_of("missed"), "skip, once or all");
        }
        Missed::default()
    })
}

fn read_properties(fields: &Fields<'_>, report: &mut Report) -> Properties {
    let mut out = Properties::default();
    let Some(node) = fields.get("properties") else { return out };
    let known: Vec<&str> = TEXT_PROPERTIES.iter().copied().chain(["priority", "delivery_mode"]).collect();
    let inner = Fields::read(node, &fields.path_of("properties"), &known, report);
    for name in TEXT_PROPERTIES {
        let Some(text) = inner.text(name, "a text", report) else { continue };
        if text.len() > SHORT_STRING_MAX_BYTES {
            let text = format!("found '{}', expected at most {SHORT_STRING_MAX_BYTES} bytes", shorten(text));
            report.add(inner.line, &inner.path_of(name), text);
        }
        let place = match name {
            "content_type" => &mut out.content_type,
            "content_encoding" => &mut out.content_encoding,
            "correlation_id" => &mut out.correlation_id,
            "reply_to" => &mut out.reply_to,
            "expiration" => &mut out.expiration,
            "message_id" => &mut out.message_id,
            "type" => &mut out.type_,
            _ => &mut out.app_id,
        };
        *place = Some(text.into());
    }
    if inner.get("priority").is_some() {
        out.priority = u8::try_from(inner.integer("priority", 0, 0..=255, report)).ok();
    }
    if inner.get("delivery_mode").is_some() {
        out.delivery_mode = u8::try_from(inner.integer("delivery_mode", 2, 1..=2, report)).ok();
    }
    out
}

/// A text as it is, anything else as JSON; with its content type.
fn body_of(node: &Node) -> (Vec<u8>, Option<&'static str>) {
    match &node.kind {
        Kind::Text(text) => (text.as_bytes().to_vec(), Some("text/plain; charset=utf-8")),
        _ => (node.to_json().to_string().into_bytes(), Some("application/json")),
    }
}
