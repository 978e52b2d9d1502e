//! Replication slots that sources leave on their servers when they go: each holds the server's log.
//!
//! A slot is dropped when its source is not in the topology any more, or uses another one, and never when a source is
//! merely stopped. Only those are dropped that were named by Millpond: a name that the file gave may be somebody
//! else's. A slot of whose name another source makes use stays, whatever database is named: two names of databases may
//! mean one server.

use crate::database::{Database, DatabaseError};
use crate::topology::Topology;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

/// How often a drop is tried: a statement of the source that was stopped may be under way in the server still.
const TRIES_MAX: u32 = 10;

/// The pause between two tries.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// How long dropping may take, connecting included.
const DROP_WAIT: Duration = Duration::from_secs(10);

/// A slot that a source uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// A name of the section `databases`.
    pub(crate) database: String,
    /// The slot's name.
    pub(crate) name: String,
    /// Whether the name is made of the source's.
    pub(crate) is_own: bool,
}

impl Slot {
    /// What somebody does to whom it is left.
    fn by_hand(&self) -> String {
        format!("drop it with select pg_drop_replication_slot('{}')", self.name)
    }

    /// What became of it, for the report; loud in the log if it is still there.
    pub(crate) async fn drop_from(&self, source: &str, database: Result<Database, DatabaseError>) -> String {
        let dropped = async { self.try_to_drop(&database?).await };
        let failed = match tokio::time::timeout(DROP_WAIT, dropped).await {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) => Some("it is in use".to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer in {} s", DROP_WAIT.as_secs())),
        };
        let Self { database, name, .. } = self;
        match failed {
            None => {
                tracing::info!(source, slot = name, "the replication slot of a source is dropped");
                format!("replication slot {name}: dropped")
            }
            Some(reason) => {
                let what = self.by_hand();
                tracing::error!(source, slot = name, %reason, "a replication slot is left and holds the server's log: {what}");
                format!(
                    "replication slot {name}: left in database {database}, where it holds the log: {what} ({reason})"
                )
            }
        }
    }

    /// `false`: somebody uses it. One that is gone counts as dropped.
    async fn try_to_drop(&self, database: &Database) -> Result<bool, DatabaseError> {
        // In this order: a slot that is in use would make the function fail.
        let text = "select pg_drop_replication_slot(slot_name) is null as it from pg_replication_slots \
                    where slot_name = $1::text and plugin = 'pgoutput' and not active \
                    and database = current_database()";
        // Names of slots are the whole server's: one of another database is somebody else's.
        let left = "select 1 as it from pg_replication_slots where slot_name = $1::text \
                    and database = current_database()";
        for _ in 0..TRIES_MAX {
            database.rows(text, vec![Value::from(self.name.as_str())]).await?;
            if database.rows(left, vec![Value::from(self.name.as_str())]).await?.is_empty() {
                return Ok(true);
            }
            sleep(TRY_EVERY).await;
        }
        Ok(false)
    }
}

/// Slots of sources of `old` that nobody uses in `new`, with their sources.
pub(crate) fn left_behind(old: &Topology, new: &Topology) -> Vec<(String, Slot)> {
    let slots = |topology: &Topology| -> Vec<(String, Slot)> {
        let sources = topology.sources.iter();
        sources.filter_map(|it| Some((it.name.clone(), it.kind.slot(&it.name)?))).collect()
    };
    let used: BTreeSet<_> = slots(new).into_iter().map(|(_, slot)| slot.name).collect();
    slots(old).into_iter().filter(|(_, slot)| !used.contains(&slot.name)).collect()
}

/// What the plan says of a source that goes.
pub(crate) fn removed(old: &Topology, new: &Topology) -> impl Fn(&str) -> String {
    let left = left_behind(old, new);
    move |source| {
        let slot = left.iter().find(|(name, _)| name == source).map(|(_, slot)| slot);
        let then = match slot {
            None => String::new(),
            Some(slot) if slot.is_own => format!("; its replication slot {} is dropped", slot.name),
            Some(slot) => {
                format!("; its replication slot {} stays and holds the log: {}", slot.name, slot.by_hand())
            }
        };
        format!("removed, its place is forgotten{then}")
    }
}
