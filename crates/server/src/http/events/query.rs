//! What the query of a request says.

use crate::http::refusal::Refusal;
use axum::http::Uri;
use millpond_model::{ExchangeName, VhostName};
use percent_encoding::percent_decode_str;
use std::time::Duration;

/// The parameters of a query, each known to the request.
#[derive(Debug)]
pub(super) struct Query {
    found: Vec<(String, String)>,
}

impl Query {
    /// Reads a query; a parameter that is not in `known` is refused, for it is nearly always a slip.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Refusal> {
        let mut found: Vec<(String, String)> = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let reason = format!("the parameter '{name}' is not known here: {}", known.join(", "));
                return Err(Refusal::bad_request(reason));
            }
            if found.iter().any(|(known, _)| known == name) {
                return Err(Refusal::bad_request(format!("the parameter '{name}' is there twice")));
            }
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8().map_err(|_| {
                Refusal::bad_request(format!("the parameter '{name}' is not UTF-8 once it is decoded"))
            })?;
            found.push((name.to_owned(), value.into_owned()));
        }
        Ok(Self { found })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.found.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `vhost`; `/` if it is not said.
    pub(super) fn vhost(&self) -> Result<VhostName, Refusal> {
        let name = self.get("vhost").unwrap_or("/");
        VhostName::new(name).map_err(|error| Refusal::bad_request(format!("vhost: {error}")))
    }

    /// `exchange`; the bus if it is not said.
    pub(super) fn exchange(&self) -> Result<ExchangeName, Refusal> {
        let name = self.get("exchange").unwrap_or(super::BUS);
        ExchangeName::new(name).map_err(|error| Refusal::bad_request(format!("exchange: {error}")))
    }

    /// A whole number from 1 to `max`.
    pub(super) fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, Refusal> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().ok().filter(|count| (1..=max).contains(count)).ok_or_else(|| {
            Refusal::bad_request(format!("{name}={text}: a whole number from 1 to {max} is expected"))
        })
    }

    /// A time such as `30s`, `500ms`, `2m`, or seconds as a number.
    pub(super) fn time(
        &self,
        name: &str,
        default: Duration,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Result<Duration, Refusal> {
        let Some(text) = self.get(name) else { return Ok(default) };
        parse_time(text).filter(|time| range.contains(time)).ok_or_else(|| {
            let (least, most) = (range.start().as_millis(), range.end().as_secs());
            let reason = format!(
                "{name}={text}: a time such as 500ms, 30s or 2m is expected, from {least}ms to {most}s"
            );
            Refusal::bad_request(reason)
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(default),
            Some("true" | "") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(Refusal::bad_request(format!("{name}={other}: true or false is expected"))),
        }
    }
}

fn parse_time(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let value: u64 = text[..at].parse().ok()?;
    let unit_ms = match &text[at..] {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    value.checked_mul(unit_ms).map(Duration::from_millis)
}
