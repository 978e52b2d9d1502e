//! Steps as tests and replays look at them: a kind and its members as JSON, and what a stubbed outside answers.

use super::Step;
use crate::event::HOPS_HEADER;
use millpond_model::table::Value as Header;
use serde_json::{Map, Value, json};

impl Step {
    /// As files name it, with its members.
    pub(crate) fn facts(&self) -> (String, Value) {
        match self {
            Self::Publish(step) => {
                let shown = step.properties.headers.iter().filter(|(name, _)| &**name != HOPS_HEADER);
                let headers: Map<_, _> =
                    shown.map(|(name, value)| (name.to_string(), header_json(value))).collect();
                let facts = json!({
                    "exchange": step.exchange,
                    "routing_key": step.routing_key,
                    "headers": headers,
                    "content_type": step.properties.content_type.as_deref(),
                    "message_id": step.properties.message_id.as_deref(),
                    "body": body_json(&step.body),
                });
                ("publish".to_owned(), facts)
            }
            Self::Http(step) => {
                // A secret stands there as its reference.
                let texts =
                    step.headers.iter().map(|(name, value)| (name.to_string(), value.to_string().into()));
                let facts = json!({
                    "method": step.method.as_str(),
                    "url": step.url.as_str(),
                    "headers": texts.collect::<Map<_, _>>(),
                    "body": body_json(&step.body),
                });
                ("http".to_owned(), facts)
            }
            Self::Email(step) => ("email".to_owned(), step.facts()),
            Self::Provider(step) => (step.kind().to_owned(), step.facts()),
            Self::Exec(step) => ("exec".to_owned(), step.facts()),
            Self::Function(step) => ("function".to_owned(), step.facts()),
            #[allow(
                unreachable_patterns,
                reason = "the kinds that say nothing here are read from what they show"
            )]
            other => shown_facts(&other.to_string()),
        }
    }

    /// What it gives if the outside answers so; a text is why it fails.
    pub(crate) fn pretend(&self, answer: &Value) -> Result<Value, String> {
        if let Some(reason) = answer.get("fails") {
            return Err(reason.as_str().map_or_else(|| reason.to_string(), str::to_owned));
        }
        let Self::Http(step) = self else { return Ok(answer.clone()) };
        let status = answer.get("status").and_then(Value::as_u64).unwrap_or(200);
        let good = step
            .expect
            .iter()
            .any(|range| (u64::from(*range.start())..=u64::from(*range.end())).contains(&status));
        let whole = json!({
            "status": status,
            "headers": answer.get("headers").cloned().unwrap_or_else(|| json!({})),
            "body": answer.get("body").cloned().unwrap_or_default(),
        });
        if good { Ok(whole) } else { Err(format!("the answer is {status}")) }
    }
}

/// JSON if it is that, else text.
fn body_json(body: &[u8]) -> Value {
    match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(_) => String::from_utf8_lossy(body).into_owned().into(),
    }
}

pub(crate) fn header_json(value: &Header) -> Value {
    match value {
        Header::Bool(value) => (*value).into(),
        Header::F64(value) => (*value).into(),
        Header::F32(value) => f64::from(*value).into(),
        Header::LongStr(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
        Header::Array(items) => items.iter().map(header_json).collect(),
        Header::Table(table) => {
            Value::Object(table.iter().map(|(name, value)| (name.to_string(), header_json(value))).collect())
        }
        other => other.as_i64().map_or(Value::Null, Value::from),
    }
}

/// Kind and members from what a dry run shows: `kind (FILE:LINE)`, then `   name: value` a line.
fn shown_facts(shown: &str) -> (String, Value) {
    let mut lines = shown.lines();
    let kind = lines.next().unwrap_or_default().split(" (").next().unwrap_or_default().to_owned();
    let mut facts = Map::new();
    for line in lines {
        let Some((name, value)) = line.trim_start().split_once(": ") else { continue };
        let value = body_json(value.as_bytes());
        match name.strip_prefix("header ") {
            Some(header) => {
                let headers = facts.entry("headers").or_insert_with(|| json!({}));
                headers[header] = value;
            }
            None => {
                facts.insert(name.replace(' ', "_"), value);
            }
        }
    }
    (kind, Value::Object(facts))
}
