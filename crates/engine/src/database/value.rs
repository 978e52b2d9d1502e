//! What the databases' values have in common as JSON.

use crate::topology::shorten;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::Value;

/// The key of an object that stands for bytes, for databases whose parameters have no types of their own.
pub(crate) const BYTES_KEY: &str = "$base64";

/// Microseconds of a day.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// The bytes that `{"$base64": "..."}` stands for; `None`: it is another value.
pub(super) fn bytes_of(value: &Value) -> Option<Result<Vec<u8>, String>> {
    let Value::Object(fields) = value else { return None };
    match fields.get(BYTES_KEY) {
        Some(Value::String(text)) if fields.len() == 1 => Some(base64_bytes(text)),
        _ => None,
    }
}

/// What stands for bytes of which this is the base64: see [`bytes_of`].
pub(crate) fn as_bytes(base64: Value) -> Value {
    Value::Object([(BYTES_KEY.to_owned(), base64)].into_iter().collect())
}

/// RFC 4648, section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What [`base64`] wrote, with or without its padding.
pub(crate) fn base64_bytes(text: &str) -> Result<Vec<u8>, String> {
    let bytes = STANDARD_NO_PAD.decode(text.trim_end_matches('='));
    bytes.map_err(|error| format!("found '{}', expected base64: {error}", shorten(text)))
}

/// A number; what JSON has no number for as a text.
pub(super) fn float(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// A JSON text as what it says; one that is none stays a text.
pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// `2026-11-22`, from the days since 1970, in the Gregorian calendar. Years are counted from March, so that the leap
/// day is a year's last.
pub(super) fn show_date(days_since_1970: i64) -> String {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let days = days_since_1970.saturating_add(719_468);
    let (cycle, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    match cycle * 400 + year + i64::from(month <= 2) {
        year @ 0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        // As ISO 8601 writes years that do not have four digits.
        year => format!("{year:+07}-{month:02}-{day:02}"),
    }
}

/// `10:00:00.123456`, without the fraction if that is nothing.
pub(super) fn show_time_of_day(us: i64) -> String {
    let (seconds, us) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match us {
        0 => format!("{hour:02}:{minute:02}:{second:02}"),
        us => format!("{hour:02}:{minute:02}:{second:02}.{us:06}"),
    }
}

/// `2026-11-22T10:00:00.123456`, from microseconds since 1970.
pub(super) fn show_timestamp(us_since_1970: i64) -> String {
    let (day, us) = (us_since_1970.div_euclid(DAY_US), us_since_1970.rem_euclid(DAY_US));
    format!("{}T{}", show_date(day), show_time_of_day(us))
}

/// Lower case, two digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `8-4-4-4-12`.
pub(super) fn show_uuid(bytes: &[u8]) -> String {
    let digits = hex(bytes);
    match digits.len() {
        32 => [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"),
        _ => digits,
    }
}
