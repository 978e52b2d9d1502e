//! Policies and schedules of a topology: set as an operator would set them, and taken away with the file that no
//! longer says them.

use crate::apply::{ApplyError, refuse};
use crate::topology::{Placed, Topology};
use millpond_broker::{Broker, Saved, ScheduleError, SetPolicyError};
use millpond_model::VhostName;

/// What a file says as an operator would.
pub(crate) struct Operate<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) vhost: &'a VhostName,
    pub(crate) file: &'a str,
}

impl Operate<'_> {
    /// Sets the policies and schedules that are not so yet.
    pub(crate) async fn make_so(
        &self,
        topology: &Topology,
        changes: &mut Vec<String>,
    ) -> Result<(), ApplyError> {
        for (kind, policies) in topology.policies() {
            let there = self.broker.list_policies(self.vhost, kind).unwrap_or_default();
            for placed in policies {
                if there.contains(&placed.it) {
                    continue;
                }
                let set = self.broker.set_policy(self.vhost, kind, placed.it.clone());
                set.map_err(|error| refuse(&self.place(placed), &error))?.await?;
                changes.push(format!("{} {}: set", kind.as_str(), placed.it.name));
            }
        }
        for placed in &topology.schedules {
            let set = self.broker.set_schedule(self.vhost, placed.it.clone());
            let (changed, saved) = set.map_err(|error| refuse(&self.place(placed), &error))?;
            saved.await?;
            if changed {
                changes.push(format!("schedule {}: set", placed.it.name));
            }
        }
        Ok(())
    }

    /// Takes away what `old` said and `new` does not.
    pub(crate) async fn take_away(
        &self,
        old: &Topology,
        new: &Topology,
        changes: &mut Vec<String>,
    ) -> Result<(), ApplyError> {
        for ((kind, olds), (_, news)) in old.policies().into_iter().zip(new.policies()) {
            for gone in olds.iter().filter(|old| !news.iter().any(|new| new.it.name == old.it.name)) {
                match self.broker.clear_policy(self.vhost, kind, &gone.it.name) {
                    // An operator was faster.
                    Err(SetPolicyError::Missing { .. }) => {}
                    other => {
                        self.note(other, changes, format!("{} {}: cleared", kind.as_str(), gone.it.name))
                            .await?;
                    }
                }
            }
        }
        for gone in
            old.schedules.iter().filter(|old| !new.schedules.iter().any(|it| it.it.name == old.it.name))
        {
            match self.broker.remove_schedule(self.vhost, &gone.it.name) {
                Err(ScheduleError::Missing { .. }) => {}
                other => self.note(other, changes, format!("schedule {}: removed", gone.it.name)).await?,
            }
        }
        Ok(())
    }

    async fn note<E: std::fmt::Display>(
        &self,
        done: Result<Saved, E>,
        changes: &mut Vec<String>,
        change: String,
    ) -> Result<(), ApplyError> {
        done.map_err(|error| refuse(self.file, &error))?.await?;
        changes.push(change);
        Ok(())
    }

    fn place<T>(&self, placed: &Placed<T>) -> String {
        format!("{}:{}: {}", self.file, placed.line, placed.path)
    }
}
