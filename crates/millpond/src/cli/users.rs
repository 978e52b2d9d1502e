//! `millpond users`: who may connect, and what they may do.

use super::admin::{group, option, vhost, word};
use super::hidden::read_hidden;
use super::{api, ask, in_data_dir, listing, style};
use crate::control::{PermissionText, Request, Style, UserRequest};
use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

fn name() -> Arg {
    word("name", "USER", "Its name")
}

fn pattern(id: &'static str, help: &'static str) -> Arg {
    option(id, "PATTERN", help).default_value(".*")
}

fn tags(id: &'static str) -> Arg {
    let help = "administrator, monitoring, policymaker, management, and others that mean nothing here";
    Arg::new(id).value_name("TAG").action(ArgAction::Append).value_delimiter(',').help(help)
}

fn no_password() -> Arg {
    let help = "No password lets this user in: it can only come by other means";
    Arg::new("no-password").long("no-password").action(ArgAction::SetTrue).help(help)
}

/// The commands of this file.
pub(super) fn command() -> Command {
    let verb = |name: &'static str, about: &'static str| in_data_dir(Command::new(name).about(about));
    let allow =
        "Set what a user may do in a vhost: patterns, searched for in the names of queues and exchanges";
    let topic = "Set which keys of a topic exchange a user may use, on top of its permissions";
    group("users", "List, add and delete users, and set what they may do")
        .subcommand(listing(Command::new("list").about("Show every user with tags and vhosts")))
        .subcommand(listing(Command::new("show").about("Show what a user may do").arg(name())))
        .subcommand(
            verb("add", "Add a user; its password comes from standard input, or is asked for").args([
                name(),
                tags("tags").long("tags"),
                no_password(),
            ]),
        )
        .subcommand(verb("password", "Change a user's password").args([name(), no_password()]))
        .subcommand(
            verb("tags", "Change a user's tags; none takes them all away").args([name(), tags("tags")]),
        )
        .subcommand(verb("delete", "Delete a user; its connections are closed").arg(name()))
        .subcommand(verb("allow", allow).args([
            name(),
            vhost(),
            pattern("configure", "What it may declare and delete"),
            pattern("write", "What it may publish to and bind"),
            pattern("read", "What it may consume from and bind to"),
        ]))
        .subcommand(verb("forbid", "Take a user's permissions in a vhost away").args([name(), vhost()]))
        .subcommand(verb("allow-topic", topic).args([
            name(),
            word("exchange", "EXCHANGE", "The topic exchange"),
            vhost(),
            pattern("write", "Routing keys it may publish with"),
            pattern("read", "Binding keys it may use"),
        ]))
        .subcommand(verb("forbid-topic", "Take a user's topic permissions away").args([
            name(),
            Arg::new("exchange").value_name("EXCHANGE").help("The topic exchange [default: all]"),
            vhost(),
        ]))
}

/// Asks what these commands mean.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    let given = |id: &str| matches.get_one::<String>(id).cloned();
    let text = |id: &str| given(id).unwrap_or_default();
    let (user, vhost) = (text("name"), || text("vhost"));
    let all = |id: &str| matches.get_many::<String>(id).unwrap_or_default().cloned().collect();
    let password = || match matches.get_flag("no-password") {
        true => Ok(None),
        false => read_hidden(&format!("password of {user}")).map(Some),
    };
    if verb == "show" && style(matches) == Style::Json {
        let mut found = api::get(matches, &api::path(&["users", &user]))?;
        for (field, list) in [("permissions", "permissions"), ("topic_permissions", "topic-permissions")] {
            found[field] = api::get(matches, &api::path(&["users", &user, list]))?;
        }
        return api::show(matches, &found);
    }
    let request = match verb {
        "show" => UserRequest::Show { user },
        "add" => UserRequest::Add { password: password()?, tags: all("tags"), user },
        "password" => UserRequest::Password { password: password()?, user },
        "tags" => UserRequest::Tags { user, tags: all("tags") },
        "delete" => UserRequest::Delete { user },
        "allow" => {
            let permissions =
                PermissionText { configure: text("configure"), write: text("write"), read: text("read") };
            UserRequest::Allow { user, vhost: vhost(), permissions }
        }
        "forbid" => UserRequest::Forbid { user, vhost: vhost() },
        "allow-topic" => UserRequest::AllowTopic {
            user,
            vhost: vhost(),
            exchange: text("exchange"),
            write: text("write"),
            read: text("read"),
        },
        "forbid-topic" => UserRequest::ForbidTopic { user, vhost: vhost(), exchange: given("exchange") },
        _ => UserRequest::List,
    };
    ask(matches, &Request::Users { ask: request })
}
