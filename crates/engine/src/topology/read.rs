//! Reading a tree with a memory for everything that is wrong.

use super::used::Used;
use super::yaml::{Entry, Kind, Node};
use std::fmt;
use std::time::Duration;

/// Diagnostics shown of one file; the rest is counted.
pub(crate) const DIAGNOSTICS_MAX: usize = 50;

/// Expressions in one file, those of repeated aliases included; each takes a fraction of a millisecond to compile.
pub(crate) const EXPRESSIONS_MAX: usize = 20_000;

/// Something wrong at one place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Counted from 1.
    pub line: usize,
    /// `rules.receipt.do[0].publish`; empty for the whole file.
    pub path: String,
    /// What was found and what was expected.
    pub text: String,
}

impl Diagnostic {
    /// For programs.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"line": self.line, "path": self.path, "text": self.text})
    }
}

/// All that is wrong with a topology file: one line for each thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyError {
    /// The file's name as given.
    pub file: String,
    /// Sorted by line; at least one.
    pub diagnostics: Vec<Diagnostic>,
}

impl std::error::Error for TopologyError {}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, it) in self.diagnostics.iter().take(DIAGNOSTICS_MAX).enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{}: ", self.file, it.line)?;
            if !it.path.is_empty() {
                write!(f, "{}: ", it.path)?;
            }
            f.write_str(&it.text)?;
        }
        match self.diagnostics.len().checked_sub(DIAGNOSTICS_MAX) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n{}: and {more} more", self.file),
        }
    }
}

/// Collects what is wrong.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) file: String,
    expressions: usize,
    found: Vec<Diagnostic>,
    /// What actions need of other sections.
    pub(crate) used: Vec<Used>,
}

impl Report {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), expressions: 0, found: Vec::new(), used: Vec::new() }
    }

    pub(crate) fn add(&mut self, line: usize, path: &str, text: impl Into<String>) {
        self.found.push(Diagnostic { line, path: path.to_owned(), text: text.into() });
    }

    /// Counts expressions; `false`: there are too many, which is reported once.
    pub(crate) fn may_compile(&mut self, line: usize, path: &str, expressions: usize) -> bool {
        let before = self.expressions;
        self.expressions += expressions;
        if before <= EXPRESSIONS_MAX && self.expressions > EXPRESSIONS_MAX {
            self.add(
                line,
                path,
                format!("found more than {EXPRESSIONS_MAX} expressions, expected fewer: split the file"),
            );
        }
        self.expressions <= EXPRESSIONS_MAX
    }

    /// `found X, expected Y`.
    pub(crate) fn expected(&mut self, node: &Node, path: &str, expected: &str) {
        self.add(node.line, path, format!("found {}, expected {expected}", node.describe()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn into_error(mut self) -> TopologyError {
        self.found.sort_by_key(|it| it.line);
        TopologyError { file: self.file, diagnostics: self.found }
    }
}

/// ` (did you mean 'x'?)`, or nothing if none is near.
pub(crate) fn did_you_mean<'k>(found: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let nearest = known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(found, known), known))
        .filter(|(distance, known)| *distance <= (known.chars().count().max(3) / 3).max(1))
        .min_by_key(|(distance, _)| *distance);
    nearest.map_or(String::new(), |(_, known)| format!("; did you mean '{known}'?"))
}

/// The entries of a mapping; anything else is reported. Nothing at all is an empty mapping.
pub(crate) fn entries<'n>(node: &'n Node, path: &str, expected: &str, report: &mut Report) -> &'n [Entry] {
    match &node.kind {
        Kind::Map(entries) => {
            report_duplicates(entries, path, report);
            entries
        }
        Kind::Null => &[],
        _ => {
            report.expected(node, path, expected);
            &[]
        }
    }
}

fn report_duplicates(entries: &[Entry], path: &str, report: &mut Report) {
    let mut seen = std::collections::HashMap::new();
    for entry in entries {
        if let Some(line) = seen.insert(&*entry.key, entry.line) {
            report.add(
                entry.line,
                path,
                format!("found the key '{}' a second time, it is already on line {line}", entry.key),
            );
        }
    }
}

/// A mapping with known keys.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    pub(crate) line: usize,
    pub(crate) path: String,
}

impl<'n> Fields<'n> {
    /// Reports keys that are not in `known`.
    pub(crate) fn read(node: &'n Node, path: &str, known: &[&str], report: &mut Report) -> Self {
        let expected = format!("a mapping with {}", list(known));
        let entries = entries(node, path, &expected, report);
        for entry in entries.iter().filter(|entry| !known.contains(&&*entry.key)) {
            let guess = did_you_mean(&entry.key, known.iter().copied());
            report.add(
                entry.line,
                path,
                format!("found the unknown key '{}', expected one of {}{guess}", entry.key, list(known)),
            );
        }
        Self { entries, line: node.line, path: path.to_owned() }
    }

