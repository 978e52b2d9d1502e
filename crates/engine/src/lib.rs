//! The engine: topology files, rules and their actions. A client of the broker like any front end.
//!
//! [`check`] reads a topology file, [`Engine::apply`] makes it so, and each rule then consumes its queue through a
//! session of its own. See docs/guide/topology.md and docs/guide/rules.md.

mod action;
mod apply;
mod dry_run;
mod engine;
mod event;
mod jq;
mod plan;
mod secret;
mod topology;
mod values;
mod worker;

pub use apply::{ApplyError, ApplyReport, Change, ChangeKind, TopologyPlan};
pub use dry_run::{DryRun, RuleError, dry_run};
pub use engine::{Engine, EngineOptions, RuleStatus, StartError};
pub use secret::{KeyError, SECRET_MAX_BYTES, SecretError, Secrets};
pub use topology::{Diagnostic, Topology, TopologyError, check};
pub use worker::RuleState;
