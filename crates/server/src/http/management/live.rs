//! `GET /api/live`: the answers of other paths, asked again and again, as server-sent events.
//!
//! | Parameter | Does |
//! |---|---|
//! | `path` | a path below `/api` with its query, percent-encoded; up to [`PATHS_MAX`] of them |
//! | `every_ms` | how often they are asked; [`EVERY_MS`], 1000 if it is not said |
//!
//! | Event | When |
//! |---|---|
//! | `data`: `{"path", "status", "body"}` | the answer is not the one before |
//! | `end`: `{"reason"}` | whoever asked may no longer: nothing comes after it |
//! | a comment | nothing was sent for [`QUIET`] |
//!
//! The router itself is asked, with the headers of the request, so that a viewer sees what they would see if they
//! asked: credentials, permissions and answers are those of the moment. Nobody remembers an answer, only its hash.

use super::listing::parameters;
use super::{Answer, Asker, Shared};
use crate::http::refusal::Refusal;
use crate::stop::StopSignal;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_core::Stream;
use serde_json::json;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tower_service::Service;

/// Viewers at once.
const VIEWERS_MAX: usize = 100;
/// Paths of one viewer.
const PATHS_MAX: usize = 8;
/// How often may be asked for.
const EVERY_MS: RangeInclusive<u64> = 500..=60_000;
const EVERY_MS_DEFAULT: u64 = 1000;
/// Largest answer that is passed on. Bytes.
const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;
/// After this long without an event comes a comment, so that proxies keep the connection.
const QUIET: Duration = Duration::from_secs(15);
/// A viewer who has not read an event for this long has gone.
const STALLED: Duration = Duration::from_secs(60);

/// What may be watched, by the first part of the path: what is looked up and is cheap.
const WATCHED: [&str; 22] = [
    "attention",
    "audit",
    "bindings",
    "channels",
    "connections",
    "consumers",
    "delayed",
    "exchanges",
    "graph",
    "health",
    "nodes",
    "overview",
    "policies",
    "queues",
    "rules",
    "schedules",
    "sources",
    "topology",
    "users",
    "version",
    "vhosts",
    "whoami",
];

/// What the viewers share.
struct Live {
    shared: Shared,
    /// All of the API but this.
    asked: Router,
    viewers: Arc<Semaphore>,
    stop: StopSignal,
}

pub(super) fn router(shared: Shared, asked: Router, stop: StopSignal) -> Router {
    let viewers = Arc::new(Semaphore::new(VIEWERS_MAX));
    Router::new().route("/live", get(watch)).with_state(Arc::new(Live { shared, asked, viewers, stop }))
}

/// A path, and the hash of its last answer.
struct Watched {
    path: String,
    uri: Uri,
    seen: Option<u64>,
}

impl Watched {
    fn new(path: String) -> Result<Self, Refusal> {
        let bad = |why: &str| Refusal::bad_request(format!("path '{path}' cannot be watched: {why}"));
        let uri: Uri = path.parse().map_err(|error| bad(&format!("{error}")))?;
        let parts: Vec<_> = uri.path().split('/').skip(1).collect();
        if !path.starts_with('/') || uri.authority().is_some() {
            return Err(bad("it is to begin with a slash, and to be without /api"));
        }
        // Browsing reads messages.
        let browses = matches!(parts.as_slice(), ["queues", _, _, "messages"]);
        if browses || !parts.first().is_some_and(|first| WATCHED.contains(first)) {
            return Err(bad(&format!("those that can begin with one of {}", WATCHED.join(", "))));
        }
        Ok(Self { uri, path, seen: None })
    }
}

