//! `millpond vhosts`, `policies`, `limits`, `queues`, `alarms`: what an operator says to a running broker.

use super::api;
use super::{ask, in_data_dir, listing, routing, style};
use crate::control::{AdminRequest, PolicyText, Request, Style};
use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// The commands of this file.
pub(super) fn commands() -> [Command; 5] {
    [vhosts(), policies(), limits(), queues(), alarms()]
}

pub(super) fn group(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).subcommand_required(true).arg_required_else_help(true)
}

pub(super) fn word(id: &'static str, name: &'static str, help: &'static str) -> Arg {
    Arg::new(id).value_name(name).required(true).help(help)
}

pub(super) fn option(id: &'static str, name: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).value_name(name).help(help)
}

pub(super) fn vhost() -> Arg {
    option("vhost", "VHOST", "In which vhost").default_value("/")
}

fn operator() -> Arg {
    let help = "Operator policies: limits that are put over the users' policies";
    Arg::new("operator").long("operator").action(ArgAction::SetTrue).help(help)
}

fn vhosts() -> Command {
    group("vhosts", "List, add and delete virtual hosts")
        .subcommand(listing(Command::new("list").about("Show every vhost")))
        .subcommand(listing(Command::new("show").about("Show a vhost").arg(word("name", "NAME", "Its name"))))
        .subcommand(in_data_dir(
            Command::new("add").about("Add a vhost, or change one that is there").args([
                word("name", "NAME", "Its name"),
                option("description", "TEXT", "What it is for").default_value(""),
                option("default-queue-type", "TYPE", "Type of durable queues whose declaration names none")
                    .value_parser(["classic", "quorum", "stream"]),
            ]),
        ))
        .subcommand(in_data_dir(
            Command::new("delete")
                .about("Delete a vhost with its queues and messages; its connections are closed")
                .arg(word("name", "NAME", "Its name")),
        ))
}

fn policies() -> Command {
    group("policies", "List, set and clear policies for queues and exchanges by the pattern of their names")
        .subcommand(listing(Command::new("list").about("Show the policies").args([vhost(), operator()])))
        .subcommand(in_data_dir(
            Command::new("set").about("Set a policy; it is in force at once").args([
                word("name", "NAME", "Its name"),
                word("pattern", "PATTERN", "Regular expression, searched for in the names: ^orders\\."),
                word("definition", "JSON", "What it says: {\"message-ttl\": 60000}"),
                option("apply-to", "WHAT", "What it is for").default_value("all").value_parser([
                    "all",
                    "queues",
                    "exchanges",
                    "classic_queues",
                    "quorum_queues",
                    "streams",
                ]),
                option("priority", "N", "Of those that fit a name the highest is in force")
                    .default_value("0")
                    .allow_negative_numbers(true)
                    .value_parser(clap::value_parser!(i64)),
                vhost(),
                operator(),
            ]),
        ))
        .subcommand(in_data_dir(Command::new("clear").about("Clear a policy").args([
            word("name", "NAME", "Its name"),
            vhost(),
            operator(),
        ])))
}

fn limits() -> Command {
    let number = |id, help| option(id, "N|none", help);
    group("limits", "List and set what vhosts and users may have")
        .subcommand(listing(Command::new("list").about("Show the limits that are set")))
        .subcommand(in_data_dir(Command::new("vhost").about("Limit a vhost").args([
            word("name", "VHOST", "Which"),
            number("max-connections", "Connections at once"),
            number("max-queues", "Queues"),
        ])))
        .subcommand(in_data_dir(Command::new("user").about("Limit a user, over all vhosts").args([
            word("name", "USER", "Which"),
            number("max-connections", "Connections at once"),
            number("max-channels", "Channels at once, over all connections"),
        ])))
}

fn changes(help: &'static str) -> Arg {
    Arg::new("changes")
        .value_name("NAME=VALUE")
        .required(true)
        .action(ArgAction::Append)
        .num_args(1..)
        .help(help)
}

fn queues() -> Command {
    let name = || word("name", "QUEUE", "Its name");
    group("queues", "List, show, declare, alter, purge and delete queues")
        .subcommands(routing::of_queues())
        .subcommand(listing(Command::new("list").about("Show every queue of a vhost").arg(vhost())))
        .subcommand(listing(
            Command::new("show").about("Show a queue and what it acts by").args([name(), vhost()]),
        ))
        .subcommand(listing(
            Command::new("stuck")
                .about("Show which queues of all vhosts are stuck, and how often one was: 0 without a bug"),
        ))
        .subcommand(in_data_dir(
            Command::new("alter")
                .about("Alter arguments of a queue that is there, without losing a message")
                .args([name(), changes("max-length=1000; max-length= takes it away"), vhost()]),
        ))
        .subcommand(in_data_dir(
            Command::new("pace").about("Change the pace or the leases of consumers while they run").args([
                name(),
                word("tag", "TAG", "Their consumer tag"),
                changes("rate=50, rate-window=1000 or consumer-timeout=60000 (milliseconds)"),
                vhost(),
            ]),
        ))
}

