//! Event matching: what a binding of an `x-events` exchange asks of a message's CloudEvents attributes.
//!
//! Attributes are what the engine shows a rule of a message in binary content mode: headers `cloudEvents:NAME` or
//! `cloudEvents_NAME`, the first of them if there are several, and the defaults of [`attribute`]. A header that is no
//! text, whole number or truth value is there and equals nothing. An event in the body (structured mode) is not
//! looked into: a broker routes without reading bodies.

use super::View;
use millpond_model::table::{RawValue, Table, Value};
use std::borrow::Cow;

/// Attributes that one binding may ask for.
const ATTRIBUTES_MAX: usize = 16;
/// Texts, beginnings and ends that one binding may list, of all attributes together.
const PATTERNS_MAX: usize = 1024;
/// Longest of them. Bytes.
const PATTERN_MAX_BYTES: usize = 1024;

/// Attributes that a message has without a header.
pub(super) const DEFAULTED: [&str; 6] = ["type", "source", "subject", "id", "datacontenttype", "specversion"];

/// What a value must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pattern {
    /// These bytes.
    Exact(Box<[u8]>),
    /// Begins and ends so; either may be empty.
    Around { prefix: Box<[u8]>, suffix: Box<[u8]> },
}

impl Pattern {
    fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => **text == *value,
            Self::Around { prefix, suffix } => value.starts_with(prefix) && value.ends_with(suffix),
        }
    }
}

/// What is asked of one attribute: to be there, and one of these.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) attribute: Box<str>,
    /// Sorted, so exact ones first; at least one.
    pub(super) patterns: Box<[Pattern]>,
}

impl Condition {
    fn accepts(&self, value: &[u8]) -> bool {
        let exact = self.patterns.partition_point(|pattern| matches!(pattern, Pattern::Exact(_)));
        let (exact, around) = self.patterns.split_at(exact);
        let compare = |pattern: &Pattern| match pattern {
            Pattern::Exact(text) => (**text).cmp(value),
            Pattern::Around { .. } => std::cmp::Ordering::Greater,
        };
        exact.binary_search_by(compare).is_ok() || around.iter().any(|pattern| pattern.accepts(value))
    }
}

/// Whether arguments can be those of a binding of an `x-events` exchange; the error says what is wrong.
pub fn check_event_conditions(arguments: &Table) -> Result<(), String> {
    Wanted::parse(&[], arguments).map(|_| ())
}

/// What a binding asks; nothing: it takes every message.
#[derive(Debug)]
pub(super) struct Wanted {
    /// All must hold.
    pub(super) conditions: Box<[Condition]>,
}

impl Wanted {
    /// From a binding's key and arguments; the error says what is wrong with them.
    pub(super) fn parse(key: &[u8], arguments: &Table) -> Result<Self, String> {
        let mut conditions = Vec::new();
        if !key.is_empty() {
            if key.iter().any(|byte| b"#*".contains(byte)) {
                let key = String::from_utf8_lossy(key);
                return Err(format!(
                    "the binding key '{key}' of an x-events exchange is an exact type and knows no wildcards: \
                     leave it empty for every event, or use the argument type with a table {{prefix: ...}}"
                ));
            }
            let patterns = [Pattern::Exact(key.into())].into();
            conditions.push(Condition { attribute: "type".into(), patterns });
        }
        for (name, value) in arguments {
            let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if !is_name || name.is_empty() || &**name == "data" {
                return Err(format!(
                    "the argument '{name}' is no attribute of an event: expected lower-case letters and digits, \
                     such as type, source, subject or an extension's name"
                ));
            }
            let mut patterns = patterns(name, value)?;
            patterns.sort();
            patterns.dedup();
            conditions.push(Condition { attribute: name.clone(), patterns: patterns.into() });
        }
        let listed: usize = conditions.iter().map(|condition| condition.patterns.len()).sum();
        match (conditions.len(), listed) {
            (attributes, _) if attributes > ATTRIBUTES_MAX => {
                Err(format!("{attributes} attributes are asked for, and at most {ATTRIBUTES_MAX} may be"))
            }
            (_, listed) if listed > PATTERNS_MAX => {
                Err(format!("{listed} texts are listed, and at most {PATTERNS_MAX} may be"))
            }
            _ => Ok(Self { conditions: conditions.into() }),
        }
    }

