//! What a rule does with an event, worked out in full before anything is done.

use crate::event::{Event, HOPS_HEADER};
use crate::jq::{JqError, to_val};
use crate::topology::{Action, FileAction, HeaderValue, HttpAction, PublishAction, Rule};
use jaq_json::Val;
use millpond_model::limits::SHORT_STRING_MAX_BYTES;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value as Header};
use serde_json::Value;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Rules a message may come through, one publishing to the next, before it is taken for a loop.
pub(crate) const HOPS_MAX: u64 = 64;

/// A rule's answer to an event.
#[derive(Debug)]
pub(crate) enum Plan {
    /// `when` does not hold.
    Skip,
    /// These, in this order.
    Act(Vec<Step>),
}

/// One action with everything filled in.
#[derive(Debug)]
pub(crate) enum Step {
    Publish(PublishStep),
    Http(HttpStep),
    File(FileStep),
}

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

#[derive(Debug)]
pub(crate) struct HttpStep {
    pub(crate) place: String,
    pub(crate) method: reqwest::Method,
    pub(crate) url: reqwest::Url,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) expect: Vec<RangeInclusive<u16>>,
    pub(crate) timeout: Duration,
    /// Authorities to trust beside the system's: a file in the data directory, or absolute.
    pub(crate) ca_file: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
pub(crate) struct FileStep {
    pub(crate) place: String,
    pub(crate) path: String,
    /// Without its line end.
    pub(crate) line: String,
    pub(crate) size_max_bytes: u64,
    pub(crate) keep: u32,
}

/// Why a rule cannot act on an event; trying again would not help.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PlanError {
    /// An expression failed.
    #[error(transparent)]
    Jq(#[from] JqError),
    /// An expression gave something that the action cannot use.
    #[error("{place}: {reason}")]
    Unusable {
        /// `FILE:LINE`.
        place: String,
        /// What, and what is needed.
        reason: String,
    },
    /// It has come through too many rules.
    #[error(
        "the message has come through {hops} rules, at most {HOPS_MAX} may follow one another: do they form a loop?"
    )]
    Loop {
        /// How many.
        hops: u64,
    },
}

/// Works out what `rule` does with `event`.
pub(crate) fn plan(rule: &Rule, event: &Event) -> Result<Plan, PlanError> {
    let val = to_val(&event.json);
    if let Some(when) = &rule.when
        && !when.is_true(&val)?
    {
        return Ok(Plan::Skip);
    }
    if event.hops >= HOPS_MAX {
        return Err(PlanError::Loop { hops: event.hops });
    }
    let mut steps = Vec::with_capacity(rule.actions.len());
    for (number, action) in rule.actions.iter().enumerate() {
        let context = Context { rule, event, val: &val, number };
        steps.push(match action {
            Action::Publish(action) => Step::Publish(context.publish(action)?),
            Action::Http(action) => Step::Http(context.http(action)?),
            Action::File(action) => Step::File(context.file(action)?),
        });
    }
    Ok(Plan::Act(steps))
}

struct Context<'a> {
    rule: &'a Rule,
    event: &'a Event,
    val: &'a Val,
    number: usize,
}

