//! `millpond shovels`: messages moved from and to other brokers.

use super::admin::{group, option, vhost, word};
use super::api::{self, Column, path};
use super::routing::flag;
use super::{in_data_dir, listing};
use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};

const SHOVELS: &[Column] = &[
    ("NAME", "/name"),
    ("VHOST", "/vhost"),
    ("STATE", "/state"),
    ("SOURCE", "/src_uri"),
    ("FROM", "/src_queue"),
    ("DESTINATION", "/dest_uri"),
    ("TO", "/dest_queue"),
    ("MOVED", "/forwarded"),
    ("PENDING", "/pending"),
    ("REMAINING", "/remaining"),
    ("REASON", "/reason"),
];

/// The options of `add`, and the keys of the definition that they become.
const KEYS: &[(&str, &str, &str, &str)] = &[
    ("src-uri", "URI", "The broker to take from; without a host it is this one", "src-uri"),
    ("src-queue", "QUEUE", "The queue to take from", "src-queue"),
    ("src-exchange", "EXCHANGE", "Or the exchange, by a queue of the shovel's own", "src-exchange"),
    ("src-key", "KEY", "The binding key for it", "src-exchange-key"),
    ("dest-uri", "URI", "The broker to move to; without a host it is this one", "dest-uri"),
    ("dest-queue", "QUEUE", "The queue to move to", "dest-queue"),
    ("dest-exchange", "EXCHANGE", "Or the exchange [default: that of the message]", "dest-exchange"),
    ("dest-key", "KEY", "With another key than the message's", "dest-exchange-key"),
];

fn name() -> Arg {
    word("name", "NAME", "Its name")
}

/// The command of this file.
pub(super) fn command() -> Command {
    let text = |id: &'static str, shape: &'static str, help: &'static str| option(id, shape, help);
    group("shovels", "Move messages from and to other brokers")
        .subcommand(listing(Command::new("list").about("Show every shovel and how it is")))
        .subcommand(listing(Command::new("show").about("Show a shovel").args([name(), vhost()])))
        .subcommand(
            in_data_dir(
                Command::new("add")
                    .about("Add a shovel, or change one; it begins at once and goes on after a restart")
                    .after_help(
                        "For example: millpond shovels add orders --src-uri 'amqp://user:password@old-broker/' \
                         --src-queue orders --dest-queue orders --delete-after queue-length",
                    ),
            )
            .args([name(), vhost()])
            .args(KEYS.iter().map(|(id, shape, help, _)| text(id, shape, help)))
            .args([
                option("ack-mode", "MODE", "on-confirm: nothing is lost; on-publish, no-ack: faster")
                    .value_parser(["on-confirm", "on-publish", "no-ack"]),
                option("prefetch", "N", "Messages on their way at most [default: 1000]"),
                option("delete-after", "WHEN", "never, queue-length, or a number of messages"),
                option("reconnect-delay", "SECONDS", "Longest wait between attempts [default: 5]"),
                flag("forward-headers", "Add the header x-shovelled"),
                Arg::new("set")
                    .long("set")
                    .value_name("KEY=JSON")
                    .action(ArgAction::Append)
                    .help("Any other key of a definition: --set dest-queue-args='{\"x-queue-type\": \"quorum\"}'"),
            ]),
        )
        .subcommand(in_data_dir(
            Command::new("remove").about("Remove a shovel; messages stay where they are").args([name(), vhost()]),
        ))
        .subcommand(in_data_dir(
            Command::new("restart").about("Have a shovel begin anew").args([name(), vhost()]),
        ))
}

/// A number is one, `true` is true, anything else is a text.
fn plain(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => text.into(),
    }
}

fn definition(matches: &ArgMatches) -> Result<Value> {
    let given = |id: &str| matches.get_one::<String>(id);
    let mut value = Map::new();
    for (id, _, _, key) in KEYS {
        if let Some(text) = given(id) {
            value.insert((*key).to_owned(), text.as_str().into());
        }
    }
    for key in ["src-uri", "dest-uri"] {
        value.entry(key).or_insert_with(|| "amqp://".into());
    }
    for (id, key) in [
        ("ack-mode", "ack-mode"),
        ("prefetch", "src-prefetch-count"),
        ("delete-after", "src-delete-after"),
        ("reconnect-delay", "reconnect-delay"),
    ] {
        if let Some(text) = given(id) {
            value.insert(key.to_owned(), plain(text));
        }
    }
    if matches.get_flag("forward-headers") {
        value.insert("dest-add-forward-headers".to_owned(), true.into());
    }
    for pair in matches.get_many::<String>("set").unwrap_or_default() {
        let (key, text) = pair.split_once('=').with_context(|| format!("'{pair}' is not KEY=JSON"))?;
        value.insert(key.to_owned(), serde_json::from_str(text).unwrap_or_else(|_| text.into()));
    }
    Ok(value.into())
}

/// Asks what these commands mean.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let text = |id: &str| matches.get_one::<String>(id).map_or("", String::as_str);
    if verb == "list" {
        return api::list(matches, &api::get(matches, "/shovels")?, SHOVELS, "no shovels");
    }
    let (name, vhost) = (text("name"), text("vhost"));
    let place = path(&["parameters", "shovel", vhost, name]);
    match verb {
        "show" => api::show(matches, &api::get(matches, &path(&["shovels", "vhost", vhost, name]))?),
        "add" => {
            let mut body = Map::new();
            body.insert("value".to_owned(), definition(matches)?);
            api::change(matches, ("PUT", &place), Some(body.into()), &format!("shovel {name} is set"))
        }
        "restart" => {
            let place = path(&["shovels", "vhost", vhost, name, "restart"]);
            api::change(matches, ("DELETE", &place), None, &format!("shovel {name} begins anew"))
        }
        _ => api::change(matches, ("DELETE", &place), None, &format!("shovel {name} is removed")),
    }
}
