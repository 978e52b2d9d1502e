//! Making a topology so. First it is looked at what would change (`look`: a [`TopologyPlan`], which changes nothing),
//! then that is carried out (`carry`). `millpond plan` ends after the first.

mod carry;
mod change;
mod defined;
mod lines;
mod look;

pub(crate) use carry::Carrier;
pub use change::{Change, ChangeKind, TopologyPlan};
pub(crate) use lines::{difference, json_lines, node_lines};
pub(crate) use look::{RulesNow, look};

use crate::topology::{Placed, TopologyError};
use millpond_broker::{CommitError, OpenSessionError};
use std::collections::HashSet;
use std::fmt;

/// What an apply changed; as text, one line a change.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ApplyReport {
    /// In the order it was done: `exchange orders: declared`.
    pub changes: Vec<String>,
    /// What stands now: `1 exchange, 2 queues...`.
    pub summary: String,
    /// What was to be changed, as it was worked out before.
    pub plan: TopologyPlan,
}

impl ApplyReport {
    /// Lines for what came otherwise than planned, each behind a line end; nearly always none.
    pub fn told_otherwise(&self) -> String {
        let planned: HashSet<_> = self.plan.changes.iter().map(Change::line).collect();
        let others = self.changes.iter().filter(|line| !planned.contains(*line));
        others.map(|line| format!("\n{line}")).collect()
    }
}

impl fmt::Display for ApplyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        if self.changes.is_empty() {
            writeln!(f, "nothing to change")?;
        }
        write!(f, "{}", self.summary)
    }
}

/// Why a topology was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file is wrong; nothing was changed.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// What is there differs, or something named is missing; nothing was changed. One line for each.
    #[error("{}", .conflicts.join("\n"))]
    Conflicts {
        /// `FILE:LINE: path: what was found, what was expected`.
        conflicts: Vec<String>,
    },
    /// The broker refused a change; those before it stand, and applying again goes on from there.
    #[error("{place}: {reason}")]
    Refused {
        /// `FILE:LINE: path`.
        place: String,
        /// What it said.
        reason: String,
    },
    /// A change did not reach the disk.
    #[error("the changes could not be kept: {0}")]
    NotKept(#[from] CommitError),
    /// The component of a function could not be kept; nothing was changed.
    #[error("{place}: its component cannot be kept: {reason}")]
    Component {
        /// `FILE:LINE: functions.NAME.component`.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// No session with the broker.
    #[error(transparent)]
    Session(#[from] OpenSessionError),
    /// The engine or the broker shuts down.
    #[error("the broker shuts down")]
    ShutDown,
}

/// `FILE:LINE: path`.
fn place_of<T>(file: &str, placed: &Placed<T>) -> String {
    format!("{file}:{}: {}", placed.line, placed.path)
}
