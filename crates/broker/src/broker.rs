//! The broker itself: start, logins, sessions, other rooms' values, the end.

use crate::core::Core;
use crate::definition::{self, ExchangeDefinition, QueueDefinition};
use crate::queue::QueueCell;
use crate::queue::cell::{QueueHandle, QueueSpec};
use crate::queue::machine::Machine;
use crate::request::{Binding, Destination};
use crate::routing::{ExchangeKind, ExchangeSpec};
use crate::session::Session;
use crate::session::inbox::Inbox;
use crate::vhost::Vhost;
use crate::{BrokerOptions, Login, LoginError, OpenBrokerError, OpenSession, OpenSessionError};
use bytes::Bytes;
use hashbrown::HashMap;
use millpond_model::{ExchangeName, QueueName, VhostName};
use millpond_store::{OnCommit, QueueId, RecoveredQueue, Recovery, Store, StoreStatus};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// The broker; cloning counts a reference.
#[derive(Debug, Clone)]
pub struct Broker {
    core: Arc<Core>,
}

impl Broker {
    /// Takes over a store with what was found in it. The default vhost `/` and every vhost's built-in exchanges
    /// (the default one, amq.direct, amq.fanout, amq.topic, amq.headers, amq.match, amq.rabbitmq.trace) are always
    /// there. Queues of the store that no definition names are deleted.
    pub fn open(store: Store, recovery: Recovery, options: BrokerOptions) -> Result<Self, OpenBrokerError> {
        let found = Found::read(&store)?;
        let mut failed = None;
        let core = Arc::new_cyclic(|core| {
            let vhosts = found.restore(&store, recovery, core).unwrap_or_else(|error| {
                failed = Some(error);
                HashMap::new()
            });
            Core::new(store, options, vhosts, found.next_queue_id, core.clone())
        });
        if let Some(error) = failed {
            return Err(error);
        }
        for vhost in core.vhosts.values() {
            let cells: Vec<_> = vhost.read().queues().map(|queue| queue.0.clone()).collect();
            cells.iter().for_each(|cell| core.work(|work| cell.touch(work)));
        }
        Ok(Self { core })
    }

    /// Checks a password. The error's text is for the log only.
    pub fn login(&self, user: &str, password: &[u8], peer: Option<IpAddr>) -> Result<Login, LoginError> {
        let options = &self.core.options;
        if user != options.default_user.as_str() {
            return Err(LoginError::UnknownUser { user: user.to_owned() });
        }
        if !same_bytes(password, options.default_password.as_bytes()) {
            return Err(LoginError::WrongPassword { user: options.default_user.clone() });
        }
        let remote = peer.is_some_and(|peer| !peer.to_canonical().is_loopback());
        if remote && options.default_user_loopback_only {
            return Err(LoginError::LoopbackOnly { user: options.default_user.clone() });
        }
        Ok(Login { user: options.default_user.clone(), peer })
    }

    /// A login for in-process clients (engine, control socket): the default user.
    pub fn internal_login(&self) -> Login {
        Login { user: self.core.options.default_user.clone(), peer: None }
    }

    /// Opens a session; what the broker has to say to it comes by `Session::poll_events`.
    pub fn open_session(&self, request: OpenSession) -> Result<Session, OpenSessionError> {
        let Some(vhost) = self.core.vhosts.get(request.vhost.as_str()) else {
            return Err(OpenSessionError::VhostMissing { vhost: request.vhost });
        };
        let inbox = Arc::new(Inbox::new(self.core.options.inbox_max_bytes));
        let key = self.core.add_session(&inbox)?;
        tracing::debug!(session = key, name = %request.name, user = %request.login.user, "session opened");
        Ok(Session::new(self.core.clone(), vhost.clone(), key, request.login.user, inbox))
    }

    /// Settings it works with.
    pub fn options(&self) -> &BrokerOptions {
        &self.core.options
    }

    /// The store's state, for health checks and the publisher's door.
    pub fn store_status(&self) -> StoreStatus {
        self.core.store.status()
    }

    /// All keyed values of a room, with the keys it gave to [`Self::put_value`], sorted.
    pub fn values(&self, room: &str) -> Vec<(Bytes, Bytes)> {
        let prefix = room_prefix(room);
        let values = self.core.store.values(&prefix).into_iter();
        values.map(|(key, value)| (key.slice(prefix.len()..), value)).collect()
    }

    /// Writes (`Some`) or deletes (`None`) a keyed value of a room; `on_commit` is told, on the log writer's thread,
    /// when it is durable.
    pub fn put_value(
        &self,
        room: &str,
        key: &[u8],
        value: Option<&[u8]>,
        on_commit: Option<(Arc<dyn OnCommit>, u64)>,
    ) {
        let mut full_key = room_prefix(room);
        full_key.extend_from_slice(key);
        let mut batch = self.core.store.begin();
        match value {
            Some(value) => batch.put(&full_key, value),
            None => batch.delete(&full_key),
        }
        self.core.store.commit(batch, on_commit);
    }

