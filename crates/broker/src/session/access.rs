//! What a session's user may do, asked before each operation: the same questions as RabbitMQ asks.

use super::Session;
use crate::access::{AccessRefused, Right, Thing};
use crate::queue::handle::QueueHandle;
use crate::request::{Binding, DeclareExchange, DeclareQueue, Destination};
use crate::routing::{ExchangeKind, Router};
use millpond_model::QueueName;
use millpond_model::properties::RawProperties;
use millpond_model::table::RawValue;

impl Session {
    /// Declaring needs configure, whether there is one already or not.
    pub(super) fn may_declare_exchange(&self, request: &DeclareExchange) -> Result<(), AccessRefused> {
        match request.passive {
            true => Ok(()),
            false => self.may(Right::Configure, Thing::Exchange(request.name.as_str())),
        }
    }

    /// A new exchange that names an alternate one publishes to it what comes here.
    pub(super) fn may_name_alternate(&self, request: &DeclareExchange) -> Result<(), AccessRefused> {
        let named = request.arguments.get("alternate-exchange").and_then(|value| value.as_str());
        let Some(alternate) = named else { return Ok(()) };
        self.may(Right::Read, Thing::Exchange(request.name.as_str()))?;
        self.may(Right::Write, Thing::Exchange(alternate))
    }

    /// Declaring needs configure, whether there is one already or not.
    pub(super) fn may_declare_queue(
        &self,
        name: &QueueName,
        request: &DeclareQueue,
    ) -> Result<(), AccessRefused> {
        match request.passive {
            true => Ok(()),
            false => self.may(Right::Configure, Thing::Queue(name.as_str())),
        }
    }

    /// A new queue that names a dead-letter exchange publishes to it what is read here.
    pub(super) fn may_dead_letter(
        &self,
        name: &QueueName,
        request: &DeclareQueue,
    ) -> Result<(), AccessRefused> {
        let named = request.arguments.get("x-dead-letter-exchange").and_then(|value| value.as_str());
        let Some(dead) = named else { return Ok(()) };
        self.may(Right::Read, Thing::Queue(name.as_str()))?;
        self.may(Right::Write, Thing::Exchange(dead))
    }

    /// Binding, and its undoing, writes to the destination and reads from the source.
    pub(super) fn may_bind(
        &self,
        binding: &Binding,
        router: &Router<QueueHandle>,
    ) -> Result<(), AccessRefused> {
        if self.is_inside() {
            return Ok(());
        }
        self.may(
            Right::Write,
            match &binding.destination {
                Destination::Queue(name) => Thing::Queue(name.as_str()),
                Destination::Exchange(name) => Thing::Exchange(name.as_str()),
            },
        )?;
        let source = binding.source.as_str();
        self.may(Right::Read, Thing::Exchange(source))?;
        match is_topic(router, source) {
            true => self.may_use_key(Right::Read, source, &binding.key),
            false => Ok(()),
        }
    }

    /// Publishing writes to the exchange; with a topic exchange, every key counts.
    pub(super) fn may_publish(
        &self,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &RawProperties<'_>,
    ) -> Result<(), AccessRefused> {
        if self.is_inside() {
            return Ok(());
        }
        let exchange = String::from_utf8_lossy(exchange);
        self.may(Right::Write, Thing::Exchange(&exchange))?;
        if !is_topic(&self.vhost.read(), &exchange) {
            return Ok(());
        }
        keys(routing_key, properties)
            .into_iter()
            .try_for_each(|key| self.may_use_key(Right::Write, &exchange, key))
    }

    fn may_use_key(&self, right: Right, exchange: &str, key: &[u8]) -> Result<(), AccessRefused> {
        let checked = self.core.access.check_topic(&self.login, &self.vhost.name, right, (exchange, key));
        checked.inspect_err(|refused| self.note_refused(right, Thing::Exchange(exchange), refused))
    }
}

/// Every key that a message is routed by. What is no list of copies is refused when it is routed.
pub(crate) fn keys<'a>(routing_key: &'a [u8], properties: &RawProperties<'a>) -> Vec<&'a [u8]> {
    let headers = properties.headers().unwrap_or_default();
    let mut keys = vec![routing_key];
    for name in ["CC", "BCC"] {
        let Some(RawValue::Array(copies)) = headers.get(name) else { continue };
        keys.extend(copies.iter().filter_map(|key| key.as_long_str()));
    }
    keys
}

/// Whether an exchange is one of whose keys permissions speak.
pub(crate) fn is_topic(router: &Router<QueueHandle>, exchange: &str) -> bool {
    router.exchange(exchange).is_some_and(|spec| spec.routes_as() == ExchangeKind::Topic)
}
