//! The words every other room uses: names, messages, typed header values, limits.
//!
//! Knows nothing of I/O, async or any protocol's frames. A message keeps the form it arrived in
//! ([`message::Message`]); its properties stay raw bytes until someone needs a field ([`properties`]).

pub mod limits;
pub mod message;
pub mod names;
pub mod properties;
pub mod table;

pub use message::{Message, MessageBatch, RecordError};
pub use names::{ConsumerTag, ExchangeName, NameError, QueueName, UserName, VhostName};
