//! Sending the request: filled in, redirected, its answer within a limit.

use super::answer::Answer;
use super::{HttpSpec, Stand, fingerprint};
use crate::action::{ActionTools, retry_after};
use crate::jq::to_val;
use crate::secret::{Hidden, SecretText};
use crate::source::{Desk, SourceError};
use reqwest::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    LOCATION,
};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Headers of an answer that expressions see.
const HEADERS_MAX: usize = 100;

/// Longest `ETag` and `Last-Modified` that are remembered. Bytes.
const VALIDATOR_MAX_BYTES: usize = 1024;

/// So much of an unexpected answer goes into the error. Characters.
const SHOWN_MAX_CHARS: usize = 200;

/// What came of asking.
pub(super) enum Asked {
    /// Nothing new.
    Nothing,
    Answer(Answer),
}

/// A request with everything in it.
struct Request {
    method: Method,
    url: Url,
    /// As it may be shown.
    shown: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

pub(super) async fn ask(
    spec: &Arc<HttpSpec>,
    tools: &ActionTools,
    desk: &mut Desk,
    stand: &Stand,
    wait: Duration,
) -> Result<Asked, SourceError> {
    let mut request = fill(spec, tools, desk, stand, wait).await?;
    let url = fingerprint(request.url.as_str().as_bytes());
    if stand.url == Some(url) {
        for (name, value) in [(IF_NONE_MATCH, &stand.etag), (IF_MODIFIED_SINCE, &stand.modified)] {
            if let Some(value) = value.as_deref().and_then(|it| HeaderValue::from_str(it).ok()) {
                request.headers.insert(name, value);
            }
        }
    }
    let limit = spec.timeout + wait;
    match tokio::time::timeout(limit, send(spec, tools, request, url, !wait.is_zero())).await {
        Ok(asked) => asked,
        // It held the request, and had nothing until the end.
        Err(_) if !wait.is_zero() => Ok(Asked::Nothing),
        Err(_) => Err(SourceError::new(format!("no answer within {} ms", limit.as_millis()))),
    }
}

async fn fill(
    spec: &Arc<HttpSpec>,
    tools: &ActionTools,
    desk: &mut Desk,
    stand: &Stand,
    wait: Duration,
) -> Result<Request, SourceError> {
    let input = json!({"cursor": stand.cursor, "wait": wait.as_secs()});
    let (work, shown) = (spec.clone(), |error: crate::jq::JqError| error.to_string());
    type Filled = (Option<SecretText>, Vec<(Box<str>, SecretText)>, Option<Value>);
    let filled: Result<Filled, String> = desk
        .thinker
        .run(move || {
            let val = to_val(&input);
            let url = work.url.fill(&val).map_err(shown)?;
            let mut headers = Vec::new();
            for (name, value) in &work.headers {
                headers.extend(value.fill(&val).map_err(shown)?.map(|value| (name.clone(), value)));
            }
            let body = work.body.as_ref().map(|jq| jq.one(&val)).transpose().map_err(shown)?;
            Ok((url, headers, body))
        })
        .await?;
    let (url, texts, body) = filled.map_err(SourceError::new)?;
    let url = url.ok_or_else(|| SourceError::new("the URL is null"))?;
    let shown = url.to_string();
    let secret = |text: SecretText| async move {
        let resolved: Result<Hidden, _> = text.resolve(&tools.secrets).await;
        resolved.map_err(|error| SourceError::new(error.to_string()))
    };
    let url = Url::parse(secret(url).await?.expose())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| SourceError::new(format!("'{shown}' is not an http or https URL with a host")))?;
    let mut headers = HeaderMap::new();
    let body = body.map(|body| match body {
        Value::String(text) => text.into_bytes(),
        other => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            other.to_string().into_bytes()
        }
    });
    for (name, text) in texts {
        let shown = text.to_string();
        let value = secret(text).await?;
        let bad = || SourceError::new(format!("the header '{name}' cannot have the value '{shown}'"));
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
    }
    Ok(Request { method: spec.method.clone(), url, shown, headers, body })
}

