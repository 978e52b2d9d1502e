//! What a store holds when a broker takes it over: definitions read, vhosts built.

use super::DEFAULT_VHOST;
use crate::OpenBrokerError;
use crate::admin::{Parameter, forget_vhost};
use crate::core::Core;
use crate::definition::{self, ExchangeDefinition, QueueDefinition, ScheduleState, VhostDefinition};
use crate::delayed::DelayCell;
use crate::policy::{Policy, PolicyKind, PolicySpec};
use crate::queue::QueueCell;
use crate::queue::cell::QueueSpec;
use crate::queue::handle::QueueHandle;
use crate::queue::logs::{Logs, Priorities};
use crate::queue::machine::Machine;
use crate::queue::retained::Known;
use crate::request::{Binding, Destination, UserLimits};
use crate::routing::{ExchangeKind, ExchangeSpec};
use crate::schedules::ScheduleSpec;
use crate::stream::Places;
use crate::vhost::Vhost;
use hashbrown::HashMap;
use millpond_model::table::Table;
use millpond_model::{ExchangeName, QueueName, UserName, VhostName};
use millpond_store::{QueueId, RecoveredQueue, Recovery, Store};
use std::sync::{Arc, Weak};

/// Definitions of the store.
#[derive(Default)]
pub(super) struct Found {
    exchanges: Vec<(VhostName, ExchangeName, ExchangeDefinition)>,
    queues: Vec<(VhostName, QueueName, QueueDefinition)>,
    bindings: Vec<(VhostName, Binding)>,
    delays: Vec<(VhostName, ExchangeName, QueueId)>,
    pub(super) operators: Operators,
    stream_offsets: HashMap<QueueId, Places>,
    retained: HashMap<QueueId, Known>,
    pub(super) next_queue_id: u64,
}

/// What an operator has set.
#[derive(Default)]
pub(super) struct Operators {
    vhosts: HashMap<VhostName, VhostDefinition>,
    policies: Vec<(VhostName, PolicyKind, PolicySpec)>,
    altered: HashMap<(VhostName, Box<[u8]>), Table>,
    pub(super) users: Vec<(UserName, UserLimits)>,
    pub(super) parameters: Vec<Parameter>,
    schedules: Vec<(VhostName, ScheduleSpec, ScheduleState)>,
}

pub(super) fn bad(key: &[u8]) -> impl FnOnce(String) -> OpenBrokerError {
    let key = String::from_utf8_lossy(key).into_owned();
    |reason| OpenBrokerError::BadDefinition { key, reason }
}

impl Found {
    pub(super) fn read(store: &Store) -> Result<Self, OpenBrokerError> {
        let mut found = Self::default();
        for (key, value) in store.values(definition::EXCHANGES)? {
            let (vhost, name) =
                definition::decode_name_key(definition::EXCHANGES, &key).map_err(bad(&key))?;
            let name = ExchangeName::from_bytes(name).map_err(|e| bad(&key)(e.to_string()))?;
            let spec = ExchangeDefinition::decode(&value).map_err(bad(&key))?;
            found.exchanges.push((vhost, name, spec));
        }
        for (key, value) in store.values(definition::QUEUES)? {
            let (vhost, name) = definition::decode_name_key(definition::QUEUES, &key).map_err(bad(&key))?;
            let name = QueueName::from_bytes(name).map_err(|e| bad(&key)(e.to_string()))?;
            let spec = QueueDefinition::decode(&value).map_err(bad(&key))?;
            found.next_queue_id = found.next_queue_id.max(spec.id.0 + u64::from(spec.priorities.levels()));
            found.queues.push((vhost, name, spec));
        }
        for (key, value) in store.values(definition::BINDINGS)? {
            found.bindings.push(definition::decode_binding(&key, &value).map_err(bad(&key))?);
        }
        for (key, value) in store.values(definition::STREAM_OFFSETS)? {
            let (stream, name, offset) = definition::decode_stream_offset(&key, &value).map_err(bad(&key))?;
            found.stream_offsets.entry(stream).or_default().push((name, offset));
        }
        for (key, value) in store.values(definition::DELAYS)? {
            let (vhost, name) = definition::decode_name_key(definition::DELAYS, &key).map_err(bad(&key))?;
            let name = ExchangeName::from_bytes(name).map_err(|e| bad(&key)(e.to_string()))?;
            let id = definition::decode_delay(&value).map_err(bad(&key))?;
            found.next_queue_id = found.next_queue_id.max(id.0 + 1);
            found.delays.push((vhost, name, id));
        }
        for (key, value) in store.values(definition::RETAINED)? {
            let (queue, rest) = definition::decode_retained_key(&key).map_err(bad(&key))?;
            let known = found.retained.entry(queue).or_default();
            known.read(rest, &value).map_err(bad(&key))?;
            found.next_queue_id = found.next_queue_id.max(known.log.map_or(0, |log| log.0 + 1));
        }
        for (key, value) in store.values(definition::QUEUE_IDS)? {
            let bound = definition::decode_queue_ids(&value).map_err(bad(&key))?;
            found.next_queue_id = found.next_queue_id.max(bound);
        }
        found.next_queue_id = found.next_queue_id.max(1);
        found.operators = Operators::read(store)?;
        found.drop_leftovers(store)?;
        Ok(found)
    }

