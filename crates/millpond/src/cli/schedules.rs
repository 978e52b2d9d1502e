//! `millpond schedules`: messages that are published again and again.

use super::admin::{group, option, vhost, word};
use super::{ask, in_data_dir, listing, read};
use crate::control::{Request, ScheduleRequest, ScheduleText};
use anyhow::Result;
use clap::{ArgAction, ArgMatches, Command, value_parser};
use std::path::Path;

/// The commands of this file.
pub(super) fn command() -> Command {
    let name = || word("name", "SCHEDULE", "Its name");
    let add = Command::new("add").about("Add a schedule, or change the one of that name").args([
        name(),
        option(
            "cron",
            "EXPRESSION",
            "When: '0 9 * * MON-FRI', with seconds in front '*/10 * * * * *', @daily",
        )
        .required(true),
        option("zone", "ZONE", "In which time zone: Europe/Berlin").default_value("UTC"),
        option("exchange", "EXCHANGE", "To which exchange; the default one takes names of queues as keys")
            .default_value(""),
        option("key", "KEY", "With which routing key").default_value(""),
        option("body", "TEXT", "The message's body; @FILE reads it from a file, @- from standard input")
            .default_value(""),
        option("content-type", "TYPE", "The property content_type"),
        option("header", "NAME=VALUE", "A header; may be repeated").action(ArgAction::Append),
        option("missed", "WHAT", "What becomes of moments at which the broker was down")
            .default_value("once")
            .value_parser(["skip", "once", "all"]),
        vhost(),
    ]);
    let next = Command::new("next").about("Show when it comes next").args([
        name(),
        option("count", "N", "How many moments").default_value("5").value_parser(value_parser!(usize)),
        vhost(),
    ]);
    let pause = "Publish nothing until it is resumed; what is due meanwhile is left out";
    group("schedules", "List and change what is published again and again")
        .subcommand(listing(Command::new("list").about("Show every schedule").arg(vhost())))
        .subcommand(in_data_dir(add))
        .subcommand(listing(Command::new("show").about("Show a schedule").args([name(), vhost()])))
        .subcommand(in_data_dir(next))
        .subcommand(in_data_dir(Command::new("pause").about(pause).args([name(), vhost()])))
        .subcommand(in_data_dir(Command::new("resume").about("Go on from now").args([name(), vhost()])))
        .subcommand(in_data_dir(Command::new("remove").about("Take it away").args([name(), vhost()])))
}

/// Asks what these commands mean.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let given = |id: &str| matches.try_get_one::<String>(id).ok().flatten().cloned();
    let text = |id: &str| given(id).unwrap_or_default();
    let (vhost, name) = (text("vhost"), text("name"));
    let request = match verb {
        "add" => {
            let body = text("body");
            let schedule = ScheduleText {
                cron: text("cron"),
                zone: text("zone"),
                exchange: text("exchange"),
                key: text("key"),
                body: match body.strip_prefix('@') {
                    Some(file) => read(Path::new(file))?,
                    None => body,
                },
                content_type: given("content-type"),
                headers: matches.get_many::<String>("header").unwrap_or_default().cloned().collect(),
                missed: text("missed"),
            };
            ScheduleRequest::Add { vhost, name, schedule }
        }
        "show" => ScheduleRequest::Show { vhost, name },
        "next" => {
            let count = matches.get_one("count").copied().unwrap_or_default();
            ScheduleRequest::Next { vhost, name, count }
        }
        "pause" => ScheduleRequest::Pause { vhost, name, paused: true },
        "resume" => ScheduleRequest::Pause { vhost, name, paused: false },
        "remove" => ScheduleRequest::Remove { vhost, name },
        _ => ScheduleRequest::List { vhost },
    };
    ask(matches, &Request::Schedules { ask: request })
}
