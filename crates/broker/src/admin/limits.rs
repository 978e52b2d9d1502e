//! Limits of users.

use super::show_limits;
use crate::audit::AuditObject;
use crate::definition::{encode_user_limits, user_limits_key};
use crate::request::UserLimits;
use crate::{Broker, Saved, WriteRefused};
use millpond_model::UserName;

impl Broker {
    /// Every user with limits, by name.
    pub fn list_user_limits(&self) -> Vec<(UserName, UserLimits)> {
        let mut users = self.core.sessions.limited_users();
        users.sort_by(|a, b| a.0.cmp(&b.0));
        users
    }

    /// What a user may have.
    pub fn user_limits(&self, user: &UserName) -> UserLimits {
        self.core.sessions.limits_of(user)
    }

    /// Sets what a user may have, one that is yet to come too. What is open already stays.
    pub fn set_user_limits(&self, user: &UserName, limits: UserLimits) -> Result<Saved, WriteRefused> {
        self.core.check_writable()?;
        let before = self.user_limits(user);
        self.core.sessions.set_limits(user, limits);
        let mut batch = self.core.store.begin();
        let key = user_limits_key(user);
        match limits == UserLimits::default() {
            true => batch.delete(&key),
            false => batch.put(&key, &encode_user_limits(limits)),
        }
        let is_none = limits == UserLimits::default();
        let operation = if is_none { "user.limits.cleared" } else { "user.limits.set" };
        let shown = [("max-connections", limits.connections_max), ("max-channels", limits.channels_max)];
        if limits != before {
            self.audit(operation, AuditObject::named("user", user.as_str()), &show_limits(shown));
        }
        Ok(self.core.save(batch))
    }
}
