//! Tests of the store through its public door, and of the file systems below it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a long run says how far it came")]
#![allow(clippy::single_range_in_vec_init, reason = "settlements are lists of ranges")]

mod crash;
mod damage;
mod file_systems;
mod fixtures;
mod full;
mod harness;
mod history;
mod life;
mod model;
mod opening;
mod paging;
mod streams;
mod threads;
