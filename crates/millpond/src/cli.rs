//! The command line: words to requests, answers to text. Exit status: docs/guide/cli.md.

mod admin;
mod api;
mod audit;
mod bar;
mod bench;
mod by_hand;
mod clients;
mod definitions;
mod delayed;
mod doctor;
mod explain;
mod health;
mod hidden;
mod messages;
mod node;
mod process;
mod routing;
mod rules;
mod schedules;
mod secrets;
mod shovels;
mod sources;
mod tls;
mod topology;
mod users;

use crate::control::{self, NotReachable, Request, Shown, Style};
use crate::serve;
use crate::settings::{self, SETTINGS, Settings};
use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

/// What `--color` says.
static COLOUR: OnceLock<String> = OnceLock::new();

/// Exit status: refused, or failed.
const FAILED: u8 = 1;
/// Exit status: no broker answers.
const NOT_REACHABLE: u8 = 3;

/// Runs what the command line says.
pub(crate) fn run() -> ExitCode {
    let matches = command().get_matches();
    // Told once, before anything is drawn; nobody else sets it.
    let _ = COLOUR.set(matches.get_one::<String>("color").cloned().unwrap_or_default());
    match dispatch(&matches) {
        Ok(code) => code,
        Err(error) => {
            // The reader of our errors may have gone away; then there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "millpond: {error:#}");
            ExitCode::from(status_of(&error))
        }
    }
}

/// Of a command that could not do what it was to do: docs/guide/cli.md.
fn status_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<NotReachable>() {
        Some(_) => NOT_REACHABLE,
        None => FAILED,
    }
}

fn command() -> Command {
    Command::new("millpond")
        .about("A message broker that any RabbitMQ client talks to, and an engine that acts on the messages")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("color")
                .long("color")
                .value_name("WHEN")
                .global(true)
                .value_parser(["auto", "always", "never"])
                .default_value("auto")
                .help("Colours; auto: on a terminal, unless NO_COLOR is set"),
        )
        .subcommand(with_settings(Command::new("serve").about("Start the broker")))
        .subcommands(topology::commands())
        .subcommand(rules::command())
        .subcommands(admin::commands())
        .subcommand(bench::command())
        .subcommands(routing::commands())
        .subcommands(clients::commands())
        .subcommands(definitions::commands())
        .subcommands(node::commands())
        .subcommand(api::command())
        .subcommand(audit::command())
        .subcommand(delayed::command())
        .subcommand(explain::command())
        .subcommand(messages::command())
        .subcommand(schedules::command())
        .subcommand(secrets::command())
        .subcommand(shovels::command())
        .subcommand(sources::command())
        .subcommand(tls::command())
        .subcommand(users::command())
        .subcommands(process::commands())
        .subcommand(Command::new("settings").about("Print every setting as a table"))
        .subcommand(in_data_dir(
            Command::new("repair").about("Cut a damaged log where the damage begins, and say what is lost"),
        ))
}

/// Adds a flag for each setting.
fn with_settings(command: Command) -> Command {
    let config =
        Arg::new("config").long("config").value_name("PATH").value_parser(clap::value_parser!(PathBuf)).help(
            "Settings file [default: millpond.toml, /etc/millpond/millpond.toml] [env MILLPOND_CONFIG]",
        );
    SETTINGS.iter().fold(command.arg(config), |command, setting| {
        let default = setting.default.join(", ");
        let help = match default.as_str() {
            "" => format!("{} [env {}]", setting.help.trim(), setting.variable()),
            _ => format!("{} [default: {default}] [env {}]", setting.help.trim(), setting.variable()),
        };
        let action = if setting.repeats { ArgAction::Append } else { ArgAction::Set };
        command.arg(
            Arg::new(setting.key).long(setting.flag()).value_name(setting.shape).action(action).help(help),
        )
    })
}

/// Adds what a command needs to find a broker, running or not.
fn in_data_dir(command: Command) -> Command {
    command.arg(
        Arg::new("data_dir")
            .long("data-dir")
            .value_name("PATH")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Data directory of the broker [default: that of the settings]"),
    )
}

fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    match matches.subcommand() {
        Some((noun @ ("plan" | "test" | "check" | "apply"), matches)) => topology::dispatch(noun, matches),
        Some(("doctor", matches)) => doctor::dispatch(matches),
        _ => dispatch_plain(matches).map(|()| ExitCode::SUCCESS),
    }
}

