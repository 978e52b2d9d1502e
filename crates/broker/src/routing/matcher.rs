//! One exchange's bindings in the form its kind looks them up.

use super::ExchangeKind;
use super::headers::Criteria;
use super::targets::{Target, Targets};
use super::topic::{self, Trie};
use hashbrown::HashMap;
use millpond_model::table::{RawTable, Table};
use std::hash::Hash;

#[derive(Debug)]
pub(super) enum Matcher<Q> {
    Direct(HashMap<Box<[u8]>, Targets<Q>>),
    Fanout(Targets<Q>),
    Topic(Trie<Q>),
    /// Each binding must be asked.
    Headers(Vec<HeadersEntry<Q>>),
}

#[derive(Debug)]
pub(super) struct HeadersEntry<Q> {
    /// The binding's arguments in their canonical form: what tells it from others.
    identity: Box<[u8]>,
    criteria: Criteria,
    target: Target<Q>,
}

impl<Q: Clone + Eq + Hash> Matcher<Q> {
    pub(super) fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(HashMap::new()),
            ExchangeKind::Fanout => Self::Fanout(Targets::default()),
            ExchangeKind::Topic => Self::Topic(Trie::default()),
            ExchangeKind::Headers => Self::Headers(Vec::new()),
        }
    }

    /// Adds a new binding; the error says why this kind cannot have it (D11).
    pub(super) fn add(
        &mut self,
        key: &[u8],
        arguments: &Table,
        identity: &[u8],
        target: Target<Q>,
    ) -> Result<(), String> {
        match self {
            Self::Direct(keys) => keys.entry_ref(key).or_insert_with(Targets::default).add(target),
            Self::Fanout(targets) => targets.add(target),
            Self::Topic(trie) => {
                let hashes = topic::hashes(key);
                if hashes > topic::HASHES_MAX {
                    return Err(format!(
                        "the binding key {:?} has {hashes} words `#`, and at most {} may be in one",
                        String::from_utf8_lossy(key),
                        topic::HASHES_MAX
                    ));
                }
                trie.add(key, target);
            }
            Self::Headers(entries) => {
                let criteria = Criteria::parse(arguments)?;
                entries.push(HeadersEntry { identity: identity.into(), criteria, target });
            }
        }
        Ok(())
    }

    /// Removes a binding that was added.
    pub(super) fn remove(&mut self, key: &[u8], identity: &[u8], target: &Target<Q>) {
        match self {
            Self::Direct(keys) => {
                if let Some(targets) = keys.get_mut(key) {
                    targets.remove(target);
                    if targets.is_empty() {
                        keys.remove(key);
                    }
                }
            }
            Self::Fanout(targets) => targets.remove(target),
            Self::Topic(trie) => trie.remove(key, target),
            Self::Headers(entries) => {
                if let Some(at) = entries.iter().position(|e| e.target == *target && *e.identity == *identity)
                {
                    entries.swap_remove(at);
                }
            }
        }
    }

    /// Shows the targets of the bindings that match one key; some may be shown twice. A headers exchange looks at
    /// no key.
    pub(super) fn find(&self, key: &[u8], headers: RawTable<'_>, found: &mut impl FnMut(&Target<Q>)) {
        match self {
            Self::Direct(keys) => {
                if let Some(targets) = keys.get(key) {
                    targets.iter().for_each(found);
                }
            }
            Self::Fanout(targets) => targets.iter().for_each(found),
            Self::Topic(trie) => trie.find(key, found),
            Self::Headers(entries) => {
                entries.iter().filter(|e| e.criteria.accept(headers)).for_each(|e| found(&e.target));
            }
        }
    }

    pub(super) fn looks_at_keys(&self) -> bool {
        matches!(self, Self::Direct(_) | Self::Topic(_))
    }

    pub(super) fn looks_at_headers(&self) -> bool {
        matches!(self, Self::Headers(_))
    }
}
