//! `/login`: a cookie for a page in a browser, so that it need not keep the password.

use super::{Answer, Shared};
use crate::http::door::{self, NoRoom};
use crate::http::management::fields::Fields;
use crate::http::refusal::Refusal;
use crate::http::serve::Encrypted;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use millpond_broker::{FrontEnd, Operation};
use percent_encoding::percent_decode_str;
use serde_json::json;

/// Largest request: a user and a password, which may be a token.
const BODY_MAX_BYTES: usize = 64 * 1024;

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/login", post(begin).delete(end)).layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
}

async fn begin(
    State(shared): State<Shared>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        let text = "another site's page cannot log anybody in here";
        return Err(Refusal::new(StatusCode::FORBIDDEN, text).called("cross_site"));
    }
    let (user, password) = credentials(&headers, &body)?;
    let peer = door::peer(&extensions)?;
    let login = shared
        .door
        .by_password(user, password, (peer, FrontEnd::Management))
        .await
        .map_err(Refusal::quietly)?;
    let operator = shared.broker.operator(login.clone()).asking("POST /login");
    operator.may(Operation::Enter)?;
    let shown = json!({ "name": login.user.as_str(), "tags": operator.tags() });
    let cookie = shared.door.begin(login, is_secure(&extensions, &headers)).map_err(|NoRoom| {
        Refusal::too_fast("too many are logged in: log in again later, or use HTTP Basic")
    })?;
    Ok(([(header::SET_COOKIE, cookie), no_store()], Json(shown)).into_response())
}

async fn end(State(shared): State<Shared>, extensions: Extensions, headers: HeaderMap) -> Answer {
    // Another site cannot make a browser send the cookie along, so this needs nothing else.
    let cookie = shared.door.end(&headers, is_secure(&extensions, &headers));
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

fn no_store() -> (header::HeaderName, axum::http::HeaderValue) {
    (header::CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"))
}

/// A proxy in front may speak TLS for us. Whoever says so without being one only makes their own cookie stricter.
fn is_secure(extensions: &Extensions, headers: &HeaderMap) -> bool {
    extensions.get::<Encrypted>().is_some()
        || headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

/// User and password of a form or of JSON.
fn credentials(headers: &HeaderMap, body: &[u8]) -> Result<(String, Vec<u8>), Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        let fields = Fields::read(body)?;
        fields.need(&["username", "password"])?;
        let text = |name| fields.text(name).map(Option::unwrap_or_default);
        return Ok((text("username")?.to_owned(), text("password")?.into()));
    }
    let (mut user, mut password) = (None, None);
    for pair in body.split(|byte| *byte == b'&') {
        let pair = std::str::from_utf8(pair).map_err(|_| Refusal::bad_request("the form is not UTF-8"))?;
        let Some((name, value)) = pair.split_once('=') else { continue };
        let value: Vec<u8> = percent_decode_str(&value.replace('+', " ")).collect();
        match name {
            "username" => user = String::from_utf8(value).ok(),
            "password" => password = Some(value),
            _ => {}
        }
    }
    user.zip(password)
        .ok_or_else(|| Refusal::bad_request("username and password are expected, as a form or as JSON"))
}
