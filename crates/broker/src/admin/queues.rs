//! Queues as an operator sees them, and altered without being declared anew.

use super::{AlterError, VhostMissing};
use crate::audit::AuditObject;
use crate::definition::{altered_key, encode_altered};
use crate::json::of_table;
use crate::policy::{alterable, check_alteration};
use crate::queue::QueueCell;
use crate::queue::retained::RetainedFigures;
use crate::queue::settings::is_paused;
use crate::stats::Figures;
use crate::vhost::Vhost;
use crate::{Broker, QueueError, Saved};
use millpond_model::table::{Table, Value};
use millpond_model::{QueueName, VhostName};
use serde_json::Value as Json;
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
    /// What was counted since the broker began, if anything.
    pub counts: Option<Figures>,
    /// Nothing is delivered: an operator or a policy says so (`x-paused`).
    pub paused: bool,
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
    /// What both say together, by the names of their keys.
    pub policy_definition: Table,
}

/// What there is in a vhost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Exchanges, built-in ones included.
    pub exchanges: u64,
    /// Queues.
    pub queues: u64,
    /// Messages to be delivered.
    pub ready: u64,
    /// Messages that wait out a delay before they are delivered again.
    pub waiting: u64,
    /// Messages delivered and not settled.
    pub unacked: u64,
    /// Consumers of all queues.
    pub consumers: u64,
}

impl Broker {
    /// Every queue of a vhost, by name.
    pub fn list_queues(&self, vhost: &VhostName) -> Result<Vec<QueueInfo>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let cells: Vec<_> = vhost.read().queues().map(|queue| queue.0.clone()).collect();
        Ok(cells.iter().map(describe).collect())
    }

    /// One queue; `None`: there is none of that name.
    pub fn queue(&self, vhost: &VhostName, name: &QueueName) -> Result<Option<QueueInfo>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let cell = vhost.read().queue(name.as_str()).map(|queue| queue.0.clone());
        Ok(cell.as_ref().map(describe))
    }

    /// The queues of a vhost that somebody consumes from, by name.
    pub fn queues_with_consumers(&self, vhost: &VhostName) -> Result<Vec<QueueName>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let router = vhost.read();
        let consumed = router.queues().filter(|queue| queue.0.counts().1 > 0);
        Ok(consumed.map(|queue| queue.0.spec().name.clone()).collect())
    }

    /// The sums over all queues of a vhost.
    pub fn totals(&self, vhost: &VhostName) -> Result<Totals, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let router = vhost.read();
        let mut totals = Totals { exchanges: router.exchanges().count() as u64 + 1, ..Totals::default() };
        for cell in router.queues().map(|queue| &queue.0) {
            let [ready, unacked, waiting, consumers] = cell.levels();
            totals.queues += 1;
            totals.ready += ready;
            totals.waiting += waiting;
            totals.unacked += unacked;
            totals.consumers += consumers;
        }
        Ok(totals)
    }

    /// Pauses a queue, or lets it go on, durably: while it is paused nothing is delivered and nobody gets anything,
    /// publishing goes on, and what was delivered before can be settled.
    pub fn pause_queue(
        &self,
        vhost: &VhostName,
        name: &QueueName,
        paused: bool,
    ) -> Result<Saved, AlterError> {
        let found = self.vhost(vhost)?;
        let cell = found.read().queue(name.as_str()).map(|queue| queue.0.clone());
        let missing = || QueueError::Missing { queue: name.clone(), vhost: vhost.clone() };
        let change = pause_change(&*cell.ok_or_else(missing)?, &found, paused);
        let saved = self.put_altered(vhost, name, &[("x-paused", change)].into_iter().collect())?;
        let operation = if paused { "queue.paused" } else { "queue.resumed" };
        self.audit(operation, AuditObject::in_vhost("queue", vhost, name.as_str()), "");
        Ok(saved)
    }

    /// Alters arguments of a queue that is there, durably; a void value takes an argument away. Only what a policy
    /// can set may be altered; clients may go on declaring the queue as they did, or as it is now.
    pub fn alter_queue(
        &self,
        vhost: &VhostName,
        name: &QueueName,
        changes: &Table,
    ) -> Result<Saved, AlterError> {
        let saved = self.put_altered(vhost, name, changes)?;
        let detail = Json::Object(of_table(changes)).to_string();
        self.audit("queue.changed", AuditObject::in_vhost("queue", vhost, name.as_str()), &detail);
        Ok(saved)
    }

    fn put_altered(&self, vhost: &VhostName, name: &QueueName, changes: &Table) -> Result<Saved, AlterError> {
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

/// The change that pauses a queue or lets it go on, whatever it was declared with and policies say.
fn pause_change(cell: &QueueCell, vhost: &Vhost, paused: bool) -> Value {
    let mut altered = cell.effective().altered.clone();
    altered.remove("x-paused");
    let without = vhost.effective_queue(&cell.spec().name, &cell.spec().arguments, &altered);
    match is_paused(&without.arguments) == paused {
        // What is so anyway needs no alteration.
        true => cell.spec().arguments.get("x-paused").cloned().unwrap_or(Value::Void),
        false => Value::Bool(paused),
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

pub(super) fn describe(cell: &Arc<QueueCell>) -> QueueInfo {
    let spec = cell.spec();
    let effective = cell.effective();
    let [ready, unacked, waiting, consumers] = cell.levels();
    let (policy, operator) = (effective.policy.as_deref(), effective.operator_policy.as_deref());
    let said = |vhost: Arc<Vhost>| vhost.policies().said(policy, operator);
    let has_policy = policy.is_some() || operator.is_some();
    let policy_definition = cell.vhost().filter(|_| has_policy).map(said).unwrap_or_default();
    let queue_type = spec.arguments.get("x-queue-type").and_then(Value::as_str);
    QueueInfo {
        name: spec.name.clone(),
        queue_type: queue_type.and_then(QueueType::parse).unwrap_or(QueueType::Classic),
        durable: spec.durable,
        exclusive: spec.exclusive.is_some(),
        auto_delete: spec.auto_delete,
        ready,
        waiting,
        unacked,
        retained: cell.retained_figures(),
        counts: cell.counted().and_then(|meter| Some(meter.stats()?.figures(meter))),
        consumers,
        paused: is_paused(&effective.arguments),
        declared: spec.arguments.clone(),
        altered: effective.altered.clone(),
        effective: effective.arguments.clone(),
        policy: effective.policy.clone(),
        operator_policy: effective.operator_policy.clone(),
        policy_definition,
    }
}
