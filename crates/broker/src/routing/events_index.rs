//! The bindings of an `x-events` exchange by what they ask, so that a message meets only those it may match.
//!
//! A binding stands under one of its conditions, the one whose places are the emptiest so far: exact texts under
//! their hash, beginnings and ends under their length and hash. A look-up walks each value that some binding stands
//! under once forwards and once backwards, and asks at the lengths that occur. What it finds is then asked in full.
//! Nothing scans all bindings.

use super::events::{Condition, DEFAULTED, Pattern, Wanted, attribute, attribute_of_header};
use super::hash::StableHash;
use super::targets::Target;
use super::{BindingSlot, View};
use hashbrown::{HashMap, HashTable};

#[derive(Debug)]
pub(super) struct EventsIndex<Q> {
    entries: Vec<Option<Entry<Q>>>,
    free: Vec<u32>,
    /// Numbers of entries by the hash of what tells a binding from others.
    numbers: HashTable<u32>,
    /// Those that ask for nothing and so take everything.
    always: Vec<u32>,
    /// Of attributes that a message has without a header.
    defaulted: [Places; DEFAULTED.len()],
    extensions: HashMap<Box<[u8]>, Places>,
}

#[derive(Debug)]
struct Entry<Q> {
    identity: u64,
    /// The binding's arguments in their canonical form: with key and target what tells it from others.
    arguments: Box<[u8]>,
    key: Box<[u8]>,
    wanted: Wanted,
    target: Target<Q>,
    /// The condition it stands under, if it has one.
    under: Option<usize>,
}

/// Bindings that stand under one attribute.
#[derive(Debug, Default)]
struct Places {
    exact: HashMap<u64, Vec<u32>>,
    prefixes: Affixes,
    suffixes: Affixes,
}

/// Beginnings or ends.
#[derive(Debug, Default)]
struct Affixes {
    under: HashMap<u64, Vec<u32>>,
    /// Each length that occurs, ascending, with how often.
    lengths: Vec<(usize, usize)>,
}

/// Where a pattern stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    Exact(u64),
    Prefix(usize, u64),
    Suffix(usize, u64),
}

impl<Q> Default for EventsIndex<Q> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            numbers: HashTable::new(),
            always: Vec::new(),
            defaulted: Default::default(),
            extensions: HashMap::new(),
        }
    }
}

