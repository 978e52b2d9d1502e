//! The JSON object that a request brings.

use crate::http::refusal::Refusal;
use millpond_broker::json;
use millpond_model::table::Table;
use serde_json::{Map, Value};

/// See the module. Members nobody asks for are ignored, as RabbitMQ does.
#[derive(Debug, Clone)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// An empty body is an empty object.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        if body.trim_ascii().is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(json) => Self::of(json),
            Err(error) => Err(Refusal::bad_request(format!("not_json: {error}"))),
        }
    }

    /// An object.
    pub(super) fn of(json: Value) -> Result<Self, Refusal> {
        match json {
            Value::Object(members) => Ok(Self(members)),
            other => Err(Refusal::bad_request(format!("a JSON object is expected, not {}", kind(&other)))),
        }
    }

    /// The same with another value of a member.
    pub(super) fn with(&self, name: &str, value: Value) -> Self {
        let mut members = self.0.clone();
        members.insert(name.to_owned(), value);
        Self(members)
    }

    /// Whether all of them are there; those missing are named as RabbitMQ names them.
    pub(super) fn need(&self, names: &[&str]) -> Result<(), Refusal> {
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !self.0.contains_key(**name))
            .map(|name| format!("{{key_missing,{name}}}"))
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Refusal::bad_request(format!("[{}]", missing.join(",")))),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whether it is there and null.
    pub(super) fn is_null(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Value::is_null)
    }

    /// Whether nothing else is there: what is overlooked might have meant fewer messages.
    pub(super) fn only(&self, names: &[&str]) -> Result<(), Refusal> {
        match self.0.keys().find(|name| !names.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                Err(Refusal::bad_request(format!("'{name}' is not known: use {}", names.join(", "))))
            }
        }
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(expected(name, "a text", other)),
        }
    }

    /// `true` or `false`, or a text of that; `false` if it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(other) => Err(expected(name, "true or false", other)),
        }
    }

    /// A whole number, or a text of one.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_i64(),
        };
        match (number, self.get(name)) {
            (None, Some(other)) => Err(expected(name, "a whole number", other)),
            (number, _) => Ok(number),
        }
    }

    /// An object as a table of arguments; an empty list, which some clients send, is one too.
    pub(super) fn table(&self, name: &str) -> Result<Table, Refusal> {
        let table = match self.get(name) {
            None => Table::new(),
            Some(Value::Array(items)) if items.is_empty() => Table::new(),
            Some(Value::Object(members)) => json::table_of(members.clone()),
            Some(other) => return Err(expected(name, "an object", other)),
        };
        // What has no encoding would be lost at the next start.
        match table.encode() {
            Ok(_) => Ok(table),
            Err(error) => Err(Refusal::bad_request(format!("{name}: {error}"))),
        }
    }

    /// A list of texts, or a text of them with commas between; what is empty is left out.
    pub(super) fn tags(&self, name: &str) -> Result<Option<Vec<Box<str>>>, Refusal> {
        let texts: Option<Vec<&str>> = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => Some(text.split(',').map(str::trim).collect()),
            Some(Value::Array(items)) => items.iter().map(Value::as_str).collect(),
            Some(other) => return Err(expected(name, "a list of texts", other)),
        };
        let texts = texts.ok_or_else(|| Refusal::bad_request(format!("{name}: a tag is a text")))?;
        Ok(Some(texts.into_iter().filter(|tag| !tag.is_empty()).map(Into::into).collect()))
    }

    /// A list of objects; none if it is not there.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Value>, Refusal> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(expected(name, "a list", &other)),
        }
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        fields.0.into()
    }
}

fn expected(name: &str, wanted: &str, found: &Value) -> Refusal {
    let mut shown = found.to_string();
    if shown.len() > 80 {
        shown = kind(found).to_owned();
    }
    Refusal::bad_request(format!("{name}: {wanted} is expected, not {shown}"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
