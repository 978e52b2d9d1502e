//! `millpond secrets`: what topology files name and do not hold.

use super::admin::{group, word};
use super::hidden::read_hidden;
use super::{ask, in_data_dir, listing};
use crate::control::{Request, SecretRequest};
use anyhow::Result;
use clap::{ArgMatches, Command};

/// The commands of this file.
pub(super) fn command() -> Command {
    let name = || word("name", "NAME", "Its name, as in ${secret:NAME}");
    let set = "Set a secret; its value comes from standard input, or is asked for";
    group("secrets", "Set, list and remove what topology files call ${secret:NAME}")
        .subcommand(in_data_dir(Command::new("set").about(set).arg(name())))
        .subcommand(listing(Command::new("list").about("Show the names; nobody is shown a value")))
        .subcommand(in_data_dir(Command::new("remove").about("Take a secret away").arg(name())))
}

/// Asks what these commands mean.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let name = || matches.get_one::<String>("name").cloned().unwrap_or_default();
    let request = match verb {
        "set" => SecretRequest::Set { name: name(), value: read_hidden(&format!("value of {}", name()))? },
        "remove" => SecretRequest::Remove { name: name() },
        _ => SecretRequest::List,
    };
    ask(matches, &Request::Secrets { ask: request })
}
