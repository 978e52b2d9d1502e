//! Exchanges that spread: the same value always goes to the same place, and values are shared out evenly.
//!
//! The hash is ours and never changes, because what a value's place is survives restarts and updates: FNV-1a of 64
//! bits over the bytes, then the finisher of MurmurHash3. For `x-consistent-hash` it is the highest random weight
//! that decides ("rendezvous"): each destination is given a number from the value's hash and its own name's, drawn
//! towards 1 by its weight, and the highest takes the message. A destination that comes takes its share from all
//! others, and one that goes leaves its share to all others; nothing else moves, whatever the order of the bindings.
//! A ring of virtual nodes does the same with more memory and less evenly; jump hashing depends on the order.

use super::spec::{HASH_HEADER, HASH_PROPERTY};
use super::targets::Target;
use super::{BindingSlot, View};
use crate::request::Destination;
use millpond_model::table::{RawValue, Table};
use std::fmt::{self, Write};

/// Largest weight of a binding.
const WEIGHT_MAX: u32 = 1_000_000;

/// FNV-1a with a finisher, see the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct StableHash(u64);

impl StableHash {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(super) fn finish(self) -> u64 {
        finish(self.0)
    }
}

impl Write for StableHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Every bit of the result depends on every bit of `x`.
fn finish(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// What of a message decides.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum HashOn {
    RoutingKey,
    /// A header of this name.
    Header(Box<str>),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl HashOn {
    /// From an exchange's arguments, which have been checked.
    pub(super) fn of(arguments: &Table) -> Self {
        let text = |name| arguments.get(name).and_then(|value| value.as_str());
        match (text(HASH_HEADER), text(HASH_PROPERTY)) {
            (Some(header), _) => Self::Header(header.into()),
            (None, Some("message_id")) => Self::MessageId,
            (None, Some("correlation_id")) => Self::CorrelationId,
            (None, Some("timestamp")) => Self::Timestamp,
            _ => Self::RoutingKey,
        }
    }

    /// What has no such header or property hashes as the empty string: it all goes to one place.
    fn hash(&self, key: &[u8], view: &View<'_>) -> u64 {
        let mut hash = StableHash::new();
        match self {
            Self::RoutingKey => hash.push(key),
            Self::Header(name) => push_value(&mut hash, view.headers.get(name)),
            Self::MessageId => hash.push(view.properties.message_id().unwrap_or_default()),
            Self::CorrelationId => hash.push(view.properties.correlation_id().unwrap_or_default()),
            Self::Timestamp => {
                if let Some(time) = view.properties.timestamp() {
                    _ = write!(hash, "{time}");
                }
            }
        }
        hash.finish()
    }
}

/// Numbers as their decimal text, so that a client's choice of width changes nothing.
fn push_value(hash: &mut StableHash, value: Option<RawValue<'_>>) {
    _ = match value {
        None | Some(RawValue::Void) => Ok(()),
        Some(RawValue::LongStr(bytes) | RawValue::Bytes(bytes)) => {
            hash.push(bytes);
            Ok(())
        }
        Some(RawValue::Timestamp(time)) => write!(hash, "{time}"),
        Some(RawValue::Bool(v)) => write!(hash, "{v}"),
        Some(RawValue::F32(v)) => write!(hash, "{v}"),
        Some(RawValue::F64(v)) => write!(hash, "{v}"),
        Some(RawValue::Decimal { scale, value }) => write!(hash, "{value}e-{scale}"),
        Some(RawValue::Array(list)) => {
            hash.push(list.as_bytes());
            Ok(())
        }
        Some(RawValue::Table(table)) => {
            hash.push(table.as_bytes());
            Ok(())
        }
        Some(whole) => write!(hash, "{}", whole.as_i64().unwrap_or_default()),
    };
}

/// The weight that a binding key states.
pub(super) fn weight(key: &[u8]) -> Result<u32, String> {
    let stated = std::str::from_utf8(key).ok().and_then(|text| text.parse::<u32>().ok());
    stated.filter(|weight| (1..=WEIGHT_MAX).contains(weight)).ok_or_else(|| {
        format!(
            "the binding key {:?} is the weight for an x-consistent-hash exchange, a whole number from 1 to {WEIGHT_MAX}",
            String::from_utf8_lossy(key)
        )
    })
}

/// The destinations of an `x-consistent-hash` exchange.
#[derive(Debug)]
pub(super) struct Rendezvous<Q> {
    on: HashOn,
    places: Vec<Place<Q>>,
    /// Places whose weight differs from the first one's.
    uneven: usize,
}

#[derive(Debug)]
struct Place<Q> {
    /// Of kind and name.
    hash: u64,
    /// The sum of its bindings'.
    weight: u64,
    target: Target<Q>,
}

impl<Q: Clone + Eq> Rendezvous<Q> {
    pub(super) fn new(on: HashOn) -> Self {
        Self { on, places: Vec::new(), uneven: 0 }
    }

    /// Whether the routing key alone decides.
    pub(super) fn is_keyed(&self) -> bool {
        self.on == HashOn::RoutingKey
    }

    pub(super) fn add(&mut self, slot: &BindingSlot, target: Target<Q>) -> Result<(), String> {
        let weight = u64::from(weight(&slot.key)?);
        match self.places.iter_mut().find(|place| place.target == target) {
            Some(place) => place.weight += weight,
            None => self.places.push(Place { hash: hash_name(&slot.destination), weight, target }),
        }
        self.count_uneven();
        Ok(())
    }

    pub(super) fn remove(&mut self, slot: &BindingSlot, target: &Target<Q>) {
        let Some(at) = self.places.iter().position(|place| place.target == *target) else { return };
        let place = &mut self.places[at];
        place.weight = place.weight.saturating_sub(weight(&slot.key).map_or(0, u64::from));
        if place.weight == 0 {
            self.places.swap_remove(at);
        }
        self.count_uneven();
    }

    fn count_uneven(&mut self) {
        let first = self.places.first().map_or(0, |place| place.weight);
        self.uneven = self.places.iter().filter(|place| place.weight != first).count();
    }

    /// Where a message goes. Looks at each place once: a few nanoseconds for it.
    pub(super) fn find(&self, key: &[u8], view: &View<'_>) -> Option<&Target<Q>> {
        let value = self.on.hash(key, view);
        // 53 bits, as many as a float has, so that both ways agree.
        let draw = |place: &Place<Q>| finish(value ^ place.hash) >> 11;
        let winner = if self.uneven == 0 {
            self.places.iter().max_by_key(|place| (draw(place), place.hash))
        } else {
            let score = |place: &Place<Q>| {
                let even = (draw(place) as f64 + 0.5) / (1u64 << 53) as f64;
                even.ln() / place.weight as f64
            };
            let scored = self.places.iter().map(|place| (score(place), place));
            scored.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.hash.cmp(&b.1.hash))).map(|(_, place)| place)
        };
        winner.map(|place| &place.target)
    }
}

fn hash_name(destination: &Destination) -> u64 {
    let mut hash = StableHash::new();
    match destination {
        Destination::Queue(name) => {
            hash.push(b"q");
            hash.push(name.as_str().as_bytes());
        }
        Destination::Exchange(name) => {
            hash.push(b"x");
            hash.push(name.as_str().as_bytes());
        }
    }
    hash.finish()
}
