//! Vhosts: made, changed, listed, deleted with all that is in them.

use super::{QueueType, VhostError, VhostMissing, show_limits};
use crate::audit::AuditObject;
use crate::broker::DEFAULT_VHOST;
use crate::definition::{self, VhostDefinition, vhost_key, vhost_prefix};
use crate::queue::end::DeleteIf;
use crate::request::VhostLimits;
use crate::vhost::Vhost;
use crate::{Broker, Saved};
use millpond_model::VhostName;
use millpond_store::{ReadValuesError, Store};
use std::sync::Arc;

/// Vhosts a broker may have.
const VHOSTS_MAX: usize = 10_000;
/// Longest description. Bytes.
const DESCRIPTION_MAX_BYTES: usize = 255;
/// Tags of a vhost.
const TAGS_MAX: usize = 64;
/// Keys or queues deleted with one record of the log.
const DELETED_AT_ONCE: usize = 1000;

/// What an operator wants a vhost to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostSpec {
    /// Its name.
    pub name: VhostName,
    /// For people.
    pub description: Box<str>,
    /// The type of durable queues whose declaration names none.
    pub default_queue_type: Option<QueueType>,
    /// For people and their tools.
    pub tags: Vec<Box<str>>,
    /// Whether it must not be deleted.
    pub is_protected: bool,
}

impl VhostSpec {
    /// A vhost that is nothing but a name.
    pub fn new(name: VhostName) -> Self {
        Self { name, description: "".into(), default_queue_type: None, tags: Vec::new(), is_protected: false }
    }
}

/// A vhost and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostInfo {
    /// Its name.
    pub name: VhostName,
    /// For people.
    pub description: Box<str>,
    /// The type of durable queues whose declaration names none.
    pub default_queue_type: Option<QueueType>,
    /// For people and their tools.
    pub tags: Vec<Box<str>>,
    /// Whether it must not be deleted.
    pub is_protected: bool,
    /// What it may have.
    pub limits: VhostLimits,
    /// Connections of clients.
    pub connections: u64,
    /// Queues.
    pub queues: u64,
}

impl Broker {
    /// Every vhost, by name.
    pub fn list_vhosts(&self) -> Vec<VhostInfo> {
        let mut vhosts: Vec<_> = self.core.vhosts.read().values().cloned().collect();
        vhosts.sort_by(|a, b| a.name.cmp(&b.name));
        vhosts.into_iter().map(|vhost| self.describe(&vhost)).collect()
    }

    fn describe(&self, vhost: &Vhost) -> VhostInfo {
        let definition = vhost.definition();
        VhostInfo {
            name: vhost.name.clone(),
            description: definition.description,
            default_queue_type: QueueType::parse(&definition.default_queue_type),
            tags: definition.tags,
            is_protected: definition.is_protected,
            limits: definition.limits,
            connections: self.core.sessions.count_in(&vhost.name),
            queues: vhost.read().queues().len() as u64,
        }
    }

    /// Makes a vhost, or changes one that is there; `true`: it is new. Queues that are there keep their types.
    pub fn set_vhost(&self, spec: &VhostSpec) -> Result<(bool, Saved), VhostError> {
        if spec.name.is_empty() {
            return Err(VhostError::NoName);
        }
        if spec.description.len() > DESCRIPTION_MAX_BYTES {
            return Err(VhostError::DescriptionTooLong { size_bytes: spec.description.len() });
        }
        if spec.tags.len() > TAGS_MAX || spec.tags.iter().any(|tag| tag.len() > DESCRIPTION_MAX_BYTES) {
            return Err(VhostError::TooManyTags { limit: TAGS_MAX });
        }
        self.core.check_writable()?;
        let mut vhosts = self.core.vhosts.write();
        let (vhost, is_new) = match vhosts.get(&spec.name) {
            Some(vhost) => (vhost.clone(), false),
            None if vhosts.len() >= VHOSTS_MAX => return Err(VhostError::TooMany { limit: VHOSTS_MAX }),
            None => (Arc::new(Vhost::new(spec.name.clone())), true),
        };
        let definition = VhostDefinition {
            limits: vhost.definition().limits,
            default_queue_type: spec.default_queue_type.map_or("", QueueType::as_str).into(),
            description: spec.description.clone(),
            is_protected: spec.is_protected,
            tags: spec.tags.clone(),
        };
        let mut saved = self.put_vhost(&vhost, definition);
        if is_new {
            vhosts.insert(spec.name.clone(), vhost);
            let _order = self.core.access.changing.lock();
            let mut batch = self.core.store.begin();
            self.permit_default_user(&spec.name, &mut batch);
            saved = self.core.save(batch);
        }
        drop(vhosts);
        tracing::info!(vhost = %spec.name, is_new, "vhost set");
        let operation = if is_new { "vhost.created" } else { "vhost.changed" };
        let queue_type = spec.default_queue_type.map_or("none", QueueType::as_str);
        let (tags, protected) = (spec.tags.join(","), spec.is_protected);
        let detail = format!("default queue type {queue_type}, tags [{tags}], protected {protected}");
        self.audit(operation, AuditObject::named("vhost", spec.name.as_str()), &detail);
        Ok((is_new, saved))
    }

