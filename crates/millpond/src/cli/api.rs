//! What the commands that stand on the management API share, and `millpond api`, which reaches all of it.

use super::{data_dir_of, in_data_dir, print, read, style};
use crate::control::{ApiAsk, Listing, Request, Shown, Style};
use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command};
use millpond_broker::{argument_value, json};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use std::path::Path;

/// What may stand in a part of a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// `millpond api`.
pub(super) fn command() -> Command {
    in_data_dir(
        Command::new("api")
            .about("Ask the management API anything, without a password: what is answered comes as JSON")
            .after_help(
                "For example: millpond api GET '/queues?columns=name,messages'\n             \
                 millpond api PUT /queues/%2F/orders '{\"durable\": true}'",
            )
            .args([
                Arg::new("method")
                    .value_name("METHOD")
                    .required(true)
                    .ignore_case(true)
                    .value_parser(["GET", "PUT", "POST", "DELETE"])
                    .help("What to do"),
                Arg::new("path")
                    .value_name("PATH")
                    .required(true)
                    .help("Below /api, names in it percent-encoded: /queues/%2F/orders"),
                Arg::new("body").value_name("JSON").help("The body; - reads it from standard input"),
            ]),
    )
}

/// Does what `millpond api` says.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let text = |id: &str| matches.get_one::<String>(id).map(String::as_str);
    let body = match text("body") {
        None => None,
        Some("-") => Some(read(Path::new("-"))?),
        Some(body) => Some(body.to_owned()),
    };
    let body = body.map(|body| serde_json::from_str(&body).context("the body")).transpose()?;
    let method = text("method").unwrap_or_default().to_ascii_uppercase();
    let ask = ApiAsk { method, path: text("path").unwrap_or_default().to_owned(), body, reason: None };
    match answer(matches, ask)? {
        Value::Null => Ok(()),
        answer => print(&answer.to_string()),
    }
}

/// Asks; [`Value::Null`] if there is nothing to say.
pub(super) fn answer(matches: &ArgMatches, ask: ApiAsk) -> Result<Value> {
    answer_from(&data_dir_of(matches)?, ask)
}

fn answer_from(data_dir: &Path, ask: ApiAsk) -> Result<Value> {
    let answer = super::ask_for(data_dir, &Request::Api { ask })?.render(Style::Json);
    if answer.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&answer).context("the broker's answer")
}

pub(super) fn get(matches: &ArgMatches, path: &str) -> Result<Value> {
    get_from(&data_dir_of(matches)?, path)
}

/// As [`get`], from the broker of this data directory.
pub(super) fn get_from(data_dir: &Path, path: &str) -> Result<Value> {
    answer_from(data_dir, ApiAsk { method: "GET".into(), path: path.into(), body: None, reason: None })
}

/// Asks for a change, and says what it was.
pub(super) fn change(
    matches: &ArgMatches,
    (method, path): (&str, &str),
    body: Option<Value>,
    done: &str,
) -> Result<()> {
    answer(matches, ApiAsk { method: method.into(), path: path.into(), body, reason: None })?;
    print(done)
}

/// `/queues/%2F/orders` of its parts.
pub(super) fn path(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("/{}", utf8_percent_encode(part, PLAIN))).collect()
}

/// A column: its head, and where its cell is in an object of the API, as a JSON pointer.
pub(super) type Column = (&'static str, &'static str);

/// Prints objects of the API as a listing.
pub(super) fn list(matches: &ArgMatches, objects: &Value, columns: &[Column], empty: &str) -> Result<()> {
    let head: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    let row = |object: &Value| -> Vec<Value> {
        columns.iter().map(|(_, place)| object.pointer(place).cloned().unwrap_or_default()).collect()
    };
    let objects = objects.as_array().map(Vec::as_slice).unwrap_or_default();
    let listing = Listing::new(&head, empty).with_rows(objects.iter().map(row));
    print(&Shown::from(listing).render(style(matches)))
}

/// Prints an object of the API: a line a field, or with `--json` as it is.
pub(super) fn show(matches: &ArgMatches, object: &Value) -> Result<()> {
    if style(matches) == Style::Json {
        return print(&object.to_string());
    }
    let Some(fields) = object.as_object() else { return print(&object.to_string()) };
    let width = fields.keys().map(|key| key.chars().count()).max().unwrap_or(0);
    // What it is called comes first.
    let (first, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|(key, _)| *key == "name");
    let lines = first.into_iter().chain(rest).map(|(key, value)| format!("{key:width$}  {}", plain(value)));
    print(&lines.collect::<Vec<_>>().join("\n"))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::Object(fields) => {
            let shown: Vec<_> = fields.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect();
            shown.join(" ")
        }
        other => other.to_string(),
    }
}

/// `NAME=VALUE` each as an object; numbers, true and false are what they look like.
pub(super) fn object_of(pairs: &[String]) -> Result<Map<String, Value>> {
    let pair = |text: &String| -> Result<(String, Value)> {
        let Some((name, value)) = text.split_once('=') else { bail!("'{text}' is not NAME=VALUE") };
        let parsed = serde_json::from_str(value).ok().filter(|it: &Value| it.is_number() || it.is_boolean());
        Ok((name.to_owned(), parsed.unwrap_or_else(|| value.into())))
    };
    pairs.iter().map(pair).collect()
}

/// `NAME=VALUE` each as arguments of a queue or exchange, with or without `x-`, each of the type it needs.
pub(super) fn arguments_of(pairs: &[String]) -> Result<Map<String, Value>> {
    let pair = |text: &String| -> Result<(String, Value)> {
        let Some((name, value)) = text.split_once('=') else { bail!("'{text}' is no argument: NAME=VALUE") };
        let name = match name {
            "alternate-exchange" => name.to_owned(),
            _ if name.starts_with("x-") => name.to_owned(),
            _ => format!("x-{name}"),
        };
        let value = json::of_value(&argument_value(&name, value));
        Ok((name, value))
    };
    pairs.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_have_the_types_that_queues_want() {
        let given = ["max-length=10", "x-queue-mode=7", "dead-letter-exchange=5", "alternate-exchange=a"];
        let given = given.map(str::to_owned);
        let wanted = json!({
            "x-max-length": 10, "x-queue-mode": "7", "x-dead-letter-exchange": "5", "alternate-exchange": "a",
        });
        assert_eq!(Value::from(arguments_of(&given).unwrap()), wanted);
        assert!(arguments_of(&["novalue".to_owned()]).is_err());
    }

    #[test]
    fn names_in_paths_are_encoded() {
        assert_eq!(path(&["queues", "/", "a b/\u{fc}"]), "/queues/%2F/a%20b%2F%C3%BC");
    }
}
