//! `millpond connections`, `channels`, `consumers`, `permissions`: who is there, and who may what.

use super::admin::{group, option, word};
use super::api::{self, Column, path};
use super::{listing, print};
use crate::control::ApiAsk;
use anyhow::{Result, bail};
use clap::{ArgMatches, Command, value_parser};
use serde_json::{Value, json};

/// The groups of this file.
pub(super) fn commands() -> [Command; 4] {
    let vhost = || option("vhost", "VHOST", "Only in this vhost");
    let user = || option("user", "USER", "Only of this user");
    let connection = || word("name", "CONNECTION", "Its name: '127.0.0.1:4711 -> 127.0.0.1:5672'");
    let close = Command::new("close")
        .about("Close a connection, or all of a user")
        .after_help("For example: millpond connections close --user app --reason 'the node is serviced'")
        .args([
            connection().required(false).conflicts_with("user").required_unless_present("user"),
            option("user", "USER", "All of this user"),
            option("reason", "TEXT", "What the client is told").default_value("Closed by an operator"),
        ]);
    [
        group("connections", "List, show and close connections")
            .subcommand(listing(Command::new("list").about("Show the connections").args([vhost(), user()])))
            .subcommand(listing(Command::new("show").about("Show a connection").arg(connection())))
            .subcommand(super::in_data_dir(close)),
        group("channels", "List and show channels")
            .subcommand(listing(
                Command::new("list")
                    .about("Show the channels")
                    .args([vhost(), option("connection", "CONNECTION", "Only of this connection")]),
            ))
            .subcommand(listing(Command::new("show").about("Show a channel").arg(word(
                "name",
                "CHANNEL",
                "Its name: '127.0.0.1:4711 -> 127.0.0.1:5672 (1)'",
            )))),
        consumers(),
        group("permissions", "List who may what; `millpond users allow` and `forbid` change it").subcommand(
            listing(Command::new("list").about("Show the permissions of all users").args([
                vhost(),
                user(),
                super::routing::flag("topics", "Those for topic exchanges"),
            ])),
        ),
    ]
}

fn consumers() -> Command {
    let place = || {
        [
            word("connection", "CONNECTION", "The name of its connection, as `consumers list` shows it"),
            word("channel", "CHANNEL", "The number of its channel").value_parser(value_parser!(u16)),
            word("tag", "TAG", "Its consumer tag"),
            super::admin::vhost(),
        ]
    };
    group("consumers", "List consumers, change and cancel them")
        .subcommand(listing(Command::new("list").about("Show the consumers and what each holds").args([
            option("vhost", "VHOST", "Only in this vhost"),
            option("queue", "QUEUE", "Only of this queue"),
        ])))
        .subcommand(super::in_data_dir(
            Command::new("cancel").about("End a consumer; its client is told").args(place()),
        ))
        .subcommand(super::in_data_dir(
            Command::new("pause").about("Give a consumer nothing until it is resumed").args(place()),
        ))
        .subcommand(super::in_data_dir(
            Command::new("resume").about("Let a paused consumer go on").args(place()),
        ))
        .subcommand(super::in_data_dir(
            Command::new("prefetch")
                .about("Change how many messages a consumer may hold")
                .args(place())
                .arg(word("count", "N", "At most so many; 0: no limit").value_parser(value_parser!(u16))),
        ))
}

const CONNECTIONS: &[Column] = &[
    ("NAME", "/name"),
    ("USER", "/user"),
    ("VHOST", "/vhost"),
    ("PROTOCOL", "/protocol"),
    ("CHANNELS", "/channels"),
    ("STATE", "/state"),
];
const CHANNELS: &[Column] = &[
    ("NAME", "/name"),
    ("USER", "/user"),
    ("VHOST", "/vhost"),
    ("CONSUMERS", "/consumer_count"),
    ("PREFETCH", "/prefetch_count"),
    ("UNACKED", "/messages_unacknowledged"),
    ("STATE", "/state"),
];
const CONSUMERS: &[Column] = &[
    ("QUEUE", "/queue/name"),
    ("VHOST", "/queue/vhost"),
    ("TAG", "/consumer_tag"),
    ("ACTIVE", "/active"),
    ("PREFETCH", "/prefetch_count"),
    ("UNACKED", "/messages_unacknowledged"),
    ("PROMISED", "/rate_promised"),
    ("DELIVERED", "/rate_delivered"),
    ("PAUSED", "/paused"),
    ("CHANNEL", "/channel_details/number"),
    ("CONNECTION", "/channel_details/connection_name"),
];
const PERMISSIONS: &[Column] = &[
    ("USER", "/user"),
    ("VHOST", "/vhost"),
    ("CONFIGURE", "/configure"),
    ("WRITE", "/write"),
    ("READ", "/read"),
];
const TOPICS: &[Column] = &[
    ("USER", "/user"),
    ("VHOST", "/vhost"),
    ("EXCHANGE", "/exchange"),
    ("WRITE", "/write"),
    ("READ", "/read"),
];

