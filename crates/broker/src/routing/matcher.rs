//! One exchange's bindings in the form its kind looks them up.

use super::events::Wanted;
use super::events_index::EventsIndex;
use super::hash::Rendezvous;
use super::headers::Criteria;
use super::headers_index::HeadersIndex;
use super::lots::Lots;
use super::targets::{Target, Targets};
use super::topic::{self, Trie};
use super::{BindingSlot, ExchangeKind, ExchangeSpec, View};
use crate::request::Destination;
use hashbrown::HashMap;
use millpond_model::table::Table;
use std::hash::Hash;

#[derive(Debug)]
pub(super) enum Matcher<Q> {
    Direct(HashMap<Box<[u8]>, Targets<Q>>),
    Fanout(Targets<Q>),
    Topic(Trie<Q>),
    Headers(HeadersIndex<Q>),
    Events(Box<EventsIndex<Q>>),
    ConsistentHash(Rendezvous<Q>),
    ModulusHash(Lots<Q>),
    Random(Lots<Q>),
    LocalRandom(Lots<Q>),
}

impl<Q: Clone + Eq + Hash> Matcher<Q> {
    pub(super) fn new(spec: &ExchangeSpec) -> Self {
        match spec.routes_as() {
            ExchangeKind::Direct => Self::Direct(HashMap::new()),
            // A delayed exchange without a type that it routes by cannot be declared.
            ExchangeKind::Fanout | ExchangeKind::RecentHistory | ExchangeKind::Delayed => {
                Self::Fanout(Targets::default())
            }
            ExchangeKind::Topic => Self::Topic(Trie::default()),
            ExchangeKind::Headers => Self::Headers(HeadersIndex::default()),
            ExchangeKind::Events => Self::Events(Box::default()),
            ExchangeKind::ConsistentHash => Self::ConsistentHash(Rendezvous::new(spec.hash_on())),
            ExchangeKind::ModulusHash => Self::ModulusHash(Lots::default()),
            ExchangeKind::Random => Self::Random(Lots::default()),
            ExchangeKind::LocalRandom => Self::LocalRandom(Lots::default()),
        }
    }

    /// Adds a new binding; the error says why this kind cannot have it (D11).
    pub(super) fn add(
        &mut self,
        slot: &BindingSlot,
        arguments: &Table,
        target: Target<Q>,
    ) -> Result<(), String> {
        match self {
            Self::Direct(keys) => keys.entry_ref(&*slot.key).or_insert_with(Targets::default).add(target),
            Self::Fanout(targets) => targets.add(target),
            Self::Topic(trie) => {
                let hashes = topic::hashes(&slot.key);
                if hashes > topic::HASHES_MAX {
                    return Err(format!(
                        "the binding key {:?} has {hashes} words `#`, and at most {} may be in one",
                        String::from_utf8_lossy(&slot.key),
                        topic::HASHES_MAX
                    ));
                }
                trie.add(&slot.key, target);
            }
            Self::Headers(index) => index.add(slot, Criteria::parse(arguments)?, target),
            Self::Events(index) => index.add(slot, Wanted::parse(&slot.key, arguments)?, target),
            Self::ConsistentHash(places) => places.add(slot, target)?,
            Self::ModulusHash(lots) | Self::Random(lots) => lots.add(slot, target),
            Self::LocalRandom(lots) => {
                check_local(slot)?;
                lots.add(slot, target);
            }
        }
        Ok(())
    }

    /// Removes a binding that was added.
    pub(super) fn remove(&mut self, slot: &BindingSlot, target: &Target<Q>) {
        match self {
            Self::Direct(keys) => {
                if let Some(targets) = keys.get_mut(&slot.key) {
                    targets.remove(target);
                    if targets.is_empty() {
                        keys.remove(&slot.key);
                    }
                }
            }
            Self::Fanout(targets) => targets.remove(target),
            Self::Topic(trie) => trie.remove(&slot.key, target),
            Self::Headers(index) => index.remove(slot, target),
            Self::Events(index) => index.remove(slot, target),
            Self::ConsistentHash(places) => places.remove(slot, target),
            Self::ModulusHash(lots) | Self::Random(lots) | Self::LocalRandom(lots) => lots.remove(slot),
        }
    }

    /// Shows the targets that a message with one of its keys goes to; some may be shown twice.
    pub(super) fn find(&self, key: &[u8], view: &View<'_>, found: &mut impl FnMut(&Target<Q>)) {
        match self {
            Self::Direct(keys) => {
                if let Some(targets) = keys.get(key) {
                    targets.iter().for_each(found);
                }
            }
            Self::Fanout(targets) => targets.iter().for_each(found),
            Self::Topic(trie) => trie.find(key, found),
            Self::Headers(index) => index.find(view.headers, found),
            Self::Events(index) => index.find(view, found),
            Self::ConsistentHash(places) => places.find(key, view).into_iter().for_each(found),
            Self::ModulusHash(lots) => lots.by_key(key).into_iter().for_each(found),
            Self::Random(lots) | Self::LocalRandom(lots) => lots.by_chance().into_iter().for_each(found),
        }
    }

    /// Whether each key of a message may lead elsewhere; if not, it is asked for the first only.
    pub(super) fn looks_at_every_key(&self) -> bool {
        matches!(self, Self::Direct(_) | Self::Topic(_))
    }

    /// Whether the routing key alone decides, each time the same: the answer may be kept.
    pub(super) fn is_keyed(&self) -> bool {
        match self {
            Self::Direct(_) | Self::Fanout(_) | Self::Topic(_) | Self::ModulusHash(_) => true,
            // Two events with one routing key may differ in their attributes.
            Self::Events(index) => index.takes_all(),
            Self::ConsistentHash(places) => places.is_keyed(),
            Self::Headers(_) | Self::Random(_) | Self::LocalRandom(_) => false,
        }
    }
}

/// As RabbitMQ 4: there is nothing to choose but among queues.
fn check_local(slot: &BindingSlot) -> Result<(), String> {
    if let Destination::Exchange(name) = &slot.destination {
        return Err(format!("an x-local-random exchange leads to queues only, and '{name}' is an exchange"));
    }
    if !slot.key.is_empty() {
        let key = String::from_utf8_lossy(&slot.key);
        return Err(format!("an x-local-random exchange takes no binding key, and '{key}' is not empty"));
    }
    Ok(())
}
