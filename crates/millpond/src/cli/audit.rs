//! `millpond audit`: who changed what, and who was refused.

use super::admin::option;
use super::api::{self, Column};
use super::{listing, print, style};
use crate::control::Style;
use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use millpond_broker::interval_ms;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often new entries are asked for.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// Entries shown unless it is said.
const COUNT_DEFAULT: &str = "50";
/// Most entries of one answer.
const COUNT_MAX: u64 = 500;

const COLUMNS: &[Column] = &[
    ("TIME", "/time"),
    ("RESULT", "/result"),
    ("OPERATION", "/operation"),
    ("USER", "/user_who_performed_action"),
    ("BY", "/authenticated_by"),
    ("FROM", "/peer_host"),
    ("DOOR", "/front_end"),
    ("VHOST", "/vhost"),
    ("NAME", "/name"),
    ("DETAIL", "/detail"),
    ("REASON", "/reason"),
];

/// What an option asks the API for.
const FILTERS: &[(&str, &str, &str)] = &[
    ("user", "USER", "Only what this user did"),
    ("operation", "OPERATION", "Only this operation, or all that begin so: queue, queue.deleted"),
    ("vhost", "VHOST", "Only in this vhost"),
    ("object", "NAME", "Only what is about something of this name"),
    ("result", "RESULT", "done or refused"),
];

/// The command of this file.
pub(super) fn command() -> Command {
    listing(
        Command::new("audit")
            .about("Show who changed what, and who was refused: the newest entries, the last one at the end")
            .after_help("For example: millpond audit --result refused --since 1h"),
    )
    .args(FILTERS.iter().map(|(id, shape, help)| option(id, shape, help)))
    .args([
        option("since", "TIME", "Not before: how long ago (1h, 7D), or a time such as 2026-01-31T08:00:00Z"),
        option("until", "TIME", "Not after, written in the same way"),
        Arg::new("count")
            .short('n')
            .long("count")
            .value_name("N")
            .default_value(COUNT_DEFAULT)
            .value_parser(clap::value_parser!(u64).range(1..=COUNT_MAX))
            .help("At most so many"),
        Arg::new("follow")
            .short('f')
            .long("follow")
            .action(ArgAction::SetTrue)
            .help("Go on with what comes, a line each, until it is interrupted"),
    ])
}

/// Asks and prints.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let mut query = String::new();
    let mut ask_for = |name: &str, value: &str| {
        query.push_str(&format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    };
    for (id, _, _) in FILTERS {
        if let Some(value) = matches.get_one::<String>(id) {
            ask_for(id, value);
        }
    }
    for id in ["since", "until"] {
        if let Some(text) = matches.get_one::<String>(id) {
            ask_for(id, &moment(text));
        }
    }
    let count = matches.get_one::<u64>("count").copied().unwrap_or(COUNT_MAX);
    let mut found = newest_last(matches, &format!("/audit?page=1&page_size={count}{query}"))?;
    if !matches.get_flag("follow") && style(matches) == Style::Json {
        return print(&Value::from(found).to_string());
    }
    if !matches.get_flag("follow") {
        return api::list(matches, &found.into(), COLUMNS, "no entries");
    }
    let mut last = 0;
    loop {
        for entry in &found {
            last = entry["id"].as_u64().unwrap_or(last).max(last);
            follow(matches, entry)?;
        }
        std::io::stdout().flush()?;
        // Nobody unparks it.
        std::thread::park_timeout(FOLLOW_EVERY);
        found = newest_last(matches, &format!("/audit?page=1&page_size={COUNT_MAX}&after_id={last}{query}"))?;
    }
}

/// `1h` is that long ago; the rest the broker reads.
fn moment(text: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match interval_ms(text).filter(|_| text.parse::<u64>().is_err()) {
        Some(ago_ms) => (now.as_millis() as u64).saturating_sub(ago_ms).to_string(),
        None => text.to_owned(),
    }
}

fn newest_last(matches: &ArgMatches, path: &str) -> Result<Vec<Value>> {
    let found = api::get(matches, path)?;
    let mut entries = found["items"].as_array().cloned().unwrap_or_default();
    entries.reverse();
    Ok(entries)
}

fn follow(matches: &ArgMatches, entry: &Value) -> Result<()> {
    if style(matches) == Style::Json {
        return print(&entry.to_string());
    }
    let cells = COLUMNS.iter().filter_map(|(_, place)| entry.pointer(place)?.as_str());
    print(&cells.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("  "))
}
