//! The broker itself: start, logins, sessions, other rooms' values, the end.

mod found;
mod logins;
mod users;

use crate::access::{Bearer, Known, Operator, Origin, PasswordHash, TokenScopes, User};
use crate::admin::{NewPassword, UserSpec};
use crate::audit::{Actor, AuditObject, Credential};
use crate::core::Core;
use crate::session::Session;
use crate::session::inbox::Inbox;
use crate::sessions::Newcomer;
use crate::stats::{Count, Kind};
use crate::{BrokerOptions, Login, LoginError, OpenBrokerError, OpenSession, OpenSessionError};
use bytes::Bytes;
use found::Found;
use hashbrown::HashMap;
use millpond_model::UserName;
use millpond_store::{Batch, OnCommit, ReadValuesError, Recovery, Store, StoreFigures, StoreStatus};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use users::StoredUsers;

/// The broker; cloning counts a reference.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(crate) core: Arc<Core>,
    /// In whose hands it is: what is changed through it is theirs to answer for.
    pub(crate) actor: Arc<Actor>,
}

impl Broker {
    /// Takes over a store with what was found in it. The default vhost `/` and every vhost's built-in exchanges
    /// (the default one, amq.direct, amq.fanout, amq.topic, amq.headers, amq.match, amq.rabbitmq.trace) are always
    /// there. Queues of the store that no definition names are deleted.
    pub fn open(store: Store, recovery: Recovery, options: BrokerOptions) -> Result<Self, OpenBrokerError> {
        let mut found = Found::read(&store)?;
        let mut failed = None;
        let limited = std::mem::take(&mut found.operators.users);
        let parameters = std::mem::take(&mut found.operators.parameters);
        let users = StoredUsers::read(&store)?;
        let core = Arc::new_cyclic(|core| {
            let vhosts = found.restore(&store, recovery, core).unwrap_or_else(|error| {
                failed = Some(error);
                HashMap::new()
            });
            Core::new(store, options, vhosts, found.next_queue_id, core.clone())
        });
        parameters.into_iter().for_each(|parameter| core.parameters.restore(parameter));
        limited.iter().for_each(|(user, limits)| core.sessions.set_limits(user, *limits));
        let had_users = users.restore(&core.access);
        if let Some(error) = failed {
            return Err(error);
        }
        for vhost in core.vhosts.read().values() {
            let cells: Vec<_> = vhost.read().queues().map(|queue| queue.0.clone()).collect();
            cells.iter().for_each(|cell| core.stats.adopt(&vhost.name, cell.adopt()));
            cells.iter().for_each(|cell| core.work(|work| cell.touch(work)));
            cells.iter().filter_map(|cell| cell.stream()).for_each(|stream| stream.watch(&core));
            vhost.delays.all().iter().for_each(|(_, cell)| cell.start(&core));
            vhost.schedules.start(vhost, &core);
        }
        let broker = Self { core, actor: Arc::new(Actor::inside()) };
        broker.audit("broker.started", AuditObject::named("broker", ""), "");
        if !had_users && !broker.core.options.default_password.is_empty() {
            broker.ensure_default_user();
        }
        Ok(broker)
    }

    /// Checks a password. The error's text is for the log only. Takes tens of milliseconds of CPU, unless
    /// [`Self::login_known`] has the answer.
    pub fn login(&self, user: &str, password: &[u8], peer: Option<IpAddr>) -> Result<Login, LoginError> {
        match self.core.access.look_at(user, password, peer, self.core.options.clock.now_ms()) {
            Known::Answer(answer) => self.logged_in(user, peer, answer),
            Known::MustHash(found) => {
                let answer = self.core.access.hash_and_look(user, password, found);
                let answer = answer.map(|found| self.hash_anew(user, password, found));
                self.logged_in(user, peer, answer)
            }
        }
    }

    /// As [`Self::login`], where the answer is known without hashing the password: the user logged in with it before.
    pub fn login_known(
        &self,
        user: &str,
        password: &[u8],
        peer: Option<IpAddr>,
    ) -> Option<Result<Login, LoginError>> {
        match self.core.access.look_at(user, password, peer, self.core.options.clock.now_ms()) {
            Known::Answer(answer) => Some(self.logged_in(user, peer, answer)),
            Known::MustHash(_) => None,
        }
    }

    fn logged_in(
        &self,
        user: &str,
        peer: Option<IpAddr>,
        answer: Result<Arc<User>, LoginError>,
    ) -> Result<Login, LoginError> {
        if !matches!(answer, Err(LoginError::TooManyAttempts { .. })) {
            let now_ms = self.core.options.clock.now_ms();
            self.core.access.note_attempt(user, peer, answer.is_ok(), now_ms);
        }
        let login = answer.and_then(|found| self.login_of(user, found.version, Credential::Password, peer));
        self.note_login(login, user, Credential::Password, peer)
    }

