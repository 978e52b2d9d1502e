//! Who somebody is, and what they may do: users with tags, permissions in vhosts, logins.
//!
//! The one place where permissions are asked: a session asks [`Access::check`] before each operation on a queue or an
//! exchange, and what belongs to no session is reached through [`Operator::may`], which knows for each operation who
//! may do it. Sessions of the process itself (rules, the control socket) may do everything.
//!
//! A publish asks once a route: the session's route cache keeps the answer, and every change here begins a new
//! generation of the topology, which empties it.

mod attempts;
mod logins;
mod operation;
mod password;
mod rights;
mod token;

use crate::{Login, LoginError};
use attempts::Attempts;
use hashbrown::HashMap;
pub(crate) use logins::LoginCounts;
pub use logins::{LoginCount, LoginSource};
use millpond_model::{ExchangeName, UserName, VhostName};
pub use operation::{Operation, OperationRefused, Operator};
use parking_lot::{Mutex, RwLock};
pub(crate) use password::PasswordHash;
use password::same_bytes;
pub use password::{BadHash, HashAlgorithm};
pub use rights::{AccessRefused, Permissions, Right, Thing, TopicPermission};
use rights::{Rights, TopicRights};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
pub use token::TokenScopes;

/// The tags that mean something here; others are kept.
pub mod tag {
    /// May do everything on the management side.
    pub const ADMINISTRATOR: &str = "administrator";
    /// Sees all vhosts and connections.
    pub const MONITORING: &str = "monitoring";
    /// May set policies in vhosts that the user has access to.
    pub const POLICYMAKER: &str = "policymaker";
    /// Sees the vhosts that the user has access to.
    pub const MANAGEMENT: &str = "management";
    /// All of them.
    pub const ALL: [&str; 4] = [ADMINISTRATOR, MONITORING, POLICYMAKER, MANAGEMENT];
}

/// Where a login comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The process itself, which may do everything.
    Inside,
    /// A user of the table, as it was.
    Table {
        /// See [`User::version`].
        version: u64,
    },
    /// A token, which says itself what its bearer may do.
    Token(Arc<Bearer>),
}

/// Who came with a token.
#[derive(Debug)]
pub(crate) struct Bearer {
    pub(crate) scopes: TokenScopes,
    /// In milliseconds since 1970.
    pub(crate) expires_ms: u64,
    /// Tells tokens apart.
    pub(crate) number: u64,
}

/// A user as it is kept.
#[derive(Debug, Default)]
pub(crate) struct User {
    /// `None`: no password lets this user in.
    pub(crate) hash: Option<PasswordHash>,
    pub(crate) tags: Vec<Box<str>>,
    /// Another one after a change of password or tags, also of a user who was deleted and made again.
    pub(crate) version: u64,
    vhosts: HashMap<VhostName, Arc<Rights>>,
    topics: HashMap<VhostName, Arc<TopicRights>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Access {
    users: RwLock<HashMap<UserName, Arc<User>>>,
    /// Digests of the passwords that were found right last, so that a reconnect, or a request over HTTP, costs no
    /// Argon2. In memory only, keyed by a secret of the process.
    verified: Mutex<HashMap<UserName, [u8; 32]>>,
    secret: [u8; 32],
    /// The next [`User::version`].
    next_version: AtomicU64,
    attempts: Mutex<Attempts>,
    pub(crate) logins: Mutex<LoginCounts>,
    /// Held while the table and the store are changed, so that both have the changes in one order.
    pub(crate) changing: Mutex<()>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            users: RwLock::default(),
            verified: Mutex::default(),
            secret: rand::random(),
            next_version: AtomicU64::default(),
            attempts: Mutex::default(),
            logins: Mutex::default(),
            changing: Mutex::default(),
        }
    }
}

/// What came of looking at a password without hashing it.
pub(crate) enum Known {
    /// The answer.
    Answer(Result<Arc<User>, LoginError>),
    /// It must be hashed to be known.
    MustHash(Option<Arc<User>>),
}

impl Access {
    // ---- logins

