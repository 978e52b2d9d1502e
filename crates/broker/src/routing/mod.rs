//! Topology of one vhost: exchanges, queue names, bindings, and where a message goes.
//!
//! STUB of the API; bodies follow.

use crate::error::{BindError, DeclareExchangeError, DeleteExchangeError, PublishError};
use crate::request::{Binding, DeclareExchange, Destination};
use millpond_model::properties::RawProperties;
use millpond_model::table::Table;
use millpond_model::{ExchangeName, QueueName, VhostName};
use std::hash::Hash;
use std::marker::PhantomData;

/// How an exchange chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ExchangeKind {
    /// Binding key equals routing key.
    Direct,
    /// Always.
    Fanout,
    /// Words and wildcards.
    Topic,
    /// Headers of the message.
    Headers,
}

#[allow(unused_variables, dead_code)]
impl ExchangeKind {
    /// From `direct`, `fanout`, `topic`, `headers`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        unimplemented!()
    }

    /// The text that `parse` takes.
    pub(crate) fn as_str(self) -> &'static str {
        unimplemented!()
    }
}

/// What an exchange is, apart from its name and bindings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExchangeSpec {
    /// How it chooses.
    pub(crate) kind: ExchangeKind,
    /// Survives a restart.
    pub(crate) durable: bool,
    /// Goes when its last outgoing binding goes.
    pub(crate) auto_delete: bool,
    /// Clients may not publish to it.
    pub(crate) internal: bool,
    /// All arguments as the client sent them; `alternate-exchange` acts.
    pub(crate) arguments: Table,
}

/// What went with a change; for the definitions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Removed {
    /// Exchanges: the one deleted and auto-delete ones that followed, each with its spec.
    pub(crate) exchanges: Vec<(ExchangeName, ExchangeSpec)>,
    /// All bindings that went, each once.
    pub(crate) bindings: Vec<Binding>,
}

/// Where a message goes.
#[derive(Debug, Clone)]
pub(crate) struct Resolution<Q> {
    /// Each queue once.
    pub(crate) queues: Vec<Q>,
    /// The answer depends on exchange and routing key alone: it may be kept until the topology changes.
    pub(crate) keyed_only: bool,
    /// An alternate exchange was wanted and there is none of that name: worth a warning.
    pub(crate) alternate_missing: Option<ExchangeName>,
}

impl<Q> Default for Resolution<Q> {
    fn default() -> Self {
        Self { queues: Vec::new(), keyed_only: true, alternate_missing: None }
    }
}

/// See the module. `Q` is a queue's handle (equal only to itself).
#[derive(Debug)]
pub(crate) struct Router<Q>(PhantomData<Q>);

#[allow(unused_variables, dead_code)]
impl<Q: Clone + Eq + Hash> Router<Q> {
    /// With the default exchange only (which is never listed nor found by `exchange`).
    pub(crate) fn new(vhost: VhostName) -> Self {
        unimplemented!()
    }

    // ---- exchanges

    /// Declares an exchange as a client asked (D2, D3). `true`: it is new (and to be persisted if durable).
    pub(crate) fn declare_exchange(&mut self, request: &DeclareExchange) -> Result<bool, DeclareExchangeError> {
        unimplemented!()
    }

    /// Puts an exchange there without questions: the built-in ones, and those recovered. Replaces nothing.
    pub(crate) fn restore_exchange(&mut self, name: ExchangeName, spec: ExchangeSpec) {
        unimplemented!()
    }

    /// Deletes an exchange with its bindings on both sides; a missing one is fine (D3, D6, D13).
    pub(crate) fn delete_exchange(
        &mut self,
        name: &ExchangeName,
        if_unused: bool,
    ) -> Result<Removed, DeleteExchangeError> {
        unimplemented!()
    }

    /// What is declared under that name.
    pub(crate) fn exchange(&self, name: &str) -> Option<&ExchangeSpec> {
        unimplemented!()
    }

    /// All exchanges, in no order.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = (&ExchangeName, &ExchangeSpec)> {
        std::iter::empty()
    }

    // ---- queues: the one list of a vhost's queue names

    /// Makes a queue known under its name (reachable through the default exchange). An earlier one of that name must
    /// have been removed.
    pub(crate) fn add_queue(&mut self, name: QueueName, handle: Q) {
        unimplemented!()
    }

    /// Removes a queue and its bindings; auto-delete exchanges may follow.
    pub(crate) fn remove_queue(&mut self, name: &str) -> Option<(Q, Removed)> {
        unimplemented!()
    }

    /// The queue of that name.
    pub(crate) fn queue(&self, name: &str) -> Option<&Q> {
        unimplemented!()
    }

    /// All queues, in no order.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (&QueueName, &Q)> {
        std::iter::empty()
    }

    // ---- bindings

    /// Binds. `true`: it is new; `false`: it was there (D13). Errors: D3, D6, D11, a reply-to queue (A14).
    pub(crate) fn bind(&mut self, binding: &Binding) -> Result<bool, BindError> {
        unimplemented!()
    }

    /// Unbinds; a missing one is fine. What went: this binding, auto-delete exchanges, their bindings.
    pub(crate) fn unbind(&mut self, binding: &Binding) -> Result<Removed, BindError> {
        unimplemented!()
    }

    /// Bindings whose source is this exchange, ordered by destination and key.
    pub(crate) fn bindings_from(&self, exchange: &str) -> Vec<Binding> {
        unimplemented!()
    }

    /// Bindings that lead there, ordered by source and key.
    pub(crate) fn bindings_to(&self, destination: &Destination) -> Vec<Binding> {
        unimplemented!()
    }

    // ---- messages

    /// Where a message goes; `out` is cleared first. Errors: exchange missing or internal (P1), CC or BCC that is not
    /// an array of long strings (P3).
    pub(crate) fn route(
        &self,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &RawProperties<'_>,
        out: &mut Resolution<Q>,
    ) -> Result<(), PublishError> {
        unimplemented!()
    }
}