    /// Forgets what belongs to no vhost: a vhost's deletion was cut short.
    fn drop_leftovers(&mut self, store: &Store) -> Result<(), OpenBrokerError> {
        let vhosts = &self.operators.vhosts;
        let known = |vhost: &VhostName| vhost.as_str() == DEFAULT_VHOST || vhosts.contains_key(vhost);
        let mut gone: Vec<VhostName> = Vec::new();
        let mut note = |vhost: &VhostName| {
            if !known(vhost) && !gone.contains(vhost) {
                gone.push(vhost.clone());
            }
            known(vhost)
        };
        self.exchanges.retain(|it| note(&it.0));
        self.queues.retain(|it| note(&it.0));
        self.bindings.retain(|it| note(&it.0));
        self.delays.retain(|it| note(&it.0));
        self.operators.policies.retain(|it| note(&it.0));
        self.operators.schedules.retain(|it| note(&it.0));
        self.operators.parameters.retain(|it| it.vhost.as_ref().is_none_or(&mut note));
        for vhost in gone {
            tracing::info!(%vhost, "what is left of a deleted vhost is deleted");
            forget_vhost(store, &vhost)?;
        }
        Ok(())
    }

    /// Builds the vhosts with their topology and queues.
    pub(super) fn restore(
        &self,
        store: &Store,
        recovery: Recovery,
        core: &Weak<Core>,
    ) -> Result<HashMap<VhostName, Arc<Vhost>>, OpenBrokerError> {
        let mut vhosts: HashMap<VhostName, Arc<Vhost>> = HashMap::new();
        let default = VhostName::new(DEFAULT_VHOST).expect("a short name");
        vhosts.insert(default.clone(), Arc::new(Vhost::new(default)));
        for (name, definition) in &self.operators.vhosts {
            let vhost = vhosts.entry(name.clone()).or_insert_with(|| Arc::new(Vhost::new(name.clone())));
            vhost.set_definition(definition.clone());
        }
        for (vhost, kind, spec) in &self.operators.policies {
            let set = Policy::new(*kind, spec.clone())
                .and_then(|policy| vhosts[vhost].policies_mut().set(*kind, policy));
            if let Err(error) = set {
                tracing::error!(%vhost, policy = %spec.name, %error, "a stored policy is not in force");
            }
        }
        for (vhost, spec, state) in &self.operators.schedules {
            match spec.check() {
                Ok(calendar) => vhosts[vhost].schedules.restore(spec.clone(), calendar, state.clone()),
                Err(error) => {
                    tracing::error!(%vhost, schedule = %spec.name, %error, "a stored schedule rests")
                }
            }
        }
        for (vhost, name, definition) in &self.exchanges {
            let kind = ExchangeKind::parse(&definition.kind).ok_or_else(|| {
                let reason = format!("its exchange type '{}' is not known to this version", definition.kind);
                bad(&definition::exchange_key(vhost, name))(reason)
            })?;
            let spec = ExchangeSpec {
                kind,
                durable: true,
                auto_delete: definition.auto_delete,
                internal: definition.internal,
                arguments: definition.arguments.clone(),
            };
            vhosts[vhost].write().restore_exchange(name.clone(), spec);
        }
        for vhost in vhosts.values() {
            let mut router = vhost.write();
            for name in router.exchange_names() {
                vhost.apply_to_exchange(&mut router, &name);
            }
        }
        self.restore_queues(store, recovery, core, &vhosts)?;
        for (vhost, binding) in &self.bindings {
            let bound = vhosts.get(vhost).map(|vhost| vhost.write().bind(binding));
            if !matches!(bound, Some(Ok(_))) {
                tracing::warn!(%vhost, ?binding, "a stored binding is left out: one of its ends is missing");
            }
        }
        Ok(vhosts)
    }

