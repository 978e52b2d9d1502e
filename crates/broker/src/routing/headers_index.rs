//! The bindings of a headers exchange by what they ask, so that a message meets only those it may match.
//!
//! A binding that asks for all of its headers stands under one of them, the rarest so far; one that asks for any
//! stands under each. What a message's headers lead to is then asked in full. Nothing scans all bindings.

use super::BindingSlot;
use super::hash::StableHash;
use super::headers::Criteria;
use super::targets::Target;
use hashbrown::HashMap;
use millpond_model::table::{RawTable, RawValue, Value};

#[derive(Debug)]
pub(super) struct HeadersIndex<Q> {
    entries: Vec<Option<Entry<Q>>>,
    free: Vec<u32>,
    /// By the hash of name and value, or of the name alone where a binding asks for presence.
    under: HashMap<u64, Vec<u32>>,
    /// Those that ask for nothing and so take everything.
    always: Vec<u32>,
}

#[derive(Debug)]
struct Entry<Q> {
    /// The binding's arguments in their canonical form: what tells it from others.
    identity: Box<[u8]>,
    criteria: Criteria,
    target: Target<Q>,
    /// Where in `under` it stands.
    places: Box<[u64]>,
}

impl<Q> Default for HeadersIndex<Q> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), under: HashMap::new(), always: Vec::new() }
    }
}

impl<Q: Eq> HeadersIndex<Q> {
    pub(super) fn add(&mut self, slot: &BindingSlot, criteria: Criteria, target: Target<Q>) {
        let asked = criteria.wanted().iter().map(|(name, value)| place_of_wanted(name, value));
        let places: Box<[u64]> = if criteria.is_any() {
            let mut all: Vec<u64> = asked.collect();
            all.sort_unstable();
            all.dedup();
            all.into()
        } else {
            asked.min_by_key(|place| self.under.get(place).map_or(0, Vec::len)).into_iter().collect()
        };
        let number = self.free.pop().unwrap_or(self.entries.len() as u32);
        if !criteria.is_any() && places.is_empty() {
            self.always.push(number);
        }
        for place in &places {
            self.under.entry(*place).or_default().push(number);
        }
        let entry = Some(Entry { identity: slot.arguments.clone(), criteria, target, places });
        match self.entries.get_mut(number as usize) {
            Some(free) => *free = entry,
            None => self.entries.push(entry),
        }
    }

    pub(super) fn remove(&mut self, slot: &BindingSlot, target: &Target<Q>) {
        let is_it = |entry: &Option<Entry<Q>>| {
            entry.as_ref().is_some_and(|it| it.target == *target && it.identity == slot.arguments)
        };
        let Some(at) = self.entries.iter().position(is_it) else { return };
        let Some(entry) = self.entries[at].take() else { return };
        let number = at as u32;
        self.free.push(number);
        self.always.retain(|other| *other != number);
        for place in &entry.places {
            if let Some(numbers) = self.under.get_mut(place) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    self.under.remove(place);
                }
            }
        }
    }

    /// Shows the targets of the bindings that match; some may be shown more than once.
    pub(super) fn find(&self, headers: RawTable<'_>, found: &mut impl FnMut(&Target<Q>)) {
        let entry = |number: &u32| self.entries.get(*number as usize).and_then(Option::as_ref);
        self.always.iter().filter_map(entry).for_each(|it| found(&it.target));
        if self.under.is_empty() {
            return;
        }
        for (name, value) in headers.iter() {
            for place in [place_of_found(name, value), place_of(name, 0, &[])] {
                let Some(numbers) = self.under.get(&place) else { continue };
                for it in numbers.iter().filter_map(entry).filter(|it| it.criteria.accept(headers)) {
                    found(&it.target);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn place_count(&self) -> usize {
        self.under.len() + self.always.len()
    }
}

/// What `headers::equal` calls equal has the same place; the reverse need not hold.
fn place_of_found(name: &[u8], value: RawValue<'_>) -> u64 {
    match value {
        RawValue::LongStr(bytes) | RawValue::Bytes(bytes) => place_of(name, 1, bytes),
        RawValue::Timestamp(v) => place_of(name, 2, &i128::from(v).to_be_bytes()),
        RawValue::F32(v) => place_of_float(name, v.into()),
        RawValue::F64(v) => place_of_float(name, v),
        RawValue::Bool(v) => place_of(name, 4, &[u8::from(v)]),
        _ => match value.as_i64() {
            Some(v) => place_of(name, 2, &i128::from(v).to_be_bytes()),
            None => place_of(name, 5, &[]),
        },
    }
}

fn place_of_wanted(name: &str, value: &Value) -> u64 {
    let name = name.as_bytes();
    match value {
        Value::Void => place_of(name, 0, &[]),
        Value::LongStr(bytes) | Value::Bytes(bytes) => place_of(name, 1, bytes),
        Value::Timestamp(v) => place_of(name, 2, &i128::from(*v).to_be_bytes()),
        Value::F32(v) => place_of_float(name, (*v).into()),
        Value::F64(v) => place_of_float(name, *v),
        Value::Bool(v) => place_of(name, 4, &[u8::from(*v)]),
        _ => match value.as_i64() {
            Some(v) => place_of(name, 2, &i128::from(v).to_be_bytes()),
            None => place_of(name, 5, &[]),
        },
    }
}

/// The two zeros are equal.
fn place_of_float(name: &[u8], value: f64) -> u64 {
    let value = if value == 0.0 { 0.0 } else { value };
    place_of(name, 3, &value.to_bits().to_be_bytes())
}

fn place_of(name: &[u8], class: u8, value: &[u8]) -> u64 {
    let mut hash = StableHash::new();
    hash.push(name);
    hash.push(&[0, class]);
    hash.push(value);
    hash.finish()
}
