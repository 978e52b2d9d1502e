//! An event that is to become a message.

use crate::check::{EventError, check_attributes, kind_of};
use crate::{HEADER_PREFIX, SPEC_VERSION};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millpond_model::limits::SHORT_STRING_MAX_BYTES;
use millpond_model::properties::{Properties, PropertiesEncodeError};
use millpond_model::table::{Table, Value as Header};
use serde_json::{Map, Value};

/// A checked event: its attributes, and its data as bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudEvent {
    /// With `specversion`; without `data`.
    attributes: Map<String, Value>,
    data: Bytes,
}

/// What carries an event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventMessage {
    /// The event's type.
    pub routing_key: String,
    /// Attributes as headers, content type, id, persistent.
    pub properties: Properties,
    /// The event's data.
    pub body: Bytes,
}

impl CloudEvent {
    /// Of attributes as texts or JSON scalars, and data as bytes of the content type that `datacontenttype` names
    /// (binary mode). `specversion` may be left out.
    pub fn new(mut attributes: Map<String, Value>, data: Bytes) -> Result<Self, EventError> {
        attributes.entry("specversion").or_insert_with(|| SPEC_VERSION.into());
        // An attribute that is null is one that is not there (JSON format, 2.2).
        attributes.retain(|_, value| !value.is_null());
        check_attributes(&attributes)?;
        Ok(Self { attributes, data })
    }

    /// Of an event as JSON (structured mode).
    pub fn from_json(json: Value) -> Result<Self, EventError> {
        let mut attributes = match json {
            Value::Object(object) => object,
            other => return Err(EventError::NotAnObject { found: kind_of(&other) }),
        };
        if !attributes.contains_key("specversion") {
            return Err(EventError::Missing { attribute: "specversion" });
        }
        let data = take_data(&mut attributes)?;
        Self::new(attributes, data)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// Its type.
    pub fn kind(&self) -> &str {
        self.text("type")
    }

    /// An attribute, if it is there and a text.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str)
    }

    fn text(&self, name: &str) -> &str {
        self.attribute(name).unwrap_or_default()
    }

    /// The message that carries it. `now_s` is when it came in, for an event without a time. Seconds since 1970.
    pub fn to_message(&self, now_s: u64) -> EventMessage {
        let mut headers = Table::new();
        for (name, value) in &self.attributes {
            if name == "datacontenttype" {
                continue;
            }
            let header = match value {
                Value::Bool(value) => Header::Bool(*value),
                Value::String(text) => Header::from(text.as_str()),
                other => other.as_i64().map_or_else(|| Header::from(other.to_string().as_str()), Header::I64),
            };
            headers.push(format!("{HEADER_PREFIX}{name}"), header);
        }
        let id = self.id();
        let properties = Properties {
            content_type: self.attribute("datacontenttype").map(Into::into),
            headers,
            delivery_mode: Some(2),
            message_id: (id.len() <= SHORT_STRING_MAX_BYTES).then(|| id.into()),
            timestamp: Some(now_s),
            ..Properties::default()
        };
        EventMessage { routing_key: self.kind().to_owned(), properties, body: self.data.clone() }
    }
}

/// Takes the data out of an event as JSON (structured mode): its bytes, and `datacontenttype` if that has to be said.
pub fn take_data(event: &mut Map<String, Value>) -> Result<Bytes, EventError> {
    let content_type = event.get("datacontenttype").and_then(Value::as_str).map(str::to_owned);
    Ok(match (event.remove("data"), event.remove("data_base64")) {
        (Some(data), Some(base64)) if !data.is_null() && !base64.is_null() => {
            return Err(EventError::DataTwice);
        }
        (None | Some(Value::Null), None | Some(Value::Null)) => Bytes::new(),
        (None | Some(Value::Null), Some(Value::String(text))) => {
            let bytes = STANDARD.decode(&text);
            bytes.map_err(|error| EventError::Base64 { reason: error.to_string() })?.into()
        }
        (None | Some(Value::Null), Some(other)) => {
            return Err(EventError::Base64 { reason: format!("it is {}", kind_of(&other)) });
        }
        // A text whose type is not JSON is itself; without a type all data is JSON (JSON format, 3.1.1).
        (Some(Value::String(text)), _) if content_type.as_deref().is_some_and(|it| !is_json(it)) => {
            text.into()
        }
        (Some(data), _) => {
            if content_type.is_none() {
                event.insert("datacontenttype".to_owned(), "application/json".into());
            }
            data.to_string().into()
        }
    })
}

impl EventMessage {
    /// Its properties as they are stored; an error if they are larger than a message may have.
    pub fn encode_properties(&self) -> Result<Vec<u8>, PropertiesEncodeError> {
        self.properties.encode()
    }
}

fn is_json(content_type: &str) -> bool {
    let media = crate::media_type(content_type);
    media == "application/json" || media == "text/json" || media.ends_with("+json")
}
