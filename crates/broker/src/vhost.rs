//! One virtual host: its topology behind one read-write lock, its policies, and its reply inboxes.

use crate::core::Core;
use crate::definition::{VhostDefinition, altered_key, binding_key, exchange_key, queue_key};
use crate::delayed::{DelayCell, Delays};
use crate::history::{Histories, History};
use crate::notice::Notice;
use crate::policy::{On, Policies, Subject, effective};
use crate::queue::consumers::Sink;
use crate::queue::handle::QueueHandle;
use crate::queue::{QueueCell, Work};
use crate::reply::ReplyBoxes;
use crate::request::{Binding, Destination};
use crate::routing::{ExchangeKind, ExchangeSpec, Removed, Router};
use crate::schedules::Schedules;
use crate::stats::{Count, Kind, Meter, Stats};
use hashbrown::HashMap;
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, QueueName, VhostName};
use millpond_store::Batch;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// Exchanges that every vhost has from the start, beside the default one; not stored.
const BUILT_IN: &[(&str, ExchangeKind, bool)] = &[
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.topic", ExchangeKind::Topic, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
];

/// What is counted of exchanges, of each from its first message on.
type Meters = RwLock<HashMap<ExchangeName, Arc<Meter>>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) name: VhostName,
    topology: RwLock<Router<QueueHandle>>,
    /// Changes with the topology; sessions compare it with the one their cached routes are of.
    generation: AtomicU64,
    pub(crate) replies: ReplyBoxes,
    pub(crate) histories: Histories,
    pub(crate) delays: Delays,
    meters: Meters,
    /// Locked before the topology.
    pub(crate) schedules: Schedules,
    /// What an operator has set.
    definition: RwLock<VhostDefinition>,
    /// Changed under the topology's lock.
    policies: RwLock<Policies>,
    /// Held from a change of policies to its end in the last queue.
    pub(crate) changing: Mutex<()>,
    /// Set under the topology's lock; nothing is declared here any more.
    deleted: AtomicBool,
}

/// What a queue acts by.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Effective {
    /// The declared arguments with what was altered since, and what policies say.
    pub(crate) arguments: Table,
    /// What was altered since the declaration; void: taken away.
    pub(crate) altered: Table,
    /// The policy in force.
    pub(crate) policy: Option<Box<str>>,
    /// The operator policy in force.
    pub(crate) operator_policy: Option<Box<str>>,
}