    /// Whether a message is wanted.
    pub(super) fn accepts(&self, view: &View<'_>) -> bool {
        let holds = |condition: &Condition| {
            attribute(view, &condition.attribute).is_some_and(|value| condition.accepts(&value))
        };
        self.conditions.iter().all(holds)
    }
}

/// Of an argument: a text, a list of them, or a table with `prefix`, `suffix` or both.
fn patterns(name: &str, value: &Value) -> Result<Vec<Pattern>, String> {
    let expected = "expected a text, a table with 'prefix' or 'suffix', or a list of these";
    match value {
        Value::Array(items) if items.is_empty() => {
            Err(format!("the argument '{name}' is an empty list, which no event matches: {expected}"))
        }
        Value::Array(items) => items.iter().map(|item| pattern(name, item, expected)).collect(),
        one => Ok(vec![pattern(name, one, expected)?]),
    }
}

fn pattern(name: &str, value: &Value, expected: &str) -> Result<Pattern, String> {
    let text = |what: &str, value: &Value| {
        let text: Box<[u8]> = match value {
            Value::LongStr(bytes) => bytes.clone(),
            Value::Bool(value) => value.to_string().into_bytes().into(),
            other => match other.as_i64() {
                Some(number) if !matches!(other, Value::Timestamp(_)) => {
                    number.to_string().into_bytes().into()
                }
                _ => return Err(format!("{what} is a {}: {expected}", other.type_name())),
            },
        };
        match text.len() {
            0..=PATTERN_MAX_BYTES => Ok(text),
            size_bytes => {
                Err(format!("{what} has {size_bytes} bytes, and at most {PATTERN_MAX_BYTES} may be"))
            }
        }
    };
    let Value::Table(table) = value else {
        return text(&format!("the argument '{name}'"), value).map(Pattern::Exact);
    };
    if let Some((other, _)) = table.iter().find(|(key, _)| !matches!(&**key, "prefix" | "suffix")) {
        return Err(format!("the argument '{name}' has the unknown key '{other}': {expected}"));
    }
    if table.is_empty() {
        return Err(format!("the argument '{name}' is an empty table: {expected}"));
    }
    let part = |key: &str| match table.get(key) {
        Some(value) => text(&format!("'{key}' of the argument '{name}'"), value),
        None => Ok(Box::default()),
    };
    Ok(Pattern::Around { prefix: part("prefix")?, suffix: part("suffix")? })
}

/// The name of the attribute that a header holds.
pub(super) fn attribute_of_header(header: &[u8]) -> Option<&[u8]> {
    let name = header.strip_prefix(b"cloudEvents:").or_else(|| header.strip_prefix(b"cloudEvents_"))?;
    (!name.is_empty()).then_some(name)
}

/// The value of an attribute as text: of its header, else what the engine takes in its place. `None`: the message has
/// none, or one that is no text.
pub(super) fn attribute<'m>(view: &View<'m>, name: &str) -> Option<Cow<'m, [u8]>> {
    let stated = view.headers.iter().find(|(header, _)| attribute_of_header(header) == Some(name.as_bytes()));
    if let Some((_, value)) = stated {
        return value_text(value);
    }
    let filled = |property: Option<&'m [u8]>| property.filter(|it| !it.is_empty()).map(Cow::Borrowed);
    match name {
        "type" => filled(view.properties.type_()).or(Some(Cow::Borrowed(view.routing_key))),
        "subject" => Some(Cow::Borrowed(view.routing_key)),
        "source" => {
            let vhost = if view.vhost == "/" { "" } else { view.vhost };
            let slash = if vhost.is_empty() { "" } else { "/" };
            Some(Cow::Owned([slash.as_bytes(), vhost.as_bytes(), b"/", view.exchange].concat()))
        }
        "id" => filled(view.properties.message_id()),
        "datacontenttype" => filled(view.properties.content_type()),
        "specversion" => Some(Cow::Borrowed(b"1.0")),
        _ => None,
    }
}

fn value_text<'m>(value: RawValue<'m>) -> Option<Cow<'m, [u8]>> {
    match value {
        RawValue::LongStr(bytes) => Some(Cow::Borrowed(bytes)),
        RawValue::Bool(true) => Some(Cow::Borrowed(b"true")),
        RawValue::Bool(false) => Some(Cow::Borrowed(b"false")),
        other => other.as_i64().map(|number| Cow::Owned(number.to_string().into_bytes())),
    }
}
