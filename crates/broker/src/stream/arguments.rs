//! What a stream and its consumers are told by their `x-` arguments.

use crate::queue::arguments::BadArgument;
use crate::queue::settings::is_paused;
use millpond_model::table::{Table, Value};

/// Smallest and largest `x-stream-max-segment-size-bytes`, as RabbitMQ's largest; smaller ones are raised. Bytes.
const SEGMENT_SIZE_MIN_BYTES: u64 = 64 << 10;
const SEGMENT_SIZE_MAX_BYTES: u64 = 3_000_000_000;

/// Arguments of queues that a stream cannot follow; RabbitMQ refuses those that it knows too.
const NOT_FOR_STREAMS: &[&str] = &[
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-priority",
    "x-delivery-limit",
    "x-retain",
    "x-retain-bytes",
    "x-group-by",
    "x-group-window",
];

/// How much a stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Retention {
    /// `x-max-age`.
    pub(crate) age_max_ms: Option<u64>,
    /// `x-max-length-bytes`.
    pub(crate) size_max_bytes: Option<u64>,
}

/// What a stream was declared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StreamSettings {
    pub(crate) retention: Retention,
    /// `x-stream-max-segment-size-bytes`; 0: the store's own.
    pub(crate) segment_size_bytes: u64,
    /// `x-single-active-consumer`.
    pub(crate) single_active: bool,
    /// `x-paused`: nothing is delivered.
    pub(crate) paused: bool,
}

fn bad(argument: &'static str, reason: impl Into<String>) -> BadArgument {
    BadArgument { argument, reason: reason.into() }
}

fn whole(arguments: &Table, argument: &'static str) -> Option<u64> {
    arguments.get(argument).and_then(Value::as_i64).and_then(|value| u64::try_from(value).ok())
}

impl StreamSettings {
    /// Checks what a declaration says: nothing of what takes single messages out of a queue.
    pub(crate) fn check(arguments: &Table) -> Result<(), BadArgument> {
        match NOT_FOR_STREAMS.iter().find(|argument| arguments.get(argument).is_some()) {
            Some(argument @ (&"x-retain" | &"x-retain-bytes")) => Err(bad(
                argument,
                "a stream keeps what is acked anyway: x-max-age and x-max-length-bytes say how much",
            )),
            Some(argument) => Err(bad(argument, "it is not supported by streams")),
            None => Self::parse(arguments).map(|_| ()),
        }
    }

    /// Of arguments whose shapes were checked; the age is checked here.
    pub(crate) fn parse(arguments: &Table) -> Result<Self, BadArgument> {
        let age_max_ms = match arguments.get("x-max-age") {
            None => None,
            Some(value) => {
                let text = value.as_str().unwrap_or_default();
                let ms = interval_ms(text).ok_or_else(|| bad("x-max-age", not_an_interval(text)))?;
                Some(ms)
            }
        };
        let segment_size_bytes = whole(arguments, "x-stream-max-segment-size-bytes").unwrap_or(0);
        if segment_size_bytes > SEGMENT_SIZE_MAX_BYTES {
            let reason = format!("value {segment_size_bytes} is over the limit of {SEGMENT_SIZE_MAX_BYTES}");
            return Err(bad("x-stream-max-segment-size-bytes", reason));
        }
        let segment_size_bytes =
            if segment_size_bytes == 0 { 0 } else { segment_size_bytes.max(SEGMENT_SIZE_MIN_BYTES) };
        Ok(Self {
            retention: Retention { age_max_ms, size_max_bytes: whole(arguments, "x-max-length-bytes") },
            segment_size_bytes,
            single_active: arguments.get("x-single-active-consumer").and_then(Value::as_bool) == Some(true),
            paused: is_paused(arguments),
        })
    }
}

pub(crate) fn not_an_interval(text: &str) -> String {
    format!("'{text}' is not a whole number and a unit (Y, M, D, h, m, s), such as 7D")
}

/// A time such as `7D`, in milliseconds: a whole number and a unit (Y, M, D, h, m, s). A year has 365 days, a month 30.
pub fn interval_ms(text: &str) -> Option<u64> {
    let unit_at = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at))?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "Y" => 365 * 86_400,
        "M" => 30 * 86_400,
        "D" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(seconds * 1000)
}

/// Where a consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the oldest message there is.
    First,
    /// With the newest message there is.
    Last,
    /// With what is published from now on.
    Next,
    /// At this offset, or at the end of the stream that is nearer to it.
    Offset(u64),
    /// With the first message that was published at this time or later; milliseconds since 1970.
    Time(u64),
}

/// What a consumer of a stream was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReaderSettings {
    /// `x-stream-offset`; `None`: where the consumer of that name stopped, else `Next`.
    pub(crate) start: Option<Start>,
    /// `x-stream-automatic-offset-tracking`.
    pub(crate) tracked: bool,
    /// `x-stream-filter`.
    pub(crate) filter: Option<Filter>,
}

/// Which messages a consumer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Values of `x-stream-filter-value`.
    pub(crate) values: Vec<Box<[u8]>>,
    /// Also those without one.
    pub(crate) unfiltered: bool,
}

/// Most values of one filter.
const FILTER_VALUES_MAX: usize = 256;

