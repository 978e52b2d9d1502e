//! `millpond tls`: the certificates of the running broker.

use super::admin::group;
use super::{ask, in_data_dir, listing};
use crate::control::Request;
use crate::tls::TlsRequest;
use anyhow::Result;
use clap::{ArgMatches, Command};

/// The commands of this file.
pub(super) fn command() -> Command {
    let reload = "Read the certificates' files again; connections that are open keep what they have";
    group("tls", "Show and reload certificates")
        .subcommand(listing(Command::new("show").about("Show the certificates in use")))
        .subcommand(in_data_dir(Command::new("reload").about(reload)))
}

/// Asks what these commands mean.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let request = if verb == "reload" { TlsRequest::Reload } else { TlsRequest::Show };
    ask(matches, &Request::Tls { ask: request })
}
