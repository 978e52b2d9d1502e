//! `millpond exchanges`, `bindings`, and what is made, emptied and deleted of `queues`.

use super::admin::{group, option, vhost, word};
use super::api::{self, Column, arguments_of, path};
use super::{in_data_dir, listing};
use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

/// The groups of this file.
pub(super) fn commands() -> [Command; 2] {
    [exchanges(), bindings()]
}

pub(super) fn flag(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).action(ArgAction::SetTrue).help(help)
}

fn arguments(help: &'static str) -> Arg {
    Arg::new("arguments").value_name("NAME=VALUE").action(ArgAction::Append).num_args(0..).help(help)
}

/// What `millpond queues` has beside what is in `admin`.
pub(super) fn of_queues() -> [Command; 5] {
    let name = || word("name", "QUEUE", "Its name");
    [
        in_data_dir(
            Command::new("declare")
                .about("Make a queue; one that is there like that stays as it is")
                .after_help("For example: millpond queues declare orders --type quorum max-length=100000")
                .args([
                    name(),
                    arguments("Arguments, with or without x-: max-length=1000 message-ttl=60000"),
                    option("type", "TYPE", "Its type [default: that of the vhost]")
                        .value_parser(["classic", "quorum", "stream"]),
                    flag("transient", "Gone after a restart"),
                    flag("auto-delete", "Deleted when its last consumer is gone"),
                    vhost(),
                ]),
        ),
        in_data_dir(
            Command::new("delete")
                .about("Delete a queue with its messages")
                .after_help("For example: millpond queues delete orders --if-empty")
                .args([
                    name(),
                    flag("if-empty", "Only if no message is in it"),
                    flag("if-unused", "Only if nobody consumes from it"),
                    vhost(),
                ]),
        ),
        in_data_dir(
            Command::new("purge")
                .about("Delete what is ready in a queue")
                .after_help("For example: millpond queues purge orders")
                .args([name(), vhost()]),
        ),
        in_data_dir(
            Command::new("pause")
                .about("Deliver nothing from a queue until it is resumed; publishing goes on")
                .after_help("For example: millpond queues pause orders")
                .args([name(), vhost()]),
        ),
        in_data_dir(
            Command::new("resume")
                .about("Let a paused queue go on")
                .after_help("For example: millpond queues resume orders")
                .args([name(), vhost()]),
        ),
    ]
}

fn exchanges() -> Command {
    let name = || word("name", "EXCHANGE", "Its name; amq.default is the one without");
    group("exchanges", "List, show, declare and delete exchanges")
        .subcommand(listing(Command::new("list").about("Show every exchange of a vhost").arg(vhost())))
        .subcommand(listing(Command::new("show").about("Show an exchange").args([name(), vhost()])))
        .subcommand(in_data_dir(
            Command::new("declare")
                .about("Make an exchange; one that is there like that stays as it is")
                .after_help("For example: millpond exchanges declare orders --type topic")
                .args([
                    word("name", "EXCHANGE", "Its name"),
                    arguments("Arguments: alternate-exchange=unrouted"),
                    option("type", "TYPE", "direct, fanout, topic, headers, x-consistent-hash, ...")
                        .default_value("direct"),
                    flag("transient", "Gone after a restart"),
                    flag("auto-delete", "Deleted when its last binding is gone"),
                    flag("internal", "No client may publish to it"),
                    vhost(),
                ]),
        ))
        .subcommand(in_data_dir(
            Command::new("delete")
                .about("Delete an exchange with its bindings")
                .after_help("For example: millpond exchanges delete orders --if-unused")
                .args([name(), flag("if-unused", "Only if nothing is bound to it"), vhost()]),
        ))
}

fn bindings() -> Command {
    let ends = || {
        [
            word("source", "EXCHANGE", "From which exchange"),
            word("destination", "QUEUE", "To which queue, or with --to-exchange to which exchange"),
            flag("to-exchange", "The destination is an exchange"),
            vhost(),
        ]
    };
    let key = || option("key", "KEY", "Routing key or pattern").default_value("");
    group("bindings", "List, add and remove bindings")
        .subcommand(listing(Command::new("list").about("Show the bindings of a vhost").args([
            option("source", "EXCHANGE", "Only those from this exchange"),
            option("queue", "QUEUE", "Only those to this queue"),
            vhost(),
        ])))
        .subcommand(in_data_dir(
            Command::new("add")
                .about("Bind a queue or an exchange to an exchange")
                .after_help("For example: millpond bindings add orders invoices --key 'orders.*'")
                .args(ends())
                .args([key(), argument("Argument of a headers exchange: x-match=all; may be repeated")]),
        ))
        .subcommand(in_data_dir(
            Command::new("remove")
                .about("Remove a binding")
                .after_help("For example: millpond bindings remove orders invoices --key 'orders.*'")
                .args(ends())
                .args([key(), flag("all", "Also if several have this key, with different arguments")]),
        ))
}

fn argument(help: &'static str) -> Arg {
    Arg::new("argument").long("argument").value_name("NAME=VALUE").action(ArgAction::Append).help(help)
}

const EXCHANGES: &[Column] = &[
    ("NAME", "/name"),
    ("TYPE", "/type"),
    ("DURABLE", "/durable"),
    ("AUTO DELETE", "/auto_delete"),
    ("INTERNAL", "/internal"),
    ("ARGUMENTS", "/arguments"),
];
const BINDINGS: &[Column] = &[
    ("SOURCE", "/source"),
    ("DESTINATION", "/destination"),
    ("DESTINATION TYPE", "/destination_type"),
    ("ROUTING KEY", "/routing_key"),
    ("ARGUMENTS", "/arguments"),
];

