//! What is asked for, and what was agreed on.

use crate::stream::TlsOptions;
use std::time::Duration;

/// How a connection is made.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Shown by brokers as `connection_name`.
    pub name: String,
    /// For the way from the socket to connection.open-ok, unless the URI says otherwise.
    pub connect_timeout: Duration,
    /// For each call's answer.
    pub call_timeout: Duration,
    /// Asked for unless the URI says otherwise; zero: none.
    pub heartbeat: Duration,
    /// Asked for unless the URI says otherwise. Bytes.
    pub frame_max_bytes: u32,
    /// Asked for unless the URI says otherwise.
    pub channels_max: u16,
    /// Largest body that is taken. Bytes.
    pub message_max_bytes: u64,
    /// Whom `amqps` trusts.
    pub tls: TlsOptions,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            name: "millpond".to_owned(),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            frame_max_bytes: 131_072,
            channels_max: 2047,
            message_max_bytes: 512 * 1024 * 1024,
            tls: TlsOptions::default(),
        }
    }
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Channels at once.
    pub channels_max: u16,
    /// Of a frame; 0: no limit. Bytes.
    pub frame_max_bytes: u32,
    /// Zero: none.
    pub heartbeat: Duration,
}