    fn restore_queues(
        &self,
        store: &Store,
        recovery: Recovery,
        core: &Weak<Core>,
        vhosts: &HashMap<VhostName, Arc<Vhost>>,
    ) -> Result<(), OpenBrokerError> {
        let mut recovered: HashMap<QueueId, RecoveredQueue> =
            recovery.queues.into_iter().map(|queue| (queue.id, queue)).collect();
        let mut retained = self.retained.clone();
        for (vhost, name, definition) in &self.queues {
            let spec = QueueSpec {
                id: definition.id,
                name: name.clone(),
                durable: true,
                auto_delete: definition.auto_delete,
                exclusive: None,
                arguments: definition.arguments.clone(),
            };
            let (log, machine) = restore_logs(store, definition, &mut recovered);
            let altered = self.operators.altered.get(&(vhost.clone(), name.as_str().as_bytes().into()));
            let nothing = Table::new();
            let effective = vhosts[vhost].effective_queue(name, &spec.arguments, altered.unwrap_or(&nothing));
            let cell = QueueCell::new(spec, effective, log, machine, core, &vhosts[vhost]);
            cell.restore_ids(store)?;
            if let Some(known) = retained.remove(&definition.id) {
                restore_retained(store, &cell, known, &mut recovered);
            }
            if let Some(stream) = cell.stream() {
                let places = self.stream_offsets.get(&definition.id);
                stream.restore_places(places.cloned().unwrap_or_default());
            }
            vhosts[vhost].write().add_queue(name.clone(), QueueHandle(cell));
        }
        for (vhost, name, id) in &self.delays {
            let vhost = &vhosts[vhost];
            let (log, live) = match recovered.remove(id) {
                Some(queue) => (queue.log, queue.live.first().map(|first| first.start..queue.next_seq)),
                None => (store.create_queue(*id, true), None),
            };
            vhost.delays.restore(DelayCell::new(
                name.clone(),
                Arc::downgrade(vhost),
                core.clone(),
                log,
                live,
            ));
        }
        // Queues without a definition: exclusive or transient ones of the last run, or a delete cut short.
        let mut batch = store.begin();
        retained.iter().for_each(|(queue, known)| known.delete(*queue, &mut batch));
        for queue in recovered.values() {
            queue.log.delete(&mut batch);
        }
        if !batch.is_empty() {
            store.commit(batch, None);
        }
        let stored = self.bindings.iter().filter(|(_, b)| matches!(b.destination, Destination::Queue(_)));
        tracing::debug!(queues = self.queues.len(), queue_bindings = stored.count(), "definitions restored");
        Ok(())
    }
}

