//! What a policy may say: one line a key.

use crate::queue::arguments::GROUP_WINDOW_MAX;
use crate::queue::grouping;
use millpond_model::table::Value;

/// What a key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Queues,
    Exchanges,
}

/// What a value must look like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// A whole number within these bounds.
    Integer(i64, i64),
    /// A number above 0, whole or not.
    Rate,
    Text,
    OneOf(&'static [&'static str]),
    Bool,
    /// `7D`, `12h`...: a number and one of Y M D h m s.
    Age,
    /// The name of a header or a property.
    GroupBy,
}

/// What holds where two places say something: a queue's argument beside its policy, a policy beside the operator
/// policy over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// The smaller one, in both cases.
    Least,
    /// As `Least`, and a negative number is no limit.
    LeastLimit,
    /// As `Least`, of ages.
    LeastAge,
    /// The argument beside a policy; the operator policy's beside a policy.
    Argument,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// The argument that says the same for one queue or exchange. `None`: accepted and without effect.
    pub(crate) argument: Option<&'static str>,
    pub(crate) on: On,
    pub(crate) shape: Shape,
    pub(crate) merge: Merge,
    /// Whether an operator policy may have it: only what keeps queues small and short-lived.
    pub(crate) operator: bool,
}

const fn key(name: &'static str, argument: &'static str, shape: Shape, merge: Merge, operator: bool) -> Key {
    Key { name, argument: Some(argument), on: On::Queues, shape, merge, operator }
}

const fn exchange_key(name: &'static str, shape: Shape) -> Key {
    Key { name, argument: Some(name), on: On::Exchanges, shape, merge: Merge::Argument, operator: false }
}

/// A key of a cluster or of an earlier RabbitMQ, that policies brought from there may have.
const fn legacy(name: &'static str, shape: Shape, operator: bool) -> Key {
    Key { name, argument: None, on: On::Queues, shape, merge: Merge::Argument, operator }
}

/// Times beyond ten years are a mistake; RabbitMQ refuses them too. Milliseconds.
const TIME_MAX_MS: i64 = 315_360_000_000;
const TIME: Shape = Shape::Integer(0, TIME_MAX_MS);
const COUNT: Shape = Shape::Integer(0, i64::MAX);

/// Every key (contract table 1.3), and those of Millpond's own at the end.
pub(crate) const KEYS: &[Key] = &[
    key("message-ttl", "x-message-ttl", TIME, Merge::Least, true),
    key("expires", "x-expires", Shape::Integer(1, TIME_MAX_MS), Merge::Least, true),
    key("max-length", "x-max-length", COUNT, Merge::Least, true),
    key("max-length-bytes", "x-max-length-bytes", COUNT, Merge::Least, true),
    key(
        "overflow",
        "x-overflow",
        Shape::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
        Merge::Argument,
        true,
    ),
    key("dead-letter-exchange", "x-dead-letter-exchange", Shape::Text, Merge::Argument, false),
    key("dead-letter-routing-key", "x-dead-letter-routing-key", Shape::Text, Merge::Argument, false),
    key(
        "dead-letter-strategy",
        "x-dead-letter-strategy",
        Shape::OneOf(&["at-most-once", "at-least-once"]),
        Merge::Argument,
        false,
    ),
    key("delivery-limit", "x-delivery-limit", Shape::Integer(-1, i64::MAX), Merge::LeastLimit, true),
    key("consumer-timeout", "x-consumer-timeout", TIME, Merge::Least, true),
    key("consumer-disconnected-timeout", "x-consumer-disconnected-timeout", TIME, Merge::Least, false),
    key(
        "delayed-retry-type",
        "x-delayed-retry-type",
        Shape::OneOf(&["disabled", "all", "failed", "returned"]),
        Merge::Argument,
        false,
    ),
    key("delayed-retry-min", "x-delayed-retry-min", TIME, Merge::Argument, false),
    key("delayed-retry-max", "x-delayed-retry-max", TIME, Merge::Argument, false),
    key("max-age", "x-max-age", Shape::Age, Merge::LeastAge, false),
    key("stream-max-segment-size-bytes", "x-stream-max-segment-size-bytes", COUNT, Merge::Argument, false),
    key(
        "stream-filter-size-bytes",
        "x-stream-filter-size-bytes",
        Shape::Integer(16, 255),
        Merge::Argument,
        false,
    ),
    exchange_key("alternate-exchange", Shape::Text),
    legacy("queue-leader-locator", Shape::Text, false),
    legacy("queue-master-locator", Shape::Text, false),
    legacy("initial-cluster-size", COUNT, false),
    legacy("target-group-size", COUNT, true),
    legacy("queue-mode", Shape::OneOf(&["default", "lazy"]), false),
    legacy("queue-version", Shape::Integer(1, 2), true),
    legacy("max-in-memory-length", COUNT, true),
    legacy("max-in-memory-bytes", COUNT, true),
    // Beyond RabbitMQ.
    exchange_key("delayed-message", Shape::Bool),
    key(
        "delayed-retry-backoff",
        "x-delayed-retry-backoff",
        Shape::OneOf(&["linear", "fixed", "exponential"]),
        Merge::Argument,
        false,
    ),
    key("delayed-retry-jitter", "x-delayed-retry-jitter", Shape::Integer(0, 100), Merge::Argument, false),
    key("retain", "x-retain", Shape::Age, Merge::LeastAge, false),
    key("retain-bytes", "x-retain-bytes", Shape::Integer(1, i64::MAX), Merge::Least, false),
    key("rate", "x-rate", Shape::Rate, Merge::Least, false),
    key("rate-window", "x-rate-window", Shape::Integer(10, 3_600_000), Merge::Argument, false),
    key("paused", "x-paused", Shape::Bool, Merge::Argument, false),
    key("publish-rate", "x-publish-rate", Shape::Rate, Merge::Least, true),
    key("group-by", "x-group-by", Shape::GroupBy, Merge::Argument, false),
    key("group-window", "x-group-window", Shape::Integer(1, GROUP_WINDOW_MAX), Merge::Argument, false),
];

