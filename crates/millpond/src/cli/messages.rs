//! `millpond messages`: looks into queues and brings messages from one to another.

use super::admin::{group, option, vhost, word};
use super::{ask, by_hand, in_data_dir};
use crate::control::{MessageFilterText, MessageRequest, PeriodText, Request};
use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// The commands of this file.
pub(super) fn command() -> Command {
    let queue = |help| word("from", "QUEUE", help);
    let to = || word("to", "TARGET", "To which queue");
    let browse = Command::new("browse").about("Show what is ready in a queue; nothing is consumed or marked");
    let moves = Command::new("move").about("Move messages to another queue, each in one commit");
    let copy = Command::new("copy").about("Copy messages to another queue");
    let redrive = Command::new("redrive").about("Send dead messages back to the queue where each died");
    let replay = Command::new("replay").about("Send messages that were acked to a queue once more");
    group("messages", "Publish, get, browse, move, copy, redrive and replay messages")
        .subcommands(by_hand::commands())
        .subcommand(in_data_dir(browse.arg(queue("Which queue")).args(filter()).arg(vhost())))
        .subcommand(in_data_dir(
            moves.args([queue("From which queue"), to()]).args(filter()).args(pace()).arg(vhost()),
        ))
        .subcommand(in_data_dir(
            copy.args([queue("From which queue"), to()]).args(filter()).args(pace()).arg(vhost()),
        ))
        .subcommand(in_data_dir(
            redrive.arg(queue("The dead-letter queue")).args(filter()).args(pace()).arg(vhost()),
        ))
        .subcommand(in_data_dir(
            replay
                .arg(queue("A queue with x-retain, or a stream"))
                .args(period())
                .args(filter())
                .args(pace())
                .args([json(), vhost()]),
        ))
}

fn filter() -> [Arg; 7] {
    [
        option("header", "NAME=VALUE", "Only with this header; may be repeated").action(ArgAction::Append),
        option("key", "KEY", "Only with this routing key"),
        option("body", "TEXT", "Only with this somewhere in the body"),
        option(
            "died-of",
            "REASON",
            "Only those whose last death was rejected, expired, maxlen or delivery_limit",
        ),
        option("search", "TEXT", "Only with this in the body, the key, a property or a header"),
        option("died-in", "QUEUE", "Only those that died last in this queue"),
        option("limit", "N", "At most so many").value_parser(value_parser!(u64)),
    ]
}

/// Of which time, and to where.
fn period() -> [Arg; 4] {
    [
        option("to", "QUEUE", "To which queue; it may be the same").required(true),
        option(
            "from-time",
            "TIME",
            "Only what was acked then or later: 2026-01-31T08:00:00Z, or milliseconds",
        )
        .long("from"),
        option("since", "AGE", "Only what was acked within this time: 90s, 15m, 1h, 7D")
            .conflicts_with("from-time"),
        option("until", "TIME", "Only what was acked then or before"),
    ]
}

fn json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Answer with one JSON object")
}

fn pace() -> [Arg; 2] {
    let help = "Only say what would be done";
    [
        option("rate", "N", "At most so many a second").value_parser(value_parser!(u32).range(1..)),
        Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help(help),
    ]
}

/// Asks what these commands mean.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    if by_hand::is_ours(verb) {
        return by_hand::dispatch(verb, matches);
    }
    let given = |id: &str| matches.get_one::<String>(id).cloned();
    let text = |id: &str| given(id).unwrap_or_default();
    let filter = MessageFilterText {
        headers: matches.get_many::<String>("header").unwrap_or_default().cloned().collect(),
        routing_key: given("key"),
        body: given("body"),
        search: given("search"),
        died_of: given("died-of"),
        died_in: given("died-in"),
    };
    let limit = matches.get_one::<u64>("limit").copied();
    let (vhost, from) = (text("vhost"), text("from"));
    let request = match verb {
        "browse" => MessageRequest::Browse { vhost, queue: from, filter, limit },
        "replay" => MessageRequest::Replay {
            vhost,
            from,
            to: text("to"),
            period: PeriodText { from: given("from-time"), since: given("since"), until: given("until") },
            filter,
            limit,
            rate: matches.get_one::<u32>("rate").copied(),
            dry_run: matches.get_flag("dry-run"),
            json: matches.get_flag("json"),
        },
        _ => MessageRequest::Transfer {
            vhost,
            from,
            to: (verb != "redrive").then(|| text("to")),
            keep: verb == "copy",
            filter,
            limit,
            rate: matches.get_one::<u32>("rate").copied(),
            dry_run: matches.get_flag("dry-run"),
        },
    };
    ask(matches, &Request::Messages { ask: request })
}
