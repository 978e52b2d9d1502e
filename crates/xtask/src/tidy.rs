//! Sizes as a ratchet, and calls that have no place.
//!
//! A Rust file aims at 500 lines and a function at 70. What is larger today stands in `tidy.txt` with its size
//! and may only shrink; `cargo xtask tidy --tighten` writes today's sizes, and refuses to write larger ones.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const RATCHET: &str = "crates/xtask/tidy.txt";

/// Text that must not stand in Rust sources, and why. Written in two halves so that this file passes.
const BANNED: &[(&str, &str)] = &[
    (concat!("todo", "!("), "finish it, or leave it out"),
    (concat!("unimplemented", "!("), "finish it, or leave it out"),
    (concat!("dbg", "!("), "left over from debugging"),
    (concat!("#[ign", "ore"), "a test that does not run is not a test: give it a target of its own"),
    (concat!("FIX", "ME"), "mend it now or file an issue"),
    (concat!("tokio::", "fs::"), "a thread hop a call: blocking files belong to the store's threads"),
];

/// Sizes over the aims: `path` or `path:function` to lines.
type Sizes = BTreeMap<String, usize>;

/// What is larger than its aim or its line in the ratchet, and banned calls.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let ratchet = read_ratchet(root)?;
    let mut complaints = banned(root)?;
    let sizes = oversized(root)?;
    for (place, lines) in &sizes {
        match ratchet.get(place) {
            Some(limit) if lines <= limit => {}
            Some(limit) => complaints.push(format!("{place} grew from {limit} to {lines} lines: split it")),
            None => complaints.push(format!("{place} has {lines} lines: split it by responsibility")),
        }
    }
    for (place, limit) in &ratchet {
        let now = sizes.get(place).copied().unwrap_or(0);
        if now < *limit {
            complaints
                .push(format!("{place} shrank from {limit} to {now}: run `cargo xtask tidy --tighten`"));
        }
    }
    Ok(complaints)
}

/// Writes today's sizes, if none has grown.
pub(crate) fn tighten(root: &Path) -> Result<()> {
    let ratchet = read_ratchet(root)?;
    let sizes = oversized(root)?;
    if let Some((place, lines)) =
        sizes.iter().find(|(place, lines)| ratchet.get(*place).is_some_and(|r| *lines > r))
    {
        bail!("{place} has grown to {lines} lines: the ratchet only tightens");
    }
    let lines: Vec<String> = sizes.iter().map(|(place, lines)| format!("{lines} {place}\n")).collect();
    std::fs::write(root.join(RATCHET), lines.concat()).context(RATCHET)
}

fn read_ratchet(root: &Path) -> Result<Sizes> {
    let text = std::fs::read_to_string(root.join(RATCHET)).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (lines, place) = line.split_once(' ').with_context(|| format!("{RATCHET}: {line}"))?;
            Ok((place.to_owned(), lines.parse().with_context(|| format!("{RATCHET}: {line}"))?))
        })
        .collect()
}

fn banned(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in crate::tracked(root, ".rs")? {
        let text = std::fs::read_to_string(root.join(&path)).with_context(|| path.clone())?;
        for (number, line) in (1..).zip(text.lines()) {
            for (words, reason) in BANNED.iter().filter(|(words, _)| line.contains(words)) {
                complaints.push(format!("{path}:{number}: `{words}`: {reason}"));
            }
        }
    }
    Ok(complaints)
}

fn oversized(root: &Path) -> Result<Sizes> {
    let mut sizes = Sizes::new();
    for path in crate::tracked(root, ".rs")? {
        let text = std::fs::read_to_string(root.join(&path)).with_context(|| path.clone())?;
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            sizes.insert(path.clone(), lines.len());
        }
        for (name, length) in functions(&lines).into_iter().filter(|(_, length)| *length > FUNCTION_LINES_MAX)
        {
            let size = sizes.entry(format!("{path}:{name}")).or_default();
            *size = length.max(*size);
        }
    }
    Ok(sizes)
}

/// Functions with their lengths. Formatted code closes a function with a brace at its own indentation.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some(name) = function_name(code) else { continue };
        if code.ends_with(';') || code.ends_with('}') {
            continue;
        }
        let closes = |later: &&str| later.len() == indent + 1 && later.ends_with('}');
        if let Some(length) = lines[at..].iter().position(closes) {
            found.push((name.to_owned(), length + 1));
        }
    }
    found
}

fn function_name(code: &str) -> Option<&str> {
    let mut words = code.split(' ');
    let qualifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern"];
    let word = words.by_ref().find(|word| !qualifiers.contains(word))?;
    if word != "fn" {
        return None;
    }
    words.next()?.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::functions;

    #[test]
    fn a_function_is_measured_from_its_head_to_its_closing_brace() {
        let code =
            ["    pub(crate) fn a<T>(x: T)", "    where", "    {", "        b();", "    }", "fn c() {}"];
        assert_eq!(functions(&code), [("a".to_owned(), 5)]);
    }
}
