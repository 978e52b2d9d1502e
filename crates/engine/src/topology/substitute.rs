//! A file with one rule as it was once.

use super::{Topology, yaml};
use serde_json::{Value, json};

impl Topology {
    /// The text of a file in which one rule is defined otherwise, without its tests; `None`: it is no file.
    pub(crate) fn text_with(text: &str, rule: &str, definition: &Value) -> Option<String> {
        let mut file = yaml::parse(text).ok()??.to_json();
        let sections = file.as_object_mut()?;
        sections.remove("tests");
        let rules = sections.entry("rules").or_insert_with(|| json!({}));
        rules.as_object_mut()?.insert(rule.to_owned(), definition.clone());
        // JSON is YAML.
        Some(file.to_string())
    }
}