    /// A mapping whose keys were looked at.
    pub(crate) fn of(entries: &'n [Entry], line: usize, path: &str) -> Self {
        Self { entries, line, path: path.to_owned() }
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// The value of a key; nothing after the colon counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        let node = &self.entries.iter().find(|entry| &*entry.key == key)?.value;
        (node.kind != Kind::Null).then_some(node)
    }

    /// The value of a key, also if it is nothing.
    pub(crate) fn node(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|entry| &*entry.key == key).map(|entry| &entry.value)
    }

    /// Whether the key stands there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.node(key).is_some()
    }

    /// As [`Self::get`]; a missing one is reported.
    pub(crate) fn required(&self, key: &str, expected: &str, report: &mut Report) -> Option<&'n Node> {
        let node = self.get(key);
        if node.is_none() {
            report.add(self.line, &self.path, format!("found no '{key}', expected {expected}"));
        }
        node
    }

    pub(crate) fn text(&self, key: &str, expected: &str, report: &mut Report) -> Option<&'n str> {
        self.get(key).and_then(|node| text(node, &self.path_of(key), expected, report))
    }

    pub(crate) fn bool(&self, key: &str, default: bool, report: &mut Report) -> bool {
        match self.get(key).map(|node| (node, &node.kind)) {
            None => default,
            Some((_, Kind::Bool(value))) => *value,
            Some((node, _)) => {
                report.expected(node, &self.path_of(key), "true or false");
                default
            }
        }
    }

    /// A whole number within a range.
    pub(crate) fn integer(
        &self,
        key: &str,
        default: i64,
        range: std::ops::RangeInclusive<i64>,
        report: &mut Report,
    ) -> i64 {
        let Some(node) = self.get(key) else { return default };
        match node.kind {
            Kind::Int(value) if range.contains(&value) => value,
            _ => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                report.expected(node, &self.path_of(key), &expected);
                default
            }
        }
    }

    /// A number within a range.
    pub(crate) fn number(
        &self,
        key: &str,
        default: f64,
        range: std::ops::RangeInclusive<f64>,
        report: &mut Report,
    ) -> f64 {
        let Some(node) = self.get(key) else { return default };
        let value = match node.kind {
            Kind::Int(value) => Some(value as f64),
            Kind::Float(value) => Some(value),
            _ => None,
        };
        value.filter(|value| range.contains(value)).unwrap_or_else(|| {
            let expected = format!("a number from {} to {}", range.start(), range.end());
            report.expected(node, &self.path_of(key), &expected);
            default
        })
    }

    pub(crate) fn duration(
        &self,
        key: &str,
        default: Duration,
        max: Duration,
        report: &mut Report,
    ) -> Duration {
        let Some(node) = self.get(key) else { return default };
        let value = match &node.kind {
            Kind::Text(text) => parse_duration(text),
            _ => None,
        };
        value.filter(|value| !value.is_zero() && *value <= max).unwrap_or_else(|| {
            let expected =
                format!("a time such as 250ms, 5s, 2m, 1h or 7d, over 0 and at most {}", show_duration(max));
            report.expected(node, &self.path_of(key), &expected);
            default
        })
    }

    pub(crate) fn size(&self, key: &str, default: u64, min: u64, report: &mut Report) -> u64 {
        let Some(node) = self.get(key) else { return default };
        let value = match &node.kind {
            Kind::Text(text) => parse_size(text),
            Kind::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        };
        value.filter(|value| *value >= min).unwrap_or_else(|| {
            let expected =
                format!("a size such as 64KiB, 10MiB or 1GiB, or bytes as a number, at least {min}");
            report.expected(node, &self.path_of(key), &expected);
            default
        })
    }
}

/// A text; other scalars are reported with the advice to quote them.
pub(crate) fn text<'n>(node: &'n Node, path: &str, expected: &str, report: &mut Report) -> Option<&'n str> {
    match &node.kind {
        Kind::Text(text) => return Some(text),
        Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => {
            report.expected(node, path, &format!("{expected}: put it in quotes"));
        }
        _ => report.expected(node, path, expected),
    }
    None
}

/// `a, b or c`.
pub(crate) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let value: f64 = text[..at].parse().ok()?;
    Some((value, text[at..].trim_start()))
}

/// `250ms`, `1.5s`, `2m`, `1h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (value, unit) = split_unit(text.trim())?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(value * seconds).ok()
}

/// `64KiB`, `10MiB`, `1GiB`, `10MB`, `512B`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (value, unit) = split_unit(text.trim())?;
    let factor: u64 = match unit {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let bytes = value * factor as f64;
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as u64)
}

pub(crate) fn show_duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 86_400_000 == 0 && ms > 0 => format!("{}d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 && ms > 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 && ms > 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}
