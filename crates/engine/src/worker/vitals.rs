//! What others see of a rule, and what every rule works with.

use crate::action::ActionTools;
use crate::failures::Failures;
use crate::pool::Pool;
use millpond_broker::Broker;
use millpond_model::VhostName;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// What a rule is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleState {
    /// It acts.
    Running,
    /// It was stopped; its queue collects.
    Stopped,
    /// It was paused: it takes no more messages, and finishes those in hand.
    Pausing,
    /// It was paused, and has nothing in hand; its queue collects.
    Paused,
    /// Nothing new comes to its queue; what is there is worked off.
    Draining,
    /// It was drained: its queue is empty, and nothing comes.
    Drained,
    /// It cannot act now and tries again by itself.
    Waiting {
        /// What for.
        reason: String,
    },
}

impl std::fmt::Display for RuleState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.reason() {
            None => f.pad(self.word()),
            Some(reason) => write!(f, "waiting: {reason}"),
        }
    }
}

/// What others see of a rule.
#[derive(Debug)]
pub(crate) struct Vitals {
    pub(crate) state: Mutex<RuleState>,
    /// It is to take no more messages, and to end when it has finished those in hand.
    pub(crate) finish: watch::Sender<bool>,
    pub(crate) seen: Arc<AtomicU64>,
    pub(crate) acted: Arc<AtomicU64>,
    pub(crate) retried: Arc<AtomicU64>,
    pub(crate) failed: Arc<AtomicU64>,
    pub(crate) failures: Arc<Failures>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            state: Mutex::new(RuleState::Stopped),
            finish: watch::Sender::new(false),
            seen: Arc::default(),
            acted: Arc::default(),
            retried: Arc::default(),
            failed: Arc::default(),
            failures: Arc::default(),
        }
    }
}

impl Vitals {
    /// Of the next version of a rule: the counts go on, and the version before counts there what it finishes.
    pub(crate) fn next(&self) -> Self {
        let Self { seen, acted, retried, failed, failures, .. } = self;
        let (seen, acted, retried, failed) = (seen.clone(), acted.clone(), retried.clone(), failed.clone());
        Self { seen, acted, retried, failed, failures: failures.clone(), ..Self::default() }
    }
}

impl RuleState {
    /// The state without what it waits for.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Waiting { .. } => "waiting",
        }
    }

    /// What it waits for.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Waiting { reason } => Some(reason),
            _ => None,
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// What every rule works with.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) broker: Broker,
    pub(crate) vhost: VhostName,
    pub(crate) actions: ActionTools,
    pub(crate) data_dir: Arc<std::path::Path>,
    pub(crate) pool: Pool,
}

impl Tools {
    /// Milliseconds since 1970, by the broker's clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.broker.options().clock.now_ms()
    }
}
