//! Topology of one vhost: exchanges, queue names, bindings, and where a message goes.
//!
//! Pure: no lock, no store, no message body; `Q` is whatever the caller has for a queue. Every change answers with
//! all that went because of it ([`Removed`]), so that the caller can persist the whole effect at once.
//!
//! - `matcher`: an exchange's bindings as its kind looks them up (`topic`, `headers`, `events`, `hash`, `lots`).
//! - `resolve`: the way of a message through bound and alternate exchanges.
//! - here: names, declarations, bindings and their identity, what goes when something goes.
//!
//! Invariants
//! - A binding's source is an exchange of this router, its destination an exchange or queue of it.
//! - `incoming` has (destination, source) exactly if the source has a binding to the destination.

mod events;
mod events_index;
mod explain;
mod hash;
mod headers;
mod headers_index;
mod lots;
mod matcher;
mod resolve;
mod spec;
mod targets;
#[cfg(test)]
mod tests;
mod topic;

use crate::error::{BindError, DeclareExchangeError, DeleteExchangeError, QueueError};
use crate::request::{Binding, DeclareExchange, Destination};
pub use events::check_event_conditions;
pub use explain::RouteStep;
use hashbrown::HashMap;
use matcher::Matcher;
use millpond_model::limits::SHORT_STRING_MAX_BYTES;
use millpond_model::properties::RawProperties;
use millpond_model::table::{RawTable, Table, TableError};
use millpond_model::{ExchangeName, QueueName, VhostName};
pub(crate) use spec::{ExchangeKind, ExchangeSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use targets::Target;

/// Prefix of names that only the broker creates (D3).
const RESERVED_PREFIX: &str = "amq.";
/// Direct reply-to's pseudo queue, and with a dot the prefix of those it is rewritten to (A14).
const REPLY_QUEUE: &str = "amq.rabbitmq.reply-to";

/// What went with a change; for the definitions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Removed {
    /// Exchanges: the one deleted, and auto-delete ones that followed, each with what it was.
    pub(crate) exchanges: Vec<(ExchangeName, ExchangeSpec)>,
    /// All bindings that went, each once.
    pub(crate) bindings: Vec<Binding>,
}

/// Where a message goes.
#[derive(Debug, Clone)]
pub(crate) struct Resolution<Q> {
    /// Each queue once, in no order.
    pub(crate) queues: Vec<Q>,
    /// The answer depends on exchange and routing key alone: it may be kept until the topology changes.
    pub(crate) keyed_only: bool,
    /// Exchanges on the way that keep a history, which the message becomes a part of.
    pub(crate) histories: Vec<ExchangeName>,
    /// Delayed exchanges on the way, where the message waits so many milliseconds.
    pub(crate) delays: Vec<(ExchangeName, u64)>,
    /// An alternate exchange was wanted and there is none of that name: worth a warning (D14).
    pub(crate) alternate_missing: Option<ExchangeName>,
}

impl<Q> Default for Resolution<Q> {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            keyed_only: true,
            histories: Vec::new(),
            delays: Vec::new(),
            alternate_missing: None,
        }
    }
}

impl<Q> Resolution<Q> {
    fn clear(&mut self) {
        self.queues.clear();
        self.keyed_only = true;
        self.histories.clear();
        self.delays.clear();
        self.alternate_missing = None;
    }
}

/// What of a message may decide beside its keys.
#[derive(Debug, Clone, Copy)]
struct View<'m> {
    properties: &'m RawProperties<'m>,
    headers: RawTable<'m>,
    /// The one it was published to.
    exchange: &'m [u8],
    /// Its own, without those of CC and BCC.
    routing_key: &'m [u8],
    vhost: &'m str,
}

/// What tells a binding from others of the same source (D13).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BindingSlot {
    destination: Destination,
    key: Box<[u8]>,
    /// Encoded, ordered by name: the order in which a client lists them is no difference.
    arguments: Box<[u8]>,
}

