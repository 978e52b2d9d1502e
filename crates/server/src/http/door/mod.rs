//! Who asks: HTTP Basic (RFC 7617) or a token (RFC 6750), checked as an AMQP login is, or the cookie that such a login got before.

mod cookie;

use super::refusal::Refusal;
use crate::login::{NotLoggedIn, log_in};
use crate::oauth::Oauth;
use crate::options::HttpOptions;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
pub(crate) use cookie::NoRoom;
use cookie::Sessions;
use millpond_broker::{Broker, Credential, FrontEnd, Login, LoginError};
use std::net::SocketAddr;
use std::sync::Arc;

/// What no other site can make a browser send along: a page that shows itself by it is ours. Without it, somebody who
/// is logged in could be led to a page that changes things here in their name.
const FROM_OUR_PAGE: &str = "x-requested-with";

/// Put into the extensions of a request that comes from inside the process, where nothing else can put it.
#[derive(Debug, Clone)]
pub(crate) struct Inside(pub(crate) Login);

/// See the module.
#[derive(Debug)]
pub(crate) struct Door {
    broker: Broker,
    sessions: Sessions,
    cookie: String,
    oauth: Option<Arc<Oauth>>,
}

impl Door {
    /// `port` is one of ours: browsers know a machine's cookies by their names only, and there may be a second broker.
    pub(crate) fn new(
        broker: Broker,
        options: &HttpOptions,
        port: Option<u16>,
        oauth: Option<Arc<Oauth>>,
    ) -> Self {
        let cookie = format!("millpond_{}", port.unwrap_or_default());
        Self { broker, sessions: Sessions::new(options.login_idle), cookie, oauth }
    }

    /// The login that a request stands for.
    pub(crate) async fn login(&self, parts: &Parts, front_end: FrontEnd) -> Result<Login, Refusal> {
        if let Some(Inside(login)) = parts.extensions.get() {
            return Ok(login.clone());
        }
        let peer = peer(&parts.extensions)?;
        if !parts.headers.contains_key(header::AUTHORIZATION)
            && let Some(token) = self.cookie_of(&parts.headers)
        {
            return self.by_cookie(token, parts, (peer, front_end));
        }
        if let Some(token) = bearer(&parts.headers) {
            let login = self.by_token(token, (peer, front_end)).await;
            return login.map_err(|refusal| challenge(refusal, &parts.headers));
        }
        let (user, password) = basic(&parts.headers)?;
        let login = self.by_password(user, password, (peer, front_end)).await;
        login.map_err(|refusal| challenge(refusal, &parts.headers))
    }

    /// Checks a password that came in whichever way.
    pub(crate) async fn by_password(
        &self,
        user: String,
        password: Vec<u8>,
        (peer, front_end): (SocketAddr, FrontEnd),
    ) -> Result<Login, Refusal> {
        let broker = self.broker.at(front_end);
        let login = log_in(&broker, user, password, peer.ip(), self.oauth.as_deref()).await;
        let reason = "user or password is wrong, or this user may not come from there";
        login.map_err(|error| refused(peer, &error, reason))
    }

    /// The OAuth 2 of this server, if it has one.
    pub(crate) fn oauth(&self) -> Option<&Oauth> {
        self.oauth.as_deref()
    }

    async fn by_token(
        &self,
        token: &str,
        (peer, front_end): (SocketAddr, FrontEnd),
    ) -> Result<Login, Refusal> {
        let reason = "the token is not good here";
        let broker = self.broker.at(front_end);
        let Some(oauth) = &self.oauth else {
            let why = "tokens are not taken here";
            broker.refuse_login("", Credential::Token, Some(peer.ip()), why);
            return Err(unauthorized(reason));
        };
        let login = oauth.log_in(&broker, token.as_bytes(), peer.ip()).await;
        login.map_err(|error| refused(peer, &error, reason))
    }

    fn by_cookie(
        &self,
        token: &str,
        parts: &Parts,
        (peer, front_end): (SocketAddr, FrontEnd),
    ) -> Result<Login, Refusal> {
        let ended = || unauthorized("this login has ended: log in again").quietly();
        let login = self.sessions.find(token).ok_or_else(ended)?;
        let login = self.broker.at(front_end).renew_login(&login, Some(peer.ip())).map_err(|error| {
            tracing::info!(%peer, %error, "a login by cookie has ended");
            self.sessions.end(token);
            ended()
        })?;
        let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if changes && !parts.headers.contains_key(FROM_OUR_PAGE) {
            let text =
                "a request that changes something and comes with a cookie needs the header X-Requested-With";
            return Err(Refusal::new(StatusCode::FORBIDDEN, text).called("cross_site"));
        }
        Ok(login)
    }

    /// Begins a login by cookie; what `Set-Cookie` says.
    pub(crate) fn begin(&self, login: Login, is_secure: bool) -> Result<HeaderValue, NoRoom> {
        let token = self.sessions.begin(login)?;
        Ok(self.set_cookie(&token, is_secure, ""))
    }

    /// Ends the login of a request's cookie, if it has one; what `Set-Cookie` says.
    pub(crate) fn end(&self, headers: &HeaderMap, is_secure: bool) -> HeaderValue {
        if let Some(token) = self.cookie_of(headers) {
            self.sessions.end(token);
        }
        self.set_cookie("", is_secure, "; Max-Age=0")
    }

    fn set_cookie(&self, token: &str, is_secure: bool, more: &str) -> HeaderValue {
        let secure = if is_secure { "; Secure" } else { "" };
        let text = format!("{}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{more}", self.cookie);
        // Letters, digits and signs of ASCII.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    fn cookie_of<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let all = headers.get_all(header::COOKIE).into_iter().filter_map(|it| it.to_str().ok());
        let mut pairs = all.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie).map(|(_, token)| token).filter(|it| !it.is_empty())
    }
}

/// Where a request comes from.
pub(crate) fn peer(extensions: &Extensions) -> Result<SocketAddr, Refusal> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    Ok(peer.ok_or_else(|| Refusal::unavailable("the connection's address is not known"))?.0)
}

/// As at the AMQP door: the log says why, the client only that.
fn refused(peer: SocketAddr, error: &NotLoggedIn, reason: &str) -> Refusal {
    tracing::warn!(%peer, %error, "an HTTP request was refused");
    match error {
        NotLoggedIn::Password(LoginError::TooManyAttempts { retry_after_ms, .. }) => {
            Refusal::too_fast("too many failed logins").after_ms(*retry_after_ms)
        }
        _ => unauthorized(reason),
    }
}

fn unauthorized(reason: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, reason)
}

/// A page asks for the password itself: the browser must not.
fn challenge(refusal: Refusal, headers: &HeaderMap) -> Refusal {
    if headers.contains_key(FROM_OUR_PAGE) { refusal.quietly() } else { refusal }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn basic(headers: &HeaderMap) -> Result<(String, Vec<u8>), Refusal> {
    let refuse = |reason| challenge(unauthorized(reason), headers);
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
    credentials.ok_or_else(|| refuse("these credentials cannot be read: HTTP Basic is expected"))
}
