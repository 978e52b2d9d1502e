//! The operations layer: who + request -> result or typed error, and events back.
//!
//! It knows users, vhosts, exchanges, queues, consumers and sessions, and nothing of frames, HTTP or sockets.
//! Everything is synchronous: what must be waited for (the disk, a consumer's turn) comes back as an event.
//! See docs/ARCHITECTURE.md, "Broker".

mod access;
mod admin;
mod alarm;
mod audit;
mod broker;
mod clock;
mod core;
mod dead_letter;
mod definition;
mod delayed;
pub mod error;
pub mod event;
mod history;
pub mod json;
mod notice;
mod pattern;
mod policy;
mod queue;
mod reply;
pub mod request;
mod routing;
mod saved;
mod schedules;
pub mod session;
mod sessions;
mod stats;
mod stream;
mod timer;
mod vhost;
mod watchdog;

use millpond_model::{UserName, VhostName};
use std::net::IpAddr;
use std::sync::Arc;

pub use access::{
    AccessRefused, BadHash, HashAlgorithm, LoginCount, LoginSource, Operation, OperationRefused, Operator,
    Permissions, Right, Thing, TokenScopes, TopicPermission, tag,
};
pub use admin::*;
pub use alarm::{AlarmInfo, AlarmLevel, Resource, ResourceLimits, Resources};
pub use audit::{
    AUDIT_REMEMBERED_MAX, Actor, AuditEntry, AuditObject, AuditOptions, AuditQuery, AuditResult, AuditStatus,
    Credential, FrontEnd, read_time_ms,
};
pub use broker::Broker;
pub use clock::Clock;
pub use delayed::{DelayedContent, DelayedMessage};
pub use error::*;
pub use event::*;
pub use millpond_store::{CommitError, OnCommit, ReadValuesError, StoreFigures, StoreStatus};
pub use notice::{Notice, Noticed, Notices};
pub use pattern::{BadPattern, NameSearch};
pub use policy::{
    ApplyTo, Meaningless, PolicyDefinition, PolicyError, PolicyKind, PolicySpec, argument_value,
};
pub use request::*;
pub use routing::{RouteStep, check_event_conditions};
pub use saved::Saved;
pub use schedules::{BadSchedule, Missed, ScheduleInfo, ScheduleSpec};
pub use session::{ChannelInfo, ChannelMode, ChannelState, Session};
pub use stats::{Count, Figures, Kind, Meter, Window};
pub use stream::arguments::interval_ms;
pub use watchdog::{StuckCause, StuckQueue, StuckReport};

/// Settings of the broker (limits have names; the binary declares them as settings).
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Largest message body accepted. Bytes.
    pub message_size_max_bytes: u64,
    /// Consumers one channel may have; counted by the front end through `ConsumeRequest`.
    pub consumers_max_per_session: usize,
    /// Connections accepted at once; clients inside the process do not count.
    pub sessions_max: usize,
    /// Bytes that may wait in a consumer's inbox before deliveries to it pause.
    pub inbox_max_bytes: usize,
    /// The user that is made in a store that never had one: an administrator, with all permissions in every vhost.
    pub default_user: UserName,
    /// The password it is made with; empty: it is not made.
    pub default_password: Box<str>,
    /// Whether that user may only come from this machine (loopback), as RabbitMQ's guest.
    pub default_user_loopback_only: bool,
    /// How often statistics are noted, of what moves: rates are of the last such interval. Milliseconds, at least 1.
    pub statistics_interval_ms: u64,
    /// What time it is.
    pub clock: Clock,
    /// Where the audit log is written.
    pub audit: AuditOptions,
}

/// A user who has shown who they are.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: UserName,
    /// From where, `None` for in-process clients (engine, control socket).
    pub peer: Option<IpAddr>,
    pub(crate) origin: access::Origin,
    /// Who the audit log says it is.
    pub(crate) actor: Arc<Actor>,
}

impl Login {
    /// Whether it is the process's own, which may do everything.
    pub(crate) fn is_inside(&self) -> bool {
        matches!(self.origin, access::Origin::Inside)
    }

    /// Who the audit log says it is.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// When it ends by itself, in milliseconds since 1970; `None`: never.
    pub fn expires_ms(&self) -> Option<u64> {
        match &self.origin {
            access::Origin::Token(bearer) => Some(bearer.expires_ms),
            _ => None,
        }
    }

    /// What two logins of one name differ by: sessions are shared only by those that have the same.
    pub fn identity(&self) -> u64 {
        match &self.origin {
            access::Origin::Token(bearer) => bearer.number,
            _ => 0,
        }
    }
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