impl BindingSlot {
    fn of(binding: &Binding) -> Result<Self, TableError> {
        let mut entries: Vec<_> = binding.arguments.iter().cloned().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let arguments = match entries.is_empty() {
            true => Box::default(),
            false => entries.into_iter().collect::<Table>().encode()?.into_bytes().into(),
        };
        Ok(Self { destination: binding.destination.clone(), key: binding.key.clone(), arguments })
    }

    /// Before all bindings of that destination.
    fn first_of(destination: &Destination) -> Self {
        Self { destination: destination.clone(), key: Box::default(), arguments: Box::default() }
    }
}

#[derive(Debug)]
struct Exchange<Q> {
    spec: ExchangeSpec,
    alternate: Option<ExchangeName>,
    /// Messages with a delay wait before they are routed.
    delays: bool,
    matcher: Matcher<Q>,
    /// With the arguments as they were given.
    bindings: BTreeMap<BindingSlot, Table>,
}

impl<Q> Exchange<Q> {
    fn bindings_to(&self, destination: &Destination) -> impl Iterator<Item = (&BindingSlot, &Table)> {
        let first = BindingSlot::first_of(destination);
        self.bindings.range(first..).take_while(move |(slot, _)| slot.destination == *destination)
    }
}

/// See the module. `Q` is a queue's handle, equal only to itself.
#[derive(Debug)]
pub(crate) struct Router<Q> {
    vhost: VhostName,
    exchanges: HashMap<ExchangeName, Exchange<Q>>,
    /// In order: pages of very many are cut out of it. A publish comes here on a miss of its session's routes only.
    queues: BTreeMap<QueueName, Q>,
    incoming: BTreeSet<(Destination, ExchangeName)>,
}

impl<Q: Clone + Eq + Hash> Router<Q> {
    /// With the default exchange only, which is never listed nor found by `exchange`.
    pub(crate) fn new(vhost: VhostName) -> Self {
        Self { vhost, exchanges: HashMap::new(), queues: BTreeMap::new(), incoming: BTreeSet::new() }
    }

    /// All queues, by name.
    pub(crate) fn queues(&self) -> impl ExactSizeIterator<Item = &Q> {
        self.queues.values()
    }

    /// Their names, in order.
    pub(crate) fn queue_names(&self) -> impl ExactSizeIterator<Item = &QueueName> {
        self.queues.keys()
    }

    // ---- exchanges

    /// Declares an exchange as a client asked (D2, D3). `true`: it is new.
    pub(crate) fn declare_exchange(
        &mut self,
        request: &DeclareExchange,
    ) -> Result<bool, DeclareExchangeError> {
        let new = self.check_exchange(request)?;
        let is_new = new.is_some();
        if let Some(spec) = new {
            self.restore_exchange(request.name.clone(), spec);
        }
        Ok(is_new)
    }

    /// What declaring would add; `None`: it is there already. Errors as declaring has them.
    pub(crate) fn check_exchange(
        &self,
        request: &DeclareExchange,
    ) -> Result<Option<ExchangeSpec>, DeclareExchangeError> {
        let name = &request.name;
        if name.is_empty() {
            return Err(DeclareExchangeError::DefaultExchange);
        }
        let existing = self.exchanges.get(name.as_str()).map(|exchange| &exchange.spec);
        if request.passive {
            let missing =
                || DeclareExchangeError::Missing { exchange: name.clone(), vhost: self.vhost.clone() };
            return existing.map(|_| None).ok_or_else(missing);
        }
        let asked = ExchangeSpec::asked(request)?;
        if let Some(existing) = existing {
            return match asked.difference(existing) {
                None => Ok(None),
                Some(arg) => Err(DeclareExchangeError::Inequivalent {
                    exchange: name.clone(),
                    vhost: self.vhost.clone(),
                    arg,
                }),
            };
        }
        if name.as_str().starts_with(RESERVED_PREFIX) {
            return Err(DeclareExchangeError::Reserved { exchange: name.clone() });
        }
        asked.check_arguments(name)?;
        Ok(Some(asked))
    }

