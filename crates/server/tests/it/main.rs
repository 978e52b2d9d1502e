//! The AMQP front end as clients meet it: a whole server in this process, frames by hand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod alarms;
mod channels;
mod consuming;
mod framing;
mod handshake;
mod health;
mod heartbeats;
mod noise;
mod publishing;
mod store;
mod transactions;
