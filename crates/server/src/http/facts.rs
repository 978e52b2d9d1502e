//! What is true of this node as long as it runs, and what the system says of its process.

use millpond_broker::Broker;
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Facts {
    /// `millpond@host`, as RabbitMQ names nodes.
    pub(crate) node: String,
    /// What clients are told as `cluster_name`, unless the parameter of that name says otherwise.
    cluster_name: Box<str>,
    amqp: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    started: Instant,
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
    pub(crate) fn new(cluster_name: &str, amqp: Vec<SocketAddr>, http: Vec<SocketAddr>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim().split('.').next().filter(|host| !host.is_empty()).unwrap_or("localhost");
        let node = format!("millpond@{host}");
        Self { node, cluster_name: cluster_name.into(), amqp, http, started: Instant::now() }
    }

    /// The first port that HTTP is served on.
    pub(crate) fn http_port(&self) -> Option<u16> {
        self.http.first().map(SocketAddr::port)
    }

    /// What clients are told as `cluster_name`.
    pub(crate) fn cluster_name(&self, broker: &Broker) -> Box<str> {
        broker.cluster_name().unwrap_or_else(|| self.cluster_name.clone())
    }

    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &SocketAddr)> {
        let amqp = self.amqp.iter().map(|address| ("amqp", address));
        amqp.chain(self.http.iter().map(|address| ("http", address)))
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
        self.http.iter().map(show).collect()
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
