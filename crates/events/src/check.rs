//! Whether what somebody sends is an event.

use crate::time::is_time;
use millpond_model::limits::SHORT_STRING_MAX_BYTES;
use serde_json::{Map, Value};

/// Longest name of an attribute. The specification advises 20; some extensions are a little longer. Bytes.
const NAME_MAX_BYTES: usize = 64;

/// Most attributes of an event.
const ATTRIBUTES_MAX: usize = 100;

/// Longest value of an attribute. Bytes.
const VALUE_MAX_BYTES: usize = 8 * 1024;

/// Why something is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It is no JSON object.
    #[error("an event is a JSON object, and this is {found}")]
    NotAnObject {
        /// `a list`, `a number`...
        found: &'static str,
    },
    /// An attribute that every event has is not there.
    #[error("the attribute '{attribute}' is missing: an event has id, source, specversion and type")]
    Missing {
        /// Which.
        attribute: &'static str,
    },
    /// An attribute's value is not what it may be.
    #[error("the attribute '{attribute}' is {found}, expected {expected}")]
    Bad {
        /// Which.
        attribute: String,
        /// The value, shortened.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A name that no attribute may have.
    #[error(
        "the attribute '{attribute}' has a name that is not allowed: a to z and 0 to 9, at most {NAME_MAX_BYTES} \
         characters"
    )]
    Name {
        /// Which, shortened.
        attribute: String,
    },
    /// It has too many attributes.
    #[error("the event has {found} attributes, at most {ATTRIBUTES_MAX} are allowed")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// It says its data twice.
    #[error("the event has both 'data' and 'data_base64', one of them is expected")]
    DataTwice,
    /// Its `data_base64` is not base64.
    #[error("'data_base64' is not base64: {reason}")]
    Base64 {
        /// Why.
        reason: String,
    },
}

impl EventError {
    /// The attribute that is wrong, if it is one.
    pub fn attribute(&self) -> Option<&str> {
        match self {
            Self::Missing { attribute } => Some(attribute),
            Self::Bad { attribute, .. } | Self::Name { attribute } => Some(attribute),
            Self::DataTwice => Some("data"),
            Self::Base64 { .. } => Some("data_base64"),
            Self::NotAnObject { .. } | Self::TooMany { .. } => None,
        }
    }
}

/// Checks attributes, those without data.
pub(crate) fn check_attributes(attributes: &Map<String, Value>) -> Result<(), EventError> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(EventError::TooMany { found: attributes.len() });
    }
    for required in ["specversion", "id", "source", "type"] {
        if !attributes.contains_key(required) {
            return Err(EventError::Missing { attribute: required });
        }
    }
    attributes.iter().try_for_each(|(name, value)| check_attribute(name, value))
}

fn check_attribute(name: &str, value: &Value) -> Result<(), EventError> {
    let bad = |expected: &str| {
        Err(EventError::Bad {
            attribute: name.to_owned(),
            found: shorten(&value.to_string()),
            expected: expected.to_owned(),
        })
    };
    let is_name = !name.is_empty()
        && name.len() <= NAME_MAX_BYTES
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !is_name {
        return Err(EventError::Name { attribute: shorten(name) });
    }
    let text = value.as_str();
    if text.is_some_and(|text| text.len() > VALUE_MAX_BYTES) {
        return bad(&format!("a text of at most {VALUE_MAX_BYTES} bytes"));
    }
    if text.is_some_and(|text| text.chars().any(char::is_control)) {
        return bad("a text without control characters");
    }
    match (name, text) {
        ("specversion", Some("1.0")) => Ok(()),
        ("specversion", _) => bad("\"1.0\""),
        ("type", Some(text)) if text.len() > SHORT_STRING_MAX_BYTES => {
            bad(&format!("a text of at most {SHORT_STRING_MAX_BYTES} bytes: it is the message's routing key"))
        }
        ("id" | "type" | "subject" | "datacontenttype", Some(text)) if !text.is_empty() => Ok(()),
        ("datacontenttype", _) => bad("a media type such as \"application/json\""),
        ("source" | "dataschema", Some(text)) if is_uri_reference(text) => Ok(()),
        ("source" | "dataschema", _) => bad("a URI or a part of one such as \"/shop/till\""),
        ("time", Some(text)) if is_time(text) => Ok(()),
        ("time", _) => bad("a moment as in RFC 3339, such as \"2026-11-22T10:00:00Z\""),
        ("id" | "type" | "subject", _) => bad("a text that is not empty"),
        (_, Some(_)) => Ok(()),
        (_, None) if value.is_boolean() || value.as_i64().is_some() => Ok(()),
        _ => bad("a text, a whole number, true or false"),
    }
}

/// No full grammar: what would break a header or a log line is refused.
fn is_uri_reference(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || "<>\"{}|\\^`".contains(c))
}

/// So much of what somebody sent goes into an error. Characters.
const SHOWN_MAX_CHARS: usize = 60;

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

/// What a JSON value is, in words.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
