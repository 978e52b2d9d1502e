//! Who asks: HTTP Basic (RFC 7617), checked as an AMQP login is.

use super::refusal::Refusal;
use crate::login::log_in;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millpond_broker::{Broker, Login, LoginError};
use std::net::SocketAddr;

/// The login that a request's `Authorization` header stands for.
pub(crate) async fn login(broker: &Broker, headers: &HeaderMap, peer: SocketAddr) -> Result<Login, Refusal> {
    let refuse = |reason: &str| Refusal::new(StatusCode::UNAUTHORIZED, reason);
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return Err(refuse("no credentials: send user and password as HTTP Basic"));
    };
    let credentials = given.to_str().ok().and_then(|text| {
        let (scheme, encoded) = text.split_once(' ')?;
        let decoded =
            scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())??;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let user = std::str::from_utf8(&decoded[..colon]).ok()?.to_owned();
        Some((user, decoded[colon + 1..].to_vec()))
    });
    let Some((user, password)) = credentials else {
        return Err(refuse("these credentials cannot be read: HTTP Basic is expected"));
    };
    log_in(broker, user, password, peer.ip()).await.map_err(|error| {
        // As at the AMQP door: the log says why, the client only that.
        tracing::warn!(%peer, %error, "an HTTP request was refused");
        match error {
            LoginError::TooManyAttempts { retry_after_ms, .. } => {
                Refusal::too_fast("too many failed logins").after_ms(retry_after_ms)
            }
            _ => refuse("user or password is wrong, or this user may not come from there"),
        }
    })
}
