//! The console: files that `make web` wrote, embedded and served as they are.
//!
//! | Path | Cached |
//! |---|---|
//! | `/`, `/favicon.svg` | asked for anew each time, by `ETag` |
//! | `/assets/...` | for ever: their names have a hash of their content |
//! | `/cli`, `/cli/rabbitmqadmin` | where the command lines are to be had |
//!
//! Each file is there as it is, as `.gz` and as `.br`. A binary that was built without them serves a page that says how
//! to get the console.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::future::ready;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
struct Files;

/// Where the build puts what is served.
const ROOT: &str = "www";

/// Nothing from elsewhere, nothing inline, in nobody's frame. The page may ask this broker, and `connects_to`: the
/// provider that people sign in with, if there is one.
fn content_security_policy(connects_to: Option<&str>) -> HeaderValue {
    let also = connects_to.map(|origin| format!(" {origin}")).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{also}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_EACH_TIME: &str = "no-cache";

/// Instead of the console, if there is none.
const NOT_BUILT: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Millpond</title>
<h1>Millpond runs, without its console</h1>
<p>This binary was built by <code>cargo build</code> alone. <code>make run</code> builds the console first (Node 20.19 or newer) and embeds it; released packages have it.</p>
<p>The management API is at <a href=\"/api\">/api</a>, metrics at <a href=\"/metrics\">/metrics</a>, health checks at <a href=\"/health\">/health</a>.</p>
</html>
";

/// `connects_to` is an origin that the page may ask besides this one.
pub(super) fn router(connects_to: Option<&str>) -> Router {
    let policy = content_security_policy(connects_to);
    Router::new()
        .route("/", get(index))
        .route("/favicon.svg", get(|headers: HeaderMap| async move { serve("favicon.svg", &headers) }))
        .route("/assets/{*file}", get(asset))
        .route("/cli", get(cli))
        .route("/cli/", get(cli))
        .route("/cli/rabbitmqadmin", get(rabbitmqadmin))
        .layer(map_response(move |response| ready(guarded(response, policy.clone()))))
}

async fn index(headers: HeaderMap) -> Response {
    if find("index.html").is_some() {
        return serve("index.html", &headers);
    }
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    ([content_type], NOT_BUILT).into_response()
}

/// RabbitMQ hands out its program here. It is RabbitMQ's, so it is shown where it is to be had.
const RABBITMQADMIN: &str = "https://raw.githubusercontent.com/rabbitmq/rabbitmq-server/v3.13.7/deps/rabbitmq_management/bin/rabbitmqadmin";

const CLI: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Millpond: command lines</title>
<h1>Command lines</h1>
<p><code>millpond</code>, the program that serves this page, has a command for everything: <code>millpond help</code>.</p>
<p>RabbitMQ's <code>rabbitmqadmin</code> works with Millpond too. It comes from RabbitMQ: <a href=\"/cli/rabbitmqadmin\">/cli/rabbitmqadmin</a> leads to it, and Debian's package <code>rabbitmq-server</code> has it.</p>
</html>
";

async fn cli() -> Response {
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    ([content_type], CLI).into_response()
}

async fn rabbitmqadmin() -> Response {
    let to = (header::LOCATION, HeaderValue::from_static(RABBITMQADMIN));
    let text = format!("rabbitmqadmin is RabbitMQ's, and works with Millpond: it is at {RABBITMQADMIN}\n");
    (StatusCode::FOUND, [to], text).into_response()
}

async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response {
    serve(&format!("assets/{file}"), &headers)
}

fn find(name: &str) -> Option<EmbeddedFile> {
    Files::get(&format!("{ROOT}/{name}"))
}

/// The smallest form of a file that the client takes, with the name of its encoding.
fn smallest(name: &str, headers: &HeaderMap) -> Option<(EmbeddedFile, Option<&'static str>)> {
    let accepted =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let takes = |encoding: &str| accepted.split(',').any(|each| takes(each, encoding));
    for (encoding, ending) in [("br", "br"), ("gzip", "gz")] {
        if takes(encoding)
            && let Some(file) = find(&format!("{name}.{ending}"))
        {
            return Some((file, Some(encoding)));
        }
    }
    find(name).map(|file| (file, None))
}

/// Whether one member of `Accept-Encoding` takes this encoding: `gzip;q=0` does not.
fn takes(member: &str, encoding: &str) -> bool {
    let (name, weight) = member.split_once(';').unwrap_or((member, ""));
    let refused = weight.trim().strip_prefix("q=").is_some_and(|it| it.parse() == Ok(0.0_f32));
    name.trim().eq_ignore_ascii_case(encoding) && !refused
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

fn guarded(mut response: Response, policy: HeaderValue) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ] {
        response.headers_mut().insert(name, value);
    }
    response
}

fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some((file, encoding)) = smallest(name, headers) else {
        return (StatusCode::NOT_FOUND, "not found: the console has no such file\n").into_response();
    };
    let etag = etag(&file);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = if known.split(',').any(|each| each.trim().trim_start_matches("W/") == etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type(name))], file.data).into_response()
    };
    let caching = if name.starts_with("assets/") { FOR_EVER } else { ASK_EACH_TIME };
    let answered = response.headers_mut();
    answered.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    answered.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answered.insert(header::ETAG, etag);
    }
    if let Some(encoding) = encoding {
        answered.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// From the first half of the content's hash, in quotes.
fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}
