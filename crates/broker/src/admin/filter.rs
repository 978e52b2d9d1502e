//! Which messages an operator means.

use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::{Table, Value};

/// Which messages are meant: all conditions hold.
#[derive(Debug, Clone, Default)]
pub struct MessageFilter {
    /// Headers with these values as text.
    pub headers: Vec<(String, String)>,
    /// The routing key is this.
    pub routing_key: Option<String>,
    /// The body has these bytes somewhere.
    pub body: Option<Vec<u8>>,
    /// The body, the routing key, a text among the properties or a header has this text somewhere.
    pub text: Option<String>,
    /// The last death was for this reason (`rejected`, `expired`, `maxlen`, `delivery_limit`).
    pub died_of: Option<String>,
    /// The last death was in this queue.
    pub died_in: Option<String>,
}

impl MessageFilter {
    /// Whether a message is meant.
    pub fn matches(&self, message: &Message) -> bool {
        let headers = headers(message);
        let has = |name: &str, wanted: &str| headers.get(name).is_some_and(|value| as_text(value) == wanted);
        let wants = |name: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|it| has(name, it));
        self.headers.iter().all(|(name, wanted)| has(name, wanted))
            && self.routing_key.as_ref().is_none_or(|key| key.as_bytes() == message.routing_key())
            && self.body.as_ref().is_none_or(|part| contains(message.body(), part))
            && self.text.as_ref().is_none_or(|text| has_text(message, &headers, text.as_bytes()))
            && wants("x-last-death-reason", &self.died_of)
            && wants("x-last-death-queue", &self.died_in)
    }
}

pub(super) fn headers(message: &Message) -> Table {
    let properties = RawProperties::from_checked(message.properties());
    properties.headers().map(|headers| headers.to_table()).unwrap_or_default()
}

fn as_text(value: &Value) -> String {
    match value {
        Value::LongStr(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Bool(value) => value.to_string(),
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |value| value.to_string()),
    }
}

fn has_text(message: &Message, headers: &Table, text: &[u8]) -> bool {
    let properties = RawProperties::from_checked(message.properties());
    let texts = [
        properties.content_type(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.message_id(),
        properties.type_(),
        properties.user_id(),
        properties.app_id(),
    ];
    contains(message.body(), text)
        || contains(message.routing_key(), text)
        || texts.into_iter().flatten().any(|value| contains(value, text))
        || headers
            .iter()
            .any(|(name, value)| contains(name.as_bytes(), text) || contains(as_text(value).as_bytes(), text))
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    part.is_empty() || body.windows(part.len()).any(|window| window == part)
}
