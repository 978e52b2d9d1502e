//! Schedules: set, removed, paused, listed.

use super::VhostMissing;
use crate::audit::AuditObject;
use crate::schedules::{BadSchedule, ScheduleInfo, ScheduleSpec};
use crate::{Broker, Saved, WriteRefused};
use millpond_model::{ExchangeName, VhostName};

/// Why a schedule is not changed or shown.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// No such vhost.
    #[error(transparent)]
    Vhost(#[from] VhostMissing),
    /// It is none.
    #[error(transparent)]
    Bad(#[from] BadSchedule),
    /// There is nothing to publish to.
    #[error("schedule '{schedule}': there is no exchange '{exchange}' in vhost '{vhost}': declare it first")]
    ExchangeMissing {
        /// Which.
        schedule: Box<str>,
        /// As asked.
        exchange: ExchangeName,
        /// Where.
        vhost: VhostName,
    },
    /// There is no such schedule.
    #[error("no schedule '{schedule}' in vhost '{vhost}'")]
    Missing {
        /// As asked.
        schedule: String,
        /// Where.
        vhost: VhostName,
    },
    /// The vhost has as many as it may.
    #[error("vhost '{vhost}' has {limit} schedules, which is the limit: remove some")]
    TooMany {
        /// Where.
        vhost: VhostName,
        /// How many it may have.
        limit: usize,
    },
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
}

impl Broker {
    /// The schedules of a vhost, by name.
    pub fn list_schedules(&self, vhost: &VhostName) -> Result<Vec<ScheduleInfo>, ScheduleError> {
        let vhost = self.vhost(vhost)?;
        Ok(vhost.schedules.list(&vhost))
    }

    /// Adds a schedule, or changes the one of its name; the flag: whether there was anything to change. With another
    /// cron expression or zone it counts from now on; paused it stays paused.
    pub fn set_schedule(
        &self,
        vhost: &VhostName,
        spec: ScheduleSpec,
    ) -> Result<(bool, Saved), ScheduleError> {
        let vhost = self.vhost(vhost)?;
        let calendar = spec.check()?;
        if !spec.exchange.is_empty() && vhost.read().exchange(spec.exchange.as_str()).is_none() {
            let (schedule, exchange) = (spec.name, spec.exchange);
            return Err(ScheduleError::ExchangeMissing { schedule, exchange, vhost: vhost.name.clone() });
        }
        self.core.check_writable()?;
        let object = AuditObject::in_vhost("schedule", &vhost.name, &*spec.name);
        let detail = format!("'{}' in {} to exchange '{}'", spec.cron, spec.zone, spec.exchange);
        let set = vhost.schedules.set(&vhost, &self.core, spec, calendar)?;
        if set.0 {
            self.audit("schedule.set", object, &detail);
        }
        Ok(set)
    }

    /// Takes a schedule away: it publishes nothing any more.
    pub fn remove_schedule(&self, vhost: &VhostName, name: &str) -> Result<Saved, ScheduleError> {
        let vhost = self.vhost(vhost)?;
        let saved = vhost.schedules.remove(&vhost, &self.core, name)?;
        self.audit("schedule.deleted", AuditObject::in_vhost("schedule", &vhost.name, name), "");
        Ok(saved)
    }

    /// Publishes the message of a schedule now, paused or not, as of this moment; whether anything takes it. Its own
    /// moments stay as they are.
    pub fn run_schedule(&self, vhost: &VhostName, name: &str) -> Result<(bool, Saved), ScheduleError> {
        let vhost = self.vhost(vhost)?;
        self.core.check_writable()?;
        let (routed, saved) = vhost.schedules.run_now(&vhost, &self.core, name)?;
        let detail = if routed { "" } else { "no queue took its message" };
        self.audit("schedule.run", AuditObject::in_vhost("schedule", &vhost.name, name), detail);
        Ok((routed, saved))
    }

    /// Pauses a schedule, or resumes it. Moments that pass while it is paused get no message.
    pub fn pause_schedule(
        &self,
        vhost: &VhostName,
        name: &str,
        paused: bool,
    ) -> Result<Saved, ScheduleError> {
        let vhost = self.vhost(vhost)?;
        self.core.check_writable()?;
        let saved = vhost.schedules.set_paused(&vhost, &self.core, name, paused)?;
        let operation = if paused { "schedule.paused" } else { "schedule.resumed" };
        self.audit(operation, AuditObject::in_vhost("schedule", &vhost.name, name), "");
        Ok(saved)
    }
}
