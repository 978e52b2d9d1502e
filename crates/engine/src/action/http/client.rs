//! Sending requests.

use super::HttpStep;
use super::retry_after;
use crate::action::{ActionError, Answer};
use crate::secret::{Scrub, SecretError, Secrets};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;

/// Longest time to make a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle connections kept a host.
const IDLE_MAX_PER_HOST: usize = 32;

/// Largest file of authorities; the system's whole list has a quarter of it. Bytes.
const CA_FILE_MAX_BYTES: u64 = 1024 * 1024;

/// An answer's body is read up to here, so that its connection can be used again; beyond, it is closed. Bytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Headers of an answer that later actions can look at; they come in the order of the answer.
const ANSWER_HEADERS_MAX: usize = 100;

/// So much of an unexpected answer goes into the error. Characters.
const ANSWER_SHOWN_MAX_CHARS: usize = 200;

/// Sends requests; connections are shared by all rules that trust the same authorities. Cloning counts a reference.
///
/// A client is made when a request first needs it: where the system has no authorities, one for TLS cannot be made, and
/// that must not keep a broker from starting.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Relative names of `ca_file` begin here.
    base: PathBuf,
    clients: Mutex<HashMap<Trust, Made>>,
}

/// Whom a client trusts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Trust {
    /// Nobody: for requests without TLS, which then need no authorities.
    Nobody,
    /// The system's authorities.
    System,
    /// Those and the ones of a `ca_file`.
    File(Arc<str>),
}

/// Made of one state of the file; the cell makes those wait that ask while it is made.
#[derive(Debug, Clone)]
struct Made {
    state: Option<FileState>,
    client: Arc<OnceCell<reqwest::Client>>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileState {
    modified: Option<SystemTime>,
    size_bytes: u64,
}

impl HttpClient {
    /// Relative names of `ca_file` are under `base`.
    pub(crate) fn new(base: PathBuf) -> Self {
        Self(Arc::new(Inner { base, clients: Mutex::default() }))
    }

    /// Whether a request that trusts the authorities of `ca_file` could be sent; blocks on the disk.
    pub(crate) fn check(&self, ca_file: &str) -> Result<(), String> {
        build(Some(&self.0.base.join(ca_file))).map(drop)
    }

    /// The client for requests with TLS or without, with their `ca_file` as that is now.
    pub(crate) async fn client_for(
        &self,
        is_tls: bool,
        ca_file: Option<&Arc<str>>,
    ) -> Result<reqwest::Client, String> {
        let trust = match ca_file {
            _ if !is_tls => Trust::Nobody,
            None => Trust::System,
            Some(file) => Trust::File(file.clone()),
        };
        let path = match &trust {
            Trust::File(file) => Some(self.0.base.join(&**file)),
            Trust::System | Trust::Nobody => None,
        };
        let state = match path.clone() {
            None => None,
            Some(path) => Some(blocking(move || state_of(&path)).await?),
        };
        let cell = {
            let mut clients = self.0.clients.lock();
            let made = clients
                .entry(trust.clone())
                .or_insert_with(|| Made { state: state.clone(), client: Arc::default() });
            if made.state != state {
                *made = Made { state, client: Arc::default() };
            }
            made.client.clone()
        };
        let make = move || match trust {
            Trust::Nobody => finish(builder().tls_certs_only([])),
            Trust::System | Trust::File(_) => build(path.as_deref()),
        };
        cell.get_or_try_init(|| blocking(make)).await.cloned()
    }

    /// Sends one request and judges the answer's status.
    pub(crate) async fn send(&self, step: &HttpStep, secrets: &Secrets) -> Answer {
        self.send_with(step, secrets, Scrub::default()).await
    }

    /// The same of a request with secrets in its body, which `scrub` knows.
    pub(crate) async fn send_with(&self, step: &HttpStep, secrets: &Secrets, mut scrub: Scrub) -> Answer {
        let sent = resolve_headers(step, secrets, &mut scrub).await?;
        let failed = |reason: String| ActionError::Http {
            place: step.place.clone(),
            method: step.method.to_string(),
            url: step.url.to_string(),
            reason,
        };
        let is_tls = step.url.scheme() != "http";
        let client = self.client_for(is_tls, step.ca_file.as_ref()).await.map_err(failed)?;
        let request = client
            .request(step.method.clone(), step.url.clone())
            .headers(sent)
            .timeout(step.timeout)
            .body(step.body.clone());
        let mut answer = request.send().await.map_err(|error| {
            failed(match error.is_timeout() {
                true => format!("no answer within {} ms", step.timeout.as_millis()),
                false => with_causes(&error),
            })
        })?;
        let status = answer.status().as_u16();
        let headers = std::mem::take(answer.headers_mut());
        let mut body = Vec::new();
        let mut is_whole = false;
        while body.len() < ANSWER_MAX_BYTES {
            match answer.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => {
                    is_whole = true;
                    break;
                }
                // The status is what counts; a body that breaks off is the server's loss.
                Err(_) => break,
            }
        }
        if step.expect.iter().any(|range| range.contains(&status)) {
            return Ok(scrub.json(answer_json(status, &headers, &body, is_whole)));
        }
        Err(ActionError::Status {
            place: step.place.clone(),
            method: step.method.to_string(),
            url: step.url.to_string(),
            status,
            expected: show_ranges(&step.expect),
            answer: show_answer(&scrub, &body),
            retry_after: retry_after(&headers, SystemTime::now()),
        })
    }
}