    /// Somebody of the table, if they may come from there.
    fn login_of(
        &self,
        user: &str,
        version: u64,
        credential: Credential,
        peer: Option<IpAddr>,
    ) -> Result<Login, LoginError> {
        let unknown = |_| LoginError::UnknownUser { user: user.to_owned() };
        let actor = self.newcomer(user, credential, peer).into();
        let user = UserName::new(user).map_err(unknown)?;
        let login = Login { user, peer, origin: Origin::Table { version }, actor };
        self.may_come_from(&login)?;
        Ok(login)
    }

    /// Lets in who has shown otherwise than by a password who they are: by a certificate.
    pub fn login_proven(&self, user: &str, peer: Option<IpAddr>) -> Result<Login, LoginError> {
        let unknown = || LoginError::UnknownUser { user: user.to_owned() };
        let found = UserName::new(user).ok().and_then(|name| self.core.access.get(&name)).ok_or_else(unknown);
        let login = found.and_then(|it| self.login_of(user, it.version, Credential::Certificate, peer));
        self.note_login(login, user, Credential::Certificate, peer)
    }

    /// Lets in who has come with a token that somebody has verified.
    pub fn login_by_token(
        &self,
        user: UserName,
        scopes: TokenScopes,
        expires_ms: u64,
        peer: Option<IpAddr>,
    ) -> Login {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let actor = self.newcomer(user.as_str(), Credential::Token, peer).into();
        let origin = Origin::Token(Arc::new(Bearer { scopes, expires_ms, number }));
        self.note_token(user.as_str(), peer, None);
        Login { user, peer, origin, actor }
    }

    /// A login of before, for another request from `peer`: as long as the user is there, with the password and the tags
    /// it had. Costs next to nothing.
    pub fn renew_login(&self, login: &Login, peer: Option<IpAddr>) -> Result<Login, LoginError> {
        if let Origin::Token(bearer) = &login.origin
            && self.core.options.clock.now_ms() >= bearer.expires_ms
        {
            return Err(LoginError::Ended { user: login.user.clone() });
        }
        if let Origin::Table { version } = login.origin
            && self.core.access.get(&login.user).is_none_or(|user| user.version != version)
        {
            return Err(LoginError::Ended { user: login.user.clone() });
        }
        let actor = Actor { peer, front_end: self.actor.front_end, ..(*login.actor).clone() };
        let login = Login { peer, actor: actor.into(), ..login.clone() };
        self.may_come_from(&login)?;
        Ok(login)
    }

    fn may_come_from(&self, login: &Login) -> Result<(), LoginError> {
        let options = &self.core.options;
        let remote = login.peer.is_some_and(|peer| !peer.to_canonical().is_loopback());
        // A token of that name has no password that everybody knows.
        let is_token = matches!(login.origin, Origin::Token(_));
        if remote && !is_token && options.default_user_loopback_only && login.user == options.default_user {
            return Err(LoginError::LoopbackOnly { user: login.user.clone() });
        }
        Ok(())
    }

    /// Keeps a password that came in with another broker's definitions as a new one would be kept; the user as it is
    /// then.
    fn hash_anew(&self, name: &str, password: &[u8], found: Arc<User>) -> Arc<User> {
        let is_outdated = found.hash.as_ref().is_some_and(PasswordHash::is_outdated);
        let Some(name) = UserName::new(name).ok().filter(|_| is_outdated) else { return found };
        let password = NewPassword::Plain(password.into());
        match self.put_user(&UserSpec { name: name.clone(), password, tags: None }) {
            Ok(_) => self.core.access.get(&name).unwrap_or(found),
            Err(error) => {
                tracing::debug!(user = %name, %error, "an imported password stays hashed as it was");
                found
            }
        }
    }

    /// A login for in-process clients (engine, control socket): the default user.
    pub fn internal_login(&self) -> Login {
        let (user, actor) = (self.core.options.default_user.clone(), self.actor.clone());
        Login { user, peer: None, origin: Origin::Inside, actor }
    }

    /// What a user may ask of the management side.
    pub fn operator(&self, login: Login) -> Operator {
        Operator::new(self, login)
    }

