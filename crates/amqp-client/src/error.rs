//! What can go wrong with a connection.

use crate::uri::Uri;
use millpond_amqp_codec::{ContentHeaderError, FrameError, MethodError};
use std::io;
use std::time::Duration;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be resolved or reached.
    #[error("{address} cannot be reached: {error}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The TLS handshake failed, or its files cannot be used.
    #[error("TLS with {address}: {reason}")]
    Tls {
        /// Host and port.
        address: String,
        /// Why.
        reason: String,
    },
    /// The other side speaks no AMQP 0-9-1.
    #[error("{address} does not speak AMQP 0-9-1: it answered {answer}")]
    Foreign {
        /// Host and port.
        address: String,
        /// What came instead of connection.start.
        answer: String,
    },
    /// The user or the password is wrong, or may not come from here.
    #[error("{address} refused the login of '{user}': {text}")]
    Login {
        /// Host and port.
        address: String,
        /// Who.
        user: String,
        /// The broker's words.
        text: String,
    },
    /// The server closed the connection where it does so for a login it refuses silently.
    #[error(
        "{address} hung up during the login of '{user}': check user, password and virtual host '{vhost}'"
    )]
    HungUp {
        /// Host and port.
        address: String,
        /// Who.
        user: String,
        /// Where to.
        vhost: String,
    },
    /// It took too long.
    #[error("{address} gave no connection within {} ms", timeout.as_millis())]
    TimedOut {
        /// Host and port.
        address: String,
        /// The limit.
        timeout: Duration,
    },
    /// The conversation broke off.
    #[error("{address}: {error}")]
    Broken {
        /// Host and port.
        address: String,
        /// How.
        error: ClientError,
    },
}

impl ConnectError {
    pub(crate) fn broken(uri: &Uri, error: ClientError) -> Self {
        Self::Broken { address: uri.address(), error }
    }
}

/// Why a connection is over, or a call on it failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The other side closed the socket without a word.
    #[error("the broker closed the socket")]
    End,
    /// connection.close came.
    #[error("the broker closed the connection: {code} {text}")]
    Closed {
        /// The reply code.
        code: u16,
        /// The reply text.
        text: String,
    },
    /// channel.close came for the channel of this call.
    #[error("the broker closed the channel: {code} {text}")]
    ChannelClosed {
        /// The reply code.
        code: u16,
        /// The reply text.
        text: String,
    },
    /// Nothing came for two heartbeats.
    #[error("nothing came from the broker for {} s, two heartbeats: it is taken for dead", silence.as_secs())]
    Silent {
        /// How long.
        silence: Duration,
    },
    /// A call had no answer in time.
    #[error("{method} had no answer within {} ms", timeout.as_millis())]
    TimedOut {
        /// Of the call.
        method: &'static str,
        /// The limit.
        timeout: Duration,
    },
    /// An earlier call was dropped before its answer came, so the next answer cannot be told from it.
    #[error(
        "an earlier {method} was given up before its answer came: close this connection and open another"
    )]
    Confused {
        /// Of that call.
        method: &'static str,
    },
    /// The channel is not open.
    #[error("channel {channel} is not open")]
    NoChannel {
        /// Which.
        channel: u16,
    },
    /// All channels that were agreed on are in use.
    #[error("all {channels_max} channels of this connection are open")]
    ChannelsUsedUp {
        /// The limit.
        channels_max: u16,
    },
    /// A name, key or tag that has no encoding.
    #[error("{what} of {size_bytes} bytes is over the limit of 255")]
    TooLong {
        /// `a routing key`
        what: &'static str,
        /// How long it is.
        size_bytes: usize,
    },
    /// Arguments or properties that have no encoding.
    #[error("{what}: {reason}")]
    Encoding {
        /// `the arguments`
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// More came than is kept for a caller who does not take it.
    #[error("more than {limit_bytes} bytes of deliveries wait: take them, or consume with a prefetch")]
    Overrun {
        /// The limit.
        limit_bytes: usize,
    },
    /// A message larger than the limit of the options.
    #[error("a message of {size_bytes} bytes came, at most {limit_bytes} are taken")]
    MessageTooLarge {
        /// Of the body.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// Bytes that are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that is no method.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A frame that is no content header.
    #[error(transparent)]
    Header(#[from] ContentHeaderError),
    /// A frame that has no meaning here.
    #[error("the broker sent {what} on channel {channel}, which means nothing there")]
    Unexpected {
        /// What came.
        what: &'static str,
        /// Where.
        channel: u16,
    },
    /// It was closed, by either side, before.
    #[error("the connection is closed")]
    Over,
}

impl ClientError {
    /// Whether only the channel is lost and the connection goes on.
    pub fn is_channel_only(&self) -> bool {
        matches!(
            self,
            Self::ChannelClosed { .. }
                | Self::NoChannel { .. }
                | Self::TooLong { .. }
                | Self::Encoding { .. }
        )
    }
}
