//! What applying a topology would change, worked out before anything is done.

use super::ApplyError;
use millpond_broker::{Binding, DeclareExchange, DeclareQueue, PolicyKind, PolicySpec, ScheduleSpec};
use millpond_model::QueueName;
use serde_json::{Value, json};
use std::fmt;

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is not there and comes.
    Add,
    /// It is there and becomes another.
    Change,
    /// It is there and goes.
    Remove,
    /// The file names it no longer, and it stays.
    Leave,
}

impl ChangeKind {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Change => "change",
            Self::Remove => "remove",
            Self::Leave => "leave",
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
            Self::Leave => '=',
        }
    }
}

/// How a change is carried out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    DeclareExchange(DeclareExchange),
    DeclareQueue(DeclareQueue),
    Bind(Binding),
    SetPolicy(PolicyKind, PolicySpec),
    SetSchedule(Box<ScheduleSpec>),
    Unbind(Binding),
    DeleteQueue(QueueName),
    ClearPolicy(PolicyKind, Box<str>),
    RemoveSchedule(Box<str>),
    /// By the engine, from the two topologies; or nothing is to be done.
    Engine,
}

impl Op {
    /// It comes before the new topology is kept; the others after.
    pub(crate) fn is_addition(&self) -> bool {
        matches!(
            self,
            Self::DeclareExchange(_)
                | Self::DeclareQueue(_)
                | Self::Bind(_)
                | Self::SetPolicy(..)
                | Self::SetSchedule(_)
        )
    }
}

/// One thing that applying a topology would change, or leave.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What becomes of it.
    pub kind: ChangeKind,
    /// `exchange`, `queue`, `binding`, `policy`, `operator policy`, `schedule`, `rule`, ...
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// `FILE:LINE: path`, where the file says so; empty if it is not there any more.
    pub place: String,
    /// In the past: `declared`, `left, it is not empty`.
    pub done: String,
    /// Lines that differ: `- ` before old ones, `+ ` before new ones, two blanks before those around.
    pub difference: Vec<String>,
    pub(crate) op: Op,
}

impl Eq for Change {}

impl Change {
    /// `exchange orders: declared`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}: {}", self.what, self.name, self.done)
    }

    fn json(&self) -> Value {
        json!({
            "change": self.kind.as_str(),
            "what": self.what,
            "name": self.name,
            "place": self.place,
            "difference": self.difference,
            "then": self.done,
        })
    }
}

/// What applying a topology would change, in the order in which it would be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopologyPlan {
    /// The file's name as given.
    pub file: String,
    /// Everything that would change, and what would be left.
    pub changes: Vec<Change>,
    /// Why applying would be refused, one line each; then it would change nothing.
    pub refusals: Vec<String>,
    /// What the file holds: `1 exchange, 2 queues...`.
    pub summary: String,
}

impl TopologyPlan {
    /// Whether applying would change anything; what is only left does not count.
    pub fn has_changes(&self) -> bool {
        self.changes.iter().any(|change| change.kind != ChangeKind::Leave)
    }

    /// The refusals as an error.
    pub(crate) fn check(&self) -> Result<(), ApplyError> {
        match self.refusals.is_empty() {
            true => Ok(()),
            false => Err(ApplyError::Conflicts { conflicts: self.refusals.clone() }),
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let count = |kind| self.changes.iter().filter(|change| change.kind == kind).count();
        json!({
            "file": self.file,
            "holds": self.summary,
            "add": count(ChangeKind::Add),
            "change": count(ChangeKind::Change),
            "remove": count(ChangeKind::Remove),
            "leave": count(ChangeKind::Leave),
            "refusals": self.refusals,
            "changes": self.changes.iter().map(Change::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for TopologyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for refusal in &self.refusals {
            writeln!(f, "! {refusal}")?;
        }
        for change in &self.changes {
            write!(f, "{} {} {}", change.kind.sign(), change.what, change.name)?;
            match change.kind {
                ChangeKind::Leave => write!(f, ": {}", change.done)?,
                // What becomes of what it has outside.
                ChangeKind::Remove if change.done.contains("; ") => {
                    write!(f, " ({})", change.done.split_once("; ").map_or("", |(_, more)| more))?;
                }
                _ => {
                    if let Some((_, state @ ("stopped" | "paused" | "draining" | "drained"))) =
                        change.done.split_once(", ")
                    {
                        write!(f, " (stays {state})")?;
                    }
                }
            }
            for line in &change.difference {
                write!(f, "\n    {line}")?;
            }
            f.write_str("\n")?;
        }
        if !self.refusals.is_empty() {
            return write!(f, "{}: apply would refuse this and change nothing", self.file);
        }
        if !self.has_changes() {
            return write!(f, "{}: nothing to change", self.file);
        }
        let count = |kind| self.changes.iter().filter(|change| change.kind == kind).count();
        let (add, change, remove, leave) = (
            count(ChangeKind::Add),
            count(ChangeKind::Change),
            count(ChangeKind::Remove),
            count(ChangeKind::Leave),
        );
        write!(f, "{}: {add} to add, {change} to change, {remove} to remove", self.file)?;
        if leave > 0 { write!(f, ", {leave} left") } else { Ok(()) }
    }
}
