//! Who is connected, and ending that.

use crate::Broker;
use crate::audit::AuditObject;
use crate::session::{ChannelInfo, ChannelState};
use crate::stats::Figures;
use millpond_model::table::Table;
use millpond_model::{UserName, VhostName};
use std::net::IpAddr;
use std::sync::Arc;

/// What a client has said of itself, and what was agreed with it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientFacts {
    /// What is spoken: `AMQP 0-9-1`.
    pub protocol: &'static str,
    /// How it showed who it is: `PLAIN`.
    pub mechanism: Box<str>,
    /// The highest channel.
    pub channel_max: u16,
    /// The largest frame. Bytes.
    pub frame_max_bytes: u32,
    /// Silence after which each side asks whether the other is there; 0: never.
    pub heartbeat_secs: u16,
    /// As the client sent them.
    pub properties: Table,
}

/// A session of a client; those of the process itself (rules, the control socket) are not listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionInfo {
    /// Its number, which [`crate::ConsumerFigures::session`] names.
    pub session: u64,
    /// As the front end named it: `127.0.0.1:4711 -> 127.0.0.1:5672`.
    pub name: Box<str>,
    /// Whose.
    pub user: UserName,
    /// Where.
    pub vhost: VhostName,
    /// From where.
    pub peer: Option<IpAddr>,
    /// Numbers of the channels that are open.
    pub channels: Vec<u16>,
    /// Since when, in milliseconds since 1970.
    pub opened_ms: u64,
    /// Of a client that has said anything.
    pub client: Option<Arc<ClientFacts>>,
}

impl Broker {
    /// Every connection, the oldest first.
    pub fn list_connections(&self) -> Vec<ConnectionInfo> {
        self.core.sessions.list()
    }

    /// What was counted of a connection; `None`: it is not there.
    pub fn connection_figures(&self, session: u64) -> Option<Figures> {
        let traffic = self.core.sessions.traffic(session)?;
        Some(self.core.stats.figures(&traffic))
    }

    /// The channels of a connection, by number; none if it is not there.
    pub fn list_channels(&self, session: u64) -> Vec<ChannelInfo> {
        let channels = self.core.sessions.channels(session);
        let info = |(number, channel): &(u16, Arc<ChannelState>)| {
            channel.info(*number, self.core.stats.figures(channel.meter()))
        };
        channels.iter().map(info).collect()
    }

    /// Has the connections of that name closed (320); how many there were.
    pub fn close_connections(&self, name: &str, reason: &str) -> usize {
        let reason: Arc<str> = reason.into();
        let inboxes = self.core.sessions.inboxes_named(name);
        inboxes.iter().for_each(|inbox| inbox.end(reason.clone()));
        tracing::info!(connection = name, count = inboxes.len(), %reason, "connection closed by an operator");
        if !inboxes.is_empty() {
            self.audit(
                "connection.closed",
                AuditObject::named("connection", name),
                &format!("reason: {reason}"),
            );
        }
        inboxes.len()
    }
}
