//! The engine: topology files, rules and their actions. A client of the broker like any front end.
//!
//! [`check`] reads a topology file, [`Engine::apply`] makes it so, and each rule then consumes its queue through a
//! session of its own. See docs/guide/topology.md and docs/guide/rules.md.

use millpond_broker::Broker;
use std::fmt;
use std::path::PathBuf;

/// What a topology file says, checked.
#[derive(Debug)]
pub struct Topology {}

/// All that is wrong with a topology file.
#[derive(Debug, thiserror::Error)]
#[error("being written")]
pub struct TopologyError {}

/// Why a rule could not be tried, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// There is none of that name.
    #[error("no rule '{rule}'")]
    Missing {
        /// As asked.
        rule: String,
    },
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
#[error("being written")]
pub struct StartError {}

/// Why a topology was not applied.
#[derive(Debug, thiserror::Error)]
#[error("being written")]
pub struct ApplyError {}

/// What an apply changed.
#[derive(Debug)]
pub struct ApplyReport {}

/// What a rule would do with an event.
#[derive(Debug)]
pub struct DryRun {}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("being written")
    }
}

impl fmt::Display for ApplyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("being written")
    }
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("being written")
    }
}

/// Reads and checks a topology file; `file` is its name in messages.
pub fn check(_file: &str, _text: &str) -> Result<Topology, TopologyError> {
    Err(TopologyError {})
}

/// What a rule would do with an event, without doing it.
pub fn dry_run(_topology: &Topology, rule: &str, _event: &serde_json::Value) -> Result<DryRun, RuleError> {
    Err(RuleError::Missing { rule: rule.to_owned() })
}

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The data directory; file actions with relative paths write under `files/` in it.
    pub data_dir: PathBuf,
}

/// What a rule is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleState {
    /// It acts.
    Running,
    /// It was stopped; its queue collects.
    Stopped,
    /// It cannot act now and tries again by itself.
    Waiting {
        /// What for.
        reason: String,
    },
}

impl fmt::Display for RuleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Stopped => f.write_str("stopped"),
            Self::Waiting { reason } => write!(f, "waiting: {reason}"),
        }
    }
}

/// A rule with its counts since the start of the process.
#[derive(Debug, Clone)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: RuleState,
    /// Messages taken from its queue, each attempt apart not counted.
    pub seen: u64,
    /// Messages whose actions were all done.
    pub acted: u64,
    /// Attempts that failed and were tried again.
    pub retried: u64,
    /// Messages moved to the parking queue.
    pub failed: u64,
}

/// The running engine; cloning counts a reference.
#[derive(Debug, Clone)]
pub struct Engine {}

impl Engine {
    /// Starts with the kept topology and its rules, inside a tokio runtime.
    pub async fn start(_broker: Broker, _options: EngineOptions) -> Result<Self, StartError> {
        Ok(Self {})
    }

    /// Makes a topology so and keeps it.
    pub async fn apply(&self, _file: &str, _text: &str) -> Result<ApplyReport, ApplyError> {
        Err(ApplyError {})
    }

    /// What a rule would do with an event, without doing it.
    pub fn dry_run(&self, rule: &str, _event: &serde_json::Value) -> Result<DryRun, RuleError> {
        Err(RuleError::Missing { rule: rule.to_owned() })
    }

    /// Every rule, sorted by name.
    pub fn rules(&self) -> Vec<RuleStatus> {
        Vec::new()
    }

    /// Starts a stopped rule; kept over restarts.
    pub async fn start_rule(&self, rule: &str) -> Result<(), RuleError> {
        Err(RuleError::Missing { rule: rule.to_owned() })
    }

    /// Stops a rule; its queue goes on collecting. Kept over restarts.
    pub async fn stop_rule(&self, rule: &str) -> Result<(), RuleError> {
        Err(RuleError::Missing { rule: rule.to_owned() })
    }

    /// Stops every rule and waits until each has let go of its messages.
    pub async fn shut_down(&self) {}
}