    /// Puts an exchange there without questions: the built-in ones, and those recovered. Replaces nothing.
    pub(crate) fn restore_exchange(&mut self, name: ExchangeName, spec: ExchangeSpec) {
        self.exchanges.entry(name).or_insert_with(|| Exchange {
            alternate: spec.alternate(),
            matcher: Matcher::new(&spec),
            delays: spec.delays(&spec.arguments),
            spec,
            bindings: BTreeMap::new(),
        });
    }

    /// Deletes an exchange with its bindings on both sides; a missing one is fine (D3, D6, D13). Used is one that
    /// has a binding as its source.
    pub(crate) fn delete_exchange(
        &mut self,
        name: &ExchangeName,
        if_unused: bool,
    ) -> Result<Removed, DeleteExchangeError> {
        let mut removed = Removed::default();
        if name.is_empty() {
            return Err(DeleteExchangeError::DefaultExchange);
        }
        if name.as_str().starts_with(RESERVED_PREFIX) {
            return Err(DeleteExchangeError::BuiltIn { exchange: name.clone(), vhost: self.vhost.clone() });
        }
        let Some(exchange) = self.exchanges.get(name.as_str()) else { return Ok(removed) };
        if if_unused && !exchange.bindings.is_empty() {
            return Err(DeleteExchangeError::InUse { exchange: name.clone(), vhost: self.vhost.clone() });
        }
        self.drop_exchange(name, &mut removed);
        let target = Target::Exchange(name.clone());
        self.drop_bindings_to(Destination::Exchange(name.clone()), target, &mut removed);
        Ok(removed)
    }

    /// What is declared under that name.
    pub(crate) fn exchange(&self, name: &str) -> Option<&ExchangeSpec> {
        self.exchanges.get(name).map(|exchange| &exchange.spec)
    }

    /// The exchange of that name, if messages with a delay wait there.
    pub(crate) fn delaying(&self, name: &[u8]) -> Option<&ExchangeName> {
        let (name, exchange) = self.exchanges.get_key_value(std::str::from_utf8(name).ok()?)?;
        exchange.delays.then_some(name)
    }

    /// The names of all exchanges, in no order.
    pub(crate) fn exchange_names(&self) -> Vec<ExchangeName> {
        self.exchanges.keys().cloned().collect()
    }

    /// Lets an exchange act by these arguments instead of those it was declared with: a policy is in them. The caller
    /// makes cached routes stale.
    pub(crate) fn apply_arguments(&mut self, name: &ExchangeName, arguments: &Table) {
        if let Some(exchange) = self.exchanges.get_mut(name.as_str()) {
            exchange.alternate = ExchangeSpec::alternate_in(arguments);
            exchange.delays = exchange.spec.delays(arguments);
        }
    }

