//! Times as a person writes them.

use anyhow::{Context, Result};

/// A time in milliseconds since 1970: of RFC 3339, or such a number itself.
pub(super) fn time_ms(text: &str) -> Result<u64> {
    text.parse().ok().or_else(|| rfc3339_ms(text)).with_context(|| {
        format!(
            "'{text}' is not a time since 1970: write it as 2026-01-31T08:00:00Z (or +01:00 for Z), \
             or as milliseconds since then"
        )
    })
}

/// How long ago: `90s`, `1h`, `7D`, in milliseconds.
pub(super) fn age_ms(text: &str) -> Result<u64> {
    millpond_broker::interval_ms(text)
        .with_context(|| format!("'{text}' is not a whole number and a unit (Y, M, D, h, m, s), such as 1h"))
}

fn rfc3339_ms(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(clock, ':')?;
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let before: i64 = (1970..year).map(|year| (1..=12).map(|month| days_of(year, month)).sum::<i64>()).sum();
    let days = before + (1..month).map(|month| days_of(year, month)).sum::<i64>() + day - 1;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset_secs(zone)?;
    u64::try_from(seconds * 1000 + ms).ok()
}

/// East of Greenwich is ahead.
fn offset_secs(zone: &str) -> Option<i64> {
    let (sign, offset) = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", offset) => (1, offset),
        ("-", offset) => (-1, offset),
        _ => return None,
    };
    let [hours, minutes] = numbers(offset, ':')?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn numbers<const N: usize>(text: &str, between: char) -> Option<[i64; N]> {
    let mut found = [0; N];
    let mut parts = text.split(between);
    for number in &mut found {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 4 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_of_rfc_3339_or_a_number_of_milliseconds() {
        for (text, ms) in [
            ("0", Some(0)),
            ("1700000000123", Some(1_700_000_000_123)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000)),
            ("2023-11-14 23:13:20.5+01:00", Some(1_700_000_000_500)),
            ("2023-11-14T16:43:20.1239-05:30", Some(1_700_000_000_123)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2100-02-29T00:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-11-14T22:13:20", None),
            ("2023-11-14", None),
            ("2023-11-14T22:13:20+1", None),
            ("2023-11-14T22:13:20.xZ", None),
            ("yesterday", None),
            ("", None),
            ("TéZ", None),
        ] {
            assert_eq!(time_ms(text).ok(), ms, "{text}");
        }
    }
}
