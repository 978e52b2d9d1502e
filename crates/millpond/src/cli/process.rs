//! The broker as a process: how it is, stopping it; and what a shell is told about this command line.

use super::bar::Bar;
use super::{ask, data_dir_of, in_data_dir, json, print, style, with_settings};
use crate::control::{self, Request, Status, Style};
use crate::settings::SettingValue;
use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long `shutdown` waits for the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);
/// How often `shutdown` looks how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The commands of this file and of `doctor` and `health`.
pub(super) fn commands() -> [Command; 5] {
    let shell = Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell));
    [
        in_data_dir(Command::new("status").about("Show how the running broker is").arg(json())),
        in_data_dir(
            Command::new("shutdown")
                .about("Stop the running broker, and wait until it has let go of its data")
                .after_help("For example: millpond shutdown --drain --drain-timeout 2m")
                .args([
                    Arg::new("drain").long("drain").action(ArgAction::SetTrue).help(
                        "Let clients settle what they hold first: no connection is accepted, nothing new delivered",
                    ),
                    Arg::new("drain-timeout")
                        .long("drain-timeout")
                        .value_name("TIME")
                        .requires("drain")
                        .default_value("30s")
                        .value_parser(|text: &str| Duration::parse(text))
                        .help("For how long; who has not settled then is cut off, and nothing is lost"),
                ]),
        ),
        with_settings(
            Command::new("health")
                .about("Ask the broker's /health over HTTP; exit status 1 if it is not well")
                .after_help(
                    "Takes the settings of `serve`, for the address. For example:\n  millpond health\n  \
                     millpond health port-listener/5672",
                )
                .arg(Arg::new("check").value_name("CHECK").help(
                    "One of the management API's instead, by the control socket: alarms, virtual-hosts, \
                     is-in-service, port-listener/PORT, protocol-listener/amqp, below-node-connection-limit",
                )),
        ),
        with_settings(
            Command::new("doctor")
                .about("Look whether a broker with these settings can run well on this machine, or does")
                .after_help("Exit status: 0 nothing fails, 1 something does.")
                .arg(json()),
        ),
        Command::new("completions")
            .about("Print a script that completes these commands in a shell")
            .after_help("For bash: millpond completions bash > /etc/bash_completion.d/millpond")
            .arg(shell.help("Which shell")),
    ]
}

/// Does what one of [`commands`] says.
pub(super) fn dispatch(noun: &str, matches: &ArgMatches) -> Result<()> {
    match noun {
        "status" => {
            let answer = super::ask_for(&data_dir_of(matches)?, &Request::Status)?.render(Style::Json);
            if style(matches) == Style::Json {
                return print(&answer);
            }
            let status: Status = serde_json::from_str(&answer).context("the broker's answer")?;
            print(&status.to_string())
        }
        "shutdown" => {
            let drain = matches.get_one::<Duration>("drain-timeout").copied().unwrap_or_default();
            let drain = if matches.get_flag("drain") { drain } else { Duration::ZERO };
            let drain_ms = drain.as_millis().try_into().unwrap_or(u64::MAX);
            ask(matches, &Request::Shutdown { drain_ms })?;
            wait_for_the_end(&data_dir_of(matches)?, drain)
        }
        _ => {
            let shell = matches.get_one::<Shell>("shell").copied().context("no shell is named")?;
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut super::command(), "millpond", &mut script);
            print(String::from_utf8(script)?.trim_end())
        }
    }
}

/// Whether a process has a data directory to itself; `None`: that cannot be seen by this user.
pub(super) fn is_locked(data_dir: &Path) -> Option<bool> {
    match File::open(data_dir.join("LOCK")) {
        Ok(file) => Some(matches!(file.try_lock(), Err(TryLockError::WouldBlock))),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
        Err(_) => Some(false),
    }
}

/// The end is when the lock of the data directory can be had.
fn wait_for_the_end(data_dir: &Path, drain: Duration) -> Result<()> {
    let file = File::open(data_dir.join("LOCK")).context("the lock of the data directory")?;
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = file.lock();
        drop(file);
        // Nobody waits any more after the timeout.
        let _ = ended.send(locked);
    });
    let limit = SHUTDOWN_TIMEOUT.saturating_add(drain);
    let until = Instant::now() + limit;
    // The bar is gone before anything else is said.
    let mut draining = (Bar::new(), 0);
    loop {
        match end.recv_timeout(LOOK_EVERY) {
            Ok(locked) => {
                drop(draining);
                locked.context("the lock of the data directory")?;
                return print("stopped");
            }
            Err(_) if Instant::now() >= until => {
                bail!("it has not ended after {} s: look into its log", limit.as_secs())
            }
            Err(_) if drain.is_zero() => {}
            Err(_) => show_drain(data_dir, &mut draining),
        }
    }
}

/// How many connections have come to their end; one that does not answer any more is at its own.
fn show_drain(data_dir: &Path, (bar, most): &mut (Bar, u64)) {
    let answer = control::ask(data_dir, &Request::Status, |_, _| {});
    let status = answer.ok().and_then(|it| serde_json::from_str::<Status>(&it.render(Style::Json)).ok());
    if let Some(status) = status {
        let open = status.connections as u64;
        *most = open.max(*most);
        bar.draw(*most - open, *most);
    }
}
