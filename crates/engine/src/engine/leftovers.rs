//! What rules and sources leave behind when they go: keyed values, and slots of replication.

use super::{Engine, STOPPED_PREFIX, STOPPED_SOURCE_PREFIX};
use crate::source::{CURSOR_PREFIX, left_behind};
use crate::topology::{Rule, Topology};
use crate::{values, window, worker};
use bytes::Bytes;
use millpond_broker::{Broker, CommitError};

/// Deletes what the old topology's rules keep and the new one's cannot use: memories, and what is on record of their
/// actions.
pub(super) async fn forget_rules(broker: &Broker, old: &Topology, new: &Topology) -> Result<(), CommitError> {
    for rule in &old.rules {
        let now = new.rule(&rule.name);
        let memory = now.and_then(|rule| rule.memory.as_ref());
        if let Some(before) = &rule.memory
            && !memory.is_some_and(|now| before.is_readable_by(now))
        {
            values::forget(broker, window::kept_under(&rule.name).as_bytes()).await?;
        }
        let used = now.map_or(Vec::new(), |rule| records(rule));
        for gone in records(rule).iter().filter(|it| !used.contains(it)) {
            values::forget(broker, gone.as_bytes()).await?;
        }
    }
    Ok(())
}

/// What the keys begin with of all that is on record of a rule.
fn records(rule: &Rule) -> Vec<String> {
    window::worked_queues(rule).iter().map(|queue| worker::records_under(rule, queue)).collect()
}

/// Takes out, and deletes, what belongs to no rule and no source: a crash came between the topology and the end of
/// what it took away.
pub(super) async fn sweep(
    broker: &Broker,
    kept: &mut Vec<(Bytes, Bytes)>,
    topology: &Topology,
) -> Result<(), CommitError> {
    let records: Vec<_> = topology.rules.iter().flat_map(|rule| records(rule)).collect();
    let is_rule = |name: &str| topology.rule(name).is_some();
    let is_source = |name: &str| topology.source(name).is_some();
    let is_of_use = |key: &[u8]| {
        let Ok(key) = std::str::from_utf8(key) else { return true };
        let rule_of = |rest: &str| rest.split_once('/').is_some_and(|(rule, _)| is_rule(rule));
        if key.starts_with(worker::RECORDS_PREFIX) {
            // ledger/RULE/QUEUE/...: the part up to the third slash.
            let end = key.match_indices('/').nth(2).map_or(key.len(), |(at, _)| at + 1);
            return records.iter().any(|record| *record == key[..end]);
        }
        let rest = |prefix: &str| key.strip_prefix(prefix);
        rest(window::PREFIX).is_none_or(rule_of)
            && rest(STOPPED_PREFIX).is_none_or(is_rule)
            && rest(STOPPED_SOURCE_PREFIX).is_none_or(is_source)
            && rest(CURSOR_PREFIX).is_none_or(is_source)
    };
    let (stays, goes): (Vec<_>, Vec<_>) =
        std::mem::take(kept).into_iter().partition(|(key, _)| is_of_use(key));
    *kept = stays;
    values::delete(broker, goes.into_iter().map(|(key, _)| key)).await
}

impl Engine {
    /// Drops the replication slots that the new topology has no use for; a line each. Before the databases of the old
    /// one go.
    pub(super) async fn drop_slots(&self, old: &Topology, new: &Topology) -> Vec<String> {
        let mut lines = Vec::new();
        for (source, slot) in left_behind(old, new).into_iter().filter(|(_, slot)| slot.is_own) {
            let database = self.inner.tools.actions.databases.get(&slot.database);
            lines.push(slot.drop_from(&source, database).await);
        }
        lines
    }
}
