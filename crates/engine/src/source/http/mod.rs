//! `http`: an API that is asked again and again, or that holds a request until it has something. See
//! docs/guide/source-http.md.

mod answer;
mod ask;

use super::{Desk, Found, Item, Kind, Opening, Payload, Poll, Polling, Source, SourceError, Work};
use crate::action::ActionTools;
use crate::fingerprint::fingerprint;
use crate::jq::Jq;
use crate::secret::SecretTemplate;
use crate::topology::expression::{jq_of, read_secret_headers};
use crate::topology::read::text;
use crate::topology::{Fields, Node, Report, shorten};
use answer::{Answer, Read, read_answer};
use ask::{Asked, ask};
use reqwest::header::HeaderName;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Redirects followed unless the file says otherwise.
const REDIRECTS_DEFAULT: i64 = 5;

/// Redirects that may be asked for.
const REDIRECTS_MAX: i64 = 20;

/// Largest answer unless the file says otherwise. Bytes.
const BODY_DEFAULT_BYTES: u64 = 8 * 1024 * 1024;

/// Largest answer that may be asked for. Bytes.
const BODY_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Ids that are remembered unless the file says otherwise.
const REMEMBER_DEFAULT: i64 = 1000;

/// Ids that may be remembered, beside those of the last answer: they are written with every commit.
const REMEMBER_MAX: i64 = 10_000;

/// Longest time that an API may take to answer, beyond what it holds the request for.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// An API that says at once that there is nothing is asked no sooner than this after the last time.
const NOTHING_PAUSE: Duration = Duration::from_secs(1);

/// What the file says.
#[derive(Debug)]
struct HttpSpec {
    method: reqwest::Method,
    url: SecretTemplate,
    headers: Vec<(Box<str>, SecretTemplate)>,
    body: Option<Jq>,
    items: Option<Jq>,
    id: Option<Jq>,
    cursor: Option<Jq>,
    more: Option<Jq>,
    remember: usize,
    redirects: usize,
    body_max_bytes: usize,
    timeout: Duration,
    ca_file: Option<Arc<str>>,
}

#[derive(Debug)]
struct HttpKind(Arc<HttpSpec>);

/// Reads `http:`.
pub(super) fn read(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    let known = [
        "url",
        "method",
        "headers",
        "body",
        "items",
        "id",
        "cursor",
        "more",
        "remember",
        "redirects",
        "max_body",
        "timeout",
        "ca_file",
    ];
    let fields = Fields::read(node, path, &known, report);
    let url = fields.required("url", "'url', an http or https URL", report).and_then(|node| {
        let path = fields.path_of("url");
        let source = text(node, &path, "an http or https URL", report)?;
        if !["http://", "https://", "${", "\\("].iter().any(|start| source.starts_with(start)) {
            report.expected(node, &path, "an http or https URL");
        }
        SecretTemplate::read(node, &path, report)
    });
    let method = fields.text("method", "an HTTP method", report).unwrap_or("GET");
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
        let found = format!("found '{}', expected an HTTP method such as GET", shorten(method));
        report.add(fields.line, &fields.path_of("method"), found);
        reqwest::Method::GET
    });
    let headers = read_secret_headers(&fields, "headers", report);
    for (name, _) in &headers {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let text = format!("found '{}', expected the name of an HTTP header", shorten(name));
            report.add(node.line, &fields.path_of("headers"), text);
        }
    }
    let body_max = fields.size("max_body", BODY_DEFAULT_BYTES, 1, report);
    if body_max > BODY_MAX_BYTES
        && let Some(node) = fields.get("max_body")
    {
        report.expected(node, &fields.path_of("max_body"), "at most 64MiB");
    }
    let (id, items) = (jq_of(&fields, "id", report), jq_of(&fields, "items", report));
    if fields.has("id") && !fields.has("items") {
        report.add(
            node.line,
            path,
            "found 'id' without 'items', expected both: it is worked out over an item",
        );
    }
    let spec = HttpSpec {
        method,
        url: url?,
        headers,
        body: jq_of(&fields, "body", report),
        items,
        id,
        cursor: jq_of(&fields, "cursor", report),
        more: jq_of(&fields, "more", report),
        remember: fields.integer("remember", REMEMBER_DEFAULT, 1..=REMEMBER_MAX, report) as usize,
        redirects: fields.integer("redirects", REDIRECTS_DEFAULT, 0..=REDIRECTS_MAX, report) as usize,
        body_max_bytes: body_max.min(BODY_MAX_BYTES) as usize,
        timeout: fields.duration("timeout", Duration::from_secs(10), TIMEOUT_MAX, report),
        ca_file: fields.text("ca_file", "the path of a file with certificates", report).map(Into::into),
    };
    Some(Arc::new(HttpKind(Arc::new(spec))))
}

impl Kind for HttpKind {
    fn name(&self) -> &'static str {
        "http"
    }

    fn polling(&self) -> Polling {
        Polling { default: Poll::Every(Duration::from_secs(60)), every: true, long: true }
    }

    fn event_type(&self) -> String {
        "millpond.http.item".to_owned()
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
        let tools = opening.tools.actions.clone();
        Ok(Box::new(Api { spec: self.0.clone(), tools, asked: None }))
    }
}

