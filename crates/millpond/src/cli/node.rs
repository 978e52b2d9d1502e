//! `millpond overview`: the broker in a few numbers.

use super::{api, listing};
use crate::control::Style;
use anyhow::Result;
use clap::{ArgMatches, Command};
use serde_json::Value;

/// The commands of this file.
pub(super) fn commands() -> [Command; 1] {
    [listing(
        Command::new("overview")
            .about("Show what is in the broker altogether")
            .after_help("For example: millpond overview --json"),
    )]
}

/// Asks and prints.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let found = api::get(matches, "/overview")?;
    if super::style(matches) == Style::Json {
        return api::show(matches, &found);
    }
    let number = |place: &str| found.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let text = |place: &str| found.pointer(place).and_then(Value::as_str).unwrap_or("-").to_owned();
    let lines = [
        ("node", text("/node")),
        ("cluster", text("/cluster_name")),
        ("version", text("/product_version")),
        ("connections", number("/object_totals/connections").to_string()),
        ("channels", number("/object_totals/channels").to_string()),
        ("consumers", number("/object_totals/consumers").to_string()),
        ("exchanges", number("/object_totals/exchanges").to_string()),
        ("queues", number("/object_totals/queues").to_string()),
        ("ready", number("/queue_totals/messages_ready").to_string()),
        ("unacked", number("/queue_totals/messages_unacknowledged").to_string()),
    ];
    let lines: Vec<_> = lines.iter().map(|(name, value)| format!("{name:11}  {value}")).collect();
    super::print(&lines.join("\n"))
}
