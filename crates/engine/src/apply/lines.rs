//! Definitions as lines, and what differs between two of them.

use crate::topology::{Kind, Node};
use serde_json::Value;

/// Lines around a difference that are shown too.
const CONTEXT_LINES: usize = 1;

/// Definitions with more lines between their first and last difference are shown as replaced whole.
const COMPARED_LINES_MAX: usize = 1000;

/// A definition as YAML, one value a line.
pub(crate) fn node_lines(node: &Node) -> Vec<String> {
    let mut out = Vec::new();
    block(node, 0, &mut out);
    out
}

/// JSON as YAML, one value a line.
pub(crate) fn json_lines(value: &Value) -> Vec<String> {
    node_lines(&Node::from_json(value))
}

fn block(node: &Node, indent: usize, out: &mut Vec<String>) {
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                value(&format!("{}:", key(&entry.key)), &entry.value, indent, out);
            }
        }
        Kind::List(items) if !items.is_empty() => {
            for item in items {
                let from = out.len();
                match &item.kind {
                    Kind::Map(entries) if !entries.is_empty() => {
                        block(item, indent + 2, out);
                        // The first line stands behind the dash.
                        if let Some(first) = out.get_mut(from) {
                            first.replace_range(indent..indent + 1, "-");
                        }
                    }
                    _ => value("-", item, indent, out),
                }
            }
        }
        _ => out.push(format!("{}{}", " ".repeat(indent), scalar(&node.kind))),
    }
}

/// A value behind its key or its dash.
fn value(before: &str, node: &Node, indent: usize, out: &mut Vec<String>) {
    let space = " ".repeat(indent);
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() => {
            out.push(format!("{space}{before}"));
            block(node, indent + 2, out);
        }
        Kind::List(items) if !items.is_empty() => {
            out.push(format!("{space}{before}"));
            block(node, indent + 2, out);
        }
        Kind::Text(text) if text.trim_end().contains('\n') && !text.contains('\r') => {
            out.push(format!("{space}{before} |"));
            out.extend(text.lines().map(|line| format!("{space}  {line}")));
        }
        kind => out.push(format!("{space}{before} {}", scalar(kind))),
    }
}

fn key(key: &str) -> String {
    let plain = !key.is_empty() && !key.contains([':', '#', '"', '\'', '\n', '\r', '{', '[', '*', '&']);
    if plain { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn scalar(kind: &Kind) -> String {
    match kind {
        Kind::Null => "null".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Int(value) => value.to_string(),
        Kind::Float(value) => format!("{value:?}"),
        Kind::Text(text) => text_scalar(text),
        Kind::List(_) => "[]".to_owned(),
        Kind::Map(_) => "{}".to_owned(),
    }
}

/// As few quotes as keep the text a text.
fn text_scalar(text: &str) -> String {
    let starts_odd =
        text.starts_with(|c: char| !c.is_ascii_alphabetic() && !matches!(c, '.' | '/' | '_' | '$' | '^'));
    let odd = text.is_empty()
        || text.trim() != text
        || starts_odd
        || text.contains(": ")
        || text.contains(" #")
        || text.contains(|c: char| c.is_control())
        || text.ends_with(':')
        || matches!(text, "true" | "false" | "null" | "True" | "False" | "Null")
        || text.parse::<f64>().is_ok();
    match (odd, text.contains('\'') || text.contains(|c: char| c.is_control())) {
        (false, _) => text.to_owned(),
        (true, false) => format!("'{text}'"),
        (true, true) => quoted(text),
    }
}

/// What differs: lines that begin with `-` (old), `+` (new), or a blank (around a difference).
pub(crate) fn difference(old: &[String], new: &[String]) -> Vec<String> {
    let same_start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (rest_old, rest_new) = (&old[same_start..], &new[same_start..]);
    let same_end = rest_old.iter().rev().zip(rest_new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (mid_old, mid_new) = (&rest_old[..rest_old.len() - same_end], &rest_new[..rest_new.len() - same_end]);
    let mut all: Vec<(char, &str)> = old[..same_start].iter().map(|line| (' ', line.as_str())).collect();
    if mid_old.len() > COMPARED_LINES_MAX || mid_new.len() > COMPARED_LINES_MAX {
        all.extend(mid_old.iter().map(|line| ('-', line.as_str())));
        all.extend(mid_new.iter().map(|line| ('+', line.as_str())));
    } else {
        compare(mid_old, mid_new, &mut all);
    }
    all.extend(rest_old[rest_old.len() - same_end..].iter().map(|line| (' ', line.as_str())));
    let near = |at: usize| {
        let from = at.saturating_sub(CONTEXT_LINES);
        let to = (at + CONTEXT_LINES + 1).min(all.len());
        all[from..to].iter().any(|(sign, _)| *sign != ' ')
    };
    let kept = all.iter().enumerate().filter(|(at, _)| near(*at));
    kept.map(|(_, (sign, line))| format!("{sign} {line}")).collect()
}

/// By the longest common subsequence.
fn compare<'l>(old: &'l [String], new: &'l [String], out: &mut Vec<(char, &'l str)>) {
    let width = new.len() + 1;
    let mut longest = vec![0u32; (old.len() + 1) * width];
    for (at_old, line) in old.iter().enumerate().rev() {
        for (at_new, other) in new.iter().enumerate().rev() {
            longest[at_old * width + at_new] = match line == other {
                true => longest[(at_old + 1) * width + at_new + 1] + 1,
                false => longest[(at_old + 1) * width + at_new].max(longest[at_old * width + at_new + 1]),
            };
        }
    }
    let (mut at_old, mut at_new) = (0, 0);
    while at_old < old.len() || at_new < new.len() {
        let both = at_old < old.len() && at_new < new.len();
        if both && old[at_old] == new[at_new] {
            out.push((' ', &old[at_old]));
            (at_old, at_new) = (at_old + 1, at_new + 1);
        } else if at_old < old.len()
            && (at_new == new.len()
                || longest[(at_old + 1) * width + at_new] >= longest[at_old * width + at_new + 1])
        {
            out.push(('-', &old[at_old]));
            at_old += 1;
        } else {
            out.push(('+', &new[at_new]));
            at_new += 1;
        }
    }
}