fn alarms() -> Command {
    group("alarms", "Show whether memory or disk run out, and change from where on")
        .subcommand(listing(Command::new("list").about("Show what is measured, its limit and the alarms")))
        .subcommand(in_data_dir(
            Command::new("limit").about("Change the limits of the settings until the restart").args([
                option("memory-high-watermark", "SHARE|SIZE", "Most resident memory: 0.6 or 4GiB"),
                option("disk-free-min", "SIZE", "Least free space on the disk of the data directory"),
            ]),
        ))
}

/// Those that stand on the management API.
fn by_the_api(noun: &str, verb: &str, matches: &ArgMatches) -> Option<Result<()>> {
    let text = |id: &str| matches.get_one::<String>(id).map_or("", String::as_str);
    let show = |parts: &[&str]| api::show(matches, &api::get(matches, &api::path(parts))?);
    match (noun, verb) {
        ("queues", verb) if routing::is_of_queues(verb) => Some(routing::dispatch_queues(verb, matches)),
        ("vhosts", "show") => Some(show(&["vhosts", text("name")])),
        // For a program as the API has it; for a person with what it acts by, and its pace.
        ("queues", "show") if style(matches) == Style::Json => {
            Some(show(&["queues", text("vhost"), text("name")]))
        }
        _ => None,
    }
}

/// Asks what these commands mean.
pub(super) fn dispatch(noun: &str, matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let given = |id: &str| matches.get_one::<String>(id).cloned();
    let all = |id: &str| matches.get_many::<String>(id).unwrap_or_default().cloned().collect();
    let text = |id: &str| given(id).unwrap_or_default();
    let vhost = || text("vhost");
    let operator = || matches.get_flag("operator");
    if let Some(done) = by_the_api(noun, verb, matches) {
        return done;
    }
    let request = match (noun, verb) {
        ("vhosts", "add") => AdminRequest::AddVhost {
            vhost: text("name"),
            description: text("description"),
            default_queue_type: given("default-queue-type"),
        },
        ("vhosts", "delete") => AdminRequest::DeleteVhost { vhost: text("name") },
        ("vhosts", _) => AdminRequest::ListVhosts,
        ("policies", "set") => AdminRequest::SetPolicy {
            vhost: vhost(),
            operator: operator(),
            policy: PolicyText {
                name: text("name"),
                pattern: text("pattern"),
                apply_to: text("apply-to"),
                priority: matches.get_one("priority").copied().unwrap_or_default(),
                definition: text("definition"),
            },
        },
        ("policies", "clear") => {
            AdminRequest::ClearPolicy { vhost: vhost(), operator: operator(), name: text("name") }
        }
        ("policies", _) => AdminRequest::ListPolicies { vhost: vhost(), operator: operator() },
        ("limits", "vhost") => AdminRequest::LimitVhost {
            vhost: text("name"),
            connections: given("max-connections"),
            queues: given("max-queues"),
        },
        ("limits", "user") => AdminRequest::LimitUser {
            user: text("name"),
            connections: given("max-connections"),
            channels: given("max-channels"),
        },
        ("limits", _) => AdminRequest::ListLimits,
        ("alarms", "limit") => AdminRequest::LimitAlarms {
            memory_high_watermark: given("memory-high-watermark"),
            disk_free_min: given("disk-free-min"),
        },
        ("alarms", _) => AdminRequest::ShowAlarms,
        ("queues", "show") => AdminRequest::ShowQueue { vhost: vhost(), queue: text("name") },
        ("queues", "stuck") => AdminRequest::ListStuck,
        ("queues", "alter") => {
            AdminRequest::AlterQueue { vhost: vhost(), queue: text("name"), changes: all("changes") }
        }
        ("queues", "pace") => AdminRequest::PaceConsumers {
            vhost: vhost(),
            queue: text("name"),
            tag: text("tag"),
            changes: all("changes"),
        },
        (_, _) => AdminRequest::ListQueues { vhost: vhost() },
    };
    ask(matches, &Request::Admin { ask: request })
}