impl Operators {
    fn read(store: &Store) -> Result<Self, OpenBrokerError> {
        let mut found = Self::default();
        for (key, value) in store.values(definition::VHOSTS)? {
            let name = VhostName::from_bytes(&key[definition::VHOSTS.len()..]);
            let name = name.map_err(|e| bad(&key)(e.to_string()))?;
            found.vhosts.insert(name, VhostDefinition::decode(&value).map_err(bad(&key))?);
        }
        for (key, value) in store.values(definition::PARAMETERS)? {
            found.parameters.push(definition::decode_parameter(&key, &value).map_err(bad(&key))?);
        }
        let kinds =
            [(PolicyKind::User, definition::POLICIES), (PolicyKind::Operator, definition::OPERATOR_POLICIES)];
        for (kind, prefix) in kinds {
            for (key, value) in store.values(prefix)? {
                let (vhost, name) = definition::decode_name_key(prefix, &key).map_err(bad(&key))?;
                let policy = definition::decode_policy(name, &value).map_err(bad(&key))?;
                found.policies.push((vhost, kind, policy));
            }
        }
        for (key, value) in store.values(definition::ALTERED)? {
            let (vhost, queue) = definition::decode_name_key(definition::ALTERED, &key).map_err(bad(&key))?;
            let altered = definition::decode_altered(&value).map_err(bad(&key))?;
            found.altered.insert((vhost, queue.into()), altered);
        }
        for (key, value) in store.values(definition::USER_LIMITS)? {
            let user = UserName::from_bytes(&key[definition::USER_LIMITS.len()..]);
            let user = user.map_err(|e| bad(&key)(e.to_string()))?;
            found.users.push((user, definition::decode_user_limits(&value).map_err(bad(&key))?));
        }
        found.read_schedules(store)?;
        Ok(found)
    }

    fn read_schedules(&mut self, store: &Store) -> Result<(), OpenBrokerError> {
        let states: HashMap<_, _> = store.values(definition::SCHEDULE_STATES)?.into_iter().collect();
        for (key, value) in store.values(definition::SCHEDULES)? {
            let (vhost, name) =
                definition::decode_name_key(definition::SCHEDULES, &key).map_err(bad(&key))?;
            let spec = definition::decode_schedule(name, &value).map_err(bad(&key))?;
            let state_key = definition::schedule_state_key(&vhost, &spec.name);
            // Both are written in one batch.
            let state = states.get(state_key.as_slice()).ok_or_else(|| "its state is missing".to_owned());
            let state = state.and_then(|state| ScheduleState::decode(state)).map_err(bad(&key))?;
            self.schedules.push((vhost, spec, state));
        }
        Ok(())
    }
}

/// A queue's logs, and a machine over what is live in them.
fn restore_logs(
    store: &Store,
    definition: &QueueDefinition,
    recovered: &mut HashMap<QueueId, RecoveredQueue>,
) -> (Logs, Machine) {
    if definition.priorities == Priorities::NONE {
        return match recovered.remove(&definition.id) {
            Some(queue) => (Logs::One(queue.log), Machine::new(&queue.live)),
            None => (Logs::One(store.create_queue(definition.id, true)), Machine::default()),
        };
    }
    let levels = 0..usize::from(definition.priorities.levels());
    let found = levels.filter_map(|level| Some((level, recovered.remove(&Logs::id(definition.id, level))?)));
    let (mut logs, mut live) = (Vec::new(), Vec::new());
    for (level, queue) in found {
        let base = Logs::base_of(level);
        live.extend(queue.live.iter().map(|range| base + range.start..base + range.end));
        logs.push((level, queue.log));
    }
    (Logs::with_priorities(definition.priorities, logs), Machine::new(&live))
}

/// Gives a queue what it remembers.
fn restore_retained(
    store: &Store,
    cell: &Arc<QueueCell>,
    known: Known,
    recovered: &mut HashMap<QueueId, RecoveredQueue>,
) {
    let log = known.log.map(|id| match recovered.remove(&id) {
        Some(queue) => queue.log,
        None => store.create_queue(id, true),
    });
    let mut batch = store.begin();
    cell.restore_retained(log, known, &mut batch);
    if !batch.is_empty() {
        store.commit(batch, None);
    }
}
