//! Publishing a message, in one commit with the ack of what triggered it.

use super::fill::{Context, PlanError, body_of, show_body};
use crate::event::HOPS_HEADER;
use crate::fingerprint::fingerprint;
use crate::jq::{Jq, Needs, Template};
use crate::topology::expression::{HeaderValue, jq_of, read_headers, template};
use crate::topology::read::{Fields, Report};
use crate::topology::{Node, named_exchange};
use millpond_model::ExchangeName;
use millpond_model::limits::SHORT_STRING_MAX_BYTES;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value as Header};
use serde_json::Value;
use std::fmt::{self, Write as _};

/// Publishes a message, in one commit with the ack of what triggered it.
#[derive(Debug)]
pub(crate) struct PublishAction {
    pub(crate) place: String,
    pub(crate) exchange: ExchangeName,
    pub(crate) routing_key: Option<Template>,
    pub(crate) headers: Vec<(Box<str>, HeaderValue)>,
    pub(crate) content_type: Option<Template>,
    pub(crate) body: Option<Jq>,
}

/// The same, filled in.
#[derive(Debug)]
pub(crate) struct PublishStep {
    pub(crate) place: String,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) properties: Properties,
    /// `properties`, encoded.
    pub(crate) encoded: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl PublishAction {
    /// Reads what the file says.
    pub(super) fn read(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<Self> {
        let known = ["exchange", "routing_key", "headers", "content_type", "body"];
        let fields = Fields::read(node, path, &known, report);
        fields.required(
            "exchange",
            "'exchange' ('' is the default exchange, whose keys are queue names)",
            report,
        );
        let exchange = named_exchange(&fields, "exchange", report);
        let routing_key = template(&fields, "routing_key", report);
        if let Some(fixed) = routing_key.as_ref().and_then(Template::as_fixed)
            && fixed.len() > millpond_model::limits::SHORT_STRING_MAX_BYTES
        {
            let text = format!("found a routing key of {} bytes, expected at most 255", fixed.len());
            report.add(fields.line, &fields.path_of("routing_key"), text);
        }
        let headers = read_headers(&fields, report);
        let content_type = template(&fields, "content_type", report);
        let body = jq_of(&fields, "body", report);
        Some(Self {
            place: format!("{}:{line}", report.file),
            exchange: exchange?,
            routing_key,
            headers,
            content_type,
            body,
        })
    }

    /// What it looks at of the event.
    pub(super) fn needs(&self) -> Needs {
        let texts = [&self.routing_key, &self.content_type].into_iter().flatten();
        let headers = self.headers.iter().filter_map(|(_, value)| match value {
            HeaderValue::Template(template) => Some(template),
            HeaderValue::Fixed(_) => None,
        });
        let texts: Needs = texts.chain(headers).map(Template::needs).collect();
        texts.with(self.body.as_ref().map_or(Needs::NONE, Jq::needs))
    }

    /// With everything worked out for an event.
    pub(super) fn fill(&self, context: &Context<'_>) -> Result<PublishStep, PlanError> {
        let unusable = |reason: String| PlanError::Unusable { place: self.place.clone(), reason };
        let routing_key = match &self.routing_key {
            Some(template) => template.text(context.val)?,
            None => context.event.routing_key.clone(),
        };
        if routing_key.len() > SHORT_STRING_MAX_BYTES {
            let size_bytes = routing_key.len();
            return Err(unusable(format!("the routing key has {size_bytes} bytes, at most 255 are allowed")));
        }
        let (body, content_type) = match &self.body {
            Some(jq) => body_of(jq.body(context.val)?),
            None => (context.event.body.to_vec(), context.event.content_type.clone()),
        };
        let content_type = match &self.content_type {
            Some(template) => Some(template.text(context.val)?),
            None => content_type,
        };
        let mut headers = Table::new();
        for (name, value) in &self.headers {
            match value {
                HeaderValue::Fixed(value) => headers.set(name, value.clone()),
                HeaderValue::Template(template) => {
                    let value = template.value(context.val)?;
                    if !value.is_null() {
                        headers.set(name, header(&value));
                    }
                }
            }
        }
        headers.set(HOPS_HEADER, context.event.hops as i64 + 1);
        let properties = Properties {
            content_type: content_type.map(Into::into),
            headers,
            delivery_mode: Some(2),
            message_id: Some(short(context.step_id()).into()),
            ..Properties::default()
        };
        let encoded = properties.encode().map_err(|error| unusable(error.to_string()))?;
        if encoded.len() > millpond_model::limits::PROPERTIES_MAX_BYTES {
            return Err(unusable(format!("the headers have {} bytes, which is too much", encoded.len())));
        }
        let exchange = self.exchange.as_str().to_owned();
        Ok(PublishStep { place: self.place.clone(), exchange, routing_key, properties, encoded, body })
    }
}

impl fmt::Display for PublishStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publish ({})", self.place)?;
        write!(f, "\n   exchange: {}", if self.exchange.is_empty() { "(default)" } else { &self.exchange })?;
        write!(f, "\n   routing key: {}", self.routing_key)?;
        let properties = &self.properties;
        if let Some(content_type) = &properties.content_type {
            write!(f, "\n   content type: {content_type}")?;
        }
        if let Some(id) = &properties.message_id {
            write!(f, "\n   message id: {id}")?;
        }
        for (name, value) in &properties.headers {
            write!(f, "\n   header {name}: {}", show_value(value))?;
        }
        show_body(f, &self.body)
    }
}

fn header(value: &Value) -> Header {
    match value {
        Value::Null => Header::Void,
        Value::Bool(value) => Header::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(value) => Header::I64(value),
            None => Header::F64(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Header::from(text.as_str()),
        Value::Array(items) => Header::Array(items.iter().map(header).collect()),
        Value::Object(fields) => {
            Header::Table(fields.iter().map(|(key, value)| (key.as_str(), header(value))).collect())
        }
    }
}

/// At most what a message id can hold; a longer one keeps its end, which tells steps apart, and a fingerprint.
pub(crate) fn short(id: String) -> String {
    if id.len() <= SHORT_STRING_MAX_BYTES {
        return id;
    }
    let hash = fingerprint(id.as_bytes());
    let mut from = id.len() - (SHORT_STRING_MAX_BYTES - 17);
    while !id.is_char_boundary(from) {
        from += 1;
    }
    format!("{hash:016x}-{}", &id[from..])
}

pub(crate) fn show_value(value: &Header) -> String {
    let list = |items: &[Header]| items.iter().map(show_value).collect::<Vec<_>>().join(", ");
    match value {
        Header::LongStr(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Header::Bool(value) => value.to_string(),
        Header::F64(value) => value.to_string(),
        Header::Void => "void".to_owned(),
        Header::Array(items) => format!("[{}]", list(items)),
        Header::Table(table) => show_table(table),
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