/// Does what these commands mean.
pub(super) fn dispatch(noun: &str, matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    match noun {
        "exchanges" => dispatch_exchanges(verb, matches),
        _ => dispatch_bindings(verb, matches),
    }
}

fn text<'a>(matches: &'a ArgMatches, id: &str) -> &'a str {
    matches.get_one::<String>(id).map_or("", String::as_str)
}

fn all(matches: &ArgMatches, id: &str) -> Vec<String> {
    matches.get_many::<String>(id).unwrap_or_default().cloned().collect()
}

/// `?if-empty=true&if-unused=true` of the flags that are set.
fn conditions(matches: &ArgMatches, flags: &[&str]) -> String {
    let set = flags.iter().filter(|id| matches.get_flag(id)).map(|id| format!("{id}=true"));
    match set.collect::<Vec<_>>().join("&") {
        none if none.is_empty() => none,
        some => format!("?{some}"),
    }
}

/// Whether a verb of `queues` is one of this file.
pub(super) fn is_of_queues(verb: &str) -> bool {
    matches!(verb, "declare" | "delete" | "purge" | "pause" | "resume")
}

/// Does what [`of_queues`] means.
pub(super) fn dispatch_queues(verb: &str, matches: &ArgMatches) -> Result<()> {
    let (name, vhost) = (text(matches, "name"), text(matches, "vhost"));
    let place = path(&["queues", vhost, name]);
    match verb {
        "declare" => {
            let mut arguments = arguments_of(&all(matches, "arguments"))?;
            if let Some(kind) = matches.get_one::<String>("type") {
                arguments.insert("x-queue-type".to_owned(), kind.as_str().into());
            }
            let body = json!({
                "durable": !matches.get_flag("transient"),
                "auto_delete": matches.get_flag("auto-delete"),
                "arguments": arguments,
            });
            api::change(matches, ("PUT", &place), Some(body), &format!("queue {name} is declared"))
        }
        "delete" => {
            let place = format!("{place}{}", conditions(matches, &["if-empty", "if-unused"]));
            api::change(matches, ("DELETE", &place), None, &format!("queue {name} is deleted"))
        }
        "pause" => {
            let done = format!("queue {name} is paused: it takes messages and gives none");
            api::change(matches, ("PUT", &format!("{place}/pause")), None, &done)
        }
        "resume" => {
            api::change(matches, ("PUT", &format!("{place}/resume")), None, &format!("queue {name} goes on"))
        }
        _ => {
            let place = format!("{place}/contents");
            api::change(matches, ("DELETE", &place), None, &format!("queue {name} is purged"))
        }
    }
}

fn dispatch_exchanges(verb: &str, matches: &ArgMatches) -> Result<()> {
    let (name, vhost) = (text(matches, "name"), text(matches, "vhost"));
    match verb {
        "list" => {
            let found = api::get(matches, &path(&["exchanges", vhost]))?;
            api::list(matches, &found, EXCHANGES, "no exchanges")
        }
        "show" => api::show(matches, &api::get(matches, &path(&["exchanges", vhost, name]))?),
        "declare" => {
            let body = json!({
                "type": text(matches, "type"),
                "durable": !matches.get_flag("transient"),
                "auto_delete": matches.get_flag("auto-delete"),
                "internal": matches.get_flag("internal"),
                "arguments": arguments_of(&all(matches, "arguments"))?,
            });
            let place = path(&["exchanges", vhost, name]);
            api::change(matches, ("PUT", &place), Some(body), &format!("exchange {name} is declared"))
        }
        _ => {
            let place = path(&["exchanges", vhost, name]) + &conditions(matches, &["if-unused"]);
            api::change(matches, ("DELETE", &place), None, &format!("exchange {name} is deleted"))
        }
    }
}

fn dispatch_bindings(verb: &str, matches: &ArgMatches) -> Result<()> {
    let vhost = text(matches, "vhost");
    if verb == "list" {
        let found = match matches.get_one::<String>("queue") {
            Some(queue) => api::get(matches, &path(&["queues", vhost, queue, "bindings"]))?,
            None => api::get(matches, &path(&["bindings", vhost]))?,
        };
        let source = matches.get_one::<String>("source").map(String::as_str);
        let is_meant = |binding: &&Value| source.is_none_or(|source| binding["source"] == *source);
        let meant: Vec<Value> = found.as_array().into_iter().flatten().filter(is_meant).cloned().collect();
        return api::list(matches, &meant.into(), BINDINGS, "no bindings");
    }
    let (source, destination) = (text(matches, "source"), text(matches, "destination"));
    let kind = if matches.get_flag("to-exchange") { "e" } else { "q" };
    let place = path(&["bindings", vhost, "e", source, kind, destination]);
    let key = text(matches, "key");
    if verb == "add" {
        let arguments = api::object_of(&all(matches, "argument"))?;
        let body = json!({ "routing_key": key, "arguments": arguments });
        return api::change(
            matches,
            ("POST", &place),
            Some(body),
            &format!("{destination} is bound to {source}"),
        );
    }
    let found = api::get(matches, &place)?;
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    let meant: Vec<&str> = (found.iter().filter(|binding| binding["routing_key"] == *key))
        .filter_map(|binding| binding["properties_key"].as_str())
        .collect();
    match meant.len() {
        0 => bail!("{destination} is not bound to {source} by the key '{key}'"),
        1 => {}
        _ if matches.get_flag("all") => {}
        many => {
            bail!("{many} bindings have the key '{key}', with different arguments: --all removes them all")
        }
    }
    for properties in &meant {
        let place = place.clone() + &path(&[properties]);
        let ask = crate::control::ApiAsk { method: "DELETE".into(), path: place, body: None, reason: None };
        api::answer(matches, ask)?;
    }
    super::print(&format!("{destination} is no longer bound to {source} by the key '{key}'"))
}
