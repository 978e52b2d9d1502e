//! A client of AMQP 0-9-1: connect, declare, publish in batches with confirms, consume with prefetch, settle, close.
//!
//! A [`Connection`] is held by `&mut`: no task of its own, no lock. What is sent is collected until
//! [`Connection::flush`]; what comes is taken with [`Connection::next`], which can be dropped at any await without a
//! loss. Heartbeats are sent and watched for while one of the two (or a call) is awaited: whoever is silent for longer
//! than the heartbeat is cut off by the other side. Everything that waits has a limit with a name.
//!
//! ```no_run
//! use millpond_amqp_client::{ClientOptions, Connection, Event, Publish, Uri};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let uri: Uri = "amqp://guest:guest@localhost:5672/".parse()?;
//! let mut connection = Connection::open(&uri, &ClientOptions::default()).await?;
//! let channel = connection.open_channel().await?;
//! connection.confirm_select(channel).await?;
//! for body in ["a", "b", "c"] {
//!     connection.publish(channel, &Publish { routing_key: b"q", body: body.as_bytes(), ..Default::default() })?;
//! }
//! connection.flush().await?;
//! while let Event::Confirm(confirm) = connection.next().await? {
//!     if confirm.tag == 3 {
//!         break;
//!     }
//! }
//! connection.close().await?;
//! # Ok(()) }
//! ```

mod calls;
mod connection;
mod error;
mod event;
mod handshake;
mod incoming;
mod options;
mod stream;
mod uri;
mod wire;

pub use calls::{Consume, ExchangeOptions, QueueDeclared, QueueOptions};
pub use connection::{ChannelId, Connection, EVENTS_MAX_BYTES, Publish};
pub use error::{ClientError, ConnectError};
pub use event::{Confirm, Delivery, Event, Got, Returned};
pub use options::{ClientOptions, Limits};
pub use stream::TlsOptions;
pub use uri::{Uri, UriError};
