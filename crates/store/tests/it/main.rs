//! Tests of the store through its public door, and of the file systems below it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod file_systems;