impl Context<'_> {
    /// The same for every attempt: event, rule, step.
    fn step_id(&self) -> String {
        format!("{}/{}/{}", self.event.id, self.rule.name, self.number)
    }

    fn publish(&self, action: &PublishAction) -> Result<PublishStep, PlanError> {
        let unusable = |reason: String| PlanError::Unusable { place: action.place.clone(), reason };
        let routing_key = match &action.routing_key {
            Some(template) => template.text(self.val)?,
            None => self.event.routing_key.clone(),
        };
        if routing_key.len() > SHORT_STRING_MAX_BYTES {
            let size_bytes = routing_key.len();
            return Err(unusable(format!("the routing key has {size_bytes} bytes, at most 255 are allowed")));
        }
        let (body, content_type) = match &action.body {
            Some(jq) => body_of(&jq.one(self.val)?),
            None => (self.event.body.to_vec(), self.event.content_type.clone()),
        };
        let content_type = match &action.content_type {
            Some(template) => Some(template.text(self.val)?),
            None => content_type,
        };
        let mut headers = Table::new();
        for (name, value) in &action.headers {
            match value {
                HeaderValue::Fixed(value) => headers.set(name, value.clone()),
                HeaderValue::Template(template) => {
                    let value = template.value(self.val)?;
                    if !value.is_null() {
                        headers.set(name, header(&value));
                    }
                }
            }
        }
        headers.set(HOPS_HEADER, self.event.hops as i64 + 1);
        let properties = Properties {
            content_type: content_type.map(Into::into),
            headers,
            delivery_mode: Some(2),
            message_id: Some(short(self.step_id()).into()),
            ..Properties::default()
        };
        let encoded = properties.encode().map_err(|error| unusable(error.to_string()))?;
        if encoded.len() > millpond_model::limits::PROPERTIES_MAX_BYTES {
            return Err(unusable(format!("the headers have {} bytes, which is too much", encoded.len())));
        }
        let exchange = action.exchange.as_str().to_owned();
        Ok(PublishStep { place: action.place.clone(), exchange, routing_key, properties, encoded, body })
    }

    fn http(&self, action: &HttpAction) -> Result<HttpStep, PlanError> {
        use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue as Text};
        let unusable = |reason: String| PlanError::Unusable { place: action.place.clone(), reason };
        let endpoint = action.endpoint.text(self.val)?;
        let url = reqwest::Url::parse(&endpoint)
            .map_err(|error| unusable(format!("the endpoint '{endpoint}' is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(unusable(format!(
                "the endpoint '{endpoint}' is not an http or https URL with a host"
            )));
        }
        let (body, content_type) = match &action.body {
            Some(jq) => body_of(&jq.one(self.val)?),
            None if matches!(action.method.as_str(), "POST" | "PUT" | "PATCH") => {
                let json = self.event.to_cloud_event().to_string();
                (json.into_bytes(), Some("application/cloudevents+json".to_owned()))
            }
            None => (Vec::new(), None),
        };
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type.and_then(|it| Text::from_str(&it).ok()) {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if let Ok(key) = Text::from_str(&visible(&self.step_id())) {
            headers.insert(HeaderName::from_static("idempotency-key"), key);
        }
        for (name, value) in &action.headers {
            let value = match value {
                HeaderValue::Fixed(value) => show_header(value),
                HeaderValue::Template(template) => match template.value(self.val)? {
                    Value::Null => continue,
                    Value::String(text) => text,
                    other => other.to_string(),
                },
            };
            let text = Text::from_str(&value)
                .map_err(|_| unusable(format!("the header '{name}' cannot have the value {value:?}")))?;
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| unusable(format!("'{name}' cannot be a header's name")))?;
            headers.insert(name, text);
        }
        Ok(HttpStep {
            place: action.place.clone(),
            method: action.method.clone(),
            url,
            headers,
            body,
            expect: action.expect.clone(),
            timeout: action.timeout,
            ca_file: action.ca_file.clone(),
        })
    }

    fn file(&self, action: &FileAction) -> Result<FileStep, PlanError> {
        let unusable = |reason: String| PlanError::Unusable { place: action.place.clone(), reason };
        let path = action.path.text(self.val)?;
        let is_absolute = path.starts_with('/');
        if is_absolute && !action.path.fixed_start().starts_with('/') {
            let reason =
                format!("the path '{path}' is absolute, and only its own beginning in the file may say so");
            return Err(unusable(reason));
        }
        if path.is_empty() || path.ends_with('/') || path.contains('\0') {
            return Err(unusable(format!("'{path}' is not the path of a file")));
        }
        if path.split('/').any(|part| part == "..") {
            return Err(unusable(format!("the path '{path}' leads out of its folder with '..'")));
        }
        let line = match &action.line {
            None => self.event.to_cloud_event().to_string(),
            Some(jq) => match jq.one(self.val)? {
                // One event is one line: nobody can put lines of their own into an audit file.
                Value::String(text) => text.replace('\r', "\\r").replace('\n', "\\n"),
                other => other.to_string(),
            },
        };
        Ok(FileStep {
            place: action.place.clone(),
            path,
            line,
            size_max_bytes: action.size_max_bytes,
            keep: action.keep,
        })
    }
}

/// A text as it is, anything else as JSON.
fn body_of(value: &Value) -> (Vec<u8>, Option<String>) {
    match value {
        Value::String(text) => (text.clone().into_bytes(), Some("text/plain; charset=utf-8".to_owned())),
        other => (other.to_string().into_bytes(), Some("application/json".to_owned())),
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

fn show_header(value: &Header) -> String {
    match value {
        Header::Bool(value) => value.to_string(),
        Header::F64(value) => value.to_string(),
        Header::LongStr(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_i64().map(|number| number.to_string()).unwrap_or_default(),
    }
}

/// At most what a message id can hold; a longer one keeps its end, which tells steps apart, and a fingerprint.
fn short(id: String) -> String {
    if id.len() <= SHORT_STRING_MAX_BYTES {
        return id;
    }
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut from = id.len() - (SHORT_STRING_MAX_BYTES - 17);
    while !id.is_char_boundary(from) {
        from += 1;
    }
    format!("{hash:016x}-{}", &id[from..])
}

/// Characters that a header cannot carry are percent-encoded.
fn visible(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'%' => out.push_str("%25"),
            0x21..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
