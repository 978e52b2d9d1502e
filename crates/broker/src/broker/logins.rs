//! How logins ended: counted, entered into the audit log when they are refused, and slowed down when there are many.

use crate::access::{LoginCount, LoginSource};
use crate::audit::{Actor, AuditObject, Credential, LOGIN_REFUSED};
use crate::{Broker, Login, LoginError};
use std::net::IpAddr;

/// Longest name of somebody who is not known that is entered. Bytes.
const CLAIMED_MAX_BYTES: usize = 255;

impl Broker {
    /// Somebody who comes to the front end that has this broker in hands.
    pub(super) fn newcomer(&self, user: &str, credential: Credential, peer: Option<IpAddr>) -> Actor {
        let user = user[..user.floor_char_boundary(CLAIMED_MAX_BYTES)].into();
        Actor { user, credential, front_end: self.actor.front_end, peer }
    }

    pub(super) fn note_login(
        &self,
        login: Result<Login, LoginError>,
        user: &str,
        credential: Credential,
        peer: Option<IpAddr>,
    ) -> Result<Login, LoginError> {
        match &login {
            Ok(_) => self.count_login(user, peer, true),
            Err(error) => self.refuse_login(user, credential, peer, &error.to_string()),
        }
        login
    }

    /// Enters a login that was refused for a reason that only the front end knows; `user` is whom they claimed to be.
    /// The reason must hold nothing of what they showed.
    pub fn refuse_login(&self, user: &str, credential: Credential, peer: Option<IpAddr>, reason: &str) {
        self.count_login(user, peer, false);
        let actor = self.newcomer(user, credential, peer);
        let object = AuditObject::named("user", actor.user.clone());
        self.core.audit.refused(&actor, LOGIN_REFUSED, object, ("", reason));
    }

    fn count_login(&self, user: &str, peer: Option<IpAddr>, is_right: bool) {
        let user = &user[..user.floor_char_boundary(CLAIMED_MAX_BYTES)];
        self.core.access.logins.lock().add(self.actor.front_end, peer, user, is_right);
    }

    // ---- tokens

    /// Whether a token that claims to be this user's is looked at, or too many from there were not good of late. As
    /// with passwords, nobody can lock out somebody who comes from elsewhere; tokens and passwords are apart.
    pub fn check_token_attempt(&self, claimed: &str, peer: IpAddr) -> Result<(), LoginError> {
        let now_ms = self.core.options.clock.now_ms();
        let checked = self.core.access.check_attempt(&of_token(claimed), peer, now_ms);
        checked.map_err(|retry_after_ms| {
            let error = LoginError::TooManyAttempts { user: claimed.to_owned(), peer, retry_after_ms };
            self.refuse_login(claimed, Credential::Token, Some(peer), &error.to_string());
            error
        })
    }

    /// Remembers a token that is not good, and enters it. The reason must hold nothing of the token but who it claims
    /// to be of.
    pub fn refuse_token(&self, claimed: &str, peer: IpAddr, reason: &str) {
        self.note_token(claimed, Some(peer), Some(reason));
    }

    /// Remembers how it ended with a token; `None`: it is good.
    pub(super) fn note_token(&self, claimed: &str, peer: Option<IpAddr>, refused: Option<&str>) {
        let now_ms = self.core.options.clock.now_ms();
        self.core.access.note_attempt(&of_token(claimed), peer, refused.is_none(), now_ms);
        match refused {
            None => self.count_login(claimed, peer, true),
            Some(reason) => self.refuse_login(claimed, Credential::Token, peer, reason),
        }
    }

    // ---- what was counted

    /// How often somebody tried to log in, by front end.
    pub fn login_counts(&self) -> Vec<(crate::FrontEnd, LoginCount)> {
        self.core.access.logins.lock().all()
    }

    /// The same by who came from where; those who came first, if there are very many.
    pub fn login_sources(&self) -> Vec<LoginSource> {
        self.core.access.logins.lock().sources()
    }

    /// Counts from nothing again; `sources_only`: the sums stay.
    pub fn forget_login_counts(&self, sources_only: bool) {
        match sources_only {
            true => self.core.access.logins.lock().forget_sources(),
            false => self.core.access.logins.lock().forget(),
        }
        let what = if sources_only { "by source" } else { "all" };
        self.audit("login.attempts.reset", AuditObject::named("node", ""), what);
    }
}

/// What attempts with tokens are remembered by: no user has such a name.
fn of_token(claimed: &str) -> String {
    format!("\0token of {}", &claimed[..claimed.floor_char_boundary(CLAIMED_MAX_BYTES)])
}
