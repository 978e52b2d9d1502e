//! Time travel: what a rule would do with messages of the past, and how that differs from what it did.

mod report;
mod would;

pub(crate) use report::compare;
pub use report::{ReplayReport, Replayed};
pub(crate) use would::{Would, would};
