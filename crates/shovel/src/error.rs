//! Why a shovel cannot go on for now.

use millpond_amqp_client::{ClientError, ConnectError};

/// Why a shovel waits before it tries again.
#[derive(Debug, thiserror::Error)]
pub enum ShovelError {
    /// The other broker cannot be reached, or refuses the login.
    #[error("{side}: {error}")]
    Connect {
        /// `source` or `destination`.
        side: &'static str,
        /// Why.
        error: ConnectError,
    },
    /// The connection to the other broker broke, or it refused something.
    #[error("{side}: {error}")]
    Client {
        /// `source` or `destination`.
        side: &'static str,
        /// Why.
        error: ClientError,
    },
    /// This broker refused something.
    #[error("{side}: {reason}")]
    Local {
        /// `source` or `destination`.
        side: &'static str,
        /// Why.
        reason: String,
    },
    /// The queue went.
    #[error("source: the queue was deleted, or its consumer was ended")]
    Cancelled,
    /// A message would get lost.
    #[error(
        "destination: no queue takes a message with the key '{key}' from exchange '{exchange}': bind one, or the \
         messages stay where they are"
    )]
    Unroutable {
        /// Where it was sent.
        exchange: String,
        /// With which key.
        key: String,
    },
}

/// Which side, for [`ShovelError`].
pub(crate) const SOURCE: &str = "source";
/// The other.
pub(crate) const DESTINATION: &str = "destination";

pub(crate) fn local(side: &'static str) -> impl Fn(&dyn std::fmt::Display) -> ShovelError {
    move |reason| ShovelError::Local { side, reason: reason.to_string() }
}

pub(crate) fn client(side: &'static str) -> impl Fn(ClientError) -> ShovelError {
    move |error| ShovelError::Client { side, error }
}
