//! A span for each request, for those who collect traces; without a collector it costs a look at a flag.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

/// Answers within a span.
pub(super) async fn traced(request: Request, next: Next) -> Response {
    let span = span_of(&request);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.failed", true);
    }
    response
}

/// With the route and not the path: in some paths there are names, in one a password.
fn span_of(request: &Request) -> Span {
    let header = |name: &str| request.headers().get(name).and_then(|it| it.to_str().ok()).unwrap_or("");
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    info_span!(
        target: "millpond::trace",
        "http",
        otel.name = format!("{} {route}", request.method()),
        otel.kind = "server",
        otel.failed = Empty,
        traceparent = header("traceparent"),
        http.request.method = request.method().as_str(),
        http.route = route,
        http.response.status_code = Empty,
    )
}
