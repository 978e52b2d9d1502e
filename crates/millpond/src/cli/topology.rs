//! What is done with a topology file: checked, tested, planned, applied.

use super::{ask, data_dir_of, in_data_dir, json, path, print, read};
use crate::control::{self, Request, Style};
use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The commands.
pub(super) fn commands() -> [Command; 4] {
    let file =
        || Arg::new("file").value_name("FILE").required(true).value_parser(clap::value_parser!(PathBuf));
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    [
        in_data_dir(
            Command::new("apply")
                .about("Make a topology file's exchanges, queues, bindings and rules so")
                .arg(file()),
        ),
        in_data_dir(
            Command::new("plan")
                .about("Show what `apply` would change in the running broker, without doing it")
                .after_help("Exit status: 0 nothing to change, 2 changes, 1 an error or a refusal.")
                .args([file(), json()]),
        ),
        Command::new("test")
            .about("Run the tests of a topology file: without a broker, without touching the outside")
            .after_help("Exit status: 0 all passed, 1 some failed.")
            .args([
                file(),
                Arg::new("only").long("only").value_name("NAME").help("Only the test of this name"),
                json(),
                flag("junit", "Print JUnit's XML, for build servers").conflicts_with("json"),
            ]),
        Command::new("check").about("Check a topology file without a broker").arg(file()),
    ]
}

/// Does what one of [`commands`] says.
pub(super) fn dispatch(noun: &str, matches: &ArgMatches) -> Result<ExitCode> {
    match noun {
        "plan" => plan(matches),
        "test" => test(matches),
        "check" => check(path(matches, "file")).map(|()| ExitCode::SUCCESS),
        _ => {
            let path = path(matches, "file");
            let request = Request::Apply { file: path.display().to_string(), text: read(path)? };
            ask(matches, &request).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn plan(matches: &ArgMatches) -> Result<ExitCode> {
    let path = path(matches, "file");
    let request =
        Request::Plan { file: path.display().to_string(), text: read(path)?, json: matches.get_flag("json") };
    let answer = super::ask_for(&data_dir_of(matches)?, &request)?.render(Style::Json);
    let answer: control::PlanAnswer = serde_json::from_str(&answer).context("the broker's answer")?;
    print(&answer.shown)?;
    Ok(match (answer.refused, answer.changes) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(2),
        (false, false) => ExitCode::SUCCESS,
    })
}

fn test(matches: &ArgMatches) -> Result<ExitCode> {
    let file = path(matches, "file");
    let topology = millpond_engine::check(&file.display().to_string(), &read(file)?)?;
    let report =
        millpond_engine::run_tests(&topology, matches.get_one::<String>("only").map(String::as_str))?;
    print(&match (matches.get_flag("json"), matches.get_flag("junit")) {
        (true, _) => report.to_json().to_string(),
        (_, true) => report.to_junit(),
        _ => report.to_string(),
    })?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(file: &Path) -> Result<()> {
    let topology = millpond_engine::check(&file.display().to_string(), &read(file)?)?;
    print(&format!("{}: {topology}", file.display()))
}
