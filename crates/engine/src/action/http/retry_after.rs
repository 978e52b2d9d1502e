//! When the other side says to come back.

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// What `Retry-After` says: seconds, or a time of day, which counts from the answer's own `Date` where it has one, for
/// clocks differ. `None`: it says nothing that can be read. A time that has passed is zero.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    let from = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Some(until.duration_since(from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_all_three_forms_of_a_date_are_read() {
        let at = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let cases = [
            ("120", None, Some(120)),
            (" 0 ", None, Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", None, Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", None, Some(30)),
            ("Sun Nov  6 08:50:07 1994", None, Some(30)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some("Sun, 06 Nov 1994 08:50:00 GMT"), Some(7)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some("yesterday"), Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", None, Some(0)),
            ("soon", None, None),
            ("-1", None, None),
        ];
        for (asked, date, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, asked.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            assert_eq!(retry_after(&headers, at), expected.map(Duration::from_secs), "{asked}, {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), at), None);
    }
}
