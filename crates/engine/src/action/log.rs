//! A line in the process' log.

use super::fill::{Context, PlanError};
use crate::jq::Template;
use crate::topology::Node;
use crate::topology::expression::template;
use crate::topology::read::{Fields, Report, list};
use std::fmt;

/// Longest message; the rest is cut. Characters.
const MESSAGE_MAX_CHARS: usize = 8000;

/// The levels, as a file names them.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Writes a line into the process' log.
#[derive(Debug)]
pub(crate) struct LogAction {
    place: String,
    level: &'static str,
    message: Template,
}

/// The same, filled in.
#[derive(Debug)]
pub(crate) struct LogStep {
    place: String,
    level: &'static str,
    message: String,
    rule: String,
    event: String,
}

/// One event is one line: nobody can put lines of their own into the log.
pub(crate) fn one_line(text: &str) -> String {
    let escaped = text.chars().take(MESSAGE_MAX_CHARS).flat_map(|c| match c.is_control() {
        true => c.escape_default().collect::<Vec<_>>(),
        false => vec![c],
    });
    escaped.collect()
}

impl LogAction {
    /// Reads what the file says.
    pub(super) fn read(node: &Node, line: usize, path: &str, report: &mut Report) -> Option<Self> {
        let fields = Fields::read(node, path, &["level", "message"], report);
        fields.required("message", "'message', a text", report);
        let message = template(&fields, "message", report);
        let level = match fields.get("level") {
            None => Some("info"),
            Some(node) => {
                let found = fields.text("level", &list(&LEVELS), report)?;
                let known = LEVELS.into_iter().find(|level| *level == found);
                if known.is_none() {
                    report.expected(node, &fields.path_of("level"), &list(&LEVELS));
                }
                known
            }
        };
        Some(Self { place: format!("{}:{line}", report.file), level: level?, message: message? })
    }

    /// With everything worked out for an event.
    pub(super) fn fill(&self, context: &Context<'_>) -> Result<LogStep, PlanError> {
        let text = self.message.text(context.val)?;
        Ok(LogStep {
            place: self.place.clone(),
            level: self.level,
            message: one_line(&text),
            rule: context.rule.name.clone(),
            event: context.event.id.clone(),
        })
    }
}

impl LogStep {
    /// Writes the line.
    pub(super) fn run(&self) {
        let Self { message, rule, event, .. } = self;
        match self.level {
            "error" => tracing::error!(target: "millpond_rules", rule, event, "{message}"),
            "warn" => tracing::warn!(target: "millpond_rules", rule, event, "{message}"),
            "info" => tracing::info!(target: "millpond_rules", rule, event, "{message}"),
            "debug" => tracing::debug!(target: "millpond_rules", rule, event, "{message}"),
            _ => tracing::trace!(target: "millpond_rules", rule, event, "{message}"),
        }
    }
}

impl fmt::Display for LogStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log ({})\n   {}: {}", self.place, self.level, self.message)
    }
}
