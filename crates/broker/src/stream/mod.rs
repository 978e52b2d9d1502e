//! Streams: logs that many read, each at its own place, and nobody takes anything away from (contract A13).
//!
//! - `machine`: pure; who reads where, credit, the single active consumer.
//! - `room`: the lock over the machine, the consumers' inboxes, what is remembered for consumers by name.
//! - `pump`: hands messages out; `retention`: drops the old ones.
//! - `arguments`, `filter`: what a declaration and a consumer say.
//!
//! A stream is reached as a queue is: by its `QueueCell`, which hands over to the room once a batch.

pub(crate) mod arguments;
mod filter;
pub(crate) mod machine;
mod pump;
mod retention;
mod room;
mod runs;
mod standing;
#[cfg(test)]
mod tests;

pub(crate) use room::{NewReader, Places, ReaderRefused, StreamRoom};
