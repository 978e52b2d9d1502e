//! HTTP requests.

use super::ActionError;
use crate::plan::HttpStep;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest time to make a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle connections kept a host.
const IDLE_MAX_PER_HOST: usize = 32;

/// An answer's body is read up to here, so that its connection can be used again; beyond, it is closed. Bytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// So much of an unexpected answer goes into the error. Characters.
const ANSWER_SHOWN_MAX_CHARS: usize = 200;

/// Sends requests; connections are shared by all rules. Cloning counts a reference.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient(reqwest::Client);

impl HttpClient {
    /// Redirects are not followed: a rule names its endpoint, and nobody else may name another.
    pub(crate) fn new() -> Result<Self, String> {
        reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX_PER_HOST)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("millpond/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Self)
            .map_err(|error| with_causes(&error))
    }

    /// Sends one request and judges the answer's status.
    pub(crate) async fn send(&self, step: &HttpStep) -> Result<(), ActionError> {
        let failed = |error: &reqwest::Error| ActionError::Http {
            place: step.place.clone(),
            method: step.method.to_string(),
            url: step.url.to_string(),
            reason: match error.is_timeout() {
                true => format!("no answer within {} ms", step.timeout.as_millis()),
                false => with_causes(error),
            },
        };
        let request = self
            .0
            .request(step.method.clone(), step.url.clone())
            .headers(step.headers.clone())
            .timeout(step.timeout)
            .body(step.body.clone());
        let mut answer = request.send().await.map_err(|error| failed(&error))?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while body.len() < ANSWER_MAX_BYTES {
            match answer.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                // The status is what counts; a body that breaks off is the server's loss.
                Ok(None) | Err(_) => break,
            }
        }
        if step.expect.iter().any(|range| range.contains(&status)) {
            return Ok(());
        }
        Err(ActionError::Status {
            place: step.place.clone(),
            method: step.method.to_string(),
            url: step.url.to_string(),
            status,
            expected: show_ranges(&step.expect),
            answer: show_answer(&body),
        })
    }
}

fn show_answer(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return String::new();
    }
    let shown: String = text.chars().take(ANSWER_SHOWN_MAX_CHARS).collect();
    format!(": {}", shown.escape_debug())
}

fn show_ranges(ranges: &[RangeInclusive<u16>]) -> String {
    let shown: Vec<_> = ranges
        .iter()
        .map(|range| match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{}-{}", range.start(), range.end()),
        })
        .collect();
    shown.join(", ")
}

/// The error and what caused it: reqwest's own text says only which phase failed.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    match text.as_str() {
        "" => error.to_string(),
        root if error.is_connect() => format!("no connection: {root}"),
        root => root.to_owned(),
    }
}