/// Does what these commands mean.
pub(super) fn dispatch(noun: &str, matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let name = || matches.get_one::<String>("name").map_or("", String::as_str);
    match (noun, verb) {
        (_, "show") => api::show(matches, &api::get(matches, &path(&[noun, name()]))?),
        ("connections", "close") => close(matches),
        ("connections", _) => list(matches, "/connections", CONNECTIONS, "no connections"),
        ("channels", _) => list(matches, "/channels", CHANNELS, "no channels"),
        ("consumers", "cancel" | "pause" | "resume" | "prefetch") => change_consumer(verb, matches),
        ("consumers", _) => list(matches, "/consumers", CONSUMERS, "no consumers"),
        ("permissions", _) if matches.get_flag("topics") => {
            list(matches, "/topic-permissions", TOPICS, "no topic permissions")
        }
        _ => list(matches, "/permissions", PERMISSIONS, "no permissions"),
    }
}

/// Those that are meant of what the API lists.
fn list(matches: &ArgMatches, place: &str, columns: &[Column], empty: &str) -> Result<()> {
    let wanted = |id: &str| matches.try_get_one::<String>(id).ok().flatten().cloned();
    let fields = [
        (wanted("vhost"), &["/vhost", "/queue/vhost"][..]),
        (wanted("user"), &["/user"][..]),
        (wanted("queue"), &["/queue/name"][..]),
        (wanted("connection"), &["/connection_details/name"][..]),
    ];
    let is_meant = |object: &&Value| {
        fields.iter().all(|(wanted, places)| {
            let mut found = places.iter().filter_map(|place| object.pointer(place)?.as_str());
            wanted.as_deref().is_none_or(|wanted| found.any(|it| it == wanted))
        })
    };
    let found = api::get(matches, place)?;
    let meant: Vec<Value> = found.as_array().into_iter().flatten().filter(is_meant).cloned().collect();
    api::list(matches, &meant.into(), columns, empty)
}

fn change_consumer(verb: &str, matches: &ArgMatches) -> Result<()> {
    let text = |id: &str| matches.get_one::<String>(id).map_or("", String::as_str);
    let channel = matches.get_one::<u16>("channel").map_or_else(String::new, u16::to_string);
    let tag = text("tag");
    let place = path(&["consumers", text("vhost"), text("connection"), &channel, tag]);
    let change = |body: Value, done: String| api::change(matches, ("PUT", &place), Some(body), &done);
    match verb {
        "pause" => change(json!({ "paused": true }), format!("consumer {tag} is paused")),
        "resume" => change(json!({ "paused": false }), format!("consumer {tag} goes on")),
        "prefetch" => {
            let count = matches.get_one::<u16>("count").copied().unwrap_or_default();
            change(
                json!({ "prefetch": count }),
                format!("consumer {tag} may hold {count} messages (0: no limit)"),
            )
        }
        _ => api::change(matches, ("DELETE", &place), None, &format!("consumer {tag} is cancelled")),
    }
}

fn close(matches: &ArgMatches) -> Result<()> {
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    let (place, done) = match (text("user"), text("name")) {
        (Some(user), _) => {
            (path(&["connections", "username", &user]), format!("the connections of {user} are closed"))
        }
        (None, Some(name)) => (path(&["connections", &name]), format!("connection {name} is closed")),
        (None, None) => bail!("name a connection, or a user with --user"),
    };
    api::answer(
        matches,
        ApiAsk { method: "DELETE".into(), path: place, body: None, reason: text("reason") },
    )?;
    print(&done)
}