/// Beginnings of keys of features that are not here, with why. Definitions of a RabbitMQ have them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("ha-", "queues have no mirrors: there is one node, and its disk keeps what it confirmed"),
    ("federation-upstream", "there is no federation: a shovel moves messages between brokers"),
];

/// Why a key that RabbitMQ knows means nothing here.
pub(super) fn elsewhere(name: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, why)| *why)
}

/// The key of that name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key that says what this argument says.
pub(crate) fn of_argument(argument: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.argument == Some(argument))
}

impl Shape {
    /// Whether a value fits; the error is the end of a sentence that begins with the key.
    pub(crate) fn check(self, value: &Value) -> Result<(), String> {
        let wanted = match self {
            Self::Integer(min, max) => match value.as_i64() {
                Some(v) if (min..=max).contains(&v) => return Ok(()),
                _ if max == i64::MAX => format!("a whole number from {min} on"),
                _ => format!("a whole number from {min} to {max}"),
            },
            Self::Rate => match number(value) {
                Some(v) if v > 0.0 && v.is_finite() => return Ok(()),
                _ => "a number above 0".to_owned(),
            },
            Self::Text => match value.as_str() {
                Some(_) => return Ok(()),
                None => "a text".to_owned(),
            },
            Self::Bool => match value.as_bool() {
                Some(_) => return Ok(()),
                None => "true or false".to_owned(),
            },
            Self::OneOf(choices) => match value.as_str() {
                Some(v) if choices.contains(&v) => return Ok(()),
                _ => format!("one of {}", choices.join(", ")),
            },
            Self::Age => match age_secs(value) {
                Some(_) => return Ok(()),
                None => "an age such as 7D or 12h (units Y, M, D, h, m, s)".to_owned(),
            },
            Self::GroupBy => match grouping::check(value) {
                Ok(()) => return Ok(()),
                Err(reason) => format!("header:NAME or property:NAME ({reason})"),
            },
        };
        Err(format!("must be {wanted}, not {}", show(value)))
    }
}

/// A number of either kind.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::F32(v) => Some((*v).into()),
        Value::F64(v) => Some(*v),
        other => other.as_i64().map(|v| v as f64),
    }
}

/// An age in seconds: months have 30 days and years 365, as in RabbitMQ.
pub(crate) fn age_secs(value: &Value) -> Option<u64> {
    let text = value.as_str()?;
    let unit = text.chars().last().filter(char::is_ascii)?;
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    let secs = match unit {
        'Y' => 365 * 86_400,
        'M' => 30 * 86_400,
        'D' => 86_400,
        'h' => 3600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    number.checked_mul(secs)
}

pub(super) fn show(value: &Value) -> String {
    match value {
        Value::LongStr(bytes) => format!("'{}'", String::from_utf8_lossy(bytes)),
        Value::Bool(v) => v.to_string(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "an object".to_owned(),
        Value::Void => "null".to_owned(),
        other => number(other).map_or_else(|| other.type_name().to_owned(), |v| v.to_string()),
    }
}