struct Api {
    spec: Arc<HttpSpec>,
    tools: ActionTools,
    /// When it was asked last, and had nothing.
    asked: Option<Instant>,
}

/// Where the source stands: what the API's own cursor is, what was seen, and what makes an answer the same again.
#[derive(Debug, Clone, Default, PartialEq)]
struct Stand {
    cursor: Value,
    /// Number of the next item without an id.
    next: u64,
    /// Fingerprints of ids, the oldest first.
    seen: Vec<u64>,
    /// Fingerprint of the last answer that is one item.
    body: Option<u64>,
    /// The URL whose validators these are.
    url: Option<u64>,
    etag: Option<String>,
    modified: Option<String>,
}

impl Stand {
    fn of_json(json: Option<&Value>) -> Self {
        let Some(json) = json else { return Self::default() };
        let number = |name: &str| json.get(name).and_then(Value::as_u64);
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let seen = json.get("seen").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Self {
            cursor: json.get("cursor").cloned().unwrap_or_default(),
            next: number("next").unwrap_or_default(),
            seen: seen.iter().filter_map(Value::as_u64).collect(),
            body: number("body"),
            url: number("url"),
            etag: text("etag"),
            modified: text("modified"),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "cursor": self.cursor, "next": self.next, "seen": self.seen, "body": self.body, "url": self.url,
            "etag": self.etag, "modified": self.modified,
        })
    }
}

impl Api {
    async fn find(
        &mut self,
        desk: &mut Desk,
        cursor: Option<&Value>,
        wait: Duration,
    ) -> Result<Found, SourceError> {
        if let Some(asked) = self.asked.filter(|_| !wait.is_zero()) {
            tokio::time::sleep(NOTHING_PAUSE.saturating_sub(asked.elapsed())).await;
        }
        let began = Instant::now();
        let stand = Stand::of_json(cursor);
        let found = match ask(&self.spec, &self.tools, desk, &stand, wait).await? {
            Asked::Nothing => Found::default(),
            Asked::Answer(answer) => self.take(desk, answer, stand).await?,
        };
        self.asked = found.items.is_empty().then_some(began);
        Ok(found)
    }

    async fn take(&self, desk: &mut Desk, answer: Answer, mut stand: Stand) -> Result<Found, SourceError> {
        let spec = self.spec.clone();
        let (etag, modified, url) = (answer.etag.clone(), answer.modified.clone(), answer.url);
        let before = stand.cursor.clone();
        let read = desk.thinker.run(move || read_answer(&spec, answer, &before)).await?;
        let Read { items, whole, cursor, more } = read.map_err(SourceError::new)?;
        let mut found = Vec::new();
        let mut shown = Shown::new(&stand.seen);
        for (id, item) in items {
            let id = match id {
                Some(id) if !shown.is_new(fingerprint(id.as_bytes())) => continue,
                Some(id) => id,
                None => {
                    stand.next += 1;
                    stand.next.to_string()
                }
            };
            found.push(Item::json(id, item));
        }
        stand.seen = shown.remembered(&stand.seen, self.spec.remember);
        if let Some((print, data)) = whole
            && stand.body != Some(print)
        {
            stand.body = Some(print);
            stand.next += 1;
            found.push(Item { data, ..Item::json(stand.next.to_string(), Value::Null) });
        }
        // The same request would have the same answer, at once and without end.
        let more = more && (stand.cursor != cursor || !found.is_empty());
        stand.cursor = cursor;
        (stand.etag, stand.modified, stand.url) = (etag, modified, Some(url));
        Ok(Found { items: found, cursor: Some(stand.to_json()), more, ..Found::default() })
    }
}

/// The ids of an answer, by their fingerprints.
struct Shown {
    before: HashSet<u64>,
    here: HashSet<u64>,
    in_order: Vec<u64>,
}

impl Shown {
    fn new(seen: &[u64]) -> Self {
        Self { before: seen.iter().copied().collect(), here: HashSet::new(), in_order: Vec::new() }
    }

    /// Notes an id; whether it is seen for the first time.
    fn is_new(&mut self, print: u64) -> bool {
        if !self.here.insert(print) {
            return false;
        }
        self.in_order.push(print);
        !self.before.contains(&print)
    }

    /// What is remembered: all that the API shows now, for it will show it again, and of the others the youngest.
    fn remembered(self, seen: &[u64], max: usize) -> Vec<u64> {
        let mut others: Vec<u64> = seen.iter().copied().filter(|print| !self.here.contains(print)).collect();
        let room = max.saturating_sub(self.in_order.len());
        others.drain(..others.len().saturating_sub(room));
        others.extend(self.in_order);
        others
    }
}

/// The body of an answer that is one item.
fn payload(body: Vec<u8>, content_type: Option<String>) -> Payload {
    match serde_json::from_slice(&body) {
        Ok(data) => Payload::Json(data),
        Err(_) => Payload::Raw { content_type, encoding: None, bytes: body.into() },
    }
}

impl Source for Api {
    fn look<'a>(
        &'a mut self,
        desk: &'a mut Desk,
        cursor: Option<&'a Value>,
        wait: Duration,
    ) -> Work<'a, Found> {
        Box::pin(self.find(desk, cursor, wait))
    }
}