/// The headers with their secrets; what is secret is told to `scrub`.
async fn resolve_headers(
    step: &HttpStep,
    secrets: &Secrets,
    scrub: &mut Scrub,
) -> Result<HeaderMap, ActionError> {
    let mut headers = HeaderMap::new();
    for (name, text) in &step.headers {
        let failed = |reason: String| ActionError::Secret { place: step.place.clone(), reason };
        let value = text.resolve(secrets).await.map_err(|error| failed(error.to_string()))?;
        scrub.add(&value);
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|_| failed(format!("the header '{name}' cannot have the value of {text}")))?;
        value.set_sensitive(text.as_fixed().is_none());
        headers.insert(name, value);
    }
    if let Some((user, password)) = &step.basic_auth {
        let failed =
            |error: SecretError| ActionError::Secret { place: step.place.clone(), reason: error.to_string() };
        let user = user.resolve(secrets).await.map_err(failed)?;
        let password = password.resolve(secrets).await.map_err(failed)?;
        let pair = BASE64.encode(format!("{}:{}", user.expose(), password.expose()));
        scrub.add(&user);
        scrub.add(&password);
        // Base64 of anything is a header's value.
        if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {pair}")) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        scrub.add_text("(user and password)", pair);
    }
    Ok(headers)
}

/// `{status, headers, body}`: the body as JSON if it is, else as text; null where it is longer than what is read.
fn answer_json(status: u16, headers: &HeaderMap, body: &[u8], is_whole: bool) -> Value {
    let shown = headers.iter().take(ANSWER_HEADERS_MAX).map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), Value::from(value))
    });
    let body = match is_whole {
        true => serde_json::from_slice(body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned())),
        false => Value::Null,
    };
    json!({"status": status, "headers": shown.collect::<serde_json::Map<_, _>>(), "body": body})
}

/// Redirects are not followed: a rule names its endpoint, and nobody else may name another.
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX_PER_HOST)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("millpond/", env!("CARGO_PKG_VERSION")))
}

fn finish(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, String> {
    builder.build().map_err(|error| with_causes(&error))
}

/// A client for TLS that trusts the system's authorities and those of `ca_file`.
fn build(ca_file: Option<&Path>) -> Result<reqwest::Client, String> {
    match ca_file {
        None => finish(builder()),
        Some(path) => finish(builder().tls_certs_merge(read_authorities(path)?))
            .map_err(|reason| format!("ca_file '{}': {reason}", path.display())),
    }
}

fn read_authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let size_bytes = state_of(path)?.size_bytes;
    let unusable = |reason: String| format!("ca_file '{}': {reason}", path.display());
    if size_bytes > CA_FILE_MAX_BYTES {
        return Err(unusable(format!("it has {size_bytes} bytes, at most {CA_FILE_MAX_BYTES} are read")));
    }
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(with_causes(&error)))?;
    match found.is_empty() {
        true => Err(unusable("there is no certificate in it: PEM is expected".to_owned())),
        false => Ok(found),
    }
}

fn state_of(path: &Path) -> Result<FileState, String> {
    let state = std::fs::metadata(path).map_err(|error| format!("ca_file '{}': {error}", path.display()))?;
    Ok(FileState { modified: state.modified().ok(), size_bytes: state.len() })
}

/// Does what blocks on the disk away from the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(format!("the client could not be made: {error}")),
    }
}

fn show_answer(scrub: &Scrub, body: &[u8]) -> String {
    let text = scrub.text(String::from_utf8_lossy(body).into_owned());
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
pub(crate) fn with_causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    match text.as_str() {
        "" => error.to_string(),
        root if root.contains("UnknownIssuer") => {
            format!("no connection: {root}: its authority is not known here; 'ca_file' can name it")
        }
        root if error.is_connect() => format!("no connection: {root}"),
        root => root.to_owned(),
    }
}
