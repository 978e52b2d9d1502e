//! `millpond delayed`: messages that wait for their time.

use super::{ask, in_data_dir, listing};
use crate::control::{DelayedRequest, Request};
use anyhow::Result;
use clap::{Arg, ArgMatches, Command};

/// Messages listed if nothing is said.
const LIMIT_DEFAULT: &str = "50";

/// The commands of this file.
pub(super) fn command() -> Command {
    let vhost =
        || Arg::new("vhost").long("vhost").value_name("VHOST").default_value("/").help("In which vhost");
    let exchange = || Arg::new("exchange").value_name("EXCHANGE").help("The exchange at which they wait");
    Command::new("delayed")
        .about("List delayed messages, and take one back")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(listing(
            Command::new("list")
                .about("Show where messages wait; with an exchange, the next ones due there")
                .args([
                    exchange(),
                    Arg::new("limit")
                        .long("limit")
                        .value_name("N")
                        .default_value(LIMIT_DEFAULT)
                        .value_parser(clap::value_parser!(usize))
                        .help("How many messages at most"),
                    vhost(),
                ]),
        ))
        .subcommand(in_data_dir(
            Command::new("cancel").about("Take a message back: it will not be released").args([
                exchange().required(true),
                Arg::new("id")
                    .value_name("ID")
                    .required_unless_present("message_id")
                    .conflicts_with("message_id")
                    .value_parser(clap::value_parser!(u64))
                    .help("Its id in the list"),
                Arg::new("message_id").long("message-id").value_name("TEXT").help(
                    "The property message_id that its publisher gave it; all that have it are cancelled",
                ),
                vhost(),
            ]),
        ))
}

/// Asks what these commands mean.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    let vhost = text("vhost").unwrap_or_default();
    let request = match verb {
        "cancel" if matches.contains_id("message_id") => DelayedRequest::CancelNamed {
            vhost,
            exchange: text("exchange").unwrap_or_default(),
            message_id: text("message_id").unwrap_or_default(),
        },
        "cancel" => DelayedRequest::Cancel {
            vhost,
            exchange: text("exchange").unwrap_or_default(),
            id: matches.get_one("id").copied().unwrap_or_default(),
        },
        _ => DelayedRequest::List {
            vhost,
            exchange: text("exchange"),
            limit: matches.get_one("limit").copied().unwrap_or_default(),
        },
    };
    ask(matches, &Request::Delayed { ask: request })
}
