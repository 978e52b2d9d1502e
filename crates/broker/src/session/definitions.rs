//! Exchanges, queues and bindings: declared, deleted, purged. Definitions change under the topology's lock, and
//! their batches are submitted under it too, so that the log has them in the order they happened.

use super::Session;
use crate::access::{Right, Thing};
use crate::definition::{
    BINDING_VALUE, ExchangeDefinition, QueueDefinition, binding_key, exchange_key, queue_key,
};
use crate::error::*;
use crate::queue::QueueCell;
use crate::queue::cell::QueueSpec;
use crate::queue::end::{DeleteIf, NotDeleted};
use crate::queue::handle::QueueHandle;
use crate::queue::logs::{Logs, Priorities};
use crate::queue::machine::Machine;
use crate::queue::settings::priorities;
use crate::reply::REPLY_TO;
use crate::request::*;
use crate::routing::{ExchangeKind, Resolution, Router};
use crate::stats::Count;
use crate::vhost::Vhost;
use millpond_model::properties::RawProperties;
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, Message, QueueName};
use std::sync::Arc;

/// Longest `x-name-prefix` (D5). Bytes.
const NAME_PREFIX_MAX_BYTES: usize = 64;

/// Letters of made-up names.
const NAME_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Session {
    /// Declares an exchange (D2, D3).
    pub fn declare_exchange(
        &mut self,
        request: &DeclareExchange,
    ) -> Result<Durability, DeclareExchangeError> {
        let vhost = self.vhost.clone();
        let stripped = strip_exchange(&request.name).map(|name| DeclareExchange { name, ..request.clone() });
        let request = stripped.as_ref().unwrap_or(request);
        self.may_declare_exchange(request)?;
        let mut router = vhost.write();
        if vhost.is_deleted() {
            let (exchange, vhost) = (request.name.clone(), vhost.name.clone());
            return Err(DeclareExchangeError::Missing { exchange, vhost });
        }
        let is_new = router.exchange(request.name.as_str()).is_none();
        if is_new && !request.passive {
            self.may_name_alternate(request)?;
            if request.durable {
                self.core.check_writable()?;
            }
        }
        if !router.declare_exchange(request)? {
            return Ok(Durability::Now);
        }
        vhost.apply_to_exchange(&mut router, &request.name);
        vhost.changed();
        self.note_exchange("exchange.created", request.name.as_str(), Some(request));
        let acts = |name: &str| router.exchange(request.name.as_str()).is_some_and(|spec| spec.acts_on(name));
        for (name, _) in request.arguments.iter().filter(|(name, _)| !acts(name)) {
            tracing::warn!(exchange = %request.name, argument = %name, "exchange argument has no effect");
        }
        if !request.durable {
            return Ok(Durability::Now);
        }
        let definition = ExchangeDefinition {
            kind: request.kind.clone(),
            auto_delete: request.auto_delete,
            internal: request.internal,
            arguments: request.arguments.clone(),
        };
        let mut batch = self.core.store.begin();
        batch.put(&exchange_key(&vhost.name, &request.name), &definition.encode());
        Ok(self.commit(batch))
    }

    /// Deletes an exchange; a missing one is fine.
    pub fn delete_exchange(
        &mut self,
        name: &ExchangeName,
        if_unused: bool,
    ) -> Result<Durability, DeleteExchangeError> {
        self.may(Right::Configure, Thing::Exchange(name.as_str()))?;
        let vhost = self.vhost.clone();
        let mut router = vhost.write();
        let was_there = router.exchange(name.as_str()).is_some();
        let removed = router.delete_exchange(name, if_unused)?;
        vhost.changed();
        if was_there {
            self.note_exchange("exchange.deleted", name.as_str(), None);
        }
        let mut batch = self.core.store.begin();
        vhost.forget(&router, &removed, None, &mut batch);
        Ok(self.commit(batch))
    }

    /// Declares a queue (D2-D5, D7, D9).
    pub fn declare_queue(
        &mut self,
        request: &DeclareQueue,
    ) -> Result<(QueueDeclared, Durability), DeclareQueueError> {
        let vhost = self.vhost.clone();
        let stripped = strip_queue(&request.name);
        let name = stripped.as_ref().unwrap_or(&request.name);
        if name.as_str().starts_with(REPLY_TO) {
            return self.declare_reply_queue(name);
        }
        let typed = self.with_default_type(request);
        let request = typed.as_ref().unwrap_or(request);
        let nameless = name.is_empty() && !request.passive;
        let made_up = nameless.then(|| self.made_up_name(request)).transpose()?;
        let name = made_up.as_ref().unwrap_or(name);
        self.may_declare_queue(name, request).map_err(QueueError::from)?;
        self.core.stats.churn.add_shared(Count::QueueDeclared, 1);
        let mut router = vhost.write();
        if let Some(queue) = router.queue(name.as_str()) {
            let cell = queue.0.clone();
            drop(router);
            self.check_redeclare(request, &cell)?;
            if !request.passive {
                self.core.work(|work| cell.touch(work));
            }
            let ((ready, consumers), name) = (cell.counts(), cell.spec().name.clone());
            return Ok((QueueDeclared { name, ready, consumers }, Durability::Now));
        }
        if request.passive || vhost.is_deleted() {
            return Err(self.missing(name).into());
        }
        self.may_dead_letter(name, request).map_err(QueueError::from)?;
        self.check_new_queue(&request.name, request)?;
        self.check_room(name, router.queues().len() as u64)?;
        let name = name.clone();
        let priorities = priorities(&request.arguments);
        let spec = QueueSpec {
            id: self.core.next_queue_ids(priorities.levels()),
            name: name.clone(),
            durable: request.durable,
            auto_delete: request.auto_delete,
            exclusive: request.exclusive.then_some(self.owner),
            arguments: request.arguments.clone(),
        };
        let mut batch = self.core.store.begin();
        if spec.is_stored() {
            batch.put(&queue_key(&vhost.name, &name), &definition_of(&spec, priorities).encode());
        }
        if request.exclusive {
            self.exclusive.push(name.clone());
        }
        let log = match priorities {
            Priorities::NONE => Logs::One(self.core.store.create_queue(spec.id, spec.is_stored())),
            some => Logs::with_priorities(some, Vec::new()),
        };
        let effective = vhost.effective_queue(&name, &spec.arguments, &Table::new());
        let core = Arc::downgrade(&self.core);
        let cell = QueueCell::new(spec, effective, log, Machine::default(), &core, &vhost);
        self.core.work(|work| cell.touch(work));
        self.tell_created(&cell);
        router.add_queue(name.clone(), QueueHandle(cell));
        vhost.changed();
        Ok((QueueDeclared { name, ready: 0, consumers: 0 }, self.commit(batch)))
    }

    /// Direct reply-to has no queues; declaring one asks whether the requester lives (A14).
    fn declare_reply_queue(
        &self,
        name: &QueueName,
    ) -> Result<(QueueDeclared, Durability), DeclareQueueError> {
        if name.as_str() == REPLY_TO || self.vhost.replies.get(name.as_str()).is_some() {
            return Ok((QueueDeclared { name: name.clone(), ready: 0, consumers: 1 }, Durability::Now));
        }
        Err(self.missing(name).into())
    }

    fn made_up_name(&self, request: &DeclareQueue) -> Result<QueueName, DeclareQueueError> {
        let prefix = name_prefix(&request.arguments).map_err(|reason| DeclareQueueError::BadArgument {
            queue: request.name.clone(),
            vhost: self.vhost.name.clone(),
            argument: "x-name-prefix".to_owned(),
            reason,
        })?;
        let mut bits: u128 = rand::random();
        let mut name = prefix.to_owned();
        for _ in 0..22 {
            name.push(char::from(NAME_LETTERS[(bits & 63) as usize]));
            bits >>= 6;
        }
        Ok(QueueName::new(&name).expect("at most 64 and 22 bytes"))
    }

    /// Deletes a queue; returns how many ready messages went. A missing one is fine (0).
    pub fn delete_queue(
        &mut self,
        name: &QueueName,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(u64, Durability), DeleteQueueError> {
        self.may(Right::Configure, Thing::Queue(name.as_str())).map_err(QueueError::from)?;
        let vhost = self.vhost.clone();
        let core = self.core.clone();
        let mut router = vhost.write();
        let Some(cell) = router.queue(name.as_str()).map(|queue| queue.0.clone()) else {
            return Ok((0, Durability::Now));
        };
        self.check_access(&cell)?;
        let (deleted, batch) = core.with_batch(|work| {
            let (ready, consumers) =
                cell.delete(DeleteIf { unused: if_unused, empty: if_empty, expired_ms: None }, work)?;
            vhost.remove_queue(&mut router, &cell, consumers, work);
            work.scratch.wake();
            Ok(ready)
        });
        let ready = deleted.map_err(|why| {
            let (queue, vhost) = (name.clone(), vhost.name.clone());
            match why {
                NotDeleted::InUse => DeleteQueueError::InUse { queue, vhost },
                NotDeleted::NotEmpty => DeleteQueueError::NotEmpty { queue, vhost },
            }
        })?;
        self.exclusive.retain(|own| own != name);
        self.note_queue("queue.deleted", cell.spec(), || format!("{ready} messages went with it"));
        Ok((ready, self.commit(batch)))
    }

    /// Deletes an exclusive queue of this session that closes.
    pub(super) fn delete_own(&self, name: &QueueName) {
        let cell = self.vhost.read().queue(name.as_str()).map(|queue| queue.0.clone());
        if let Some(cell) = cell.filter(|cell| cell.spec().exclusive == Some(self.owner)) {
            self.core.delete_queue_if(&cell, DeleteIf::default());
        }
    }

    /// Deletes an auto-delete queue whose last consumer went, unless another came meanwhile.
    pub(super) fn delete_unused(&self, cell: &Arc<QueueCell>) {
        self.core.delete_queue_if(cell, DeleteIf { unused: true, ..DeleteIf::default() });
    }

    /// Drops all ready messages; returns how many (A11).
    pub fn purge_queue(&mut self, name: &QueueName) -> Result<(u64, Durability), QueueError> {
        self.may(Right::Read, Thing::Queue(name.as_str()))?;
        let cell = self.find_queue(name)?;
        self.check_not_stream(&cell, "queue.purge")?;
        let core = self.core.clone();
        let (count, batch) = core.with_batch(|work| cell.purge(work));
        self.note_queue("queue.purged", cell.spec(), || format!("{count} messages"));
        Ok((count, self.commit(batch)))
    }

    /// Binds a queue or an exchange to an exchange (D3, D6, D11, D13).
    pub fn bind(&mut self, binding: &Binding) -> Result<Durability, BindError> {
        let vhost = self.vhost.clone();
        let mut router = vhost.write();
        self.may_bind(binding, &router)?;
        self.check_destination(router.queue(destination_queue(binding)))?;
        if Vhost::is_stored(&router, binding) {
            self.core.check_writable().map_err(QueueError::from)?;
        }
        if !router.bind(binding)? {
            return Ok(Durability::Now);
        }
        vhost.changed();
        self.note_binding("binding.created", binding, &router);
        let mut batch = self.core.store.begin();
        if Vhost::is_stored(&router, binding) {
            batch.put(&binding_key(&vhost.name, binding), BINDING_VALUE);
        }
        let durability = self.commit(batch);
        let history = self.history_for(&router, binding);
        drop(router);
        Ok(if history.is_empty() { durability } else { self.hand_history(history, durability) })
    }

    /// What an exchange remembers, for the queues that something that was just bound to it leads to. The topology is
    /// held: what is published by the new binding is not in it.
    fn history_for(&self, router: &Router<QueueHandle>, binding: &Binding) -> Vec<(QueueHandle, Message)> {
        let source = binding.source.as_str();
        let keeps =
            router.exchange(source).is_some_and(|spec| spec.routes_as() == ExchangeKind::RecentHistory);
        let Some(history) = self.vhost.histories.get(source).filter(|_| keeps) else { return Vec::new() };
        let messages = history.messages(self.now_ms()).into_iter();
        match &binding.destination {
            Destination::Queue(name) => {
                let queue = router.queue(name.as_str());
                messages.filter_map(|message| Some((queue?.clone(), message))).collect()
            }
            Destination::Exchange(name) => {
                let mut found = Resolution::default();
                let mut out = Vec::new();
                for message in messages {
                    let properties = RawProperties::from_checked(message.properties());
                    let (to, key) = (name.as_str().as_bytes(), message.routing_key());
                    if router.route_inside(to, key, &properties, &mut found).is_ok() {
                        out.extend(found.queues.drain(..).map(|queue| (queue, message.clone())));
                    }
                }
                out
            }
        }
    }

    /// Publishes history. Without the topology's lock, because a full queue may let messages die by it.
    fn hand_history(&mut self, history: Vec<(QueueHandle, Message)>, before: Durability) -> Durability {
        let core = self.core.clone();
        let ((), batch) = core.with_batch(|work| {
            for (queue, message) in history {
                let seqs = queue.0.publish(&mut std::iter::once(message), work);
                self.note_published(&queue.0, seqs);
            }
        });
        match self.commit(batch) {
            Durability::Now => before,
            later => later,
        }
    }

    /// Removes a binding; a missing one is fine.
    pub fn unbind(&mut self, binding: &Binding) -> Result<Durability, BindError> {
        let vhost = self.vhost.clone();
        let mut router = vhost.write();
        self.may_bind(binding, &router)?;
        self.check_destination(router.queue(destination_queue(binding)))?;
        let was_there = router.has_binding(binding);
        let removed = router.unbind(binding)?;
        vhost.changed();
        if was_there {
            self.note_binding("binding.deleted", binding, &router);
        }
        let mut batch = self.core.store.begin();
        vhost.forget(&router, &removed, None, &mut batch);
        Ok(self.commit(batch))
    }

    fn check_destination(&self, queue: Option<&QueueHandle>) -> Result<(), BindError> {
        Ok(queue.map_or(Ok(()), |queue| self.check_access(&queue.0))?)
    }
}

fn definition_of(spec: &QueueSpec, priorities: Priorities) -> QueueDefinition {
    let QueueSpec { id, auto_delete, arguments, .. } = spec;
    QueueDefinition { id: *id, auto_delete: *auto_delete, priorities, arguments: arguments.clone() }
}

pub(super) fn destination_queue(binding: &Binding) -> &str {
    match &binding.destination {
        Destination::Queue(name) => name.as_str(),
        Destination::Exchange(_) => "",
    }
}

/// What a made-up name begins with (D5).
fn name_prefix(arguments: &Table) -> Result<&str, String> {
    match arguments.get("x-name-prefix").map(|value| (value, value.as_str())) {
        None => Ok("amq.gen-"),
        Some((_, Some(prefix))) if prefix.len() <= NAME_PREFIX_MAX_BYTES => Ok(prefix),
        Some((_, Some(prefix))) => {
            Err(format!("{} bytes are over the limit of {NAME_PREFIX_MAX_BYTES}", prefix.len()))
        }
        Some((value, None)) => Err(unacceptable(value)),
    }
}

fn unacceptable(value: &Value) -> String {
    format!("unacceptable type {}: a longstr of UTF-8 is needed", value.type_name())
}

fn strip(name: &str) -> Option<String> {
    name.contains(['\r', '\n']).then(|| name.replace(['\r', '\n'], ""))
}

/// The name without CR and LF (D4), if it has any.
pub(super) fn strip_queue(name: &QueueName) -> Option<QueueName> {
    strip(name.as_str()).and_then(|name| QueueName::new(&name).ok())
}

/// The name without CR and LF (D4), if it has any.
fn strip_exchange(name: &ExchangeName) -> Option<ExchangeName> {
    strip(name.as_str()).and_then(|name| ExchangeName::new(&name).ok())
}
