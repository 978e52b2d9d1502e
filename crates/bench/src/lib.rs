//! Measures a broker of AMQP 0-9-1, this one or any other, with the usual scenarios.
//!
//! Each producer and each consumer is a task with a connection of its own. A message carries the moment it was sent
//! (or, at a given rate, the moment it was due, so that a broker that stalls does not hide its stalls) and a number.
//! Times are the client's; both ends are in this process.

mod backlog;
mod consumer;
mod histogram;
mod pingpong;
mod plan;
mod producer;
mod report;
mod run;
mod stage;

pub use histogram::Histogram;
pub use plan::{BODY_MIN_BYTES, BadPlan, Plan, Scenario};
pub use report::{Flow, Latency, Report};
pub use run::{BenchError, Progress, run};
