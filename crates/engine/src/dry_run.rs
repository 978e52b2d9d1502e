//! What a rule would do, shown and not done.

use crate::event::Event;
use crate::jq::with_deep_stack;
use crate::plan::{FileStep, HttpStep, Plan, PlanError, PublishStep, Step, plan};
use crate::topology::{Rule, Topology, did_you_mean};
use millpond_model::table::{Table, Value};
use serde_json::Value as Json;
use std::fmt::{self, Write as _};
use std::time::SystemTime;

/// What a rule would do with an event.
#[derive(Debug)]
pub struct DryRun {
    rule: String,
    place: String,
    has_condition: bool,
    result: Result<Plan, PlanError>,
    parking_queue: String,
}

/// Why a rule could not be tried, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// There is none of that name.
    #[error("no rule '{rule}' in the topology{guess}")]
    Missing {
        /// As asked.
        rule: String,
        /// `; did you mean 'receipt'?`, or empty.
        guess: String,
    },
    /// That it is stopped or started could not be kept.
    #[error("rule '{rule}': its state could not be kept: {reason}")]
    NotKept {
        /// Which.
        rule: String,
        /// Why.
        reason: String,
    },
    /// The engine has shut down.
    #[error("the engine has shut down")]
    ShutDown,
}

impl RuleError {
    pub(crate) fn missing<'r>(rule: &str, known: impl IntoIterator<Item = &'r str>) -> Self {
        Self::Missing { rule: rule.to_owned(), guess: did_you_mean(rule, known) }
    }
}

/// What a rule would do with an event, without doing it. `event` is a CloudEvent, or an object with `data`; members
/// that are missing get defaults.
pub fn dry_run(topology: &Topology, rule: &str, event: &Json) -> Result<DryRun, RuleError> {
    match topology.rule(rule) {
        Some(rule) => Ok(DryRun::of(rule, event)),
        None => Err(RuleError::missing(rule, topology.rules.iter().map(|rule| rule.name.as_str()))),
    }
}

impl DryRun {
    fn of(rule: &Rule, event: &Json) -> Self {
        let event = Event::of_json(event, SystemTime::now());
        Self {
            rule: rule.name.clone(),
            place: rule.place.clone(),
            has_condition: rule.when.is_some(),
            result: with_deep_stack(|| plan(rule, &event)),
            parking_queue: rule.parking_queue().as_str().to_owned(),
        }
    }

    /// Whether the event would be acted on.
    pub fn would_act(&self) -> bool {
        matches!(self.result, Ok(Plan::Act(_)))
    }
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rule {} ({})", self.rule, self.place)?;
        match &self.result {
            Err(error) => {
                writeln!(f, "fails: {error}")?;
                write!(f, "the message would be parked in queue {}", self.parking_queue)
            }
            Ok(Plan::Skip) => write!(f, "when: does not match; nothing would be done"),
            Ok(Plan::Act(steps)) => {
                write!(
                    f,
                    "when: {}",
                    if self.has_condition { "matches" } else { "none, every event matches" }
                )?;
                for (number, step) in steps.iter().enumerate() {
                    write!(f, "\n{}. ", number + 1)?;
                    match step {
                        Step::Publish(step) => show_publish(f, step)?,
                        Step::Http(step) => show_http(f, step)?,
                        Step::File(step) => show_file(f, step)?,
                    }
                }
                Ok(())
            }
        }
    }
}

fn show_publish(f: &mut fmt::Formatter<'_>, step: &PublishStep) -> fmt::Result {
    write!(f, "publish ({})", step.place)?;
    write!(f, "\n   exchange: {}", if step.exchange.is_empty() { "(default)" } else { &step.exchange })?;
    write!(f, "\n   routing key: {}", step.routing_key)?;
    let properties = &step.properties;
    if let Some(content_type) = &properties.content_type {
        write!(f, "\n   content type: {content_type}")?;
    }
    if let Some(id) = &properties.message_id {
        write!(f, "\n   message id: {id}")?;
    }
    for (name, value) in &properties.headers {
        write!(f, "\n   header {name}: {}", show_value(value))?;
    }
    show_body(f, &step.body)
}

fn show_http(f: &mut fmt::Formatter<'_>, step: &HttpStep) -> fmt::Result {
    write!(f, "http ({})", step.place)?;
    write!(f, "\n   {} {}", step.method, step.url)?;
    if let Some(path) = &step.ca_file {
        write!(f, "\n   ca file: {path}")?;
    }
    for (name, value) in &step.headers {
        write!(f, "\n   header {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
    }
    show_body(f, &step.body)
}

fn show_file(f: &mut fmt::Formatter<'_>, step: &FileStep) -> fmt::Result {
    write!(f, "file ({})", step.place)?;
    write!(f, "\n   path: {}\n   line: {}", step.path, step.line)
}

fn show_body(f: &mut fmt::Formatter<'_>, body: &[u8]) -> fmt::Result {
    match std::str::from_utf8(body) {
        Ok("") => Ok(()),
        Ok(text) => write!(f, "\n   body: {text}"),
        Err(_) => write!(f, "\n   body: {} bytes that are not text", body.len()),
    }
}

fn show_value(value: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(show_value).collect::<Vec<_>>().join(", ");
    match value {
        Value::LongStr(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Value::Bool(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::Void => "void".to_owned(),
        Value::Array(items) => format!("[{}]", list(items)),
        Value::Table(table) => show_table(table),
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

fn show_table(table: &Table) -> String {
    let mut out = String::from("{");
    for (number, (name, value)) in table.iter().enumerate() {
        let comma = if number > 0 { ", " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(out, "{comma}{name}: {}", show_value(value));
    }
    out.push('}');
    out
}
