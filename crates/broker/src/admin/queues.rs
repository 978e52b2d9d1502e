//! Queues as an operator sees them, and altered without being declared anew.

use super::{AlterError, VhostMissing};
use crate::definition::{altered_key, encode_altered};
use crate::policy::{alterable, check_alteration};
use crate::queue::QueueCell;
use crate::queue::retained::RetainedFigures;
use crate::{Broker, QueueError, Saved};
use millpond_model::table::{Table, Value};
use millpond_model::{QueueName, VhostName};
use std::sync::Arc;

/// What kind of queue (`x-queue-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueType {
    /// The default.
    Classic,
    /// Alone: a durable local queue.
    Quorum,
    /// A log that is not emptied by reading.
    Stream,
}

impl QueueType {
    /// From `classic`, `quorum`, `stream`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Classic, Self::Quorum, Self::Stream].into_iter().find(|it| it.as_str() == text)
    }

    /// The word that `parse` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }
}

/// A queue and how it is.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueInfo {
    /// Its name.
    pub name: QueueName,
    /// `x-queue-type`.
    pub queue_type: QueueType,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to one connection.
    pub exclusive: bool,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// Messages to be delivered.
    pub ready: u64,
    /// Messages that wait out a delay before they are delivered again.
    pub waiting: u64,
    /// Messages delivered and not settled.
    pub unacked: u64,
    /// Messages that were acked and are remembered, if the queue does that.
    pub retained: Option<RetainedFigures>,
    /// All consumers.
    pub consumers: u64,
    /// As the client declared them.
    pub declared: Table,
    /// What was altered since; void: taken away.
    pub altered: Table,
    /// What it acts by: declared, altered and said by policies.
    pub effective: Table,
    /// The policy in force.
    pub policy: Option<Box<str>>,
    /// The operator policy in force.
    pub operator_policy: Option<Box<str>>,
}

impl Broker {
    /// Every queue of a vhost, by name.
    pub fn list_queues(&self, vhost: &VhostName) -> Result<Vec<QueueInfo>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let mut cells: Vec<_> = vhost.read().queues().map(|queue| queue.0.clone()).collect();
        cells.sort_by(|a, b| a.spec().name.cmp(&b.spec().name));
        Ok(cells.iter().map(describe).collect())
    }

    /// Alters arguments of a queue that is there, durably; a void value takes an argument away. Only what a policy
    /// can set may be altered; clients may go on declaring the queue as they did, or as it is now.
    pub fn alter_queue(
        &self,
        vhost: &VhostName,
        name: &QueueName,
        changes: &Table,
    ) -> Result<Saved, AlterError> {
        let vhost = self.vhost(vhost)?;
        check(changes)?;
        self.core.check_writable().map_err(QueueError::from)?;
        let changing = vhost.changing.lock();
        let missing = || QueueError::Missing { queue: name.clone(), vhost: vhost.name.clone() };
        // Under the topology's lock, so that no definition is written for a queue that has just gone.
        let router = vhost.read();
        let cell = router.queue(name.as_str()).map(|queue| queue.0.clone()).ok_or_else(missing)?;
        if cell.spec().exclusive.is_some() {
            return Err(AlterError::Exclusive { queue: name.clone() });
        }
        let mut altered = cell.effective().altered.clone();
        for (argument, value) in changes {
            // An argument that is as declared is altered no more.
            match cell.spec().arguments.get(argument) {
                Some(declared) if declared.is_equivalent(value) => altered.remove(argument),
                None if *value == Value::Void => altered.remove(argument),
                _ => altered.set(argument, value.clone()),
            }
        }
        let mut batch = self.core.store.begin();
        if cell.spec().is_stored() {
            let key = altered_key(&vhost.name, name);
            match altered.is_empty() {
                true => batch.delete(&key),
                false => batch.put(&key, &encode_altered(&altered)),
            }
        }
        let effective = vhost.effective_queue(name, &cell.spec().arguments, &altered);
        let saved = self.core.save(batch);
        drop(router);
        self.apply_to_queues(vec![(cell, effective)]);
        drop(changing);
        tracing::info!(vhost = %vhost.name, queue = %name, "queue altered");
        Ok(saved)
    }
}

fn check(changes: &Table) -> Result<(), AlterError> {
    for (argument, value) in changes {
        match check_alteration(argument, value) {
            Some(Ok(())) => {}
            Some(Err(reason)) => {
                return Err(AlterError::BadValue { argument: argument.to_string(), reason });
            }
            None => {
                let (argument, alterable) = (argument.to_string(), alterable());
                return Err(AlterError::Fixed { argument, alterable });
            }
        }
    }
    Ok(())
}

fn describe(cell: &Arc<QueueCell>) -> QueueInfo {
    let spec = cell.spec();
    let effective = cell.effective();
    let (ready, consumers) = cell.counts();
    let queue_type = spec.arguments.get("x-queue-type").and_then(Value::as_str);
    QueueInfo {
        name: spec.name.clone(),
        queue_type: queue_type.and_then(QueueType::parse).unwrap_or(QueueType::Classic),
        durable: spec.durable,
        exclusive: spec.exclusive.is_some(),
        auto_delete: spec.auto_delete,
        ready,
        waiting: cell.waiting_count(),
        unacked: cell.unacked_count(),
        retained: cell.retained_figures(),
        consumers,
        declared: spec.arguments.clone(),
        altered: effective.altered.clone(),
        effective: effective.arguments.clone(),
        policy: effective.policy.clone(),
        operator_policy: effective.operator_policy.clone(),
    }
}