impl<Q: Eq> EventsIndex<Q> {
    pub(super) fn add(&mut self, slot: &BindingSlot, wanted: Wanted, target: Target<Q>) {
        let under = (0..wanted.conditions.len()).min_by_key(|at| self.crowd(&wanted.conditions[*at]));
        let number = self.free.pop().unwrap_or(self.entries.len() as u32);
        match under {
            None => self.always.push(number),
            Some(at) => {
                let condition = &wanted.conditions[at];
                let places = self.places_mut(&condition.attribute);
                condition.patterns.iter().for_each(|pattern| places.add(place(pattern), number));
            }
        }
        let (arguments, key, identity) = (slot.arguments.clone(), slot.key.clone(), identity(slot));
        let entry = Entry { identity, arguments, key, wanted, target, under };
        match self.entries.get_mut(number as usize) {
            Some(free) => *free = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        let entries = &self.entries;
        let hash = |number: &u32| entries[*number as usize].as_ref().map_or(0, |entry| entry.identity);
        self.numbers.insert_unique(identity, number, hash);
    }

    pub(super) fn remove(&mut self, slot: &BindingSlot, target: &Target<Q>) {
        let entries = &self.entries;
        let is_it = |number: &u32| {
            entries.get(*number as usize).and_then(Option::as_ref).is_some_and(|it| {
                it.target == *target && it.arguments == slot.arguments && it.key == slot.key
            })
        };
        let Ok(found) = self.numbers.find_entry(identity(slot), is_it) else { return };
        let (number, _) = found.remove();
        let Some(entry) = self.entries[number as usize].take() else { return };
        self.free.push(number);
        let Some(condition) = entry.under.map(|at| &entry.wanted.conditions[at]) else {
            self.always.retain(|other| *other != number);
            return;
        };
        let places = self.places_mut(&condition.attribute);
        condition.patterns.iter().for_each(|pattern| places.remove(place(pattern), number));
        if places.is_empty() {
            self.extensions.remove(condition.attribute.as_bytes());
        }
    }

    /// Shows the targets of the bindings that match; some may be shown more than once.
    pub(super) fn find(&self, view: &View<'_>, found: &mut impl FnMut(&Target<Q>)) {
        let entry = |number: &u32| self.entries.get(*number as usize).and_then(Option::as_ref);
        self.always.iter().filter_map(entry).for_each(|it| found(&it.target));
        let mut meet = |numbers: &[u32]| {
            for it in numbers.iter().filter_map(entry).filter(|it| it.wanted.accepts(view)) {
                found(&it.target);
            }
        };
        for (name, places) in DEFAULTED.into_iter().zip(&self.defaulted) {
            if !places.is_empty()
                && let Some(value) = attribute(view, name)
            {
                places.find(&value, &mut meet);
            }
        }
        if self.extensions.is_empty() {
            return;
        }
        for (header, _) in view.headers.iter() {
            // Of two headers for one attribute the first counts, which `attribute` sees to.
            if let Some(name) = attribute_of_header(header)
                && let Some(places) = self.extensions.get(name)
                && let Ok(name) = std::str::from_utf8(name)
                && let Some(value) = attribute(view, name)
            {
                places.find(&value, &mut meet);
            }
        }
    }

    /// Whether every binding takes every message.
    pub(super) fn takes_all(&self) -> bool {
        self.always.len() == self.numbers.len()
    }

    /// How many stand where a condition would put its binding; at the same number exact texts are the better place,
    /// and a beginning or end that every value has is the worst.
    fn crowd(&self, condition: &Condition) -> (usize, usize) {
        let places = match DEFAULTED.iter().position(|name| **name == *condition.attribute) {
            Some(at) => Some(&self.defaulted[at]),
            None => self.extensions.get(condition.attribute.as_bytes()),
        };
        let mut crowd = (0, 0);
        for pattern in &condition.patterns {
            let place = place(pattern);
            crowd.0 += places.map_or(0, |places| places.numbers(place).len());
            crowd.1 = crowd.1.max(match place {
                Place::Exact(_) => 0,
                Place::Prefix(0, _) | Place::Suffix(0, _) => 2,
                Place::Prefix(..) | Place::Suffix(..) => 1,
            });
        }
        if crowd.1 == 2 { (usize::MAX, 2) } else { crowd }
    }

    fn places_mut(&mut self, attribute: &str) -> &mut Places {
        match DEFAULTED.iter().position(|name| *name == attribute) {
            Some(at) => &mut self.defaulted[at],
            None => self.extensions.entry(attribute.as_bytes().into()).or_default(),
        }
    }

    #[cfg(test)]
    pub(super) fn place_count(&self) -> usize {
        let count = |places: &Places| {
            places.exact.len()
                + places.prefixes.under.len()
                + places.prefixes.lengths.len()
                + places.suffixes.under.len()
                + places.suffixes.lengths.len()
        };
        let places = self.defaulted.iter().map(count).sum::<usize>();
        places + self.extensions.len() + self.always.len() + self.numbers.len()
    }
}

impl Places {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.under.is_empty() && self.suffixes.under.is_empty()
    }