    fn digest(&self, password: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.secret).chain_update(password).finalize().into()
    }

    /// Looks at a password as far as that costs nothing.
    pub(crate) fn look_at(&self, name: &str, password: &[u8], peer: Option<IpAddr>, now_ms: u64) -> Known {
        if let Some(peer) = peer
            && let Err(retry_after_ms) = self.attempts.lock().check(peer, name, now_ms)
        {
            let user = name.to_owned();
            return Known::Answer(Err(LoginError::TooManyAttempts { user, peer, retry_after_ms }));
        }
        let user = self.users.read().get(name).cloned();
        let digest = self.digest(password);
        match user {
            Some(user) if self.verified.lock().get(name).is_some_and(|known| same_bytes(known, &digest)) => {
                Known::Answer(Ok(user))
            }
            user => Known::MustHash(user),
        }
    }

    /// Whether that is the user's password; `user` is what [`Self::look_at`] found. Takes tens of milliseconds of CPU.
    pub(crate) fn hash_and_look(
        &self,
        name: &str,
        password: &[u8],
        user: Option<Arc<User>>,
    ) -> Result<Arc<User>, LoginError> {
        let Some(user) = user else {
            // As long as for a user who is there, so that the time does not tell who is.
            let _ = PasswordHash::new(password);
            return Err(LoginError::UnknownUser { user: name.to_owned() });
        };
        let known = UserName::new(name).ok();
        let fits = |hash: &PasswordHash| !password.is_empty() && hash.fits(password);
        match known {
            Some(known) if user.hash.as_ref().is_some_and(fits) => {
                let users = self.users.read();
                // Unless it was changed meanwhile.
                if users.get(name).is_some_and(|now| Arc::ptr_eq(now, &user)) {
                    self.verified.lock().insert(known, self.digest(password));
                }
                Ok(user)
            }
            Some(user) => Err(LoginError::WrongPassword { user }),
            None => Err(LoginError::UnknownUser { user: name.to_owned() }),
        }
    }

    /// `Err`: nobody who comes so is looked at, for so many milliseconds.
    pub(crate) fn check_attempt(&self, name: &str, peer: IpAddr, now_ms: u64) -> Result<(), u64> {
        self.attempts.lock().check(peer, name, now_ms)
    }

    /// Remembers how an attempt ended.
    pub(crate) fn note_attempt(&self, name: &str, peer: Option<IpAddr>, is_right: bool, now_ms: u64) {
        let Some(peer) = peer else { return };
        let mut attempts = self.attempts.lock();
        match is_right {
            true => attempts.succeeded(peer, name),
            false => attempts.failed(peer, name, now_ms),
        }
    }

    // ---- the table

    /// Every user, by name.
    pub(crate) fn all(&self) -> Vec<(UserName, Arc<User>)> {
        let mut all: Vec<_> =
            self.users.read().iter().map(|(name, user)| (name.clone(), user.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    pub(crate) fn get(&self, name: &UserName) -> Option<Arc<User>> {
        self.users.read().get(name).cloned()
    }

    pub(crate) fn count(&self) -> usize {
        self.users.read().len()
    }

    /// Adds a user, or changes one; whether it is new. Its permissions stay.
    pub(crate) fn set(&self, name: &UserName, hash: Option<PasswordHash>, tags: Vec<Box<str>>) -> bool {
        let mut users = self.users.write();
        let was = users.get(name);
        let (vhosts, topics) = was.map(|user| (user.vhosts.clone(), user.topics.clone())).unwrap_or_default();
        let is_new = was.is_none();
        let same = was.filter(|was| was.hash == hash && was.tags == tags).map(|was| was.version);
        let version = same.unwrap_or_else(|| self.next_version.fetch_add(1, Ordering::Relaxed));
        users.insert(name.clone(), Arc::new(User { hash, tags, version, vhosts, topics }));
        self.verified.lock().remove(name);
        is_new
    }

    /// Whether there was one.
    pub(crate) fn remove(&self, name: &UserName) -> Option<Arc<User>> {
        let mut users = self.users.write();
        self.verified.lock().remove(name);
        users.remove(name)
    }

    /// Changes what a user may do; `None`: there is no such user.
    fn change<R>(&self, name: &UserName, change: impl FnOnce(&mut User) -> R) -> Option<R> {
        let mut users = self.users.write();
        let was = users.get(name)?;
        let mut user = User {
            hash: was.hash.clone(),
            tags: was.tags.clone(),
            version: was.version,
            vhosts: was.vhosts.clone(),
            topics: was.topics.clone(),
        };
        let result = change(&mut user);
        users.insert(name.clone(), Arc::new(user));
        Some(result)
    }

    /// Gives a user permissions in a vhost, in place of those it had there.
    pub(crate) fn permit(
        &self,
        user: &UserName,
        vhost: &VhostName,
        permissions: Permissions,
    ) -> Result<Option<()>, crate::BadPattern> {
        let rights = Arc::new(Rights::new(permissions)?);
        Ok(self.change(user, |user| {
            user.vhosts.insert(vhost.clone(), rights);
        }))
    }

    /// Takes a user's permissions in a vhost away; whether there were any.
    pub(crate) fn forbid(&self, user: &UserName, vhost: &VhostName) -> bool {
        self.change(user, |user| user.vhosts.remove(vhost).is_some()).unwrap_or(false)
    }

    /// As [`Self::permit`], for a topic exchange.
    pub(crate) fn permit_topic(
        &self,
        user: &UserName,
        vhost: &VhostName,
        permission: TopicPermission,
    ) -> Result<Option<()>, crate::BadPattern> {
        let mut topics = self.topics_of(user, vhost)?;
        topics.set(permission, (user, vhost))?;
        Ok(self.change(user, |user| {
            user.topics.insert(vhost.clone(), Arc::new(topics));
        }))
    }

    /// Takes topic permissions away, of one exchange or all; how many there were.
    pub(crate) fn forbid_topic(
        &self,
        user: &UserName,
        vhost: &VhostName,
        exchange: Option<&ExchangeName>,
    ) -> Vec<ExchangeName> {
        // What was compiled before compiles again.
        let Ok(mut topics) = self.topics_of(user, vhost) else { return Vec::new() };
        let mut gone: Vec<_> = topics.iter().map(|permission| permission.exchange.clone()).collect();
        gone.retain(|it| exchange.is_none_or(|exchange| it == exchange));
        gone.iter().for_each(|exchange| {
            topics.clear(exchange);
        });
        self.change(user, |user| match topics.is_empty() {
            true => drop(user.topics.remove(vhost)),
            false => drop(user.topics.insert(vhost.clone(), Arc::new(topics))),
        });
        gone
    }

    fn topics_of(&self, user: &UserName, vhost: &VhostName) -> Result<TopicRights, crate::BadPattern> {
        let mut topics = TopicRights::default();
        let known = self.get(user).and_then(|user| user.topics.get(vhost).cloned());
        for permission in known.iter().flat_map(|known| known.iter()) {
            topics.set(permission.clone(), (user, vhost))?;
        }
        Ok(topics)
    }

    /// A vhost is gone, with all permissions in it.
    pub(crate) fn forget_vhost(&self, vhost: &VhostName) {
        for (name, _) in self.all() {
            self.change(&name, |user| {
                user.vhosts.remove(vhost);
                user.topics.remove(vhost);
            });
        }
    }

    // ---- questions

    /// The tags of a login; whoever has just been deleted has none.
    pub(crate) fn tags(&self, login: &Login) -> Vec<Box<str>> {
        match &login.origin {
            Origin::Token(bearer) => bearer.scopes.tags().to_vec(),
            _ => self.get(&login.user).map(|user| user.tags.clone()).unwrap_or_default(),
        }
    }

    /// Whether a login may open a session in a vhost.
    pub(crate) fn may_enter(&self, login: &Login, vhost: &VhostName) -> bool {
        if let Origin::Token(bearer) = &login.origin {
            return bearer.scopes.enters(vhost.as_str());
        }
        login.is_inside() || self.get(&login.user).is_some_and(|user| user.vhosts.contains_key(vhost))
    }

    /// Whether a login may do this with a thing of a vhost.
    pub(crate) fn check(
        &self,
        login: &Login,
        vhost: &VhostName,
        right: Right,
        thing: Thing<'_>,
    ) -> Result<(), AccessRefused> {
        if login.is_inside() {
            return Ok(());
        }
        let may = match &login.origin {
            Origin::Token(bearer) => bearer.scopes.allow(right, vhost.as_str(), thing),
            _ => {
                let user = self.get(&login.user);
                let rights = user.as_ref().and_then(|user| user.vhosts.get(vhost));
                rights.is_some_and(|rights| rights.allow(right, thing))
            }
        };
        match may {
            true => Ok(()),
            false => {
                let what = thing.to_string();
                Err(AccessRefused { right, what, vhost: vhost.clone(), user: login.user.clone() })
            }
        }
    }

    /// Whether a login may use this key with a topic exchange.
    pub(crate) fn check_topic(
        &self,
        login: &Login,
        vhost: &VhostName,
        right: Right,
        (exchange, key): (&str, &[u8]),
    ) -> Result<(), AccessRefused> {
        if login.is_inside() {
            return Ok(());
        }
        let key = String::from_utf8_lossy(key);
        let may = match &login.origin {
            Origin::Token(bearer) => bearer.scopes.allow_key(right, vhost.as_str(), exchange, &key),
            _ => {
                let topics = self.get(&login.user).and_then(|user| user.topics.get(vhost).cloned());
                topics.is_none_or(|topics| topics.allow(right, exchange, &key))
            }
        };
        if may {
            return Ok(());
        }
        let what = format!("topic '{key}' in exchange '{exchange}'");
        Err(AccessRefused { right, what, vhost: vhost.clone(), user: login.user.clone() })
    }
}

impl User {
    /// In the vhosts where it has any, by vhost.
    pub(crate) fn permissions(&self) -> Vec<(VhostName, Permissions)> {
        let mut all: Vec<_> =
            self.vhosts.iter().map(|(vhost, rights)| (vhost.clone(), rights.permissions.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// By vhost and exchange.
    pub(crate) fn topic_permissions(&self) -> Vec<(VhostName, TopicPermission)> {
        let mut all: Vec<_> = (self.topics.iter())
            .flat_map(|(vhost, topics)| topics.iter().map(|permission| (vhost.clone(), permission.clone())))
            .collect();
        all.sort_by(|a, b| (&a.0, &a.1.exchange).cmp(&(&b.0, &b.1.exchange)));
        all
    }
}
