//! Logins of all front ends: hashing a password takes tens of milliseconds, which no network thread may spend.

use crate::oauth::{Oauth, TokenError};
use millpond_broker::{Broker, Login, LoginError};
use std::net::IpAddr;
use tokio::sync::Semaphore;

/// Passwords hashed at once: each takes a core, and some 20 MB.
static HASHING: Semaphore = Semaphore::const_new(HASHING_MAX);
const HASHING_MAX: usize = 2;

/// Why a login failed; the client is told only that it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLoggedIn {
    #[error(transparent)]
    Password(#[from] LoginError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Checks a token or a password; one that was right before is known without hashing it.
pub(crate) async fn log_in(
    broker: &Broker,
    user: String,
    password: Vec<u8>,
    peer: IpAddr,
    oauth: Option<&Oauth>,
) -> Result<Login, NotLoggedIn> {
    if let Some(oauth) = oauth
        && Oauth::is_token(&password)
    {
        return oauth.log_in(broker, &password, peer).await;
    }
    if let Some(known) = broker.login_known(&user, &password, Some(peer)) {
        return Ok(known?);
    }
    let broker = broker.clone();
    let name = user.clone();
    let hashed = hashing(move || broker.login(&user, &password, Some(peer))).await;
    // A check that broke off let nobody in.
    Ok(hashed.unwrap_or(Err(LoginError::UnknownUser { user: name }))?)
}

/// Runs what hashes a password where it holds nobody up; `None`: it broke off.
pub(crate) async fn hashing<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // Never closed; if it were, logins would only be less patient.
    let _slot = HASHING.acquire().await;
    tokio::task::spawn_blocking(work).await.ok()
}