    /// Opens a session; what the broker has to say to it comes by `Session::poll_events`.
    pub fn open_session(&self, request: OpenSession) -> Result<Session, OpenSessionError> {
        let Some(vhost) = self.core.vhost(&request.vhost) else {
            return Err(OpenSessionError::VhostMissing { vhost: request.vhost });
        };
        if !self.core.access.may_enter(&request.login, &request.vhost) {
            let object = AuditObject::named("vhost", request.vhost.as_str());
            let reason = "the user has no permissions there";
            self.core.audit.refused(&request.login.actor, "vhost.open", object, ("", reason));
            let (user, vhost) = (request.login.user, request.vhost);
            return Err(OpenSessionError::Forbidden { user, vhost });
        }
        let inbox = Arc::new(Inbox::new(self.core.options.inbox_max_bytes));
        let key = self.core.add_session(&Newcomer {
            inbox: &inbox,
            vhost: &vhost.name,
            vhost_limits: vhost.definition().limits,
            user: &request.login.user,
            is_internal: request.login.is_inside(),
            sessions_max: self.core.options.sessions_max,
            name: &request.name,
            peer: request.login.peer,
            opened_ms: self.core.options.clock.now_ms(),
            traffic: self.core.stats.meter(Kind::Connection, &vhost.name),
        })?;
        if !request.login.is_inside() {
            self.core.stats.churn.add_shared(Count::ConnectionCreated, 1);
        }
        tracing::debug!(session = key, name = %request.name, user = %request.login.user, "session opened");
        let session = Session::new(self.core.clone(), vhost, key, request.login, inbox);
        if session.is_in_deleted_vhost() {
            // It went between the two, and those who were told were the others.
            return Err(OpenSessionError::VhostMissing { vhost: request.vhost });
        }
        Ok(session)
    }

    /// Settings it works with.
    pub fn options(&self) -> &BrokerOptions {
        &self.core.options
    }

    /// The store's state, for health checks and the publisher's door.
    pub fn store_status(&self) -> StoreStatus {
        self.core.store.status()
    }

    /// What the store did since it was opened.
    pub fn store_figures(&self) -> StoreFigures {
        self.core.store.figures()
    }

    /// All keyed values of a room, with the keys it gave to [`Self::put_value`], sorted.
    pub fn values(&self, room: &str) -> Result<Vec<(Bytes, Bytes)>, ReadValuesError> {
        let prefix = room_prefix(room);
        let values = self.core.store.values(&prefix)?.into_iter();
        Ok(values.map(|(key, value)| (key.slice(prefix.len()..), value)).collect())
    }

    /// As [`Self::values`], only those whose keys begin so.
    pub fn values_under(&self, room: &str, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, ReadValuesError> {
        let room = room_prefix(room);
        let values = self.core.store.values(&[&room, prefix].concat())?.into_iter();
        Ok(values.map(|(key, value)| (key.slice(room.len()..), value)).collect())
    }

    /// Writes (`Some`) or deletes (`None`) a keyed value of a room; `on_commit` is told, on the log writer's thread,
    /// when it is durable.
    pub fn put_value(
        &self,
        room: &str,
        key: &[u8],
        value: Option<&[u8]>,
        on_commit: Option<(Arc<dyn OnCommit>, u64)>,
    ) {
        let mut batch = self.core.store.begin();
        change_value(&mut batch, room, key, value);
        self.core.store.commit(batch, on_commit);
    }

    /// Tells every client's session to settle what it holds (`SessionEvent::Drain`); everything still works.
    pub fn announce_drain(&self) {
        self.core.announce_drain();
    }

    /// Whether [`Self::announce_drain`] was called: who comes now comes late.
    pub fn is_draining(&self) -> bool {
        self.core.is_draining()
    }

    /// Tells every session to close (`SessionEvent::Shutdown`) and opens no more; the store still works.
    pub fn announce_shutdown(&self) {
        self.core.announce_shutdown();
    }

    /// Tells every session to close, if that was not done yet, and closes the store: commits what waits and syncs.
    pub fn shut_down(&self) {
        self.core.announce_shutdown();
        self.core.timer.close();
        self.core.audit.close();
        self.core.store.close();
    }
}

/// Writes or deletes a keyed value of a room.
pub(crate) fn change_value(batch: &mut Batch, room: &str, key: &[u8], value: Option<&[u8]>) {
    let mut full_key = room_prefix(room);
    full_key.extend_from_slice(key);
    match value {
        Some(value) => batch.put(&full_key, value),
        None => batch.delete(&full_key),
    }
}

fn room_prefix(room: &str) -> Vec<u8> {
    format!("app/{room}/").into_bytes()
}

/// The vhost that is always there.
pub(crate) const DEFAULT_VHOST: &str = "/";
