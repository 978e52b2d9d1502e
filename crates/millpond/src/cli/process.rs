//! The broker as a process: how it is, stopping it; and what a shell is told about this command line.

use super::{ask, data_dir_of, in_data_dir, json, print, style, with_settings};
use crate::control::{Request, Status, Style};
use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// How long `shutdown` waits for the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// The commands of this file and of `doctor` and `health`.
pub(super) fn commands() -> [Command; 5] {
    let shell = Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell));
    [
        in_data_dir(Command::new("status").about("Show how the running broker is").arg(json())),
        in_data_dir(
            Command::new("shutdown")
                .about("Stop the running broker as SIGTERM does, and wait until it has let go of its data"),
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
            ask(matches, &Request::Shutdown)?;
            wait_for_the_end(&data_dir_of(matches)?)
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
fn wait_for_the_end(data_dir: &Path) -> Result<()> {
    let file = File::open(data_dir.join("LOCK")).context("the lock of the data directory")?;
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = file.lock();
        drop(file);
        // Nobody waits any more after the timeout.
        let _ = ended.send(locked);
    });
    match end.recv_timeout(SHUTDOWN_TIMEOUT) {
        Ok(locked) => locked.context("the lock of the data directory")?,
        Err(_) => bail!("it has not ended after {} s: look into its log", SHUTDOWN_TIMEOUT.as_secs()),
    }
    print("stopped")
}
