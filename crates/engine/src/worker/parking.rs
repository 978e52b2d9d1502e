//! Messages that a rule gives up.

use crate::topology::Rule;
use millpond_broker::Delivery;
use millpond_model::Message;
use millpond_model::limits::PROPERTIES_MAX_BYTES;
use millpond_model::properties::RawProperties;
use millpond_model::table::{RawValue, TableBuf};

/// So much of an error goes into the header. Characters.
const ERROR_MAX_CHARS: usize = 2000;

/// What the parking queue gets: the message as it came, and headers that say why.
pub(crate) fn message(rule: &Rule, delivery: &Delivery, attempts: u32, reason: &str) -> Message {
    let message = &delivery.message;
    let properties = RawProperties::from_checked(message.properties());
    let reason: String = reason.chars().take(ERROR_MAX_CHARS).collect();
    let ours = [
        ("x-millpond-error", RawValue::LongStr(reason.as_bytes())),
        ("x-millpond-rule", RawValue::LongStr(rule.name.as_bytes())),
        ("x-millpond-attempts", RawValue::I64(attempts.into())),
        ("x-millpond-exchange", RawValue::LongStr(message.exchange())),
        ("x-millpond-routing-key", RawValue::LongStr(message.routing_key())),
    ];
    let mut headers = match properties.headers() {
        Some(headers) => TableBuf::without(headers, ours[0].0),
        None => TableBuf::new(),
    };
    for (name, _) in &ours[1..] {
        headers = TableBuf::without(headers.as_raw(), name);
    }
    for (name, value) in ours {
        // Names and depths are ours and within the limits; a value is at most some kilobytes.
        let _ = headers.push(name, value);
    }
    let with_headers = properties.with_headers(Some(headers.as_raw()));
    // Beyond what a content header frame carries no client could take it: then it keeps its own headers alone.
    let properties =
        if with_headers.len() <= PROPERTIES_MAX_BYTES { &with_headers } else { message.properties() };
    let queue = rule.parking_queue();
    Message::new(b"", queue.as_str().as_bytes(), properties, message.is_persistent(), message.body())
}
