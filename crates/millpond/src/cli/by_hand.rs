//! `millpond messages publish` and `get`: one message by hand.

use super::admin::{option, vhost, word};
use super::api::{self, Column, object_of, path};
use super::routing::flag;
use super::{in_data_dir, listing, print, style};
use crate::control::{ApiAsk, Style};
use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use std::path::Path;

/// Messages that are got when it is not said how many.
const GOT_DEFAULT: &str = "1";

/// What `millpond messages` has of this file.
pub(super) fn commands() -> [Command; 2] {
    let pair =
        |id: &'static str, help: &'static str| option(id, "NAME=VALUE", help).action(ArgAction::Append);
    [
        in_data_dir(
            Command::new("publish")
                .about("Publish one message, and say whether a queue took it; it is on the disk then")
                .after_help(
                    "For example: millpond messages publish orders '{\"id\": 1}' --header kind=new\n             \
                     millpond messages publish orders.new - --exchange orders <order.json",
                )
                .args([
                    word("key", "KEY", "Routing key; of the default exchange: the queue's name"),
                    Arg::new("body")
                        .value_name("BODY")
                        .default_value("")
                        .help("Its body; - reads it from standard input"),
                    option("exchange", "EXCHANGE", "To which exchange").default_value("amq.default"),
                    pair("header", "A header; may be repeated"),
                    pair("property", "message_id=7, content_type=text/plain, delivery_mode=2, priority=5"),
                    vhost(),
                ]),
        ),
        listing(
            Command::new("get")
                .about("Get messages of a queue; they go back as redelivered, unless --ack or --reject")
                .after_help("For example: millpond messages get orders --count 10 --ack")
                .args([
                    word("queue", "QUEUE", "Of which queue"),
                    option("count", "N", "How many at most")
                        .default_value(GOT_DEFAULT)
                        .value_parser(value_parser!(u64)),
                    flag("ack", "Take them off the queue"),
                    flag("reject", "Reject them: they are dead-lettered or gone").conflicts_with("ack"),
                    vhost(),
                ]),
        ),
    ]
}

const GOT: &[Column] = &[
    ("EXCHANGE", "/exchange"),
    ("ROUTING KEY", "/routing_key"),
    ("REDELIVERED", "/redelivered"),
    ("BYTES", "/payload_bytes"),
    ("BODY", "/payload"),
];

/// Whether a verb of `messages` is one of this file.
pub(super) fn is_ours(verb: &str) -> bool {
    matches!(verb, "publish" | "get")
}

/// Does what these commands mean.
pub(super) fn dispatch(verb: &str, matches: &ArgMatches) -> Result<()> {
    if verb == "publish" { publish(matches) } else { get(matches) }
}

fn publish(matches: &ArgMatches) -> Result<()> {
    let text = |id: &str| matches.get_one::<String>(id).map_or("", String::as_str);
    let all = |id: &str| matches.get_many::<String>(id).unwrap_or_default().cloned().collect::<Vec<_>>();
    let payload = match text("body") {
        "-" => super::read(Path::new("-"))?,
        body => body.to_owned(),
    };
    let mut properties = object_of(&all("property"))?;
    // As a person means it: it is still there after a restart.
    properties.entry("delivery_mode").or_insert(2.into());
    let headers = object_of(&all("header"))?;
    if !headers.is_empty() {
        properties.insert("headers".to_owned(), headers.into());
    }
    let body = json!({
        "routing_key": text("key"),
        "payload": payload,
        "payload_encoding": "string",
        "properties": properties,
    });
    let place = path(&["exchanges", text("vhost"), text("exchange"), "publish"]);
    let ask = ApiAsk { method: "POST".into(), path: place, body: Some(body), reason: None };
    match api::answer(matches, ask)?["routed"] == true {
        true => print("published"),
        false => bail!("no queue took it: nothing is bound to {} by '{}'", text("exchange"), text("key")),
    }
}

fn get(matches: &ArgMatches) -> Result<()> {
    let text = |id: &str| matches.get_one::<String>(id).map_or("", String::as_str);
    let mode = match (matches.get_flag("ack"), matches.get_flag("reject")) {
        (true, _) => "ack_requeue_false",
        (_, true) => "reject_requeue_false",
        _ => "ack_requeue_true",
    };
    let count = matches.get_one::<u64>("count").copied().unwrap_or(1);
    let body = json!({ "count": count, "ackmode": mode, "encoding": "auto" });
    let place = path(&["queues", text("vhost"), text("queue"), "get"]);
    let ask = ApiAsk { method: "POST".into(), path: place, body: Some(body), reason: None };
    let found: Value = api::answer(matches, ask)?;
    // A program wants the properties too.
    if style(matches) == Style::Json {
        return print(&found.to_string());
    }
    api::list(matches, &found, GOT, "the queue is empty")
}
