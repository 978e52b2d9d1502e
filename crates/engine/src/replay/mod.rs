//! Time travel: what a rule would do with messages of the past, and how that differs from what it did.

mod past;
mod report;
mod would;

pub(crate) use past::{Known, Past};
pub(crate) use report::compare;
pub use report::{ReplayReport, Replayed};
pub(crate) use would::{Would, would};

use crate::topology::Rule;
use std::collections::BTreeMap;
use std::sync::Arc;

/// By the time since which each is in force: its number, and the rule if it can be worked with.
pub(crate) type Versions = BTreeMap<u64, (u64, Option<Arc<Rule>>)>;
