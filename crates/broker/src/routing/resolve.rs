//! The way of one message through the exchanges.
//!
//! Each exchange is visited once, so cycles end (D13). Where no binding of an exchange matches, its alternate
//! exchange is visited in its place (D14); that holds for every exchange on the way, as in RabbitMQ.

use super::targets::Target;
use super::{Exchange, ExchangeKind, Resolution, Router, View};
use crate::delayed::delay_ms;
use crate::error::PublishError;
use hashbrown::HashSet;
use millpond_model::ExchangeName;
use millpond_model::properties::RawProperties;
use millpond_model::table::{RawArray, RawTable, RawValue};
use std::hash::Hash;

/// The routing key and those of CC and BCC (P3).
pub(super) struct Keys<'m> {
    main: &'m [u8],
    more: [Option<RawArray<'m>>; 2],
}

impl<'m> Keys<'m> {
    fn new(main: &'m [u8], headers: RawTable<'m>) -> Result<Self, PublishError> {
        let mut more = [None; 2];
        if !headers.is_empty() {
            for (name, more) in ["CC", "BCC"].into_iter().zip(&mut more) {
                *more = headers.get(name).map(|value| key_list(name, value)).transpose()?;
            }
        }
        Ok(Self { main, more })
    }

    fn is_one(&self) -> bool {
        self.more.iter().all(Option::is_none)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'m [u8]> {
        let more = self.more.iter().flatten().flat_map(|list| list.iter());
        std::iter::once(self.main).chain(more.filter_map(|key| key.as_long_str()))
    }
}

/// The keys of a message.
pub(super) fn keys_of<'m>(main: &'m [u8], headers: RawTable<'m>) -> Result<Keys<'m>, PublishError> {
    Keys::new(main, headers)
}

fn key_list<'m>(name: &'static str, value: RawValue<'m>) -> Result<RawArray<'m>, PublishError> {
    let bad = |found: RawValue<'_>, wanted: &str| PublishError::BadProperty {
        property: name,
        reason: format!("expected {wanted}, got a {}", found.to_value().type_name()),
    };
    let RawValue::Array(list) = value else {
        return Err(bad(value, "an array of routing keys"));
    };
    match list.iter().find(|key| key.as_long_str().is_none()) {
        Some(other) => Err(bad(other, "an array of long strings")),
        None => Ok(list),
    }
}

/// Up to this many queues, comparing with each is faster than a set.
const SCAN_MAX: usize = 16;

struct Walk<'r, Q> {
    /// Exchanges visited or about to be; empty while there is only the first.
    seen: HashSet<&'r str>,
    ahead: Vec<&'r str>,
    /// All of `out.queues`, once there are more than `SCAN_MAX`.
    taken: HashSet<Q>,
}

impl<'r, Q: Clone + Eq + Hash> Walk<'r, Q> {
    fn take(&mut self, queue: &Q, out: &mut Resolution<Q>) {
        if out.queues.len() < SCAN_MAX {
            if !out.queues.contains(queue) {
                out.queues.push(queue.clone());
            }
            return;
        }
        if self.taken.is_empty() {
            self.taken.extend(out.queues.iter().cloned());
        }
        if self.taken.insert(queue.clone()) {
            out.queues.push(queue.clone());
        }
    }

    fn go_to(&mut self, exchange: &'r str) {
        if self.seen.insert(exchange) {
            self.ahead.push(exchange);
        }
    }
}

impl<Q: Clone + Eq + Hash> Router<Q> {
    /// Where a message goes; `out` is cleared first. Allocates nothing while there is one exchange on the way and
    /// few queues. Errors: the exchange is missing or internal (P1), CC or BCC is not an array of long strings (P3).
    pub(crate) fn route(
        &self,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &RawProperties<'_>,
        out: &mut Resolution<Q>,
    ) -> Result<(), PublishError> {
        if let Some((name, first)) = self.find_exchange(exchange)
            && first.spec.internal
        {
            return Err(PublishError::InternalExchange { exchange: name.clone(), vhost: self.vhost.clone() });
        }
        self.route_inside(exchange, routing_key, properties, out)
    }

    fn find_exchange(&self, exchange: &[u8]) -> Option<(&ExchangeName, &Exchange<Q>)> {
        self.exchanges.get_key_value(std::str::from_utf8(exchange).ok()?)
    }

    /// As [`Self::route`], for what the broker itself publishes: internal exchanges take it.
    pub(crate) fn route_inside(
        &self,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &RawProperties<'_>,
        out: &mut Resolution<Q>,
    ) -> Result<(), PublishError> {
        out.clear();
        let headers = properties.headers().unwrap_or_default();
        let keys = Keys::new(routing_key, headers)?;
        out.keyed_only = keys.is_one();
        let mut walk = Walk { seen: HashSet::new(), ahead: Vec::new(), taken: HashSet::new() };
        if exchange.is_empty() {
            self.visit_default(&keys, &mut walk, out);
            return Ok(());
        }
        let missing = || PublishError::ExchangeMissing {
            exchange: String::from_utf8_lossy(exchange).into_owned(),
            vhost: self.vhost.clone(),
        };
        let (name, first) = self.find_exchange(exchange).ok_or_else(missing)?;
        let view = View { properties, headers, exchange, routing_key, vhost: self.vhost.as_str() };
        self.visit(name, first, &keys, &view, &mut walk, out);
        while let Some(name) = walk.ahead.pop() {
            match self.exchanges.get_key_value(name) {
                Some((name, exchange)) => self.visit(name, exchange, &keys, &view, &mut walk, out),
                None => self.visit_default(&keys, &mut walk, out),
            }
        }
        Ok(())
    }

    fn visit<'r>(
        &'r self,
        name: &'r ExchangeName,
        exchange: &'r Exchange<Q>,
        keys: &Keys<'_>,
        view: &View<'_>,
        walk: &mut Walk<'r, Q>,
        out: &mut Resolution<Q>,
    ) {
        let mut matched = false;
        let looked_at = if exchange.matcher.looks_at_every_key() { usize::MAX } else { 1 };
        out.keyed_only &= exchange.matcher.is_keyed() && !exchange.delays;
        if exchange.delays
            && let Some(delay_ms) = delay_ms(view.headers)
        {
            out.delays.push((name.clone(), delay_ms));
            return;
        }
        if exchange.spec.routes_as() == ExchangeKind::RecentHistory {
            out.histories.push(name.clone());
        }
        for key in keys.iter().take(looked_at) {
            exchange.matcher.find(key, view, &mut |target| {
                matched = true;
                match target {
                    Target::Queue(queue) => walk.take(queue, out),
                    Target::Exchange(next) => {
                        walk.seen.insert(name.as_str());
                        // The name as long-lived as the router: the target's own is borrowed for this call only.
                        if let Some((next, _)) = self.exchanges.get_key_value(next.as_str()) {
                            walk.go_to(next.as_str());
                        }
                    }
                }
            });
        }
        if matched {
            return;
        }
        if let Some(alternate) = &exchange.alternate {
            walk.seen.insert(name.as_str());
            if alternate.is_empty() || self.exchanges.contains_key(alternate.as_str()) {
                walk.go_to(alternate.as_str());
            } else {
                out.alternate_missing = Some(alternate.clone());
            }
        }
    }

    /// The default exchange: every queue is bound to it by its name.
    fn visit_default(&self, keys: &Keys<'_>, walk: &mut Walk<'_, Q>, out: &mut Resolution<Q>) {
        for key in keys.iter() {
            if let Some(queue) = std::str::from_utf8(key).ok().and_then(|name| self.queues.get(name)) {
                walk.take(queue, out);
            }
        }
    }
}
