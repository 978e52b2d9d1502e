//! `millpond secrets`: what topology files name and do not hold.

use super::admin::{group, word};
use super::{ask, in_data_dir};
use crate::control::{Request, SecretRequest, SecretValue};
use anyhow::{Context, Result, bail};
use clap::{ArgMatches, Command};
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use std::io::{BufRead, Read, Write};

/// Longest value that is read; the broker's own limit is lower.
const VALUE_MAX_BYTES: u64 = 1 << 20;

/// The commands of this file.
pub(super) fn command() -> Command {
    let name = || word("name", "NAME", "Its name, as in ${secret:NAME}");
    let set = "Set a secret; its value comes from standard input, or is asked for";
    group("secrets", "Set, list and remove what topology files call ${secret:NAME}")
        .subcommand(in_data_dir(Command::new("set").about(set).arg(name())))
        .subcommand(in_data_dir(Command::new("list").about("Show the names; nobody is shown a value")))
        .subcommand(in_data_dir(Command::new("remove").about("Take a secret away").arg(name())))
}

/// Asks what these commands mean.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let name = || matches.get_one::<String>("name").cloned().unwrap_or_default();
    let request = match verb {
        "set" => SecretRequest::Set { name: name(), value: SecretValue(read_value(&name())?) },
        "remove" => SecretRequest::Remove { name: name() },
        _ => SecretRequest::List,
    };
    ask(matches, &Request::Secrets { ask: request })
}

/// The value, without a line end at its end. Never an argument: those can be seen by everybody on the machine.
fn read_value(name: &str) -> Result<String> {
    let stdin = std::io::stdin();
    let mut value = String::new();
    if isatty(&stdin) {
        write!(std::io::stderr(), "Value of {name} (not shown): ")?;
        let before = tcgetattr(&stdin)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
        let read = stdin.lock().take(VALUE_MAX_BYTES).read_line(&mut value);
        tcsetattr(&stdin, OptionalActions::Flush, &before)?;
        writeln!(std::io::stderr())?;
        read.context("the terminal")?;
    } else {
        stdin.lock().take(VALUE_MAX_BYTES).read_to_string(&mut value).context("standard input")?;
    }
    value.truncate(value.trim_end_matches(['\r', '\n']).len());
    if value.is_empty() {
        bail!("no value was given");
    }
    Ok(value)
}