async fn watch(State(live): State<Arc<Live>>, request: Request) -> Answer {
    let (mut parts, _) = request.into_parts();
    Asker::from_request_parts(&mut parts, &live.shared).await?;
    let paths: Result<Vec<_>, _> =
        parameters(&parts.uri, "path").take(PATHS_MAX + 1).map(Watched::new).collect();
    let paths = paths?;
    if paths.is_empty() || paths.len() > PATHS_MAX {
        return Err(Refusal::bad_request(format!("one to {PATHS_MAX} parameters `path` are expected")));
    }
    let every_ms = match parameters(&parts.uri, "every_ms").next() {
        None => EVERY_MS_DEFAULT,
        Some(text) => text.parse().ok().filter(|ms| EVERY_MS.contains(ms)).ok_or_else(|| {
            let (min, max) = (EVERY_MS.start(), EVERY_MS.end());
            Refusal::bad_request(format!("every_ms: {min} to {max} is expected, not '{text}'"))
        })?,
    };
    let Ok(slot) = live.viewers.clone().try_acquire_owned() else {
        return Err(Refusal::too_fast(format!("{VIEWERS_MAX} viewers are watching already")));
    };
    let (events, told) = mpsc::channel(1);
    let viewer = Viewer { live, parts, paths, events, _slot: slot };
    tokio::spawn(viewer.run(Duration::from_millis(every_ms)));
    let mut response = Body::from_stream(Told(told)).into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// One who watches; ends when they are gone, may no longer, or the server stops.
struct Viewer {
    live: Arc<Live>,
    /// Of the request: who asks, from where.
    parts: Parts,
    paths: Vec<Watched>,
    events: mpsc::Sender<Bytes>,
    _slot: OwnedSemaphorePermit,
}

impl Viewer {
    async fn run(mut self, every: Duration) {
        let mut stop = self.live.stop.clone();
        let gone = self.events.clone();
        tokio::select! {
            () = stop.stopped() => {}
            () = gone.closed() => {}
            () = self.look_on(every) => {}
        }
    }

    async fn look_on(&mut self, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_sent = Instant::now();
        loop {
            ticks.tick().await;
            let mut parts = self.parts.clone();
            if let Err(refusal) = Asker::from_request_parts(&mut parts, &self.live.shared).await {
                self.send(event("end", &json!({ "reason": refusal.reason() }).to_string())).await;
                return;
            }
            let mut sent = false;
            for at in 0..self.paths.len() {
                let Some(news) = self.look(at).await else { continue };
                if !self.send(news).await {
                    return;
                }
                sent = true;
            }
            if sent {
                last_sent = Instant::now();
            } else if last_sent.elapsed() >= QUIET {
                if !self.send(Bytes::from_static(b": still here\n\n")).await {
                    return;
                }
                last_sent = Instant::now();
            }
        }
    }

    /// The event that a path is worth, if its answer is another.
    async fn look(&mut self, at: usize) -> Option<Bytes> {
        let response = self.ask(self.paths[at].uri.clone()).await;
        let status = response.status();
        let is_json = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        let (status, body) = match to_bytes(response.into_body(), ANSWER_MAX_BYTES).await {
            Ok(body) if is_json => (status.as_u16(), body),
            Ok(_) => (status.as_u16(), Bytes::from_static(b"null")),
            Err(_) => {
                let reason =
                    format!("the answer has more than {ANSWER_MAX_BYTES} bytes: ask for a page of it");
                let body = json!({ "error": "payload_too_large", "reason": reason });
                (413, body.to_string().into())
            }
        };
        let mut hasher = DefaultHasher::new();
        (status, &body).hash(&mut hasher);
        let hash = hasher.finish();
        let watched = &mut self.paths[at];
        if watched.seen.replace(hash) == Some(hash) {
            return None;
        }
        let path = json!(watched.path);
        let body = String::from_utf8_lossy(&body);
        Some(event("data", &format!("{{\"path\":{path},\"status\":{status},\"body\":{body}}}")))
    }

    async fn ask(&self, uri: Uri) -> Response {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.parts.headers.clone();
        *request.extensions_mut() = self.parts.extensions.clone();
        // A router is always ready.
        let answered: Result<Response, Infallible> = self.live.asked.clone().call(request).await;
        answered.unwrap_or_else(|never| match never {})
    }

    /// Whether it was taken.
    async fn send(&self, event: Bytes) -> bool {
        matches!(tokio::time::timeout(STALLED, self.events.send(event)).await, Ok(Ok(())))
    }
}

/// An event; JSON that was written in one line has no line breaks.
fn event(name: &str, json: &str) -> Bytes {
    format!("event: {name}\ndata: {}\n\n", json.replace('\n', " ")).into()
}

/// What comes out of a channel.
struct Told(mpsc::Receiver<Bytes>);

impl Stream for Told {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|event| event.map(Ok))
    }
}
