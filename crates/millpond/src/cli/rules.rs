//! `millpond rules`.

use super::admin::option;
use super::api;
use super::{ask, in_data_dir, json, listing, path, print, read};
use crate::control::{PeriodText, Request, RuleRequest};
use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

/// What `replay` is for.
const REPLAY: &str = "Give a rule messages of the past once more, or show what it would do with them";

fn replay_args() -> [Arg; 8] {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    [
        option("from", "QUEUE", "A stream, a queue with x-retain, or one whose ready messages are meant")
            .required(true),
        option("of", "WHICH", "Of a queue: what it remembers, or what is ready")
            .value_parser(["remembered", "ready"]),
        option("since", "AGE", "Only what was published (or acked) within this time: 90s, 15m, 1h, 7D"),
        option("until", "TIME", "Only what was published (or acked) then or before"),
        option("limit", "N", "At most so many").value_parser(value_parser!(u64)),
        option("file", "FILE", "Take the rule from this topology file (with --dry-run)")
            .value_parser(value_parser!(PathBuf)),
        flag("dry-run", "Only show what the rule would do, and how that differs from what it did"),
        json(),
    ]
}

pub(super) fn command() -> Command {
    let rule = || Arg::new("rule").value_name("RULE").required(true).help("Name of the rule");
    let of_rule =
        |name: &'static str, about: &'static str| in_data_dir(Command::new(name).about(about).arg(rule()));
    let file = |name: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(clap::value_parser!(PathBuf))
    };
    Command::new("rules")
        .about("List, start, stop, pause, drain and try rules")
        .subcommand_required(true)
        .subcommand(listing(
            Command::new("list").about("Show every rule: its state, its version, its queue, its counts"),
        ))
        .subcommand(
            of_rule("start", "Start a rule; what waits in its queue is acted on").visible_alias("resume"),
        )
        .subcommand(of_rule("stop", "Stop a rule at once; its queue goes on collecting"))
        .subcommand(of_rule(
            "pause",
            "Let a rule finish what it has in hand, and take no more; its queue goes on collecting",
        ))
        .subcommand(of_rule(
            "drain",
            "Let nothing more come to a rule's queue; it works off what is there, then rests",
        ))
        .subcommand(
            of_rule("history", "Show the versions of a rule, and what differs between them").arg(json()),
        )
        .subcommand(of_rule("replay", REPLAY).args(replay_args()))
        .subcommand(
            of_rule("test", "Show what a rule would do with an event, without doing it").args([
                file("event")
                    .required(true)
                    .help("The event as JSON: a CloudEvent, or {data: ...}; - for standard input"),
                file("topology").help("Take the rule from this file instead of from the running broker"),
            ]),
        )
}

pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let rule = matches.try_get_one::<String>("rule").ok().flatten().cloned().unwrap_or_default();
    let request = match verb {
        "start" => RuleRequest::Start { rule },
        "stop" => RuleRequest::Stop { rule },
        "pause" => RuleRequest::Pause { rule },
        "drain" => RuleRequest::Drain { rule },
        "history" if matches.get_flag("json") => {
            return print(&api::get(matches, &api::path(&["rules", &rule, "history"]))?.to_string());
        }
        "history" => RuleRequest::History { rule },
        "replay" => {
            let given = |id: &str| matches.get_one::<String>(id).cloned();
            let file = matches.get_one::<PathBuf>("file");
            let file = file.map(|path| Ok::<_, anyhow::Error>((path.display().to_string(), read(path)?)));
            RuleRequest::Replay {
                rule,
                from: given("from").unwrap_or_default(),
                of: given("of"),
                period: PeriodText { from: None, since: given("since"), until: given("until") },
                limit: matches.get_one::<u64>("limit").copied(),
                file: file.transpose()?,
                dry_run: matches.get_flag("dry-run"),
                json: matches.get_flag("json"),
            }
        }
        "test" => {
            let event = read(path(matches, "event"))?;
            let event = serde_json::from_str(&event).context("the event is not JSON")?;
            if let Some(file) = matches.get_one::<PathBuf>("topology") {
                let topology = millpond_engine::check(&file.display().to_string(), &read(file)?)?;
                return print(&millpond_engine::dry_run(&topology, &rule, &event)?.to_string());
            }
            RuleRequest::Test { rule, event }
        }
        _ => RuleRequest::List,
    };
    ask(matches, &Request::Rules { ask: request })
}
