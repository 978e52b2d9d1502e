//! The operations layer: who + request -> result or typed error, and events back. STUB of the public API:
//! signatures are binding for `server` and `engine`, bodies are being written.

pub mod error;
pub mod event;
mod queue;
pub mod request;
mod routing;
pub mod session;

use millpond_model::{UserName, VhostName};
use std::net::IpAddr;
use std::sync::Arc;

pub use error::*;
pub use event::*;
pub use request::*;
pub use session::Session;

/// Settings of the broker (limits have names; the binary declares them as settings).
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Largest message body accepted. Bytes.
    pub message_size_max_bytes: u64,
    /// Consumers one channel may have; counted by the front end through `ConsumeRequest`.
    pub consumers_max_per_session: usize,
    /// Connections accepted at once.
    pub sessions_max: usize,
    /// Bytes that may wait in a consumer's inbox before deliveries to it pause.
    pub inbox_max_bytes: usize,
    /// The user that exists from the start, with all permissions on `/`.
    pub default_user: UserName,
    /// Its password.
    pub default_password: Box<str>,
    /// Whether that user may only come from this machine (loopback), as RabbitMQ's guest.
    pub default_user_loopback_only: bool,
}

/// The broker; cloning counts a reference.
#[derive(Debug, Clone)]
pub struct Broker(());

/// A user who has shown who they are.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: UserName,
    /// From where, `None` for in-process clients (engine, control socket).
    pub peer: Option<IpAddr>,
}

/// What a front end tells of itself.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// The user.
    pub login: Login,
    /// The vhost to work in.
    pub vhost: VhostName,
    /// For people: `127.0.0.1:4711 -> 127.0.0.1:5672`, `rule receipt`.
    pub name: Box<str>,
}

impl Broker {
    /// Takes over a store with what was found in it; makes the default vhost `/` and its exchanges
    /// (``, amq.direct, amq.fanout, amq.topic, amq.headers, amq.match, amq.rabbitmq.trace, amq.rabbitmq.event?) if new.
    pub fn open(
        _store: millpond_store::Store,
        _recovery: millpond_store::Recovery,
        _options: BrokerOptions,
    ) -> Result<Broker, OpenBrokerError> {
        unimplemented!()
    }

    /// Checks a password. The error's text is for the log only.
    pub fn login(&self, _user: &str, _password: &[u8], _peer: Option<IpAddr>) -> Result<Login, LoginError> {
        unimplemented!()
    }

    /// A login for in-process clients (engine, control socket).
    pub fn internal_login(&self) -> Login {
        unimplemented!()
    }

    /// Opens a session; its inbox is `Session::inbox`.
    pub fn open_session(&self, _request: OpenSession) -> Result<Session, OpenSessionError> {
        unimplemented!()
    }

    /// Settings it works with.
    pub fn options(&self) -> &BrokerOptions {
        unimplemented!()
    }

    /// The store's state, for health checks and the publisher's door.
    pub fn store_status(&self) -> millpond_store::StoreStatus {
        unimplemented!()
    }

    /// Keyed values for other rooms, under `app/<room>/...`: read all with a prefix, write durably
    /// (the callback is told on the log writer's thread).
    pub fn values(&self, _room: &str) -> Vec<(bytes::Bytes, bytes::Bytes)> {
        unimplemented!()
    }

    /// Writes (`Some`) or deletes (`None`) a keyed value of a room; `on_commit` is told when it is durable.
    pub fn put_value(
        &self,
        _room: &str,
        _key: &[u8],
        _value: Option<&[u8]>,
        _on_commit: Option<(Arc<dyn millpond_store::OnCommit>, u64)>,
    ) {
        unimplemented!()
    }

    /// Tells every session to close (`SessionEvent::Shutdown`); then close the store.
    pub fn shut_down(&self) {
        unimplemented!()
    }
}