/// Commands whose exit status says only whether they did it.
fn dispatch_plain(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(&settings_of(matches)?),
        Some(("repair", matches)) => {
            print(&millpond_store::Store::repair(&data_dir_of(matches)?)?.to_string())
        }
        Some((noun @ ("status" | "shutdown" | "completions"), matches)) => process::dispatch(noun, matches),
        Some(("health", matches)) => health::dispatch(matches),
        Some(("settings", _)) => print(settings::table().trim_end()),
        Some(("rules", matches)) => rules::dispatch(matches),
        Some((noun @ ("vhosts" | "policies" | "limits" | "queues" | "alarms"), matches)) => {
            admin::dispatch(noun, matches)
        }
        Some(("bench", matches)) => bench::dispatch(matches),
        Some((noun @ ("exchanges" | "bindings"), matches)) => routing::dispatch(noun, matches),
        Some((noun @ ("connections" | "channels" | "consumers" | "permissions"), matches)) => {
            clients::dispatch(noun, matches)
        }
        Some((noun @ ("definitions" | "parameters"), matches)) => definitions::dispatch(noun, matches),
        Some(("overview", matches)) => node::dispatch(matches),
        Some(("api", matches)) => api::dispatch(matches),
        Some(("audit", matches)) => audit::dispatch(matches),
        Some(("explain", matches)) => explain::dispatch(matches),
        Some(("delayed", matches)) => delayed::dispatch(matches),
        Some(("messages", matches)) => messages::dispatch(matches),
        Some(("schedules", matches)) => schedules::dispatch(matches),
        Some(("secrets", matches)) => secrets::dispatch(matches),
        Some(("shovels", matches)) => shovels::dispatch(matches),
        Some(("sources", matches)) => sources::dispatch(matches),
        Some(("tls", matches)) => tls::dispatch(matches),
        Some(("users", matches)) => users::dispatch(matches),
        _ => Ok(()),
    }
}

/// A command whose answer is a table, or with `--json` its rows for a program.
fn listing(command: Command) -> Command {
    in_data_dir(command).arg(json())
}

fn json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON, for programs")
}

/// Asks the running broker and prints its answer.
fn ask(matches: &ArgMatches, request: &Request) -> Result<()> {
    print(&ask_for(&data_dir_of(matches)?, request)?.render(style(matches)))
}

/// Asks the running broker; a person at a terminal sees how far it has come.
fn ask_for(data_dir: &Path, request: &Request) -> Result<Shown> {
    let mut bar = bar::Bar::new();
    control::ask(data_dir, request, |done, total| bar.draw(done, total))
}

/// For whom the answer of a command is.
fn style(matches: &ArgMatches) -> Style {
    match matches.try_get_one::<bool>("json") {
        Ok(Some(true)) => Style::Json,
        _ if is_coloured(&std::io::stdout()) => Style::Coloured,
        _ => Style::Plain,
    }
}

/// Colours are for terminals, and for those who have not set `NO_COLOR`; `--color` is above both.
pub(crate) fn is_coloured(stream: &impl IsTerminal) -> bool {
    match COLOUR.get().map(String::as_str) {
        Some("always") => return true,
        Some("never") => return false,
        _ => {}
    }
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn data_dir_of(matches: &ArgMatches) -> Result<PathBuf> {
    match matches.get_one::<PathBuf>("data_dir") {
        Some(dir) => Ok(dir.clone()),
        None => Ok(settings::load(None, &environment(), &[])?.data_dir),
    }
}

fn settings_of(matches: &ArgMatches) -> Result<Settings> {
    let given = |setting: &&settings::Setting| matches.contains_id(setting.key);
    let flags: Vec<(&'static str, Vec<String>)> = SETTINGS
        .iter()
        .filter(given)
        .map(|setting| {
            let values = matches.get_many::<String>(setting.key).unwrap_or_default();
            (setting.key, values.cloned().collect())
        })
        .collect();
    let config = matches.get_one::<PathBuf>("config");
    Ok(settings::load(config.map(PathBuf::as_path), &environment(), &flags)?)
}

/// The environment as text; a variable that is not is none of ours.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn path<'a>(matches: &'a ArgMatches, id: &str) -> &'a Path {
    matches.get_one::<PathBuf>(id).map_or(Path::new(""), PathBuf::as_path)
}

fn read(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("standard input");
    }
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("standard output")
}
