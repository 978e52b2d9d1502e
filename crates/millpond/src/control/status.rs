//! How the broker is, in a few words.

use super::Rooms;
use millpond_broker::StoreStatus;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What `millpond status` shows and `millpond doctor` looks at.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    /// Of the process.
    pub(crate) pid: u32,
    pub(crate) amqp: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    /// Why the store takes no writes, if it does not.
    pub(crate) store_trouble: Option<String>,
    /// What runs out.
    pub(crate) alarms: Vec<String>,
    /// How often a queue was stuck since the start.
    pub(crate) stuck: u64,
    /// Of clients.
    pub(crate) connections: usize,
    /// It takes no connections and lets clients settle what they hold.
    pub(crate) draining: bool,
}

impl Status {
    pub(super) fn of(rooms: &Rooms) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            amqp: rooms.amqp.clone(),
            http: rooms.http.clone(),
            store_trouble: match rooms.broker.store_status() {
                StoreStatus::Writable => None,
                StoreStatus::Full => Some("it is full".to_owned()),
                StoreStatus::Poisoned { cause } => Some(format!("it is poisoned: {cause}")),
            },
            alarms: rooms.broker.alarms().iter().map(|it| it.resource.as_str().to_owned()).collect(),
            stuck: rooms.broker.stuck_queues().total,
            connections: rooms.broker.list_connections().len(),
            draining: rooms.broker.is_draining(),
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |addresses: &[SocketAddr]| {
            addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
        };
        let alarms = if self.alarms.is_empty() { "none".to_owned() } else { self.alarms.join(", ") };
        writeln!(f, "version  {}", self.version)?;
        writeln!(f, "pid      {}", self.pid)?;
        writeln!(f, "AMQP     {}", list(&self.amqp))?;
        writeln!(f, "HTTP     {}", list(&self.http))?;
        writeln!(f, "store    {}", self.store_trouble.as_deref().unwrap_or("takes writes"))?;
        writeln!(f, "alarms   {alarms}")?;
        let draining = if self.draining { ", draining" } else { "" };
        writeln!(f, "clients  {} connections{draining}", self.connections)?;
        write!(f, "stuck    {} queues since the start", self.stuck)
    }
}
