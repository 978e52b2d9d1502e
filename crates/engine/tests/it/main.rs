//! The engine through its public door, on a real broker and store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

/// As in the binary: what evaluations take is counted.
#[global_allocator]
static ALLOCATOR: millpond_engine::Allocator<std::alloc::System> =
    millpond_engine::Allocator::new(std::alloc::System);

mod applying;
mod checking;
mod databases;
mod docs;
mod evaluating;
mod events;
mod exec;
#[cfg(feature = "wasm")]
mod functions;
mod https;
mod leftovers;
mod listening;
mod mail;
mod messaging;
mod outside;
mod planning;
mod replaying;
mod resting;
mod rules;
mod secrets;
mod servers;
mod source_broker;
mod source_file;
mod source_http;
mod source_journald;
mod source_messages;
mod source_replication;
mod source_syslog;
mod source_tables;
mod sources;
mod support;
mod testing;
mod trying;
mod versions;
mod windows;
mod working;
