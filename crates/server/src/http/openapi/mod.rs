//! What there is over HTTP, as a program reads it (OpenAPI 3.1) and as a page.
//!
//! | File | |
//! |---|---|
//! | `endpoints.txt` | every endpoint in a line; see its head |
//! | `components.json` | parameters, schemas, answers that the lines name |
//! | `document` | the description, made of both |
//! | `page.*` | `/api`: to read, to search, to try |
//!
//! A test holds the lines to the routes: what is missing on either side is named.

mod document;

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document::make().to_string());

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const GUARD: (HeaderName, &str) = (
    header::CONTENT_SECURITY_POLICY,
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", include_str!("page.html")) }))
        .route("/openapi.json", get(|| async { file("application/json", &DOCUMENT) }))
        .route(
            "/openapi.js",
            get(|| async { file("text/javascript; charset=utf-8", include_str!("page.js")) }),
        )
        .route("/openapi.css", get(|| async { file("text/css; charset=utf-8", include_str!("page.css")) }))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache"), GUARD], text).into_response()
}
