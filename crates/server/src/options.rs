//! Settings of the front ends; the binary declares them with these defaults.

use crate::oauth::Oauth;
use crate::tls::Tls;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What is served where.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Addresses of the AMQP listener. Both loopback addresses by default, because `localhost` may be either;
    /// `::1` is left out with a warning on machines without IPv6.
    pub amqp_listen: Vec<SocketAddr>,
    /// Addresses of the HTTP listener; none turns it off.
    pub http_listen: Vec<SocketAddr>,
    /// Addresses of AMQP with TLS; none are served without `tls`.
    pub amqps_listen: Vec<SocketAddr>,
    /// Addresses of HTTP with TLS; none are served without `tls`.
    pub https_listen: Vec<SocketAddr>,
    /// Certificates.
    pub tls: Option<Arc<Tls>>,
    /// Addresses where metrics are served and nothing else, to anybody who can reach them; none by default.
    pub prometheus_listen: Vec<SocketAddr>,
    /// Tokens in place of passwords.
    pub oauth: Option<Arc<Oauth>>,
    /// The AMQP front end.
    pub amqp: AmqpOptions,
    /// The HTTP front end.
    pub http: HttpOptions,
    /// How long connections may take to say goodbye when the server stops.
    pub stop_timeout: Duration,
}

/// Limits and timeouts of HTTP connections.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// After how long without a request a login by cookie ends.
    pub login_idle: Duration,
    /// Connections open at once; more are closed at once.
    pub connections_max: usize,
    /// From the beginning of waiting for a request to the end of its head, TLS's handshake besides: how long a
    /// connection may idle, too.
    pub header_timeout: Duration,
    /// For how long nothing may come of a request's body that has not come whole.
    pub body_pause_max: Duration,
}

/// Limits and timeouts of AMQP connections.
#[derive(Debug, Clone)]
pub struct AmqpOptions {
    /// Connections open at once, those that have not logged in yet included; more are closed at once.
    pub connections_max: usize,
    /// Channels open at once on a connection, as offered in connection.tune.
    pub channel_max: u16,
    /// Largest frame, as offered in connection.tune. Bytes, at least 4096.
    pub frame_max_bytes: u32,
    /// Heartbeat interval offered in connection.tune; the client chooses. Seconds, 0 for none.
    pub heartbeat_secs: u16,
    /// From accepting a connection to its connection.open.
    pub handshake_timeout: Duration,
    /// How long the end of a connection may take: the client's connection.close-ok, and writing what is left.
    pub close_timeout: Duration,
    /// Largest content header frame's payload (properties and headers of a message). Bytes.
    pub header_max_bytes: usize,
    /// Consumers on one channel.
    pub consumers_max_per_channel: usize,
    /// Bodies, properties and keys that one transaction may hold before it is committed. Bytes.
    pub transaction_max_bytes: usize,
    /// What a connection may hold of bodies that have not come whole, on all its channels. Bytes, at least the largest
    /// message.
    pub partial_bodies_max_bytes: usize,
    /// What clients are told as `cluster_name`, unless the parameter of that name says otherwise.
    pub cluster_name: Box<str>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            amqp_listen: vec![(Ipv4Addr::LOCALHOST, 5672).into(), (Ipv6Addr::LOCALHOST, 5672).into()],
            prometheus_listen: Vec::new(),
            http_listen: vec![(Ipv4Addr::LOCALHOST, 15672).into()],
            amqps_listen: vec![(Ipv4Addr::LOCALHOST, 5671).into(), (Ipv6Addr::LOCALHOST, 5671).into()],
            https_listen: vec![(Ipv4Addr::LOCALHOST, 15671).into()],
            tls: None,
            oauth: None,
            amqp: AmqpOptions::default(),
            http: HttpOptions::default(),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            login_idle: Duration::from_secs(8 * 3600),
            connections_max: 4096,
            header_timeout: Duration::from_secs(60),
            body_pause_max: Duration::from_secs(30),
        }
    }
}

impl Default for AmqpOptions {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            channel_max: 2047,
            frame_max_bytes: 131_072,
            heartbeat_secs: 60,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            header_max_bytes: 128 * 1024,
            consumers_max_per_channel: 65_536,
            transaction_max_bytes: 128 * 1024 * 1024,
            partial_bodies_max_bytes: 64 * 1024 * 1024,
            cluster_name: "millpond".into(),
        }
    }
}
