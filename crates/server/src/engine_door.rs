//! The engine as the HTTP front end reaches it: requests as values, answers as JSON. Whoever puts the rooms together
//! gives the door; the front end asks who may, and knows no more of the engine.

use millpond_broker::AuditObject;
use millpond_model::{Message, QueueName, VhostName};
use serde_json::Value;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

/// What becomes of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleChange {
    /// It acts.
    Start,
    /// It lets go of its messages; its queue goes on collecting.
    Stop,
    /// It finishes what it has in hand; its queue goes on collecting.
    Pause,
    /// Nothing more comes to it; it works off what is there.
    Drain,
}

/// Messages of the past for a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineReplay {
    /// The rule.
    pub rule: String,
    /// The queue or stream to read; `None`: the rule's parking queue.
    pub from: Option<String>,
    /// `remembered`, `ready`, or what there is.
    pub of: Option<String>,
    /// Not before: a time of RFC 3339, or milliseconds since 1970.
    pub since: Option<String>,
    /// Not after.
    pub until: Option<String>,
    /// Name and text of a topology whose definition of the rule is tried instead of the one that is applied; for a
    /// dry run only.
    pub file: Option<(String, String)>,
    /// At most so many messages.
    pub limit: Option<u64>,
    /// Only say what the rule would do.
    pub dry_run: bool,
}

/// What may be asked of the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineRequest {
    /// Every rule: a list of objects.
    Rules,
    /// One with its definition.
    Rule(String),
    /// Starts, stops, pauses or drains one.
    ChangeRule(String, RuleChange),
    /// The versions of one.
    RuleHistory(String),
    /// What a rule would do with an event.
    TestRule(String, Value),
    /// See there.
    Replay(EngineReplay),
    /// Every source.
    Sources,
    /// One with its definition.
    Source(String),
    /// Starts (`true`) or stops one.
    ChangeSource(String, bool),
    /// The topology that stands.
    Topology,
    /// What applying a file (its name and text) would change.
    Plan(String, String),
    /// Applies one.
    Apply(String, String),
    /// The names of the secrets in the table.
    Secrets,
}

impl EngineRequest {
    /// What the audit log calls it, if it changes anything.
    pub fn audited(&self) -> Option<(&'static str, AuditObject)> {
        let (operation, kind, name) = match self {
            Self::ChangeRule(rule, change) => (change.audited(), "rule", rule),
            Self::Replay(replay) if !replay.dry_run => ("rule.replayed", "rule", &replay.rule),
            Self::ChangeSource(source, true) => ("source.started", "source", source),
            Self::ChangeSource(source, false) => ("source.stopped", "source", source),
            Self::Apply(file, _) => ("topology.applied", "topology", file),
            _ => return None,
        };
        Some((operation, AuditObject::named(kind, name.as_str())))
    }
}

impl RuleChange {
    /// What the audit log calls it.
    pub fn audited(self) -> &'static str {
        match self {
            Self::Start => "rule.started",
            Self::Stop => "rule.stopped",
            Self::Pause => "rule.paused",
            Self::Drain => "rule.drained",
        }
    }
}

/// Why the engine does not do what it is asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineRefused {
    /// There is none of that name.
    #[error("{0}")]
    Missing(String),
    /// The request cannot be carried out as it is.
    #[error("{reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
        /// Of a topology: places and what is wrong there.
        diagnostics: Vec<Value>,
    },
    /// Not now, or not any more.
    #[error("{0}")]
    Unavailable(String),
}

/// Which of some messages an expression chooses: those for which its first result is neither null nor false.
#[derive(Debug, Clone)]
pub struct ChooseRequest {
    /// A jq expression over the event of a message, as a rule's `when`.
    pub expression: String,
    /// Where the messages are.
    pub vhost: VhostName,
    /// In which queue.
    pub queue: QueueName,
    /// Each with its place in the queue.
    pub messages: Vec<(u64, Message)>,
    /// No message is begun after this.
    pub until: Instant,
}

/// What was chosen.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// For each message, in order; fewer if the time was over.
    pub fits: Vec<bool>,
    /// Messages that the expression failed for; they do not fit.
    pub failed: u64,
    /// Why it failed for the first of them.
    pub error: Option<String>,
}

/// A choice under way.
pub type EngineChoice = Pin<Box<dyn Future<Output = Result<Chosen, EngineRefused>> + Send>>;

/// An answer under way.
pub type EngineAnswer = Pin<Box<dyn Future<Output = Result<Value, EngineRefused>> + Send>>;

/// See the module.
pub trait EngineDoor: Debug + Send + Sync {
    /// Does what is asked. The one who asks was allowed to.
    fn ask(&self, request: EngineRequest) -> EngineAnswer;

    /// Chooses messages by an expression. Whoever asks was allowed to read them.
    fn choose(&self, request: ChooseRequest) -> EngineChoice;
}
