//! Passwords and secrets, read from standard input.

use crate::control::SecretValue;
use anyhow::{Context, Result, bail};
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
use std::io::{BufRead, Read, Write};

/// Longest value that is read; the broker's own limits are lower.
const VALUE_MAX_BYTES: u64 = 1 << 20;

/// The value, without a line end at its end. Never an argument: those can be seen by everybody on the machine.
pub(super) fn read_hidden(what: &str) -> Result<SecretValue> {
    let stdin = std::io::stdin();
    let mut value = String::new();
    if isatty(&stdin) {
        write!(std::io::stderr(), "The {what} (not shown): ")?;
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
        bail!("no {what} was given: write it to standard input");
    }
    Ok(SecretValue(value))
}