    /// All exchanges, in no order.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = (&ExchangeName, &ExchangeSpec)> {
        self.exchanges.iter().map(|(name, exchange)| (name, &exchange.spec))
    }

    // ---- queues: the one list of a vhost's queue names

    /// Makes a queue known under its name, and so reachable through the default exchange. An earlier one of that
    /// name must have been removed.
    pub(crate) fn add_queue(&mut self, name: QueueName, handle: Q) {
        let before = self.queues.insert(name, handle);
        debug_assert!(before.is_none(), "a queue took the name of another");
    }

    /// Removes a queue and its bindings; auto-delete exchanges may follow. `None`: there is no such queue.
    pub(crate) fn remove_queue(&mut self, name: &str) -> Option<(Q, Removed)> {
        let (name, handle) = self.queues.remove_entry(name)?;
        let mut removed = Removed::default();
        self.drop_bindings_to(Destination::Queue(name), Target::Queue(handle.clone()), &mut removed);
        Some((handle, removed))
    }

    /// The queue of that name.
    pub(crate) fn queue(&self, name: &str) -> Option<&Q> {
        self.queues.get(name)
    }

    // ---- bindings

    /// Binds. `true`: it is new; `false`: it was there (D13). Errors: D3, D6, D11, a reply-to queue (A14).
    pub(crate) fn bind(&mut self, binding: &Binding) -> Result<bool, BindError> {
        self.check_ends(binding)?;
        if let Destination::Queue(queue) = &binding.destination
            && let Some(rest) = queue.as_str().strip_prefix(REPLY_QUEUE)
            && (rest.is_empty() || rest.starts_with('.'))
        {
            return Err(BindError::ReplyQueue { queue: queue.clone() });
        }
        let target = self.target(&binding.destination)?;
        let Some(exchange) = self.exchanges.get_mut(binding.source.as_str()) else {
            return Err(self.exchange_missing(&binding.source));
        };
        if binding.key.len() > SHORT_STRING_MAX_BYTES {
            let reason = format!("a binding key of {} bytes is over 255", binding.key.len());
            return Err(BindError::BadBinding { reason });
        }
        let slot = BindingSlot::of(binding)
            .map_err(|error| BindError::BadBinding { reason: format!("arguments: {error}") })?;
        if exchange.bindings.contains_key(&slot) {
            return Ok(false);
        }
        exchange
            .matcher
            .add(&slot, &binding.arguments, target)
            .map_err(|reason| BindError::BadBinding { reason })?;
        exchange.bindings.insert(slot, binding.arguments.clone());
        self.incoming.insert((binding.destination.clone(), binding.source.clone()));
        Ok(true)
    }

    /// Unbinds; a missing one is fine. What went: this binding, auto-delete exchanges, their bindings.
    pub(crate) fn unbind(&mut self, binding: &Binding) -> Result<Removed, BindError> {
        self.check_ends(binding)?;
        let mut removed = Removed::default();
        let (Ok(target), Ok(slot), Some(exchange)) = (
            self.target(&binding.destination),
            BindingSlot::of(binding),
            self.exchanges.get_mut(binding.source.as_str()),
        ) else {
            return Ok(removed);
        };
        let Some((slot, arguments)) = exchange.bindings.remove_entry(&slot) else { return Ok(removed) };
        exchange.matcher.remove(&slot, &target);
        if exchange.bindings_to(&slot.destination).next().is_none() {
            self.incoming.remove(&(slot.destination.clone(), binding.source.clone()));
        }
        let goes = exchange.spec.auto_delete && exchange.bindings.is_empty();
        removed.bindings.push(full_binding(&binding.source, slot, arguments));
        if goes {
            let name = &binding.source;
            self.drop_exchange(name, &mut removed);
            let target = Target::Exchange(name.clone());
            self.drop_bindings_to(Destination::Exchange(name.clone()), target, &mut removed);
        }
        Ok(removed)
    }

    /// Whether it is bound like that.
    pub(crate) fn has_binding(&self, binding: &Binding) -> bool {
        let Some(exchange) = self.exchanges.get(binding.source.as_str()) else { return false };
        BindingSlot::of(binding).is_ok_and(|slot| exchange.bindings.contains_key(&slot))
    }

    /// Bindings whose source is this exchange, ordered by destination and key.
    pub(crate) fn bindings_from(&self, exchange: &str) -> Vec<Binding> {
        let Some((name, exchange)) = self.exchanges.get_key_value(exchange) else { return Vec::new() };
        exchange.bindings.iter().map(|(slot, arguments)| show_binding(name, slot, arguments)).collect()
    }

    /// How many bindings have that exchange as their source.
    pub(crate) fn binding_count(&self, exchange: &str) -> usize {
        self.exchanges.get(exchange).map_or(0, |exchange| exchange.bindings.len())
    }

    /// Bindings that lead there, ordered by source and key.
    pub(crate) fn bindings_to(&self, destination: &Destination) -> Vec<Binding> {
        let mut bindings = Vec::new();
        for source in self.sources_of(destination) {
            if let Some(exchange) = self.exchanges.get(source.as_str()) {
                let all = exchange.bindings_to(destination);
                bindings.extend(all.map(|(slot, arguments)| show_binding(&source, slot, arguments)));
            }
        }
        bindings
    }

    /// The default exchange binds nothing and is bound to nothing (D3).
    fn check_ends(&self, binding: &Binding) -> Result<(), BindError> {
        let to_default = matches!(&binding.destination, Destination::Exchange(name) if name.is_empty());
        if binding.source.is_empty() || to_default { Err(BindError::DefaultExchange) } else { Ok(()) }
    }

    fn target(&self, destination: &Destination) -> Result<Target<Q>, BindError> {
        match destination {
            Destination::Exchange(name) if self.exchanges.contains_key(name.as_str()) => {
                Ok(Target::Exchange(name.clone()))
            }
            Destination::Exchange(name) => Err(self.exchange_missing(name)),
            Destination::Queue(name) => match self.queues.get(name.as_str()) {
                Some(handle) => Ok(Target::Queue(handle.clone())),
                None => {
                    let missing = QueueError::Missing { queue: name.clone(), vhost: self.vhost.clone() };
                    Err(BindError::Queue(missing))
                }
            },
        }
    }

    fn exchange_missing(&self, exchange: &ExchangeName) -> BindError {
        BindError::ExchangeMissing { exchange: exchange.clone(), vhost: self.vhost.clone() }
    }

    fn sources_of(&self, destination: &Destination) -> Vec<ExchangeName> {
        let Ok(first) = ExchangeName::new("") else { return Vec::new() };
        let from_there = self.incoming.range((destination.clone(), first)..);
        from_there.take_while(|(to, _)| to == destination).map(|(_, source)| source.clone()).collect()
    }

    /// Removes an exchange and the bindings it is the source of.
    fn drop_exchange(&mut self, name: &ExchangeName, removed: &mut Removed) {
        let Some(exchange) = self.exchanges.remove(name.as_str()) else { return };
        for (slot, arguments) in exchange.bindings {
            self.incoming.remove(&(slot.destination.clone(), name.clone()));
            removed.bindings.push(full_binding(name, slot, arguments));
        }
        removed.exchanges.push((name.clone(), exchange.spec));
    }

    /// Removes all bindings to something that goes, then the auto-delete exchanges that lost their last binding by
    /// that, and so on.
    fn drop_bindings_to(&mut self, destination: Destination, target: Target<Q>, removed: &mut Removed) {
        let mut gone = vec![(destination, target)];
        while let Some((destination, target)) = gone.pop() {
            for source in self.sources_of(&destination) {
                self.incoming.remove(&(destination.clone(), source.clone()));
                let Some(exchange) = self.exchanges.get_mut(source.as_str()) else { continue };
                let slots: Vec<_> =
                    exchange.bindings_to(&destination).map(|(slot, _)| slot.clone()).collect();
                for slot in slots {
                    exchange.matcher.remove(&slot, &target);
                    let arguments = exchange.bindings.remove(&slot).unwrap_or_default();
                    removed.bindings.push(full_binding(&source, slot, arguments));
                }
                if exchange.spec.auto_delete && exchange.bindings.is_empty() {
                    self.drop_exchange(&source, removed);
                    gone.push((Destination::Exchange(source.clone()), Target::Exchange(source)));
                }
            }
        }
    }
}

fn full_binding(source: &ExchangeName, slot: BindingSlot, arguments: Table) -> Binding {
    Binding { source: source.clone(), destination: slot.destination, key: slot.key, arguments }
}

fn show_binding(source: &ExchangeName, slot: &BindingSlot, arguments: &Table) -> Binding {
    Binding {
        source: source.clone(),
        destination: slot.destination.clone(),
        key: slot.key.clone(),
        arguments: arguments.clone(),
    }
}