    /// Tells every session to close (`SessionEvent::Shutdown`) and opens no more; the store still works.
    pub fn announce_shutdown(&self) {
        self.core.announce_shutdown();
    }

    /// Tells every session to close, if that was not done yet, and closes the store: commits what waits and syncs.
    pub fn shut_down(&self) {
        self.core.announce_shutdown();
        self.core.timer.close();
        self.core.store.close();
    }
}

fn room_prefix(room: &str) -> Vec<u8> {
    format!("app/{room}/").into_bytes()
}

/// Compares in a time that tells nothing about where they differ.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// Definitions of the store.
#[derive(Default)]
struct Found {
    exchanges: Vec<(VhostName, ExchangeName, ExchangeDefinition)>,
    queues: Vec<(VhostName, QueueName, QueueDefinition)>,
    bindings: Vec<(VhostName, Binding)>,
    next_queue_id: u64,
}

fn bad(key: &[u8]) -> impl FnOnce(String) -> OpenBrokerError {
    let key = String::from_utf8_lossy(key).into_owned();
    |reason| OpenBrokerError::BadDefinition { key, reason }
}

impl Found {
    fn read(store: &Store) -> Result<Self, OpenBrokerError> {
        let mut found = Self::default();
        for (key, value) in store.values(definition::EXCHANGES) {
            let (vhost, name) =
                definition::decode_name_key(definition::EXCHANGES, &key).map_err(bad(&key))?;
            let name = ExchangeName::from_bytes(name).map_err(|e| bad(&key)(e.to_string()))?;
            let spec = ExchangeDefinition::decode(&value).map_err(bad(&key))?;
            found.exchanges.push((vhost, name, spec));
        }
        for (key, value) in store.values(definition::QUEUES) {
            let (vhost, name) = definition::decode_name_key(definition::QUEUES, &key).map_err(bad(&key))?;
            let name = QueueName::from_bytes(name).map_err(|e| bad(&key)(e.to_string()))?;
            let spec = QueueDefinition::decode(&value).map_err(bad(&key))?;
            found.next_queue_id = found.next_queue_id.max(spec.id.0 + 1);
            found.queues.push((vhost, name, spec));
        }
        for (key, value) in store.values(definition::BINDINGS) {
            found.bindings.push(definition::decode_binding(&key, &value).map_err(bad(&key))?);
        }
        for (key, value) in store.values(definition::QUEUE_IDS) {
            let bound = definition::decode_queue_ids(&value).map_err(bad(&key))?;
            found.next_queue_id = found.next_queue_id.max(bound);
        }
        found.next_queue_id = found.next_queue_id.max(1);
        Ok(found)
    }

    /// Builds the vhosts with their topology and queues.
    fn restore(
        &self,
        store: &Store,
        recovery: Recovery,
        core: &Weak<Core>,
    ) -> Result<HashMap<VhostName, Arc<Vhost>>, OpenBrokerError> {
        let mut vhosts: HashMap<VhostName, Arc<Vhost>> = HashMap::new();
        let default = VhostName::new("/").expect("a short name");
        let names = self.exchanges.iter().map(|it| &it.0).chain(self.queues.iter().map(|it| &it.0));
        for name in names.chain([&default]) {
            vhosts.entry(name.clone()).or_insert_with(|| Arc::new(Vhost::new(name.clone())));
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
        self.restore_queues(store, recovery, core, &vhosts);
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
    ) {
        let mut recovered: HashMap<QueueId, RecoveredQueue> =
            recovery.queues.into_iter().map(|queue| (queue.id, queue)).collect();
        for (vhost, name, definition) in &self.queues {
            let spec = QueueSpec {
                id: definition.id,
                name: name.clone(),
                durable: true,
                auto_delete: definition.auto_delete,
                exclusive: None,
                arguments: definition.arguments.clone(),
            };
            let (log, machine) = match recovered.remove(&definition.id) {
                Some(queue) => (queue.log, Machine::new(&queue.live, queue.next_seq)),
                None => (store.create_queue(definition.id, true), Machine::default()),
            };
            let cell = QueueCell::new(spec, log, machine, core, &vhosts[vhost]);
            vhosts[vhost].write().add_queue(name.clone(), QueueHandle(cell));
        }
        // Queues without a definition: exclusive or transient ones of the last run, or a delete cut short.
        let mut batch = store.begin();
        for queue in recovered.values() {
            queue.log.delete(&mut batch);
        }
        if !batch.is_empty() {
            store.commit(batch, None);
        }
        let stored = self.bindings.iter().filter(|(_, b)| matches!(b.destination, Destination::Queue(_)));
        tracing::debug!(queues = self.queues.len(), queue_bindings = stored.count(), "definitions restored");
    }
}
