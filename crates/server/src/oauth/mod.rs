//! OAuth 2: tokens (JWT) in place of passwords.
//!
//! A token is verified with the keys of files and of a provider's key set (`keys`); its scopes become the rights of the
//! login, which `broker::access` asks like any others.

mod keys;

use crate::login::NotLoggedIn;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use keys::Keys;
pub use keys::OauthError;
use millpond_broker::{Broker, Login, TokenScopes};
use millpond_model::UserName;
use serde_json::Value;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longest token that is looked at. Bytes.
const TOKEN_MAX_BYTES: usize = 32 * 1024;

/// Who issues tokens, and how they are read.
#[derive(Debug, Clone)]
pub struct OauthOptions {
    /// What tokens are for (`aud`), and the beginning of their scopes.
    pub resource_server_id: String,
    /// What scopes begin with; `None`: the resource server's id and a dot.
    pub scope_prefix: Option<String>,
    /// Who issues tokens (`iss`); `None`: anybody who has a key.
    pub issuer: Option<String>,
    /// Where the provider's keys are (JWKS): https, or http on this machine.
    pub jwks_url: Option<String>,
    /// Public keys (PEM).
    pub signing_keys: Vec<PathBuf>,
    /// Claims in which scopes are besides `scope`: dots lead into objects.
    pub additional_scopes_key: Option<String>,
    /// Claims whose first text is the user's name.
    pub username_claims: Vec<String>,
    /// Which signatures are taken; none of them with a shared secret.
    pub algorithms: Vec<String>,
    /// How far clocks may be apart.
    pub clock_skew: Duration,
    /// What the console calls itself with the provider; `None`: nobody signs in there.
    pub client_id: Option<String>,
    /// Scopes that the console asks the provider for.
    pub login_scopes: Vec<String>,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Oauth {
    options: OauthOptions,
    algorithms: Vec<Algorithm>,
    keys: Keys,
}

/// Why a token lets nobody in; for the log.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Too long to be one.
    #[error("a token of {size_bytes} bytes is over the limit of {TOKEN_MAX_BYTES}")]
    TooLong {
        /// How long it is.
        size_bytes: usize,
    },
    /// What the library says of it.
    #[error("the token is not good: {0}")]
    Bad(#[from] jsonwebtoken::errors::Error),
    /// Signed as we do not take it.
    #[error("the token is signed by {0:?}, which is not among `oauth_algorithms`")]
    Algorithm(Algorithm),
    /// Signed by somebody else.
    #[error("no key is known by which the token is signed (kid '{kid}')")]
    NoKey {
        /// As the token names it.
        kid: String,
    },
    /// Without a user.
    #[error("the token has no user in any of its claims {0}")]
    NoUser(String),
    /// Without a right.
    #[error("the token of '{user}' has no scope that begins with '{prefix}'")]
    NoScopes {
        /// Whose it is.
        user: UserName,
        /// What is looked for.
        prefix: String,
    },
}

impl Oauth {
    /// Reads the keys of files; those of the provider are fetched by [`Self::keep_fresh`], and when one is missing.
    pub fn new(options: OauthOptions) -> Result<Arc<Self>, OauthError> {
        let algorithms: Result<Vec<_>, _> = options.algorithms.iter().map(|it| keys::algorithm(it)).collect();
        let keys = Keys::new(&options)?;
        Ok(Arc::new(Self { algorithms: algorithms?, keys, options }))
    }

    /// What it was made with.
    pub fn options(&self) -> &OauthOptions {
        &self.options
    }

    /// Where the console sends people to sign in, as an origin (`https://id.example.com`); `None` if it does not: there
    /// is no name to go by, or the issuer's is no address.
    pub(crate) fn login_origin(&self) -> Option<String> {
        self.options.client_id.as_ref()?;
        let issuer = reqwest::Url::parse(self.options.issuer.as_deref()?).ok()?;
        matches!(issuer.scheme(), "https" | "http").then(|| issuer.origin().ascii_serialization())
    }

    /// Fetches the provider's keys now and from time to time, until the task is dropped.
    pub async fn keep_fresh(self: Arc<Self>) {
        self.keys.keep_fresh().await;
    }

    /// Whether a password looks like a token: it is not looked up as a password then.
    pub(crate) fn is_token(password: &[u8]) -> bool {
        password.starts_with(b"eyJ") && password.iter().filter(|byte| **byte == b'.').count() == 2
    }

    /// Verifies a token; a key that is not known is asked for once. Who has come with too many that were not good is not
    /// looked at for a while, as with passwords.
    pub(crate) async fn log_in(
        &self,
        broker: &Broker,
        token: &[u8],
        peer: IpAddr,
    ) -> Result<Login, NotLoggedIn> {
        let claimed = self.claimed_user(token);
        broker.check_token_attempt(&claimed, peer)?;
        let verified = match self.verify(broker, token, peer) {
            Err(TokenError::NoKey { .. }) if self.keys.fetch_again().await => {
                self.verify(broker, token, peer)
            }
            other => other,
        };
        noted(broker, &claimed, peer, verified)
    }

