//! For tests: a whole server in this process on a port of its own, and a client that speaks frames and checks
//! nothing by itself, so that it can also send what no client should.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "this is test code")]

mod client;
mod server;

pub use client::{Client, Content, Event};
pub use server::{TestServer, unique};
