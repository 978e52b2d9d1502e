//! The `x-` arguments of a queue: what they must look like, which of them a redeclare compares, which are not acted
//! on yet.

use super::retained::RetainTerms;
use crate::error::Inequivalent;
use crate::stream::arguments::StreamSettings;
use millpond_model::table::{Table, Value};

/// Which kind of queue a declaration asks for (`x-queue-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueType {
    /// The default.
    Classic,
    /// Alone: a durable local queue.
    Quorum,
    /// A log that consumers read and nobody takes from.
    Stream,
}

/// What is wrong with an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadArgument {
    pub(crate) argument: &'static str,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    /// An integer within these bounds.
    Integer(i64, i64),
    Text,
    /// Looked at elsewhere.
    Any,
    /// What messages are grouped by.
    GroupBy,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    Bool,
}

struct Known {
    name: &'static str,
    shape: Shape,
    /// Whether this version acts on it; otherwise declaring it is worth a warning.
    acted_on: bool,
    /// Whether a redeclare must bring the same.
    compared: bool,
}

const fn known(name: &'static str, shape: Shape, acted_on: bool, compared: bool) -> Known {
    Known { name, shape, acted_on, compared }
}

const ANY_COUNT: Shape = Shape::Integer(0, i64::MAX);

/// Every argument a queue type of RabbitMQ 4.3 knows (contracts D9, "Queue arguments"), and those of our own.
const KNOWN: &[Known] = &[
    known("x-queue-type", Shape::OneOf(&["classic", "quorum", "stream"]), true, true),
    known("x-message-ttl", Shape::Integer(0, MILLISECONDS_MAX), true, true),
    known("x-expires", Shape::Integer(1, MILLISECONDS_MAX), true, true),
    known("x-max-length", ANY_COUNT, true, true),
    known("x-max-length-bytes", ANY_COUNT, true, true),
    known("x-overflow", Shape::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]), true, true),
    known("x-dead-letter-exchange", Shape::Text, true, true),
    known("x-dead-letter-routing-key", Shape::Text, true, true),
    known("x-dead-letter-strategy", Shape::OneOf(&["at-most-once", "at-least-once"]), true, true),
    known("x-max-priority", Shape::Integer(0, 255), true, true),
    known("x-single-active-consumer", Shape::Bool, true, true),
    known("x-delivery-limit", Shape::Integer(-1, i64::MAX), true, true),
    known("x-max-age", Shape::Text, true, true),
    known("x-stream-max-segment-size-bytes", ANY_COUNT, true, true),
    known("x-stream-filter-size-bytes", Shape::Integer(16, 255), true, true),
    known("x-consumer-timeout", ANY_COUNT, true, true),
    known("x-delayed-retry-type", Shape::OneOf(&["disabled", "all", "failed", "returned"]), true, true),
    known("x-delayed-retry-min", ANY_COUNT, true, true),
    known("x-delayed-retry-max", ANY_COUNT, true, true),
    known("x-delayed-retry-backoff", Shape::OneOf(&["linear", "fixed", "exponential"]), true, true),
    known("x-delayed-retry-jitter", Shape::Integer(0, 100), true, true),
    known("x-rate", Shape::Any, true, true),
    known("x-rate-window", ANY_COUNT, true, true),
    known("x-paused", Shape::Bool, true, true),
    known("x-publish-rate", Shape::Any, true, true),
    known("x-group-by", Shape::GroupBy, true, true),
    known("x-group-window", Shape::Integer(1, GROUP_WINDOW_MAX), true, true),
    known("x-consumer-disconnected-timeout", ANY_COUNT, false, true),
    known("x-message-deduplication", Shape::Bool, true, true),
    known("x-deduplication-header", Shape::Text, true, true),
    known("x-cache-ttl", Shape::Integer(1, MILLISECONDS_MAX), true, true),
    known("x-cache-size", Shape::Integer(1, 100_000_000), true, true),
    known("x-retain", Shape::Text, true, true),
    known("x-retain-bytes", Shape::Integer(1, i64::MAX), true, true),
    known("x-queue-mode", Shape::OneOf(&["default", "lazy"]), true, false),
    known("x-queue-version", Shape::Integer(1, 2), true, false),
    known("x-queue-leader-locator", Shape::Text, true, false),
    known("x-queue-master-locator", Shape::Text, true, false),
    known("x-initial-cluster-size", Shape::Integer(1, i64::MAX), true, false),
    known("x-quorum-initial-group-size", Shape::Integer(1, i64::MAX), true, false),
    known("x-quorum-target-group-size", Shape::Integer(1, i64::MAX), true, false),
    known("x-max-in-memory-length", ANY_COUNT, true, false),
    known("x-max-in-memory-bytes", ANY_COUNT, true, false),
];

