//! What was expected with what came.

use super::{Came, Expected, Trial};
use serde_json::Value;

/// Longest value shown in a difference. Characters.
const SHOWN_MAX_CHARS: usize = 200;

/// What is wrong; nothing if the test passed. Expectations are met in any order, each by another action: the first
/// that fits.
pub(super) fn compare(trial: &Trial, came: &[Came]) -> Vec<String> {
    let mut free: Vec<&Came> = came.iter().collect();
    let mut failures = Vec::new();
    for expected in &trial.expect {
        let fits = |came: &&Came| came.kind == expected.kind && found(expected, came).is_empty();
        match free.iter().position(fits) {
            Some(at) => {
                free.remove(at);
            }
            None => failures.push((expected, String::new())),
        }
    }
    // Only what fits nothing is compared: an action is not held against two expectations.
    for (expected, text) in &mut failures {
        *text = missing(expected, &mut free);
    }
    let mut failures: Vec<String> = failures.into_iter().map(|(_, text)| text).collect();
    if !trial.also_any {
        failures.extend(free.iter().map(|came| format!("unexpected: {}", show(came))));
    }
    failures
}

fn missing(expected: &Expected, free: &mut Vec<&Came>) -> String {
    let Expected { kind, place, facts } = expected;
    let nearest = free
        .iter()
        .enumerate()
        .filter(|(_, came)| came.kind == *kind)
        .map(|(at, came)| (at, found(expected, came)))
        .min_by_key(|(_, differences)| differences.len());
    match nearest {
        None => format!("missing: {kind} {} ({place})", shorten(&facts.to_string())),
        Some((at, differences)) => {
            let came = free.remove(at);
            let mut text = format!("{kind} of rule {} is not as expected ({place})", came.rule);
            for (path, wanted, came) in differences {
                text.push_str(&format!("\n  {path}\n    - expected {wanted}\n    + came     {came}"));
            }
            text
        }
    }
}

fn found(expected: &Expected, came: &Came) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    differences("", &expected.facts, Some(&came.facts), &mut out);
    out
}

fn show(came: &Came) -> String {
    format!("{} of rule {}: {}", came.kind, came.rule, shorten(&came.facts.to_string()))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX_CHARS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// Adds path, expected and found value for every member of `expected` that is otherwise: objects are compared by the
/// members that are expected, anything else as a whole. `{contains: TEXT}` is met by a text that holds it.
fn differences(path: &str, expected: &Value, found: Option<&Value>, out: &mut Vec<(String, String, String)>) {
    let deeper = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let shown = |found: Option<&Value>| found.map_or("nothing".to_owned(), |it| shorten(&it.to_string()));
    match (expected, found) {
        (Value::Null, None) => {}
        (Value::Object(wanted), Some(Value::String(text)))
            if wanted.len() == 1 && wanted.get("contains").is_some_and(Value::is_string) =>
        {
            let part = wanted.get("contains").and_then(Value::as_str).unwrap_or_default();
            if !text.contains(part) {
                out.push((path.to_owned(), format!("a text with {part:?}"), shown(found)));
            }
        }
        (Value::Object(wanted), Some(Value::Object(members))) => {
            for (key, wanted) in wanted {
                differences(&deeper(key), wanted, members.get(key), out);
            }
        }
        // A path nobody expects anything of: `publish:` alone.
        (Value::Null, Some(Value::Object(_))) if path.is_empty() => {}
        (Value::Array(wanted), Some(Value::Array(items))) if wanted.len() == items.len() => {
            for (at, (wanted, item)) in wanted.iter().zip(items).enumerate() {
                differences(&format!("{path}[{at}]"), wanted, Some(item), out);
            }
        }
        (wanted, Some(found)) if same(wanted, found) => {}
        (wanted, found) => out.push((path.to_owned(), shorten(&wanted.to_string()), shown(found))),
    }
}

/// Numbers by value: 12 is 12.0.
fn same(wanted: &Value, found: &Value) -> bool {
    match (wanted.as_f64(), found.as_f64()) {
        (Some(wanted_number), Some(number)) => wanted_number == number || wanted == found,
        _ => wanted == found,
    }
}
