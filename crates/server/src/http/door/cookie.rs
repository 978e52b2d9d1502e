//! Logins that a cookie stands for. In memory only: a restart ends them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millpond_broker::Login;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Logins kept at once; those that have ended by themselves make room.
const SESSIONS_MAX: usize = 10_000;
/// Logins of one user; a further one ends the one that was used longest ago.
const SESSIONS_MAX_PER_USER: usize = 50;

/// What a cookie's first bytes find, and what the others must be: only those are secret, and they are compared in a time
/// that tells nothing.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// There are [`SESSIONS_MAX`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// See the module.
#[derive(Debug)]
pub(super) struct Sessions {
    all: Mutex<HashMap<[u8; ID_BYTES], Kept>>,
    idle: Duration,
}

struct Kept {
    secret: [u8; SECRET_BYTES],
    login: Login,
    used: Instant,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({})", self.login.user)
    }
}

impl Sessions {
    /// They end by themselves when nobody used them for so long.
    pub(super) fn new(idle: Duration) -> Self {
        Self { all: Mutex::default(), idle }
    }

    /// Keeps a login; the cookie's value.
    pub(super) fn begin(&self, login: Login) -> Result<String, NoRoom> {
        self.begin_at(login, Instant::now())
    }

    fn begin_at(&self, login: Login, now: Instant) -> Result<String, NoRoom> {
        let (id, secret): ([u8; ID_BYTES], [u8; SECRET_BYTES]) = (rand::random(), rand::random());
        let mut all = self.all.lock();
        if all.len() >= SESSIONS_MAX {
            all.retain(|_, kept| !self.is_over(kept, now));
        }
        let mine = || all.iter().filter(|(_, kept)| kept.login.user == login.user);
        if mine().count() >= SESSIONS_MAX_PER_USER {
            let oldest = mine().min_by_key(|(_, kept)| kept.used).map(|(id, _)| *id);
            oldest.and_then(|id| all.remove(&id));
        }
        if all.len() >= SESSIONS_MAX {
            return Err(NoRoom);
        }
        all.insert(id, Kept { secret, login, used: now });
        Ok(URL_SAFE_NO_PAD.encode([&id[..], &secret].concat()))
    }

    /// Whose cookie this is; using it keeps it from ending.
    pub(super) fn find(&self, token: &str) -> Option<Login> {
        self.find_at(token, Instant::now())
    }

    fn find_at(&self, token: &str, now: Instant) -> Option<Login> {
        let (id, secret) = read(token)?;
        let mut all = self.all.lock();
        let kept = all.get_mut(&id)?;
        if !same_bytes(&kept.secret, &secret) {
            return None;
        }
        if self.is_over(kept, now) {
            all.remove(&id);
            return None;
        }
        kept.used = now;
        Some(kept.login.clone())
    }

    /// Ends one; one that is none is fine.
    pub(super) fn end(&self, token: &str) {
        let Some((id, secret)) = read(token) else { return };
        let mut all = self.all.lock();
        if all.get(&id).is_some_and(|kept| same_bytes(&kept.secret, &secret)) {
            all.remove(&id);
        }
    }

    fn is_over(&self, kept: &Kept, now: Instant) -> bool {
        now.saturating_duration_since(kept.used) >= self.idle
    }
}

fn read(token: &str) -> Option<([u8; ID_BYTES], [u8; SECRET_BYTES])> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (id, secret) = bytes.split_first_chunk()?;
    Some((*id, secret.try_into().ok()?))
}

/// In a time that does not tell where they differ.
fn same_bytes(a: &[u8; SECRET_BYTES], b: &[u8; SECRET_BYTES]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_testkit::TestServer;

    const IDLE: Duration = Duration::from_secs(60);

    /// Sessions, and a login to keep in them; the server must stay.
    async fn some() -> (Sessions, Login, TestServer) {
        let server = TestServer::start().await;
        let login = server.broker().login("guest", b"guest", None).unwrap();
        (Sessions::new(IDLE), login, server)
    }

    #[tokio::test]
    async fn a_cookie_holds_while_it_is_used() {
        let (sessions, login, _server) = some().await;
        let start = Instant::now();
        let token = sessions.begin_at(login, start).unwrap();
        assert!(sessions.find_at(&token, start + IDLE / 2).is_some());
        assert!(sessions.find_at(&token, start + IDLE).is_some());
        assert!(sessions.find_at(&token, start + IDLE * 2).is_none());
        assert!(sessions.find_at(&token, start).is_none());
    }

    #[tokio::test]
    async fn a_cookie_that_was_never_given_is_none() {
        let (sessions, login, _server) = some().await;
        let token = sessions.begin(login).unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let other = URL_SAFE_NO_PAD.encode(&bytes);
        for wrong in [&other, "", "AAAA", &token[1..], "not base64!"] {
            assert!(sessions.find(wrong).is_none(), "{wrong}");
            sessions.end(wrong);
        }
        assert!(sessions.find(&token).is_some());
        sessions.end(&token);
        assert!(sessions.find(&token).is_none());
    }

    #[tokio::test]
    async fn one_user_does_not_take_everybodys_room() {
        let (sessions, login, _server) = some().await;
        let first = sessions.begin(login.clone()).unwrap();
        for _ in 0..SESSIONS_MAX_PER_USER {
            sessions.begin(login.clone()).unwrap();
        }
        assert!(sessions.find(&first).is_none());
        assert_eq!(sessions.all.lock().len(), SESSIONS_MAX_PER_USER);
    }
}
