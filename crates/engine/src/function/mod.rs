//! Functions: WebAssembly components that rules call, each call in a sandbox of its own.
//!
//! - `spec`: the section `functions` of a topology file.
//! - `registry`: which function has which component; reads, keeps and finds them.
//! - `machine`: compiles components and calls them, within their limits, on threads of their own.
//! - `host`: what a running component can reach: its limits, and what it was granted.
//! - `wasi`: the system that components are built for, with nothing in it.
//!
//! All but `spec` is left out of a build without the cargo feature `wasm`; `absent` stands in for it.

#[cfg(not(feature = "wasm"))]
mod absent;
#[cfg(feature = "wasm")]
mod host;
#[cfg(feature = "wasm")]
mod machine;
#[cfg(feature = "wasm")]
mod registry;
mod spec;
#[cfg(feature = "wasm")]
mod wasi;

#[cfg(not(feature = "wasm"))]
pub(crate) use absent::Functions;
#[cfg(feature = "wasm")]
pub(crate) use registry::Functions;
pub(crate) use spec::{FunctionSpec, is_in_this_build, read_functions};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The digests of components by the names of the functions: `sha256:` and 64 hexadecimal digits.
pub(crate) type Digests = BTreeMap<Box<str>, Arc<str>>;

/// What a function is called with.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// JSON.
    pub(crate) event: String,
    pub(crate) event_id: String,
    pub(crate) rule: String,
    pub(crate) idempotency_key: String,
}

/// Why a call gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// No function of that name is defined now.
    #[error("the topology has no function of this name any more")]
    Missing,
    /// Its component cannot be had, or not be run on this machine. That may change.
    #[error("its component cannot be used: {reason}")]
    Unready {
        /// Why.
        reason: String,
    },
    /// The function says so itself.
    #[error("{reason}")]
    Failed {
        /// Its words.
        reason: String,
        /// Whether it asks to be tried again.
        is_retryable: bool,
    },
    /// It broke off.
    #[error("it broke off: {reason}")]
    Trapped {
        /// Why, and what it wrote to its standard error.
        reason: String,
    },
    /// It did not come to an end.
    #[error("it took more than {} ms (time) and was ended", time_max.as_millis())]
    TimeOver {
        /// How long it may take.
        time_max: Duration,
    },
    /// It broke off after it had asked for more memory than it may have.
    #[error("it wanted more than {memory_max_bytes} bytes (memory): {reason}")]
    MemoryOver {
        /// What it may have.
        memory_max_bytes: u64,
        /// What became of it then.
        reason: String,
    },
    /// Its answer is too large.
    #[error("its answer has {bytes} bytes, at most {output_max_bytes} are taken (output_max)")]
    OutputOver {
        /// How large it is.
        bytes: usize,
        /// What is taken.
        output_max_bytes: u64,
    },
}

impl CallError {
    /// Whether another attempt may go better.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Missing | Self::Unready { .. } => true,
            Self::Failed { is_retryable, .. } => *is_retryable,
            // The same call would fare the same.
            Self::Trapped { .. }
            | Self::TimeOver { .. }
            | Self::MemoryOver { .. }
            | Self::OutputOver { .. } => false,
        }
    }
}

#[cfg(feature = "wasm")]
impl CallError {
    /// With references in the place of secrets: a function may say what it was told.
    fn scrubbed(self, scrub: &crate::secret::Scrub) -> Self {
        match self {
            Self::Failed { reason, is_retryable } => {
                Self::Failed { reason: scrub.text(reason), is_retryable }
            }
            Self::Trapped { reason } => Self::Trapped { reason: scrub.text(reason) },
            Self::MemoryOver { memory_max_bytes, reason } => {
                Self::MemoryOver { memory_max_bytes, reason: scrub.text(reason) }
            }
            other => other,
        }
    }
}
