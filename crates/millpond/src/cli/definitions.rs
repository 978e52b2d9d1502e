//! `millpond definitions`, `parameters`: what was defined, out and in as JSON.

use super::admin::{group, option, word};
use super::api::{self, Column, path};
use super::routing::flag;
use super::{in_data_dir, listing, print, read};
use crate::control::ApiAsk;
use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// The groups of this file.
pub(super) fn commands() -> [Command; 2] {
    let file = |help| Arg::new("file").value_name("FILE").value_parser(value_parser!(PathBuf)).help(help);
    let only = || option("vhost", "VHOST", "Only what is in this vhost");
    let vhost = || option("vhost", "VHOST", "In which vhost").default_value("/");
    let global = || flag("global", "Of the whole broker, without component and vhost");
    let component = || option("component", "COMPONENT", "Of what: shovel").required_unless_present("global");
    [
        group("definitions", "Export and import users, vhosts, permissions, policies, queues, bindings")
            .subcommand(in_data_dir(
                Command::new("export")
                    .about("Write everything that was defined as JSON, in RabbitMQ's form")
                    .after_help("For example: millpond definitions export definitions.json")
                    .args([file("Where to [default: standard output]"), only()]),
            ))
            .subcommand(in_data_dir(
                Command::new("import")
                    .about(
                        "Add and change what a file defines, from here or from a RabbitMQ; removes nothing",
                    )
                    .after_help("For example: millpond definitions import definitions.json")
                    .args([file("From where; - is standard input").required(true), only()]),
            )),
        group("parameters", "List, set and clear parameters")
            .subcommand(listing(Command::new("list").about("Show the parameters").args([
                option("component", "COMPONENT", "Only of this component"),
                option("vhost", "VHOST", "Only of this vhost"),
                global(),
            ])))
            .subcommand(in_data_dir(
                Command::new("set")
                    .about("Set a parameter")
                    .after_help("For example: millpond parameters set --global cluster_name '\"harbour\"'")
                    .args([
                        word("name", "NAME", "Its name"),
                        word("value", "JSON", "Its value"),
                        component(),
                        vhost(),
                        global(),
                    ]),
            ))
            .subcommand(in_data_dir(Command::new("clear").about("Clear a parameter").args([
                word("name", "NAME", "Its name"),
                component(),
                vhost(),
                global(),
            ]))),
    ]
}

const PARAMETERS: &[Column] =
    &[("COMPONENT", "/component"), ("VHOST", "/vhost"), ("NAME", "/name"), ("VALUE", "/value")];
const GLOBAL: &[Column] = &[("NAME", "/name"), ("VALUE", "/value")];

/// Does what these commands mean.
pub(super) fn dispatch(noun: &str, matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(()) };
    match (noun, verb) {
        ("definitions", "export") => export(matches),
        ("definitions", _) => import(matches),
        (_, "list") => list(matches),
        (_, verb) => change(verb, matches),
    }
}

fn place_of(matches: &ArgMatches) -> String {
    match matches.get_one::<String>("vhost") {
        Some(vhost) => path(&["definitions", vhost]),
        None => "/definitions".to_owned(),
    }
}

fn export(matches: &ArgMatches) -> Result<()> {
    let found = api::get(matches, &place_of(matches))?;
    let text = serde_json::to_string_pretty(&found)?;
    let Some(file) = matches.get_one::<PathBuf>("file").filter(|file| file.as_os_str() != "-") else {
        return print(&text);
    };
    // It holds the hashes of passwords.
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create(true).truncate(true), 0o600);
    let written = options.open(file).and_then(|mut to| std::io::Write::write_all(&mut to, text.as_bytes()));
    written.with_context(|| file.display().to_string())?;
    print(&format!("{}: {}", file.display(), counted(&found)))
}

fn import(matches: &ArgMatches) -> Result<()> {
    let file = super::path(matches, "file");
    let given: Value = serde_json::from_str(&read(file)?).with_context(|| file.display().to_string())?;
    let done = format!("imported {}", counted(&given));
    let ask = ApiAsk { method: "POST".into(), path: place_of(matches), body: Some(given), reason: None };
    let answer = api::answer(matches, ask)?;
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        let text = warning.as_str().unwrap_or_default();
        writeln!(std::io::stderr(), "millpond: warning: {text}").context("standard error")?;
    }
    print(&done)
}

/// `3 users, 12 queues`.
fn counted(definitions: &Value) -> String {
    let lists = definitions.as_object().into_iter().flatten();
    let counts = lists.filter_map(|(name, list)| Some((name.replace('_', " "), list.as_array()?.len())));
    let shown: Vec<_> = counts.filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

fn list(matches: &ArgMatches) -> Result<()> {
    if matches.get_flag("global") {
        let found = api::get(matches, "/global-parameters")?;
        return api::list(matches, &found, GLOBAL, "no global parameters");
    }
    let found = api::get(matches, "/parameters")?;
    let given = |id: &str| matches.get_one::<String>(id).cloned();
    let (component, vhost) = (given("component"), given("vhost"));
    let is_meant = |it: &&Value| {
        component.as_ref().is_none_or(|component| it["component"] == **component)
            && vhost.as_ref().is_none_or(|vhost| it["vhost"] == **vhost)
    };
    let meant: Vec<Value> = found.as_array().into_iter().flatten().filter(is_meant).cloned().collect();
    api::list(matches, &meant.into(), PARAMETERS, "no parameters")
}

fn change(verb: &str, matches: &ArgMatches) -> Result<()> {
    let text = |id: &str| matches.get_one::<String>(id).map_or("", String::as_str);
    let name = text("name");
    let (place, mut body) = match matches.get_flag("global") {
        true => (path(&["global-parameters", name]), json!({ "name": name })),
        false => (
            path(&["parameters", text("component"), text("vhost"), name]),
            json!({ "component": text("component"), "vhost": text("vhost"), "name": name }),
        ),
    };
    if verb == "clear" {
        return api::change(matches, ("DELETE", &place), None, &format!("parameter {name} is cleared"));
    }
    body["value"] = serde_json::from_str(text("value")).context("the value is no JSON")?;
    api::change(matches, ("PUT", &place), Some(body), &format!("parameter {name} is set"))
}
