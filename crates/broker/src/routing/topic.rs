//! Topic matching: a tree of words (AMQP 0-9-1, section 3.1.3.3).
//!
//! Keys are words between dots; an empty key has no word, and `a..b` has an empty one in the middle. `*` is any one
//! word, `#` any number of them, none included. A look-up walks only what matches so far; nothing scans bindings.

use super::targets::{Target, Targets};
use hashbrown::HashMap;
use std::hash::Hash;

/// `#` a binding key may have; more would make a look-up try too many ways (contract D11).
pub(super) const HASHES_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct Trie<Q> {
    root: Node<Q>,
}

#[derive(Debug)]
struct Node<Q> {
    words: HashMap<Box<[u8]>, Node<Q>>,
    star: Option<Box<Node<Q>>>,
    hash: Option<Box<Node<Q>>>,
    /// Of binding keys that end here.
    targets: Targets<Q>,
}

impl<Q> Default for Trie<Q> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<Q> Default for Node<Q> {
    fn default() -> Self {
        Self { words: HashMap::new(), star: None, hash: None, targets: Targets::default() }
    }
}

/// Words still to come; `None` when there are none, which differs from one empty word.
type Words<'k> = Option<&'k [u8]>;

fn words(key: &[u8]) -> Words<'_> {
    (!key.is_empty()).then_some(key)
}

fn next_word(words: Words<'_>) -> Option<(&[u8], Words<'_>)> {
    let words = words?;
    Some(match words.iter().position(|b| *b == b'.') {
        Some(dot) => (&words[..dot], Some(&words[dot + 1..])),
        None => (words, None),
    })
}

/// How many words of a binding key are `#`.
pub(super) fn hashes(key: &[u8]) -> usize {
    key.split(|b| *b == b'.').filter(|word| *word == b"#").count()
}

impl<Q: Clone + Eq + Hash> Trie<Q> {
    pub(super) fn add(&mut self, key: &[u8], target: Target<Q>) {
        let mut node = &mut self.root;
        let mut rest = words(key);
        while let Some((word, next)) = next_word(rest) {
            rest = next;
            node = match word {
                b"*" => node.star.get_or_insert_default(),
                b"#" => node.hash.get_or_insert_default(),
                _ => node.words.entry_ref(word).or_insert_with(Node::default),
            };
        }
        node.targets.add(target);
    }

    pub(super) fn remove(&mut self, key: &[u8], target: &Target<Q>) {
        self.root.remove(words(key), target);
    }

    /// Shows every target whose binding key matches; some more than once.
    pub(super) fn find(&self, key: &[u8], found: &mut impl FnMut(&Target<Q>)) {
        self.root.find(words(key), found);
    }

    /// How many nodes there are, the root not counted.
    #[cfg(test)]
    pub(super) fn node_count(&self) -> usize {
        self.root.node_count()
    }
}

impl<Q: Clone + Eq + Hash> Node<Q> {
    fn is_leaf(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.hash.is_none()
    }

    /// Removes the target, and on the way back each node that has become empty; whether this one has.
    fn remove(&mut self, rest: Words<'_>, target: &Target<Q>) -> bool {
        match next_word(rest) {
            None => self.targets.remove(target),
            Some((b"*", next)) => {
                self.star.take_if(|node| node.remove(next, target));
            }
            Some((b"#", next)) => {
                self.hash.take_if(|node| node.remove(next, target));
            }
            Some((word, next)) => {
                if self.words.get_mut(word).is_some_and(|node| node.remove(next, target)) {
                    self.words.remove(word);
                }
            }
        }
        self.is_leaf() && self.targets.is_empty()
    }

    /// As deep as the longest binding key has words.
    fn find(&self, rest: Words<'_>, found: &mut impl FnMut(&Target<Q>)) {
        if let Some(hash) = &self.hash {
            if hash.is_leaf() {
                hash.targets.iter().for_each(&mut *found);
            } else {
                let mut rest = rest;
                hash.find(rest, found);
                while let Some((_, next)) = next_word(rest) {
                    rest = next;
                    hash.find(rest, found);
                }
            }
        }
        match next_word(rest) {
            None => self.targets.iter().for_each(found),
            Some((word, next)) => {
                if let Some(star) = &self.star {
                    star.find(next, found);
                }
                if let Some(node) = self.words.get(word) {
                    node.find(next, found);
                }
            }
        }
    }

    #[cfg(test)]
    fn node_count(&self) -> usize {
        let children = self.words.values().chain(self.star.as_deref()).chain(self.hash.as_deref());
        children.map(|node| 1 + node.node_count()).sum()
    }
}