impl Effective {
    /// In memory; all queues that have no argument and no policy share one.
    pub(crate) fn shared(self) -> Arc<Self> {
        static PLAIN: LazyLock<Arc<Effective>> = LazyLock::new(Arc::default);
        if self == **PLAIN { PLAIN.clone() } else { Arc::new(self) }
    }
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
            histories: Histories::default(),
            delays: Delays::default(),
            meters: Meters::default(),
            schedules: Schedules::default(),
            definition: RwLock::default(),
            policies: RwLock::default(),
            changing: Mutex::default(),
            deleted: AtomicBool::new(false),
        }
    }

    /// What an operator has set.
    pub(crate) fn definition(&self) -> VhostDefinition {
        self.definition.read().clone()
    }

    pub(crate) fn set_definition(&self, definition: VhostDefinition) {
        *self.definition.write() = definition;
    }

    /// Whether it is gone; to be asked under the topology's lock by whoever declares.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The end, with an empty topology.
    pub(crate) fn set_deleted(&self, router: &mut Router<QueueHandle>) {
        self.deleted.store(true, Ordering::Release);
        *router = Router::new(self.name.clone());
        self.changed();
    }

    // ---- policies

    pub(crate) fn policies(&self) -> RwLockReadGuard<'_, Policies> {
        self.policies.read()
    }

    /// To change the policies; hold the topology, and call [`Self::reapply`] afterwards.
    pub(crate) fn policies_mut(&self) -> RwLockWriteGuard<'_, Policies> {
        self.policies.write()
    }

    /// What a queue of these arguments acts by now.
    pub(crate) fn effective_queue(&self, name: &QueueName, declared: &Table, altered: &Table) -> Effective {
        let own = with_altered(declared, altered);
        let policies = self.policies.read();
        if policies.is_empty() {
            return Effective { arguments: own, altered: altered.clone(), ..Effective::default() };
        }
        let queue_type = own.get("x-queue-type").and_then(Value::as_str).unwrap_or("classic");
        let best = policies.best(Subject::Queue { queue_type }, name.as_str());
        Effective {
            arguments: effective(On::Queues, &own, &best),
            altered: altered.clone(),
            policy: best.policy.map(|policy| policy.spec.name.clone()),
            operator_policy: best.operator.map(|policy| policy.spec.name.clone()),
        }
    }

    /// Lets the policies act on an exchange, new or not.
    pub(crate) fn apply_to_exchange(&self, router: &mut Router<QueueHandle>, name: &ExchangeName) {
        let Some(spec) = router.exchange(name.as_str()) else { return };
        let policies = self.policies.read();
        let arguments = match policies.is_empty() {
            true => spec.arguments.clone(),
            false => {
                let best = policies.best(Subject::Exchange, name.as_str());
                effective(On::Exchanges, &spec.arguments, &best)
            }
        };
        drop(policies);
        router.apply_arguments(name, &arguments);
    }

    /// Lets changed policies act on the exchanges; what the queues are to act by that do not yet. They are told
    /// without the topology's lock, which dead-lettering takes.
    pub(crate) fn reapply(&self, router: &mut Router<QueueHandle>) -> Vec<(Arc<QueueCell>, Effective)> {
        for name in router.exchange_names() {
            self.apply_to_exchange(router, &name);
        }
        self.changed();
        let mut changes = Vec::new();
        for queue in router.queues() {
            let spec = queue.0.spec();
            let before = queue.0.effective();
            let now = self.effective_queue(&spec.name, &spec.arguments, &before.altered);
            if now != *before {
                changes.push((queue.0.clone(), now));
            }
        }
        changes
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

    /// The history of an exchange that keeps one. Holding the topology, so that none is begun for an exchange that
    /// goes.
    pub(crate) fn history(
        &self,
        router: &Router<QueueHandle>,
        exchange: &ExchangeName,
    ) -> Option<Arc<History>> {
        let length = router.exchange(exchange.as_str())?.history_length();
        Some(self.histories.get_or_begin(exchange, length))
    }

    /// Where it is counted what an exchange does. To be called with the topology's lock, so that none is begun for one that goes.
    pub(crate) fn exchange_meter(&self, stats: &Stats, exchange: &ExchangeName) -> Arc<Meter> {
        if let Some(meter) = self.counted_exchange(exchange) {
            return meter;
        }
        let begin = || stats.meter(Kind::Exchange, &self.name);
        self.meters.write().entry(exchange.clone()).or_insert_with(begin).clone()
    }

    /// What was counted of an exchange, if anything.
    pub(crate) fn counted_exchange(&self, exchange: &ExchangeName) -> Option<Arc<Meter>> {
        self.meters.read().get(exchange).cloned()
    }

    /// Where an exchange's delayed messages wait. Holding the topology, as above.
    pub(crate) fn delay_cell(
        self: &Arc<Self>,
        router: &Router<QueueHandle>,
        core: &Core,
        exchange: &ExchangeName,
    ) -> Option<Arc<DelayCell>> {
        let durable = router.exchange(exchange.as_str())?.durable;
        Some(self.delays.get_or_begin(core, self, exchange, durable))
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

    /// Deletes the definitions and histories of what went. `queue` is the queue that went with it.
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
            self.histories.forget(name.as_str());
            self.delays.forget(self, name, batch);
            if let Some(meter) = self.meters.write().remove(name) {
                meter.end();
            }
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
            work.core.stats.churn.add_shared(Count::QueueDeleted, 1);
            self.changed();
            self.forget(router, &removed, Some(cell), work.batch);
            let told = || Notice::QueueDeleted { vhost: self.name.clone(), queue: name.clone() };
            work.core.tell(told);
        }
        if cell.spec().is_stored() {
            work.batch.delete(&queue_key(&self.name, name));
            if !cell.effective().altered.is_empty() {
                work.batch.delete(&altered_key(&self.name, name));
            }
        }
        for sink in consumers {
            sink.inbox.forget_stalled(cell, sink.key);
            sink.inbox.cancelled(sink.cookie, name.clone());
        }
    }
}

/// Declared arguments with what was altered since.
pub(crate) fn with_altered(declared: &Table, altered: &Table) -> Table {
    let mut out = declared.clone();
    for (name, value) in altered {
        match value {
            Value::Void => out.remove(name),
            value => out.set(name, value.clone()),
        }
    }
    out
}