    /// As [`Self::log_in`], with the keys that are known.
    pub(crate) fn log_in_now(
        &self,
        broker: &Broker,
        token: &[u8],
        peer: IpAddr,
    ) -> Result<Login, NotLoggedIn> {
        let claimed = self.claimed_user(token);
        broker.check_token_attempt(&claimed, peer)?;
        noted(broker, &claimed, peer, self.verify(broker, token, peer))
    }

    /// Whose a token claims to be, verified or not; empty: nobody's.
    fn claimed_user(&self, token: &[u8]) -> String {
        let payload = token.split(|byte| *byte == b'.').nth(1).filter(|it| it.len() <= TOKEN_MAX_BYTES);
        let claims = payload.and_then(|it| URL_SAFE_NO_PAD.decode(it).ok());
        let claims: Option<Value> = claims.and_then(|it| serde_json::from_slice(&it).ok());
        let user = claims.as_ref().and_then(|claims| self.user_of(claims));
        user.map(|user| user.to_string()).unwrap_or_default()
    }

    fn user_of(&self, claims: &Value) -> Option<UserName> {
        let names = &self.options.username_claims;
        let user = names.iter().find_map(|name| UserName::new(claims.get(name)?.as_str()?).ok());
        user.filter(|user| !user.is_empty())
    }

    fn verify(&self, broker: &Broker, token: &[u8], peer: IpAddr) -> Result<Login, TokenError> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(TokenError::TooLong { size_bytes: token.len() });
        }
        let header = decode_header(token)?;
        if !self.algorithms.contains(&header.alg) {
            return Err(TokenError::Algorithm(header.alg));
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = self.options.clock_skew.as_secs();
        validation.validate_nbf = true;
        validation.set_audience(&[&self.options.resource_server_id]);
        let mut required = vec!["exp", "aud"];
        if let Some(issuer) = &self.options.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        let mut found = Err(TokenError::NoKey { kid: header.kid.clone().unwrap_or_default() });
        for key in self.keys.fitting(header.kid.as_deref(), header.alg) {
            found = decode::<Value>(token, &key, &validation).map(|it| it.claims).map_err(TokenError::from);
            if found.is_ok() {
                break;
            }
        }
        self.login_of(broker, &found?, peer)
    }

    fn login_of(&self, broker: &Broker, claims: &Value, peer: IpAddr) -> Result<Login, TokenError> {
        let none = || TokenError::NoUser(self.options.username_claims.join(", "));
        let user = self.user_of(claims).ok_or_else(none)?;
        let prefix = self.prefix();
        let mut scopes = Vec::new();
        collect(claims.get("scope"), &self.options.resource_server_id, &mut scopes);
        if let Some(path) = &self.options.additional_scopes_key {
            let more = path.split('.').try_fold(claims, |value, name| value.get(name));
            collect(more, &self.options.resource_server_id, &mut scopes);
        }
        let scopes = TokenScopes::read(scopes.iter().filter_map(|scope| scope.strip_prefix(&prefix)));
        if scopes.is_empty() {
            return Err(TokenError::NoScopes { user, prefix });
        }
        let expires_s = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        // Beyond what a token may say, it is the largest.
        let expires_ms = (expires_s * 1000.0) as u64;
        Ok(broker.login_by_token(user, scopes, expires_ms.saturating_add(self.skew_ms()), Some(peer)))
    }

    fn skew_ms(&self) -> u64 {
        u64::try_from(self.options.clock_skew.as_millis()).unwrap_or(u64::MAX)
    }

    fn prefix(&self) -> String {
        let own = || format!("{}.", self.options.resource_server_id);
        self.options.scope_prefix.clone().unwrap_or_else(own)
    }
}

/// Tells the broker of a token that is not good; one that is good it knows of.
fn noted(
    broker: &Broker,
    claimed: &str,
    peer: IpAddr,
    verified: Result<Login, TokenError>,
) -> Result<Login, NotLoggedIn> {
    if let Err(error) = &verified {
        broker.refuse_token(claimed, peer, &error.to_string());
    }
    Ok(verified?)
}

/// Scopes are a text with spaces, a list of such, or such by resource server.
fn collect<'a>(value: Option<&'a Value>, resource_server_id: &str, out: &mut Vec<&'a str>) {
    match value {
        Some(Value::String(text)) => out.extend(text.split_whitespace()),
        Some(Value::Array(items)) => {
            out.extend(items.iter().filter_map(Value::as_str).flat_map(str::split_whitespace));
        }
        Some(Value::Object(by_server)) => {
            if let Some(inner @ (Value::String(_) | Value::Array(_))) = by_server.get(resource_server_id) {
                collect(Some(inner), resource_server_id, out);
            }
        }
        _ => {}
    }
}