/// RabbitMQ's bound for times: 2^32 - 1 ms and a bit, what its timers can hold.
const MILLISECONDS_MAX: i64 = 315_360_000_000;

/// Most messages that a queue with groups looks at ahead.
pub(crate) const GROUP_WINDOW_MAX: i64 = 1_000_000;

/// Checks all arguments of a declaration; which type of queue it is.
pub(crate) fn check(arguments: &Table) -> Result<QueueType, BadArgument> {
    for known in KNOWN {
        if let Some(value) = arguments.get(known.name)
            && let Err(reason) = check_shape(known.shape, value)
        {
            return Err(BadArgument { argument: known.name, reason });
        }
    }
    super::timing::check_queue(arguments)?;
    RetainTerms::check(arguments)?;
    if arguments.get("x-dead-letter-routing-key").is_some()
        && arguments.get("x-dead-letter-exchange").is_none()
    {
        return Err(BadArgument {
            argument: "x-dead-letter-routing-key",
            reason: "it needs x-dead-letter-exchange beside it".into(),
        });
    }
    match arguments.get("x-queue-type").and_then(Value::as_str) {
        Some("quorum") => Ok(QueueType::Quorum),
        Some("stream") => StreamSettings::check(arguments).map(|()| QueueType::Stream),
        _ => Ok(QueueType::Classic),
    }
}

fn check_shape(shape: Shape, value: &Value) -> Result<(), String> {
    let unacceptable =
        |wanted: &str| Err(format!("unacceptable type {}: {wanted} is needed", value.type_name()));
    match shape {
        Shape::Integer(min, max) => match value.as_i64() {
            Some(v) if (min..=max).contains(&v) => Ok(()),
            Some(v) => Err(format!("value {v} is not within {min}..={max}")),
            None => unacceptable("an integer"),
        },
        Shape::Any => Ok(()),
        Shape::GroupBy => super::grouping::check(value),
        Shape::Text => value.as_str().map_or_else(|| unacceptable("a longstr of UTF-8"), |_| Ok(())),
        Shape::Bool => value.as_bool().map_or_else(|| unacceptable("a bool"), |_| Ok(())),
        Shape::OneOf(choices) => match value.as_str() {
            Some(v) if choices.contains(&v) => Ok(()),
            Some(v) => Err(format!("value '{v}' is not one of {}", choices.join(", "))),
            None => unacceptable("a longstr"),
        },
    }
}

/// Names of arguments worth a warning: known and not acted on yet, or not known at all.
pub(crate) fn without_effect(arguments: &Table) -> impl Iterator<Item = (&str, bool)> {
    arguments.iter().filter_map(|(name, _)| match KNOWN.iter().find(|known| known.name == &**name) {
        Some(known) if known.acted_on => None,
        Some(_) => Some((&**name, true)),
        None => Some((&**name, false)),
    })
}

/// The first compared argument in which two declarations differ (D9). A missing type is `classic`.
pub(crate) fn difference(received: &Table, current: &Table) -> Option<Inequivalent> {
    let classic = Value::from("classic");
    for known in KNOWN.iter().filter(|known| known.compared) {
        let default = (known.name == "x-queue-type").then_some(&classic);
        let (new, old) = (received.get(known.name).or(default), current.get(known.name).or(default));
        let same = match (new, old) {
            (Some(new), Some(old)) => new.is_equivalent(old),
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Some(inequivalent(known.name, new, old));
        }
    }
    None
}

/// RabbitMQ's words for two values of an argument.
pub(crate) fn inequivalent(
    argument: &str,
    received: Option<&Value>,
    current: Option<&Value>,
) -> Inequivalent {
    Inequivalent { argument: argument.to_owned(), received: describe(received), current: describe(current) }
}

/// RabbitMQ's words for two values of a field.
pub(crate) fn inequivalent_field(
    field: &str,
    received: impl std::fmt::Display,
    current: impl std::fmt::Display,
) -> Inequivalent {
    Inequivalent {
        argument: field.to_owned(),
        received: format!("'{received}'"),
        current: format!("'{current}'"),
    }
}

fn describe(value: Option<&Value>) -> String {
    let Some(value) = value else { return "none".to_owned() };
    let text = match value {
        Value::LongStr(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Bool(v) => v.to_string(),
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |v| v.to_string()),
    };
    format!("the value '{text}' of type '{}'", value.type_name())
}
