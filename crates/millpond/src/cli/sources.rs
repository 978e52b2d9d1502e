//! `millpond sources`.

use super::{ask, in_data_dir, listing};
use crate::control::{Request, SourceRequest};
use anyhow::Result;
use clap::{Arg, ArgMatches, Command};

pub(super) fn command() -> Command {
    let source = || Arg::new("source").value_name("SOURCE").required(true).help("Name of the source");
    Command::new("sources")
        .about("List, start and stop sources of events")
        .subcommand_required(true)
        .subcommand(listing(Command::new("list").about("Show every source, its state and its counts")))
        .subcommand(in_data_dir(
            Command::new("start")
                .visible_alias("resume")
                .about("Start a source; it goes on where it was stopped")
                .arg(source()),
        ))
        .subcommand(in_data_dir(
            Command::new("stop")
                .visible_alias("pause")
                .about("Stop a source, also over restarts")
                .arg(source()),
        ))
}

pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let name = |matches: &ArgMatches| matches.get_one::<String>("source").cloned().unwrap_or_default();
    let (request, matches) = match matches.subcommand() {
        Some(("list", matches)) => (SourceRequest::List, matches),
        Some(("start", matches)) => (SourceRequest::Start { source: name(matches) }, matches),
        Some(("stop", matches)) => (SourceRequest::Stop { source: name(matches) }, matches),
        _ => return Ok(()),
    };
    ask(matches, &Request::Sources { ask: request })
}
