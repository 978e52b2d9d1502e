//! Consumers changed and ended by an operator, whatever they asked for themselves.

use super::{PaceError, VhostMissing};
use crate::audit::AuditObject;
use crate::queue::QueueCell;
use crate::queue::consumers::{ConsumerChange as OfCell, Sink};
use crate::queue::timing;
use crate::{Broker, QueueError};
use millpond_model::table::Table;
use millpond_model::{QueueName, VhostName};
use std::sync::Arc;

/// Which consumers of a vhost: those for which all that is said holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsumersMeant<'a> {
    /// Of this queue.
    pub queue: Option<&'a QueueName>,
    /// Of this session ([`crate::ConnectionInfo::session`]).
    pub session: Option<u64>,
    /// Of the channel with this number.
    pub channel: Option<u16>,
    /// With this tag.
    pub tag: Option<&'a str>,
}

impl ConsumersMeant<'_> {
    fn fits(&self, sink: &Sink) -> bool {
        self.session.is_none_or(|session| sink.owner.0 == session)
            && self.channel.is_none_or(|channel| sink.shown.channel == channel)
            && self.tag.is_none_or(|tag| sink.shown.tag.as_str() == tag)
    }
}

/// What is to be changed; what is not said stays.
#[derive(Debug, Clone, Default)]
pub struct ConsumerChange {
    /// Most unsettled deliveries at once; 0: no limit.
    pub prefetch: Option<u32>,
    /// Whether it is given nothing for now. Lasts as long as the consumer.
    pub paused: Option<bool>,
    /// It has no pace any more, whatever `arguments` say.
    pub unpaced: bool,
    /// `x-rate` with `x-rate-window`, and `x-consumer-timeout`, as if it had asked for them itself.
    pub arguments: Table,
}

impl Broker {
    /// Changes consumers while they run; how many there were. What clients do later has the last word.
    pub fn change_consumers(
        &self,
        vhost: &VhostName,
        meant: ConsumersMeant<'_>,
        change: &ConsumerChange,
    ) -> Result<usize, PaceError> {
        let bad = |bad: crate::queue::arguments::BadArgument| PaceError::BadArgument {
            argument: bad.argument,
            reason: bad.reason,
        };
        let rate = timing::rate(&change.arguments).map_err(bad)?;
        let detail = shown(change);
        let change = OfCell {
            prefetch: change.prefetch,
            paused: change.paused,
            rate: if change.unpaced { Some(None) } else { rate.map(Some) },
            lease_ms: timing::lease_ms(&change.arguments).map_err(bad)?,
        };
        let mut count = 0;
        for cell in self.cells_meant(vhost, meant.queue)? {
            let keys = cell.consumers_where(&|sink| meant.fits(sink));
            count += keys.len();
            self.core.work(|work| keys.iter().for_each(|key| cell.change_consumer(*key, change, work)));
            if !keys.is_empty() {
                let object = AuditObject::in_vhost("consumer", vhost, meant.tag.unwrap_or("*"));
                let of = format!("{} of queue '{}': {detail}", keys.len(), cell.spec().name);
                self.audit("consumer.changed", object, &of);
            }
        }
        Ok(count)
    }

    /// Ends consumers: they are given nothing more when this returns, and their clients are told. How many there were.
    pub fn cancel_consumers(&self, vhost: &VhostName, meant: ConsumersMeant<'_>) -> Result<usize, PaceError> {
        let mut count = 0;
        for cell in self.cells_meant(vhost, meant.queue)? {
            for key in cell.consumers_where(&|sink| meant.fits(sink)) {
                let gone = self.core.work(|work| cell.end_consumer(key, work));
                let Some((sink, is_unused)) = gone else { continue };
                count += 1;
                sink.inbox.cancelled(sink.cookie, cell.spec().name.clone());
                let object = AuditObject::in_vhost("consumer", vhost, sink.shown.tag.as_str());
                self.audit("consumer.deleted", object, &format!("of queue '{}'", cell.spec().name));
                tracing::info!(queue = %cell.spec().name, consumer = %sink.shown.tag, "consumer ended by an operator");
                if is_unused {
                    let when = crate::queue::end::DeleteIf { unused: true, ..Default::default() };
                    self.core.delete_queue_if(&cell, when);
                }
            }
        }
        Ok(count)
    }

    /// One queue, or all that somebody consumes from.
    fn cells_meant(
        &self,
        vhost: &VhostName,
        queue: Option<&QueueName>,
    ) -> Result<Vec<Arc<QueueCell>>, PaceError> {
        let vhost = self.vhost(vhost).map_err(|VhostMissing { vhost }| PaceError::Vhost { vhost })?;
        let router = vhost.read();
        let Some(name) = queue else {
            let consumed = router.queues().filter(|queue| queue.0.counts().1 > 0);
            return Ok(consumed.map(|queue| queue.0.clone()).collect());
        };
        let missing = || QueueError::Missing { queue: name.clone(), vhost: vhost.name.clone() };
        Ok(vec![router.queue(name.as_str()).map(|queue| queue.0.clone()).ok_or_else(missing)?])
    }
}

/// For the audit log.
fn shown(change: &ConsumerChange) -> String {
    let mut said = Vec::new();
    said.extend(change.prefetch.map(|prefetch| format!("prefetch {prefetch}")));
    said.extend(change.paused.map(|paused| (if paused { "paused" } else { "resumed" }).to_owned()));
    if change.unpaced {
        said.push("no rate".to_owned());
    }
    if !change.arguments.is_empty() {
        said.push(serde_json::Value::Object(crate::json::of_table(&change.arguments)).to_string());
    }
    said.join(", ")
}
