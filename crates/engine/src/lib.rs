//! The engine: topology files, sources, rules and their actions. A client of the broker like any front end.
//!
//! [`check`] reads a topology file, [`Engine::apply`] makes it so, and each rule then consumes its queue through a
//! session of its own. See docs/guide/topology.md and docs/guide/rules.md.

mod action;
mod apply;
mod bus;
mod choose;
mod commit;
mod database;
mod dry_run;
mod engine;
mod event;
mod failures;
mod fingerprint;
#[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "functions are read, and refused"))]
mod function;
mod jq;
mod memory;
mod plan;
mod pool;
mod replay;
mod secret;
mod source;
mod topology;
mod trial;
mod values;
mod window;
mod worker;

pub use apply::{ApplyError, ApplyReport, Change, ChangeKind, TopologyPlan};
pub use choose::{Choice, choose};
pub use dry_run::{DryRun, RuleError, dry_run};
pub use engine::{
    AppliedTopology, Engine, EngineOptions, ReplayError, ReplayFrom, ReplayRequest, RuleAction, RuleDetail,
    RuleStatus, RuleVersion, SourceDetail, SourceError, SourceStatus, StartError,
};
pub use failures::Failure;
pub use memory::Allocator;
pub use replay::{ReplayReport, Replayed};
pub use secret::{KeyError, SECRET_MAX_BYTES, SecretError, Secrets};
pub use source::SourceState;
pub use topology::{Diagnostic, Topology, TopologyError, check};
pub use trial::{TestError, TestReport, TestResult, run_tests};
pub use worker::RuleState;