impl ReaderSettings {
    /// Of a consumer's arguments, at a time in milliseconds since 1970.
    pub(crate) fn parse(arguments: &Table, now_ms: u64) -> Result<Self, BadArgument> {
        let start = arguments.get("x-stream-offset").map(|value| start(value, now_ms)).transpose()?;
        let tracked = flag(arguments, "x-stream-automatic-offset-tracking")?;
        let unfiltered = flag(arguments, "x-stream-match-unfiltered")?;
        let filter = match arguments.get("x-stream-filter") {
            None => None,
            Some(value) => Some(Filter { values: filter_values(value)?, unfiltered }),
        };
        Ok(Self { start, tracked, filter })
    }

    /// The names of the arguments that are read here.
    pub(crate) fn knows(argument: &str) -> bool {
        matches!(
            argument,
            "x-stream-offset"
                | "x-stream-automatic-offset-tracking"
                | "x-stream-match-unfiltered"
                | "x-stream-filter"
        )
    }
}

fn start(value: &Value, now_ms: u64) -> Result<Start, BadArgument> {
    const NAME: &str = "x-stream-offset";
    if let Value::Timestamp(seconds) = value {
        return Ok(Start::Time(seconds.saturating_mul(1000)));
    }
    if let Some(number) = value.as_i64() {
        let offset = u64::try_from(number).map_err(|_| bad(NAME, format!("offset {number} is negative")))?;
        return Ok(Start::Offset(offset));
    }
    match value.as_str() {
        Some("first") => Ok(Start::First),
        Some("last") => Ok(Start::Last),
        Some("next") => Ok(Start::Next),
        Some(text) => match interval_ms(text) {
            Some(ms) => Ok(Start::Time(now_ms.saturating_sub(ms))),
            None => Err(bad(
                NAME,
                format!(
                    "'{text}' is not first, last, next, nor a number and a unit (Y, M, D, h, m, s) such as 1h"
                ),
            )),
        },
        None => Err(bad(
            NAME,
            format!(
                "unacceptable type {}: a longstr, an integer or a timestamp is needed",
                value.type_name()
            ),
        )),
    }
}

fn flag(arguments: &Table, argument: &'static str) -> Result<bool, BadArgument> {
    match arguments.get(argument).map(|value| (value, value.as_bool())) {
        None => Ok(false),
        Some((_, Some(flag))) => Ok(flag),
        Some((value, None)) => {
            Err(bad(argument, format!("unacceptable type {}: a bool is needed", value.type_name())))
        }
    }
}

fn filter_values(value: &Value) -> Result<Vec<Box<[u8]>>, BadArgument> {
    const NAME: &str = "x-stream-filter";
    let one = |value: &Value| match value {
        Value::LongStr(bytes) => Ok(bytes.clone()),
        other => Err(bad(NAME, format!("unacceptable type {}: a longstr is needed", other.type_name()))),
    };
    match value {
        Value::Array(values) if values.len() > FILTER_VALUES_MAX => {
            Err(bad(NAME, format!("{} values are over the limit of {FILTER_VALUES_MAX}", values.len())))
        }
        Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_whole_number_and_a_unit() {
        let day = 86_400_000;
        for (text, ms) in [
            ("7D", Some(7 * day)),
            ("1Y", Some(365 * day)),
            ("2M", Some(60 * day)),
            ("1h", Some(3_600_000)),
            ("90m", Some(5_400_000)),
            ("0s", Some(0)),
            ("", None),
            ("D", None),
            ("7", None),
            ("-7D", None),
            ("7d", None),
            ("1.5h", None),
            ("7 D", None),
            ("7é", None),
            ("18446744073709551615Y", None),
        ] {
            assert_eq!(interval_ms(text), ms, "{text}");
        }
    }

    fn long(text: &str) -> Value {
        Value::LongStr(text.as_bytes().into())
    }

    #[test]
    fn a_consumer_begins_where_its_argument_says() {
        for (value, wanted) in [
            (long("first"), Some(Start::First)),
            (long("last"), Some(Start::Last)),
            (long("next"), Some(Start::Next)),
            (long("10s"), Some(Start::Time(90_000))),
            (long("1Y"), Some(Start::Time(0))),
            (Value::I64(7), Some(Start::Offset(7))),
            (Value::U8(7), Some(Start::Offset(7))),
            (Value::Timestamp(3), Some(Start::Time(3_000))),
            (Value::I32(-1), None),
            (long("soon"), None),
            (Value::Bool(true), None),
        ] {
            let arguments = [("x-stream-offset", value.clone())].into_iter().collect();
            let parsed = ReaderSettings::parse(&arguments, 100_000);
            assert_eq!(parsed.ok().and_then(|settings| settings.start), wanted, "{value:?}");
        }
    }

    #[test]
    fn a_filter_is_a_text_or_several() {
        let parse = |value: Value| {
            let arguments =
                [("x-stream-filter", value), ("x-stream-match-unfiltered", Value::Bool(true))].into_iter();
            ReaderSettings::parse(&arguments.collect(), 0).map(|settings| settings.filter)
        };
        let values = |texts: &[&str]| {
            let values = texts.iter().map(|text| text.as_bytes().into()).collect();
            Some(Filter { values, unfiltered: true })
        };
        assert_eq!(parse(long("a")), Ok(values(&["a"])));
        assert_eq!(parse(Value::Array(vec![long("a"), long("b")])), Ok(values(&["a", "b"])));
        assert!(parse(Value::I32(1)).is_err());
        assert!(parse(Value::Array(vec![Value::I32(1)])).is_err());
        assert!(parse(Value::Array(vec![long("a"); 257])).is_err());
    }
}