/// Sends it, and follows redirects.
async fn send(
    spec: &HttpSpec,
    tools: &ActionTools,
    mut request: Request,
    url: u64,
    long: bool,
) -> Result<Asked, SourceError> {
    for _ in 0..=spec.redirects {
        let failed =
            |reason: String| SourceError::new(format!("{} {}: {reason}", request.method, request.shown));
        let is_tls = request.url.scheme() == "https";
        let client = tools.http.client_for(is_tls, spec.ca_file.as_ref()).await.map_err(failed)?;
        let sent = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .body(request.body.clone().unwrap_or_default());
        let answer = sent.send().await.map_err(|error| failed(crate::action::with_causes(&error)))?;
        let status = answer.status();
        if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            redirect(&mut request, status, answer.headers())?;
            continue;
        }
        return judge(spec, &request, answer, url, long).await;
    }
    Err(SourceError::new(format!("{}: redirected more than {} times", request.shown, spec.redirects)))
}

/// Goes where the answer says. Another host does not get what was meant for this one.
fn redirect(request: &mut Request, status: StatusCode, headers: &HeaderMap) -> Result<(), SourceError> {
    let refused = |reason: &str| SourceError::new(format!("{}: {status}: {reason}", request.shown));
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| refused("it does not say where to"))?;
    let url = request.url.join(location).map_err(|_| refused("it leads to what is no URL"))?;
    if !matches!(url.scheme(), "http" | "https")
        || (request.url.scheme() == "https" && url.scheme() == "http")
    {
        return Err(refused("it leads out of https"));
    }
    if url.origin() != request.url.origin() {
        let kept = [IF_NONE_MATCH, IF_MODIFIED_SINCE, CONTENT_TYPE];
        let kept =
            kept.into_iter().filter_map(|name| Some((name.clone(), request.headers.get(&name)?.clone())));
        request.headers = kept.collect();
    }
    // As all clients do: only 307 and 308 keep method and body.
    if matches!(status.as_u16(), 301..=303) && !matches!(request.method, Method::GET | Method::HEAD) {
        request.method = Method::GET;
        request.body = None;
        request.headers.remove(CONTENT_TYPE);
    }
    request.url = url;
    Ok(())
}

async fn judge(
    spec: &HttpSpec,
    request: &Request,
    mut answer: reqwest::Response,
    url: u64,
    long: bool,
) -> Result<Asked, SourceError> {
    let status = answer.status().as_u16();
    let failed = |reason: String| SourceError::new(format!("{} {}: {reason}", request.method, request.shown));
    match status {
        204 | 304 => return Ok(Asked::Nothing),
        // Nothing came while the request was held.
        408 | 504 if long => return Ok(Asked::Nothing),
        _ => {}
    }
    let headers = std::mem::take(answer.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) =
        answer.chunk().await.map_err(|error| failed(crate::action::with_causes(&error)))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > spec.body_max_bytes {
            return Err(failed(format!(
                "the answer has more than {} bytes: see max_body",
                spec.body_max_bytes
            )));
        }
        if !(200..300).contains(&status) && body.len() > SHOWN_MAX_CHARS * 4 {
            break;
        }
    }
    if !(200..300).contains(&status) {
        let shown: String = String::from_utf8_lossy(&body).chars().take(SHOWN_MAX_CHARS).collect();
        let mut error = failed(format!("status {status}: {}", shown.escape_debug()));
        error.retry_after = retry_after(&headers, SystemTime::now());
        return Err(error);
    }
    let text = |name: HeaderName| {
        let text = headers.get(name)?.to_str().ok()?;
        (text.len() <= VALIDATOR_MAX_BYTES).then(|| text.to_owned())
    };
    let (etag, modified, content_type) = (text(ETAG), text(LAST_MODIFIED), text(CONTENT_TYPE));
    let shown = headers.iter().take(HEADERS_MAX).map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned().into())
    });
    let headers: Map<String, Value> = shown.collect();
    Ok(Asked::Answer(Answer { status, headers, content_type, body, etag, modified, url }))
}
