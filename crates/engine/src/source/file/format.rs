//! What an entry of a file says: a text, JSON, or what the named groups of an expression match.

use super::super::Item;
use fancy_regex::Regex;
use serde_json::{Map, Value, json};

/// How entries are read.
#[derive(Debug)]
pub(super) enum Format {
    Lines,
    Json,
    Regex(Regex),
}

/// An entry of a file.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Unique in the source.
    pub(super) id: String,
    /// Without its line end.
    pub(super) bytes: &'a [u8],
    /// It was longer than entries may be.
    pub(super) cut: bool,
    pub(super) path: &'a str,
}

impl Format {
    /// The item of an entry. One that is not what the format says becomes `{line, error}`: it must neither be lost nor
    /// hold up those behind it.
    pub(super) fn item(&self, entry: Entry<'_>) -> Item {
        let text = String::from_utf8_lossy(entry.bytes);
        let mut data = match self.read(&text) {
            Ok(data) => data,
            Err(error) => json!({"line": text, "error": error}),
        };
        if entry.cut
            && let Value::Object(data) = &mut data
        {
            data.insert("truncated".to_owned(), true.into());
        }
        Item { subject: Some(entry.path.to_owned()), ..Item::json(entry.id, data) }
    }

    fn read(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Lines => Ok(json!({"line": text})),
            Self::Json => serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}")),
            Self::Regex(regex) => {
                let found = regex.captures(text).map_err(|error| error.to_string())?;
                let found = found.ok_or_else(|| "the regular expression does not match".to_owned())?;
                let mut data = Map::new();
                for name in regex.capture_names().flatten() {
                    let value = found.name(name).map_or(Value::Null, |group| group.as_str().into());
                    data.insert(name.to_owned(), value);
                }
                Ok(Value::Object(data))
            }
        }
    }
}
