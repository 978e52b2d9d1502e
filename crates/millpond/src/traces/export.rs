//! Sends spans to the collector. Nobody waits for it: a full queue drops spans, and so does a collector that is away.

use super::layer::SpanLayer;
use super::otlp;
use super::span::Span;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Spans that wait to be sent.
const QUEUE_MAX: usize = 2048;
/// Spans of a request.
const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const EVERY: Duration = Duration::from_secs(1);
/// How long a request may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the stop waits for the last request.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// What the collector's address is given for.
const PATH: &str = "/v1/traces";

/// Where spans are put.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    spans: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    pub(super) fn put(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends what its layer hears of, once it [runs](Self::run).
#[derive(Debug)]
pub(crate) struct Exporter {
    url: String,
    headers: HeaderMap,
    service: String,
    spans: mpsc::Receiver<Span>,
    dropped: Arc<AtomicU64>,
    /// The last request failed, and that was said.
    is_away: bool,
}

/// An exporter that runs.
#[derive(Debug)]
pub(crate) struct Running {
    task: JoinHandle<()>,
    stop: mpsc::Sender<()>,
}

impl Exporter {
    /// With the layer that it listens to, if the settings name a collector.
    pub(crate) fn new(settings: &Settings) -> Result<Option<(Self, SpanLayer)>> {
        let endpoint = settings.otel_endpoint.trim().trim_end_matches('/');
        if endpoint.is_empty() {
            return Ok(None);
        }
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            bail!("`otel_endpoint` is an address such as http://127.0.0.1:4318, not `{endpoint}`");
        }
        let url = match endpoint.ends_with(PATH) {
            true => endpoint.to_owned(),
            false => format!("{endpoint}{PATH}"),
        };
        let (sender, spans) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let layer =
            SpanLayer::new(Queue { spans: sender, dropped: dropped.clone() }, settings.otel_sampling.0);
        let headers = headers(&settings.otel_headers)?;
        let service = settings.otel_service_name.clone();
        Ok(Some((Self { url, headers, service, spans, dropped, is_away: false }, layer)))
    }

    /// Begins to send.
    pub(crate) fn run(self) -> Result<Running> {
        let client = reqwest::Client::builder()
            .timeout(SEND_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("millpond/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("the client for `otel_endpoint`")?;
        let (stop, stopped) = mpsc::channel(1);
        Ok(Running { task: tokio::spawn(self.send_all(client, stopped)), stop })
    }

    async fn send_all(mut self, client: reqwest::Client, mut stopped: mpsc::Receiver<()>) {
        let mut batch = Vec::new();
        loop {
            let stopping = tokio::select! {
                got = self.spans.recv_many(&mut batch, BATCH_MAX) => got == 0,
                _ = stopped.recv() => true,
            };
            if !stopping {
                let more = async {
                    while batch.len() < BATCH_MAX {
                        let Some(span) = self.spans.recv().await else { break };
                        batch.push(span);
                    }
                };
                tokio::select! {
                    () = more => {}
                    () = tokio::time::sleep(EVERY) => {}
                    _ = stopped.recv() => {
                        self.send_rest(&client, batch).await;
                        return;
                    }
                }
                self.send(&client, &batch).await;
                batch.clear();
                continue;
            }
            self.send_rest(&client, batch).await;
            return;
        }
    }

    async fn send_rest(&mut self, client: &reqwest::Client, mut batch: Vec<Span>) {
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
        }
        for part in batch.chunks(BATCH_MAX) {
            self.send(client, part).await;
        }
    }

    async fn send(&mut self, client: &reqwest::Client, spans: &[Span]) {
        let body = otlp::request(&self.service, spans);
        let request = client.post(&self.url).headers(self.headers.clone()).body(body).send().await;
        let failure = match request.map(|response| response.status()) {
            Ok(status) if status.is_success() => None,
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(error.without_url().to_string()),
        };
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "traces came faster than they could be sent");
        }
        match failure {
            // Once, until it is there again.
            Some(reason) if !std::mem::replace(&mut self.is_away, true) => {
                tracing::warn!(%reason, spans = spans.len(), "traces cannot be sent and are dropped");
            }
            Some(_) => {}
            None => self.is_away = false,
        }
    }
}

impl Running {
    /// Sends what waits, for a limited time.
    pub(crate) async fn finish(self) {
        // Full: it is stopping.
        let _ = self.stop.try_send(());
        let abort = self.task.abort_handle();
        if tokio::time::timeout(FLUSH_TIMEOUT, self.task).await.is_err() {
            tracing::warn!("the last traces could not be sent in time");
            abort.abort();
        }
    }
}

/// `NAME=VALUE,NAME=VALUE`, as the environment variables of OpenTelemetry have them.
fn headers(text: &str) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        // Without the value, which is a secret often.
        let wrong = || "`otel_headers` is NAME=VALUE, several with commas between";
        let (name, value) = pair.split_once('=').with_context(wrong)?;
        let name: HeaderName = name.trim().parse().with_context(wrong)?;
        let mut value: HeaderValue = value.trim().parse().with_context(wrong)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_or_refused_without_their_values() {
        let read = headers("authorization=Basic abc==, x-tenant=7").unwrap();
        assert_eq!(read["authorization"], "Basic abc==");
        assert_eq!(read["x-tenant"], "7");
        let error = format!("{:#}", headers("x-tenant: secret").unwrap_err());
        assert!(!error.contains("secret") && error.contains("otel_headers"), "{error}");
    }
}
