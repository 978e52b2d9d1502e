//! What is true of this node as long as it runs, and what the system says of its process.

use crate::tls::{Secured, Tls};
use millpond_broker::Broker;
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Facts {
    /// `millpond@host`, as RabbitMQ names nodes.
    pub(crate) node: String,
    /// What clients are told as `cluster_name`, unless the parameter of that name says otherwise.
    cluster_name: Box<str>,
    listening: Listening,
    /// The certificates, where there is a listener with TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// AMQP connections with TLS.
    pub(crate) secured: Arc<Secured>,
    started: Instant,
}

/// What is listened on.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    pub(crate) amqp: Vec<SocketAddr>,
    pub(crate) amqps: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) https: Vec<SocketAddr>,
}

/// The process in figures; 0 for what the system does not say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    /// Resident.
    pub(crate) memory_bytes: u64,
    /// Open files and sockets.
    pub(crate) files: usize,
    /// How many it may open.
    pub(crate) files_max: u64,
}

impl Facts {
    pub(crate) fn new(
        cluster_name: &str,
        listening: Listening,
        tls: Option<Arc<Tls>>,
        secured: Arc<Secured>,
    ) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim().split('.').next().filter(|host| !host.is_empty()).unwrap_or("localhost");
        let node = format!("millpond@{host}");
        let (cluster_name, started) = (cluster_name.into(), Instant::now());
        Self { node, cluster_name, listening, tls, secured, started }
    }

    /// The first port that HTTP is served on.
    pub(crate) fn http_port(&self) -> Option<u16> {
        self.listening.http.first().or(self.listening.https.first()).map(SocketAddr::port)
    }

    /// What clients are told as `cluster_name`.
    pub(crate) fn cluster_name(&self, broker: &Broker) -> Box<str> {
        broker.cluster_name().unwrap_or_else(|| self.cluster_name.clone())
    }

    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &SocketAddr)> {
        let Listening { amqp, amqps, http, https } = &self.listening;
        let all = [("amqp", amqp), ("amqp/ssl", amqps), ("http", http), ("https", https)];
        all.into_iter().flat_map(|(protocol, addresses)| addresses.iter().map(move |it| (protocol, it)))
    }

    /// All that is listened on.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<_> = self.all().map(|(_, address)| address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// By RabbitMQ's names.
    pub(crate) fn protocols(&self) -> Vec<&'static str> {
        let mut protocols: Vec<_> = self.all().map(|(protocol, _)| protocol).collect();
        protocols.dedup();
        protocols
    }

    /// Listeners as the management API shows them.
    pub(crate) fn listeners(&self) -> Vec<Value> {
        let show = |(protocol, address): (&str, &SocketAddr)| {
            let (ip, port) = (address.ip().to_string(), address.port());
            json!({ "node": self.node, "protocol": protocol, "ip_address": ip, "port": port })
        };
        self.all().map(show).collect()
    }

    /// Where the management API is, as it shows itself.
    pub(crate) fn contexts(&self) -> Vec<Value> {
        let show = |address: &SocketAddr| {
            let (ip, port) = (address.ip().to_string(), address.port().to_string());
            let description = "RabbitMQ Management";
            json!({ "node": self.node, "description": description, "path": "/", "ip": ip, "port": port })
        };
        self.listening.http.iter().chain(&self.listening.https).map(show).collect()
    }

    /// The process as it is now.
    pub(crate) fn process() -> Process {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let memory_bytes = resident.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024;
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count());
        let files_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Process { memory_bytes, files, files_max }
    }
}
