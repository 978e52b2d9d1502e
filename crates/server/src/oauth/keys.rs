//! Public keys: of files, and of a provider's key set, fetched now and then and when one is missing.

use super::OauthOptions;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::RwLock;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often the provider's keys are fetched when nothing asks for them.
const FRESH: Duration = Duration::from_secs(300);
/// Not more often than so, however many tokens name keys that are not known.
const PAUSE: Duration = Duration::from_secs(10);
/// How long fetching may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest key set, and keys in it. Bytes, keys.
const SET_MAX_BYTES: usize = 1024 * 1024;
const KEYS_MAX: usize = 100;

/// Why OAuth 2 cannot be had with these settings.
#[derive(Debug, thiserror::Error)]
pub enum OauthError {
    /// Not a way to sign, or one with a shared secret.
    #[error(
        "`oauth_algorithms`: '{0}' is none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
    )]
    Algorithm(String),
    /// A key that cannot be read.
    #[error("{}: {reason}", .path.display())]
    Key {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nobody could be verified.
    #[error("tokens need keys: name `oauth_jwks_url` or `oauth_signing_keys`")]
    NoKeys,
    /// Keys over a line that others may change.
    #[error("`oauth_jwks_url` '{0}': https is expected, or http on this machine")]
    NotSecret(String),
    /// No client to fetch keys with.
    #[error("`oauth_jwks_url`: {0}")]
    Client(String),
}

/// By its word in a token.
pub(super) fn algorithm(word: &str) -> Result<Algorithm, OauthError> {
    match word.parse() {
        Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) | Err(_) => {
            Err(OauthError::Algorithm(word.to_owned()))
        }
        Ok(algorithm) => Ok(algorithm),
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keys {
    files: Vec<DecodingKey>,
    provider: Option<Provider>,
}

#[derive(Debug)]
struct Provider {
    url: reqwest::Url,
    client: reqwest::Client,
    known: RwLock<Vec<Known>>,
    /// When it was asked last; held while it is asked, so that all who wait get one answer.
    asked: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Known {
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

impl Keys {
    pub(super) fn new(options: &OauthOptions) -> Result<Self, OauthError> {
        let mut files = Vec::new();
        for path in &options.signing_keys {
            let wrong = |reason: String| OauthError::Key { path: path.clone(), reason };
            let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let key = DecodingKey::from_rsa_pem(&text)
                .or_else(|_| DecodingKey::from_ec_pem(&text))
                .or_else(|_| DecodingKey::from_ed_pem(&text));
            files.push(key.map_err(|_| wrong("no public key (PEM; RSA, EC or Ed25519)".to_owned()))?);
        }
        let provider = options.jwks_url.as_deref().map(Provider::new).transpose()?;
        if files.is_empty() && provider.is_none() {
            return Err(OauthError::NoKeys);
        }
        Ok(Self { files, provider })
    }

    /// Keys that may have signed this.
    pub(super) fn fitting(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
        let mut keys: Vec<DecodingKey> = Vec::new();
        if let Some(provider) = &self.provider {
            let known = provider.known.read();
            let named = known.iter().filter(|it| kid.is_none() || it.kid.as_deref() == kid);
            let fits = named.filter(|it| it.algorithm.is_none_or(|its| its == algorithm));
            keys.extend(fits.map(|it| it.key.clone()));
        }
        keys.extend(self.files.iter().cloned());
        keys.retain(|key| key.family().algorithms().contains(&algorithm));
        keys
    }

    /// Asks the provider, unless it was asked a moment ago; whether there may be other keys now.
    pub(super) async fn fetch_again(&self) -> bool {
        match &self.provider {
            Some(provider) => provider.fetch(PAUSE).await,
            None => false,
        }
    }

    pub(super) async fn keep_fresh(&self) {
        let Some(provider) = &self.provider else { return std::future::pending().await };
        loop {
            provider.fetch(PAUSE).await;
            tokio::time::sleep(FRESH).await;
        }
    }
}

impl Provider {
    fn new(text: &str) -> Result<Self, OauthError> {
        let url = reqwest::Url::parse(text).map_err(|error| OauthError::Client(error.to_string()))?;
        let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && is_here) {
            return Err(OauthError::NotSecret(text.to_owned()));
        }
        // A redirect could lead to a line that is not secret.
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(|error| OauthError::Client(error.to_string()))?;
        Ok(Self { url, client, known: RwLock::default(), asked: Mutex::default() })
    }

    async fn fetch(&self, pause: Duration) -> bool {
        let before = Instant::now();
        let mut asked = self.asked.lock().await;
        if let Some(at) = *asked
            && before < at + pause
        {
            // Somebody else asked, while this one waited or just before.
            return at >= before;
        }
        let fetched = self.ask().await;
        *asked = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                tracing::debug!(url = %self.url, count = keys.len(), "keys for tokens fetched");
                *self.known.write() = keys;
                true
            }
            Err(reason) => {
                tracing::error!(url = %self.url, reason, "keys for tokens cannot be fetched: those of before stay");
                false
            }
        }
    }

    async fn ask(&self) -> Result<Vec<Known>, String> {
        let sent = self.client.get(self.url.clone()).send().await;
        let mut answer = sent.and_then(|it| it.error_for_status()).map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
            if body.len() + chunk.len() > SET_MAX_BYTES {
                return Err(format!("the key set is over the limit of {SET_MAX_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let set: serde_json::Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let keys = set.get("keys").and_then(|keys| keys.as_array()).ok_or("it is no key set (JWKS)")?;
        // One that we cannot read is for somebody else.
        let read =
            keys.iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        let set = JwkSet { keys: read.collect() };
        let known: Vec<_> = set.keys.iter().filter_map(Known::of).collect();
        if known.is_empty() { Err("there is no key for signatures in it".to_owned()) } else { Ok(known) }
    }
}

impl Known {
    fn of(jwk: &Jwk) -> Option<Self> {
        let is_shared = matches!(jwk.algorithm, jsonwebtoken::jwk::AlgorithmParameters::OctetKey(_));
        let is_for_secrets = jwk.common.public_key_use == Some(PublicKeyUse::Encryption);
        if is_shared || is_for_secrets {
            return None;
        }
        let algorithm = jwk.common.key_algorithm.and_then(|it| it.to_string().parse().ok());
        Some(Self { kid: jwk.common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
    }
}
