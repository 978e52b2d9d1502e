//! `millpond doctor`: whether a broker can run well with these settings on this machine, or does.

mod checks;
mod machine;

use super::{environment, print, settings_of, style};
use crate::control::{Listing, Shown};
use crate::settings;
use anyhow::Result;
use checks::Running;
use clap::ArgMatches;
use std::path::PathBuf;
use std::process::ExitCode;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// It runs, and perhaps not as one would like it to.
    Warn,
    /// It does not run, or not for long.
    Fail,
}

/// What a check found.
#[derive(Debug)]
struct Finding {
    check: String,
    state: State,
    found: String,
    /// What to do about it; empty: nothing.
    todo: String,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, found: found.into(), todo: String::new() }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Warn, found: found.into(), todo: todo.into() }
    }

    fn fail(check: impl Into<String>, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Fail, found: found.into(), todo: todo.into() }
    }
}

/// Looks at everything, prints a table; fails if a check does.
pub(super) fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    let findings = examine(matches);
    let rows = findings.iter().map(|it| {
        let state = match it.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        };
        let todo = Some(it.todo.as_str()).filter(|todo| !todo.is_empty());
        [it.check.as_str().into(), state.into(), it.found.as_str().into(), todo.unwrap_or_default().into()]
    });
    let listing = Listing::new(&["CHECK", "STATE", "FOUND", "WHAT TO DO"], "").with(rows);
    print(&Shown::from(listing).render(style(matches)))?;
    let fails = findings.iter().any(|it| it.state == State::Fail);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn examine(matches: &ArgMatches) -> Vec<Finding> {
    let settings = match settings_of(matches) {
        Ok(settings) => settings,
        Err(error) => {
            let todo = "mend it; `millpond settings` shows what there is. Without settings there is no more to look at";
            return vec![Finding::fail("settings", format!("{error:#}"), todo), checks::zones()];
        }
    };
    let config = matches.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let file = settings::file(config, &environment());
    let from = file.map_or_else(|| "no file; defaults".to_owned(), |file| file.display().to_string());
    let mut findings = vec![Finding::ok("settings", from)];
    findings.extend(checks::files(&settings));
    findings.extend(checks::tls(&settings));
    let running = Running::find(&settings.data_dir);
    findings.extend(checks::data_dir(&settings));
    findings.extend(machine::data(&settings));
    findings.extend(machine::disk_speed(&settings));
    findings.push(machine::memory(&settings));
    findings.extend(checks::broker(&running));
    findings.push(checks::open_files(&settings, &running));
    findings.extend(checks::addresses(&settings, &running));
    findings.extend(checks::doors(&settings));
    findings.push(checks::zones());
    findings
}