    /// Sets what a vhost may have. What is there already stays.
    pub fn set_vhost_limits(&self, name: &VhostName, limits: VhostLimits) -> Result<Saved, VhostError> {
        self.core.check_writable()?;
        let vhosts = self.core.vhosts.write();
        let vhost = vhosts.get(name).ok_or_else(|| VhostMissing { vhost: name.clone() })?;
        let definition = VhostDefinition { limits, ..vhost.definition() };
        let saved = self.put_vhost(vhost, definition);
        let is_none = limits == VhostLimits::default();
        let operation = if is_none { "vhost.limits.cleared" } else { "vhost.limits.set" };
        let shown = [("max-connections", limits.connections_max), ("max-queues", limits.queues_max)];
        self.audit(operation, AuditObject::named("vhost", name.as_str()), &show_limits(shown));
        Ok(saved)
    }

    /// The caller holds the list of vhosts.
    fn put_vhost(&self, vhost: &Vhost, definition: VhostDefinition) -> Saved {
        let mut batch = self.core.store.begin();
        batch.put(&vhost_key(&vhost.name), &definition.encode());
        vhost.set_definition(definition);
        self.core.save(batch)
    }

    /// Deletes a vhost with all that is in it: its connections are closed (320), its queues go with their messages,
    /// without dead-lettering. A broker killed in the middle deletes the rest at its next start.
    pub fn delete_vhost(&self, name: &VhostName) -> Result<Saved, VhostError> {
        if name.as_str() == DEFAULT_VHOST {
            return Err(VhostError::Default);
        }
        let mut vhosts = self.core.vhosts.write();
        let vhost = vhosts.get(name).cloned().ok_or_else(|| VhostMissing { vhost: name.clone() })?;
        if vhost.definition().is_protected {
            return Err(VhostError::Protected { vhost: name.clone() });
        }
        vhosts.remove(name);
        self.core.parameters.forget_vhost(name);
        let mut batch = self.core.store.begin();
        batch.delete(&vhost_key(name));
        self.core.store.commit(batch, None);
        let cells: Vec<_> = {
            let mut router = vhost.write();
            let cells = router.queues().map(|queue| queue.0.clone()).collect();
            vhost.set_deleted(&mut router);
            cells
        };
        for some in cells.chunks(DELETED_AT_ONCE) {
            self.core.work(|work| {
                for cell in some {
                    // Without conditions nothing is in the way.
                    let _ = cell.delete(DeleteIf::default(), work);
                }
                work.scratch.wake();
            });
        }
        self.core.work(|work| vhost.delays.forget_all(&vhost, work.batch));
        self.core.work(|work| vhost.schedules.forget_all(&vhost, work.batch));
        let order = self.core.access.changing.lock();
        self.core.access.forget_vhost(name);
        if let Err(error) = forget_vhost(&self.core.store, name) {
            tracing::error!(vhost = %name, %error, "what was defined in a deleted vhost goes with the next start");
        }
        drop(order);
        // The log keeps the order: when this is durable, so is all before it.
        let mut last = self.core.store.begin();
        last.delete(&vhost_key(name));
        let saved = self.core.save(last);
        drop(vhosts);
        let reason: Arc<str> = format!("vhost '{name}' is deleted").into();
        for inbox in self.core.sessions.inboxes(Some(name)) {
            inbox.end(reason.clone());
        }
        self.core.stats.forget(name);
        tracing::info!(vhost = %name, queues = cells.len(), "vhost deleted");
        let detail = format!("{} queues went with it", cells.len());
        self.audit("vhost.deleted", AuditObject::named("vhost", name.as_str()), &detail);
        Ok(saved)
    }
}

/// Deletes all definitions of a vhost.
pub(crate) fn forget_vhost(store: &Store, vhost: &VhostName) -> Result<(), ReadValuesError> {
    let prefixes = [
        definition::BINDINGS,
        definition::DELAYS,
        definition::EXCHANGES,
        definition::QUEUES,
        definition::ALTERED,
        definition::POLICIES,
        definition::OPERATOR_POLICIES,
        definition::PARAMETERS,
        definition::SCHEDULES,
        definition::SCHEDULE_STATES,
        definition::PERMISSIONS,
        definition::TOPIC_PERMISSIONS,
    ];
    for prefix in prefixes {
        let keys: Vec<_> = store.values(&vhost_prefix(prefix, vhost))?.into_iter().map(|it| it.0).collect();
        for some in keys.chunks(DELETED_AT_ONCE) {
            let mut batch = store.begin();
            some.iter().for_each(|key| batch.delete(key));
            store.commit(batch, None);
        }
    }
    Ok(())
}
