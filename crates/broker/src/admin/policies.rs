//! Policies: set, cleared, listed, and at once in force for what is there.

use super::SetPolicyError;
use crate::audit::AuditObject;
use crate::definition::{self, encode_policy, policy_key};
use crate::json::of_table;
use crate::policy::{Policy, PolicyKind, PolicySpec};
use crate::queue::QueueCell;
use crate::vhost::{Effective, Vhost};
use crate::{Broker, Saved};
use millpond_model::VhostName;
use serde_json::Value as Json;
use std::sync::Arc;

/// Queues told of a change between two looks at what else there is to do.
const APPLIED_AT_ONCE: usize = 100;

fn prefix(kind: PolicyKind) -> &'static [u8] {
    match kind {
        PolicyKind::User => definition::POLICIES,
        PolicyKind::Operator => definition::OPERATOR_POLICIES,
    }
}

impl Broker {
    /// A vhost's policies of a kind, by name.
    pub fn list_policies(
        &self,
        vhost: &VhostName,
        kind: PolicyKind,
    ) -> Result<Vec<PolicySpec>, SetPolicyError> {
        let vhost = self.vhost(vhost)?;
        let policies = vhost.policies();
        Ok(policies.iter(kind).map(|policy| policy.spec.clone()).collect())
    }

    /// Adds a policy, or replaces the one of its name; it is in force when this returns.
    pub fn set_policy(
        &self,
        vhost: &VhostName,
        kind: PolicyKind,
        spec: PolicySpec,
    ) -> Result<Saved, SetPolicyError> {
        let vhost = self.vhost(vhost)?;
        let policy = Policy::new(kind, spec)?;
        self.core.check_writable()?;
        tracing::info!(vhost = %vhost.name, policy = %policy.spec.name, ?kind, "policy set");
        let spec = policy.spec.clone();
        let saved = self.change_policies(&vhost, |batch| {
            vhost.policies_mut().set(kind, policy)?;
            batch.put(&policy_key(prefix(kind), &vhost.name, &spec.name), &encode_policy(&spec));
            Ok(())
        })?;
        let definition = Json::Object(of_table(spec.definition.as_table()));
        let (pattern, apply_to) = (&spec.pattern, spec.apply_to.as_str());
        let detail = format!(
            "pattern '{pattern}', applies to {apply_to}, priority {}, definition {definition}",
            spec.priority
        );
        self.audit("policy.set", AuditObject::policy(kind, &vhost.name, &spec.name), &detail);
        Ok(saved)
    }

    /// Removes a policy; what it said does not hold any more when this returns.
    pub fn clear_policy(
        &self,
        vhost: &VhostName,
        kind: PolicyKind,
        name: &str,
    ) -> Result<Saved, SetPolicyError> {
        let vhost = self.vhost(vhost)?;
        let saved = self.change_policies(&vhost, |batch| {
            if !vhost.policies_mut().clear(kind, name) {
                let (kind, vhost) = (kind.as_str(), vhost.name.clone());
                return Err(SetPolicyError::Missing { kind, policy: name.to_owned(), vhost });
            }
            batch.delete(&policy_key(prefix(kind), &vhost.name, name));
            tracing::info!(vhost = %vhost.name, policy = name, ?kind, "policy cleared");
            Ok(())
        })?;
        self.audit("policy.cleared", AuditObject::policy(kind, &vhost.name, name), "");
        Ok(saved)
    }

    fn change_policies(
        &self,
        vhost: &Arc<Vhost>,
        change: impl FnOnce(&mut millpond_store::Batch) -> Result<(), SetPolicyError>,
    ) -> Result<Saved, SetPolicyError> {
        let changing = vhost.changing.lock();
        let mut router = vhost.write();
        if vhost.is_deleted() {
            return Err(super::VhostMissing { vhost: vhost.name.clone() }.into());
        }
        let mut batch = self.core.store.begin();
        change(&mut batch)?;
        let saved = self.core.save(batch);
        let changes = vhost.reapply(&mut router);
        drop(router);
        self.apply_to_queues(changes);
        drop(changing);
        Ok(saved)
    }

    /// Tells queues what they act by from now on; the caller holds [`Vhost::changing`] and no topology.
    pub(super) fn apply_to_queues(&self, changes: Vec<(Arc<QueueCell>, Effective)>) {
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            self.core.work(|work| {
                for (cell, effective) in changes.by_ref().take(APPLIED_AT_ONCE) {
                    cell.apply(effective, work);
                }
            });
        }
    }
}
