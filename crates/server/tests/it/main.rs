//! The front ends as clients meet them: a whole server in this process, frames and requests by hand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod access;
mod alarms;
mod channels;
mod console;
mod consuming;
mod draining;
mod events;
mod framing;
mod handshake;
mod health;
mod heartbeats;
mod http;
mod http_limits;
mod management;
mod noise;
mod oauth;
mod openapi;
mod publishing;
mod store;
mod tls;
mod transactions;
