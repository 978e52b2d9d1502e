//! Moments as texts.

use jiff::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last moment that has a local time everywhere before the year 10,000, which RFC 3339 cannot say. Seconds since
/// 1970.
const SECONDS_MAX: u64 = 253_402_207_200;

/// RFC 3339 in UTC, with milliseconds if there are any.
pub fn show_time(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = since.subsec_millis();
    let seconds = since.as_secs().min(SECONDS_MAX);
    let whole = Timestamp::try_from(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap_or_default();
    match millis {
        0 => whole.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        millis => format!("{}.{millis:03}Z", whole.strftime("%Y-%m-%dT%H:%M:%S")),
    }
}

/// Whether a text is a moment as RFC 3339 has it.
pub(crate) fn is_time(text: &str) -> bool {
    // jiff reads more than RFC 3339: a moment without its minutes, or with a zone's name behind it.
    text.is_ascii() && text.len() >= 20 && !text.contains('[') && text.parse::<Timestamp>().is_ok()
}
