//! Which components the functions of a topology have, as a part of what it says.

use super::{Kind, Node, Topology};
use crate::function::Digests;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Under this the definitions of functions and rules have the digests of components. No file can say it.
const DIGEST_KEY: &str = "components (sha256)";

impl Topology {
    /// Takes over which components its functions have. Another component is another definition, of the function and of
    /// the rules that call it.
    pub(crate) fn set_digests(&mut self, digests: Digests) {
        for function in &mut self.functions {
            if let Some(digest) = digests.get(&function.name) {
                Arc::make_mut(function).definition.append(DIGEST_KEY, &json!(**digest));
            }
        }
        for rule in &mut self.rules {
            let names: BTreeSet<_> = rule.all_actions().filter_map(|action| action.function()).collect();
            let used =
                names.into_iter().filter_map(|name| Some((name.to_owned(), json!(**digests.get(name)?))));
            let used: serde_json::Map<_, _> = used.collect();
            if !used.is_empty() {
                Arc::make_mut(rule).definition.append(DIGEST_KEY, &Value::Object(used));
            }
        }
        self.digests = digests;
    }
}

impl Node {
    /// A definition as a file says it, which can be read again.
    pub(crate) fn without_digests(&self) -> Self {
        let mut node = self.clone();
        if let Kind::Map(entries) = &mut node.kind {
            entries.retain(|entry| &*entry.key != DIGEST_KEY);
        }
        node
    }

    /// Puts something behind the entries of a mapping.
    fn append(&mut self, key: &str, value: &Value) {
        let line = self.line;
        if let Kind::Map(entries) = &mut self.kind {
            entries.push(super::yaml::Entry { key: key.into(), line, value: Self::from_json(value) });
        }
    }
}