    fn numbers(&self, place: Place) -> &[u32] {
        let numbers = match place {
            Place::Exact(hash) => self.exact.get(&hash),
            Place::Prefix(_, hash) => self.prefixes.under.get(&hash),
            Place::Suffix(_, hash) => self.suffixes.under.get(&hash),
        };
        numbers.map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, place: Place, number: u32) {
        match place {
            Place::Exact(hash) => self.exact.entry(hash).or_default().push(number),
            Place::Prefix(length, hash) => self.prefixes.add(length, hash, number),
            Place::Suffix(length, hash) => self.suffixes.add(length, hash, number),
        }
    }

    fn remove(&mut self, place: Place, number: u32) {
        match place {
            Place::Exact(hash) => take_out(&mut self.exact, hash, number),
            Place::Prefix(length, hash) => self.prefixes.remove(length, hash, number),
            Place::Suffix(length, hash) => self.suffixes.remove(length, hash, number),
        }
    }

    fn find(&self, value: &[u8], meet: &mut impl FnMut(&[u32])) {
        if !self.exact.is_empty()
            && let Some(numbers) = self.exact.get(&hash_of(value))
        {
            meet(numbers);
        }
        self.prefixes.find(value.iter(), meet);
        self.suffixes.find(value.iter().rev(), meet);
    }
}

impl Affixes {
    fn add(&mut self, length: usize, hash: u64, number: u32) {
        self.under.entry(hash).or_default().push(number);
        match self.lengths.binary_search_by_key(&length, |(length, _)| *length) {
            Ok(at) => self.lengths[at].1 += 1,
            Err(at) => self.lengths.insert(at, (length, 1)),
        }
    }

    fn remove(&mut self, length: usize, hash: u64, number: u32) {
        take_out(&mut self.under, hash, number);
        if let Ok(at) = self.lengths.binary_search_by_key(&length, |(length, _)| *length) {
            self.lengths[at].1 -= 1;
            if self.lengths[at].1 == 0 {
                self.lengths.remove(at);
            }
        }
    }

    /// `value` in the direction of the affixes.
    fn find<'v>(&self, mut value: impl ExactSizeIterator<Item = &'v u8>, meet: &mut impl FnMut(&[u32])) {
        let mut hash = StableHash::new();
        let (size_bytes, mut hashed) = (value.len(), 0);
        for (length, _) in self.lengths.iter().take_while(|(length, _)| *length <= size_bytes) {
            value.by_ref().take(length - hashed).for_each(|byte| hash.push(&[*byte]));
            hashed = *length;
            if let Some(numbers) = self.under.get(&hash.finish()) {
                meet(numbers);
            }
        }
    }
}

fn take_out(under: &mut HashMap<u64, Vec<u32>>, hash: u64, number: u32) {
    if let Some(numbers) = under.get_mut(&hash) {
        if let Some(at) = numbers.iter().position(|other| *other == number) {
            numbers.swap_remove(at);
        }
        if numbers.is_empty() {
            under.remove(&hash);
        }
    }
}

fn place(pattern: &Pattern) -> Place {
    match pattern {
        Pattern::Exact(text) => Place::Exact(hash_of(text)),
        Pattern::Around { prefix, suffix } if prefix.len() >= suffix.len() => {
            Place::Prefix(prefix.len(), hash_of(prefix))
        }
        Pattern::Around { suffix, .. } => {
            let mut hash = StableHash::new();
            suffix.iter().rev().for_each(|byte| hash.push(&[*byte]));
            Place::Suffix(suffix.len(), hash.finish())
        }
    }
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hash = StableHash::new();
    hash.push(bytes);
    hash.finish()
}

/// What tells a binding from others, as a hash.
fn identity(slot: &BindingSlot) -> u64 {
    use crate::request::Destination;
    let mut hash = StableHash::new();
    let (kind, name) = match &slot.destination {
        Destination::Queue(name) => (0, name.as_str()),
        Destination::Exchange(name) => (1, name.as_str()),
    };
    hash.push(&[kind, slot.key.len() as u8]);
    hash.push(&slot.key);
    hash.push(&slot.arguments);
    hash.push(name.as_bytes());
    hash.finish()
}
