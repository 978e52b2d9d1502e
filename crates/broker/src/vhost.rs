//! One virtual host: its topology behind one read-write lock, and its reply inboxes.

use crate::definition::{binding_key, exchange_key, queue_key};
use crate::queue::cell::{QueueHandle, Sink};
use crate::queue::{QueueCell, Work};
use crate::reply::ReplyBoxes;
use crate::request::{Binding, Destination};
use crate::routing::{ExchangeKind, ExchangeSpec, Removed, Router};
use millpond_model::table::Table;
use millpond_model::{ExchangeName, VhostName};
use millpond_store::Batch;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Exchanges that every vhost has from the start, beside the default one; not stored.
const BUILT_IN: &[(&str, ExchangeKind, bool)] = &[
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.topic", ExchangeKind::Topic, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
];

/// See the module.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) name: VhostName,
    topology: RwLock<Router<QueueHandle>>,
    /// Changes with the topology; sessions compare it with the one their cached routes are of.
    generation: AtomicU64,
    pub(crate) replies: ReplyBoxes,
}

impl Vhost {
    /// With the built-in exchanges.
    pub(crate) fn new(name: VhostName) -> Self {
        let mut router = Router::new(name.clone());
        for (exchange, kind, internal) in BUILT_IN {
            let spec = ExchangeSpec {
                kind: *kind,
                durable: true,
                auto_delete: false,
                internal: *internal,
                arguments: Table::new(),
            };
            router.restore_exchange(ExchangeName::new(exchange).expect("a short name"), spec);
        }
        Self {
            name,
            topology: RwLock::new(router),
            generation: AtomicU64::new(1),
            replies: ReplyBoxes::default(),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Router<QueueHandle>> {
        self.topology.read()
    }

    /// To change the topology; call [`Self::changed`] before letting go.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Router<QueueHandle>> {
        self.topology.write()
    }

    /// Cached routes are stale from now on.
    pub(crate) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// To be read before routing.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a binding is a durable definition: both ends are.
    pub(crate) fn is_stored(router: &Router<QueueHandle>, binding: &Binding) -> bool {
        router.exchange(binding.source.as_str()).is_some_and(|spec| spec.durable)
            && match &binding.destination {
                Destination::Queue(name) => {
                    router.queue(name.as_str()).is_some_and(|queue| queue.0.spec().is_stored())
                }
                Destination::Exchange(name) => {
                    router.exchange(name.as_str()).is_some_and(|spec| spec.durable)
                }
            }
    }

    /// Deletes the definitions of what went. `queue` is the queue that went with it.
    pub(crate) fn forget(
        &self,
        router: &Router<QueueHandle>,
        removed: &Removed,
        queue: Option<&QueueCell>,
        batch: &mut Batch,
    ) {
        let durable_exchange = |name: &ExchangeName| {
            let gone = removed.exchanges.iter().find(|(gone, _)| gone == name).map(|(_, spec)| spec);
            gone.or_else(|| router.exchange(name.as_str())).is_some_and(|spec| spec.durable)
        };
        let stored_queue = |name: &str| match queue.filter(|queue| queue.spec().name.as_str() == name) {
            Some(queue) => queue.spec().is_stored(),
            None => router.queue(name).is_some_and(|queue| queue.0.spec().is_stored()),
        };
        for binding in &removed.bindings {
            let stored = durable_exchange(&binding.source)
                && match &binding.destination {
                    Destination::Queue(name) => stored_queue(name.as_str()),
                    Destination::Exchange(name) => durable_exchange(name),
                };
            if stored {
                batch.delete(&binding_key(&self.name, binding));
            }
        }
        for (name, spec) in &removed.exchanges {
            if spec.durable {
                batch.delete(&exchange_key(&self.name, name));
            }
        }
    }

    /// Takes a queue that is marked as deleted out of the topology, tells its consumers and deletes its definition.
    pub(crate) fn remove_queue(
        &self,
        router: &mut Router<QueueHandle>,
        cell: &Arc<QueueCell>,
        consumers: Vec<Sink>,
        work: &mut Work<'_>,
    ) {
        let name = &cell.spec().name;
        if let Some((_, removed)) = router.remove_queue(name.as_str()) {
            self.changed();
            self.forget(router, &removed, Some(cell), work.batch);
        }
        if cell.spec().is_stored() {
            work.batch.delete(&queue_key(&self.name, name));
        }
        for sink in consumers {
            sink.inbox.forget_stalled(cell, sink.key);
            sink.inbox.cancelled(sink.cookie, name.clone());
        }
    }
}
