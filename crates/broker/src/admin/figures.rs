//! How a queue stands: what was promised to its consumers, what was delivered, when it will be empty.

use super::{PaceError, VhostMissing};
use crate::queue::QueueCell;
use crate::queue::consumers::Shown;
use crate::queue::machine::{ConsumerFigures as OfMachine, GroupFigures as OfGroups, PaceFigures as Pace};
use crate::{Broker, QueueError};
use millpond_model::table::Table;
use millpond_model::{ConsumerTag, QueueName, VhostName};
use std::sync::Arc;

/// A promised pace and what became of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaceFigures {
    /// Messages per second, as asked for.
    pub promised_per_s: f64,
    /// Over how long they are counted.
    pub window_ms: u32,
    /// Messages per second in the last whole window; `None` before one has ended. Below what was promised where there
    /// was nothing to deliver, or the consumer had no credit.
    pub delivered_per_s: Option<f64>,
}

impl PaceFigures {
    fn of(pace: Pace) -> Self {
        let Pace { rate, delivered_per_s } = pace;
        Self { promised_per_s: rate.per_s(), window_ms: rate.window_ms(), delivered_per_s }
    }
}

/// A consumer of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerFigures {
    /// Its tag, which is its channel's own: others may have the same.
    pub tag: ConsumerTag,
    /// The session it belongs to.
    pub session: u64,
    /// The number of its channel there; 0: it has none.
    pub channel: u16,
    /// It wants no other.
    pub exclusive: bool,
    /// As it was asked for.
    pub arguments: Table,
    /// Higher is served first.
    pub priority: i64,
    /// Most unsettled deliveries at once; 0: no limit.
    pub prefetch: u32,
    /// What it is given is settled at once.
    pub no_ack: bool,
    /// It does not stand by for a single active consumer.
    pub active: bool,
    /// An operator paused it: it is given nothing.
    pub paused: bool,
    /// What it holds.
    pub unacked: u64,
    /// How long it may hold a delivery, as it asked itself; 0: for ever.
    pub lease_ms: Option<u64>,
    /// Its pace, if it has one.
    pub pace: Option<PaceFigures>,
}

/// Message groups of a queue in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupFigures {
    /// Groups of which a consumer holds messages: their next ones go to that consumer only.
    pub in_use: u64,
    /// Ready messages whose group is known.
    pub looked_at: u64,
    /// How many those may be: what is behind them waits until there is room.
    pub window: u64,
}

/// A queue in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueFigures {
    /// Messages to be delivered.
    pub ready: u64,
    /// Messages that wait out a delay before they are delivered again.
    pub waiting: u64,
    /// Messages delivered and not settled.
    pub unacked: u64,
    /// The queue's own pace, if it has one.
    pub pace: Option<PaceFigures>,
    /// Messages per second that its publishers are held to, if they are.
    pub publish_rate_per_s: Option<f64>,
    /// Its message groups, if it has any.
    pub groups: Option<GroupFigures>,
    /// Messages per second that can leave: the lower of the queue's pace and the sum of its active consumers';
    /// `None`: there is no such bound.
    pub promised_per_s: Option<f64>,
    /// How long it takes at that rate until nothing is ready, if nothing comes; `None`: that is not known.
    pub drain_ms: Option<u64>,
    /// In the order in which they came.
    pub consumers: Vec<ConsumerFigures>,
}

impl Broker {
    /// How a queue stands.
    pub fn queue_figures(&self, vhost: &VhostName, queue: &QueueName) -> Result<QueueFigures, PaceError> {
        let cell = self.cell(vhost, queue)?;
        let (machine, consumers) = cell.figures(self.core.options.clock.now_ms());
        let consumers: Vec<_> = consumers.into_iter().map(describe).collect();
        let pace = machine.pace.map(PaceFigures::of);
        let promised_per_s = promised(pace.as_ref(), &consumers);
        let drain_ms = promised_per_s.map(|per_s| (machine.ready as f64 * 1000.0 / per_s).ceil() as u64);
        let (ready, waiting, unacked) = (machine.ready, machine.waiting, machine.unacked);
        let groups = machine.groups.map(|groups| {
            let OfGroups { in_use, looked_at, window } = groups;
            GroupFigures { in_use, looked_at, window }
        });
        let publish_rate_per_s = cell.publish_rate_per_s();
        Ok(QueueFigures {
            ready,
            waiting,
            unacked,
            pace,
            publish_rate_per_s,
            groups,
            promised_per_s,
            drain_ms,
            consumers,
        })
    }

    fn cell(&self, vhost: &VhostName, queue: &QueueName) -> Result<Arc<QueueCell>, PaceError> {
        let vhost = self.vhost(vhost).map_err(|VhostMissing { vhost }| PaceError::Vhost { vhost })?;
        let cell = vhost.read().queue(queue.as_str()).map(|queue| queue.0.clone());
        let missing = || QueueError::Missing { queue: queue.clone(), vhost: vhost.name.clone() };
        Ok(cell.ok_or_else(missing)?)
    }
}

fn describe((figures, shown): (OfMachine, Shown)) -> ConsumerFigures {
    let OfMachine { terms, unacked, active, paused, pace, .. } = figures;
    let Shown { tag, channel, exclusive, arguments } = shown;
    ConsumerFigures {
        tag,
        channel,
        exclusive,
        arguments,
        session: terms.owner.0,
        priority: terms.priority,
        prefetch: terms.prefetch,
        no_ack: terms.no_ack,
        active,
        paused,
        unacked,
        lease_ms: terms.lease_ms,
        pace: pace.map(PaceFigures::of),
    }
}

fn promised(queue: Option<&PaceFigures>, consumers: &[ConsumerFigures]) -> Option<f64> {
    let active = || consumers.iter().filter(|consumer| consumer.active);
    let all: Option<f64> = active().map(|consumer| Some(consumer.pace?.promised_per_s)).sum();
    let of_consumers = all.filter(|_| active().next().is_some());
    match (queue.map(|pace| pace.promised_per_s), of_consumers) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
