//! Listings: what a listing command answers, for a person a table, for a program JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A table before anybody has drawn it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listing {
    /// What a person is told where there are no rows.
    empty: String,
    head: Vec<String>,
    /// A cell is a text, a number, a list of texts, an object, or null: nothing to say.
    rows: Vec<Vec<Value>>,
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shown {
    /// As it is.
    Text(String),
    /// As the one who asked wants it.
    Listing(Listing),
    /// One thing, in words and for a program.
    One { text: String, json: Value },
}

/// Who reads an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A program.
    Json,
    /// A file, or a person who wants no colours.
    Plain,
    /// A person at a terminal.
    Coloured,
}

impl Listing {
    /// With these columns; `empty` is for the person who would see none below them.
    pub(crate) fn new(head: &[&str], empty: impl Into<String>) -> Self {
        Self {
            empty: empty.into(),
            head: head.iter().map(|word| (*word).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// With these rows, each with a cell for each column.
    pub(crate) fn with<const N: usize>(mut self, rows: impl IntoIterator<Item = [Value; N]>) -> Self {
        self.rows.extend(rows.into_iter().map(Vec::from));
        self
    }

    /// With these rows, as many cells as there are columns.
    pub(crate) fn with_rows(mut self, rows: impl IntoIterator<Item = Vec<Value>>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Lines with columns as wide as they must be, numbers to the right, the last one as it comes.
    pub(crate) fn to_table(&self) -> String {
        self.draw(false)
    }

    fn draw(&self, coloured: bool) -> String {
        if self.is_empty() {
            return self.empty.clone();
        }
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        let widths: Vec<usize> = (self.head.iter().enumerate())
            .map(|(at, word)| {
                let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
                cells.chain([word.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let right: Vec<bool> = (0..self.head.len())
            .map(|at| {
                let mut cells = self.rows.iter().filter_map(|row| row.get(at)).peekable();
                cells.peek().is_some() && cells.all(Value::is_number)
            })
            .collect();
        let states = self.head.iter().position(|word| word == "STATE").filter(|_| coloured);
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).zip(&right).enumerate().map(
                |(at, ((cell, width), right))| match (right, colour(cell).filter(|_| states == Some(at))) {
                    (_, Some(colour)) => format!("\x1b[{colour}m{cell:width$}\x1b[0m"),
                    (true, None) => format!("{cell:>width$}"),
                    (false, None) => format!("{cell:width$}"),
                },
            );
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        std::iter::once(&self.head).chain(&rows).map(|cells| line(cells)).collect::<Vec<_>>().join("\n")
    }

    /// An array of objects, their keys the columns: `DEFAULT QUEUE TYPE` is `default_queue_type`.
    pub(crate) fn to_json(&self) -> Value {
        let key = |word: &String| word.to_lowercase().replace(' ', "_");
        let object = |row: &Vec<Value>| {
            self.head.iter().map(key).zip(row.iter().cloned()).collect::<Map<String, Value>>()
        };
        self.rows.iter().map(object).map(Value::Object).collect()
    }
}

impl Shown {
    /// For whom it is. A text stays one: who can answer in JSON is asked for it.
    pub(crate) fn render(&self, style: Style) -> String {
        match (self, style) {
            (Self::Text(text), _) => text.clone(),
            (Self::One { json, .. }, Style::Json) => json.to_string(),
            (Self::One { text, .. }, _) => text.clone(),
            (Self::Listing(listing), Style::Json) => listing.to_json().to_string(),
            (Self::Listing(listing), Style::Plain) => listing.draw(false),
            (Self::Listing(listing), Style::Coloured) => listing.draw(true),
        }
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Listing> for Shown {
    fn from(listing: Listing) -> Self {
        Self::Listing(listing)
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Of a word in a column STATE: the parameter of the terminal's escape sequence.
fn colour(state: &str) -> Option<u8> {
    match state {
        "ok" | "running" => Some(32),
        "warn" | "waiting" | "paused" | "stopped" => Some(33),
        "fail" | "failed" | "ALARM" => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_listing_is_a_table_for_a_person_and_json_for_a_program() {
        let listing = Listing::new(&["NAME", "READY NOW", "POLICY"], "no queues");
        let shown = Shown::from(listing.clone());
        assert_eq!(
            (shown.render(Style::Plain).as_str(), shown.render(Style::Json).as_str()),
            ("no queues", "[]")
        );
        let shown = Shown::from(listing.with([
            ["\u{fc}ber".into(), 7.into(), Value::Null],
            ["q".into(), 12345.into(), vec!["short", "sharp"].into()],
        ]));
        assert_eq!(
            shown.render(Style::Plain),
            "NAME  READY NOW  POLICY\n\u{fc}ber          7  -\nq         12345  short,sharp"
        );
        let wanted = json!([
            {"name": "\u{fc}ber", "ready_now": 7, "policy": null},
            {"name": "q", "ready_now": 12345, "policy": ["short", "sharp"]},
        ]);
        assert_eq!(shown.render(Style::Json), wanted.to_string());
    }

    #[test]
    fn a_state_has_a_colour_at_a_terminal_and_a_name_has_none() {
        let listing = Listing::new(&["NAME", "STATE"], "").with([["fail".into(), "ok".into()]]);
        let shown = Shown::from(listing);
        assert_eq!(shown.render(Style::Coloured), "NAME  STATE\nfail  \u{1b}[32mok   \u{1b}[0m");
        assert_eq!(shown.render(Style::Plain), "NAME  STATE\nfail  ok");
    }
}
