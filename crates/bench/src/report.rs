//! What was measured.

use crate::histogram::Histogram;
use crate::plan::Plan;
use serde::Serialize;
use std::time::Duration;

/// One way that messages went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Flow {
    /// How many.
    pub messages: u64,
    /// In how long.
    pub seconds: f64,
    /// Messages a second.
    pub per_second: f64,
    /// Of bodies, 10^6 bytes a second.
    pub mb_per_second: f64,
}

/// How long something took, in microseconds; within 2 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half of all.
    pub p50: u64,
    /// 95 of 100.
    pub p95: u64,
    /// 99 of 100.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What kind of work.
    pub scenario: &'static str,
    /// The broker, without a password.
    pub url: String,
    /// As the broker calls itself.
    pub broker: String,
    /// Of each body.
    pub size_bytes: usize,
    /// Publishing connections.
    pub producers: usize,
    /// Consuming connections.
    pub consumers: usize,
    /// Queues.
    pub queues: usize,
    /// Whether messages were persistent.
    pub persistent: bool,
    /// What was published while publishing was measured.
    pub publish: Flow,
    /// What was received meanwhile; of a backlog, while it was drained; of ping-pong, the rounds.
    pub receive: Flow,
    /// How many publishes were confirmed; `None`: not asked for.
    pub confirmed: Option<u64>,
    /// How many publishes the broker refused (basic.nack).
    pub refused: u64,
    /// How many messages had not come when the run ended.
    pub missing: u64,
    /// From publishing to receiving. Without a given rate this is how long messages stood in queues.
    pub latency_us: Option<Latency>,
    /// From publishing to the confirm.
    pub confirm_latency_us: Option<Latency>,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

impl Flow {
    pub(crate) fn new(messages: u64, time: Duration, size_bytes: usize) -> Self {
        let seconds = time.as_secs_f64();
        let per_second = if seconds > 0.0 { messages as f64 / seconds } else { 0.0 };
        Self { messages, seconds, per_second, mb_per_second: per_second * size_bytes as f64 / 1e6 }
    }
}

impl Latency {
    /// Of times in nanoseconds; `None` for none.
    pub(crate) fn new(histogram: &Histogram) -> Option<Self> {
        let us = |ns: u64| ns / 1000;
        (histogram.total() > 0).then(|| Self {
            p50: us(histogram.quantile(0.5)),
            p95: us(histogram.quantile(0.95)),
            p99: us(histogram.quantile(0.99)),
            max: us(histogram.max()),
        })
    }
}

/// What all parties of a run counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) publish: Duration,
    pub(crate) receive: Duration,
    pub(crate) published: u64,
    pub(crate) received: u64,
    pub(crate) confirmed: u64,
    pub(crate) refused: u64,
    pub(crate) missing: u64,
    pub(crate) latency: Histogram,
    pub(crate) confirm_latency: Histogram,
    pub(crate) interrupted: bool,
}

impl Tally {
    pub(crate) fn report(&self, plan: &Plan, broker: &str) -> Report {
        Report {
            scenario: plan.scenario.name(),
            url: plan.uri.to_string(),
            broker: broker.to_owned(),
            size_bytes: plan.size_bytes,
            producers: plan.producers,
            consumers: plan.consumers,
            queues: plan.queues,
            persistent: plan.persistent,
            publish: Flow::new(self.published, self.publish, plan.size_bytes),
            receive: Flow::new(self.received, self.receive, plan.size_bytes),
            confirmed: (plan.confirm_window > 0).then_some(self.confirmed),
            refused: self.refused,
            missing: self.missing,
            latency_us: Latency::new(&self.latency),
            confirm_latency_us: Latency::new(&self.confirm_latency),
            interrupted: self.interrupted,
        }
    }
}
