//! Policies: what holds for every queue or exchange whose name fits a pattern.
//!
//! Pure: no lock, no store, no queue. A vhost has two lists ([`PolicyKind`]); of each, the one of highest priority
//! that fits a name is in force, the operator's over the other ([`merge`]). `keys` has a line for each thing a policy
//! can say. The result is a table of arguments, as if the client had declared them.

mod definition;
mod keys;
mod merge;
#[cfg(test)]
mod tests;

use crate::pattern::{BadPattern, compile, is_match};
pub use definition::{Meaningless, PolicyDefinition};
use fancy_regex::Regex;
pub(crate) use keys::On;
pub use merge::argument_value;
pub(crate) use merge::{alterable, check_alteration, effective};
use millpond_model::table::Table;
use std::collections::BTreeMap;
use std::fmt;

/// Longest name. Bytes.
const NAME_MAX_BYTES: usize = 255;
/// Policies of a kind that a vhost may have: each is asked for every new queue.
const POLICIES_MAX: usize = 10_000;

/// Which of a vhost's two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// The users'.
    User,
    /// The operator's: limits that users cannot lift.
    Operator,
}

impl PolicyKind {
    /// `policy` or `operator policy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "policy",
            Self::Operator => "operator policy",
        }
    }
}

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApplyTo {
    /// Queues and exchanges.
    #[default]
    All,
    /// Exchanges.
    Exchanges,
    /// Queues of every type, streams too.
    Queues,
    /// Queues of type classic.
    ClassicQueues,
    /// Queues of type quorum.
    QuorumQueues,
    /// Streams.
    Streams,
}

/// Every [`ApplyTo`] with its word.
const APPLY_TO: [(ApplyTo, &str); 6] = [
    (ApplyTo::All, "all"),
    (ApplyTo::Exchanges, "exchanges"),
    (ApplyTo::Queues, "queues"),
    (ApplyTo::ClassicQueues, "classic_queues"),
    (ApplyTo::QuorumQueues, "quorum_queues"),
    (ApplyTo::Streams, "streams"),
];

impl ApplyTo {
    /// From `all`, `exchanges`, `queues`, `classic_queues`, `quorum_queues`, `streams`.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let found = APPLY_TO.iter().find(|(_, word)| *word == text);
        found.map(|(it, _)| *it).ok_or_else(|| PolicyError::BadApplyTo { found: text.to_owned() })
    }

    /// The word that `parse` takes.
    pub fn as_str(self) -> &'static str {
        APPLY_TO.iter().find(|(it, _)| *it == self).map_or("all", |(_, word)| word)
    }

    fn includes(self, subject: Subject<'_>) -> bool {
        match (self, subject) {
            (Self::All, _) => true,
            (Self::Exchanges, Subject::Exchange) => true,
            (Self::Queues, Subject::Queue { .. }) => true,
            (Self::ClassicQueues, Subject::Queue { queue_type }) => queue_type == "classic",
            (Self::QuorumQueues, Subject::Queue { queue_type }) => queue_type == "quorum",
            (Self::Streams, Subject::Queue { queue_type }) => queue_type == "stream",
            _ => false,
        }
    }
}

impl fmt::Display for ApplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that a policy may be in force for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Exchange,
    /// With `classic`, `quorum` or `stream`.
    Queue {
        queue_type: &'a str,
    },
}

/// Why a policy is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No name, or too long a one.
    #[error("a policy's name has 1 to {NAME_MAX_BYTES} bytes, not {size_bytes}")]
    BadName {
        /// How long it is.
        size_bytes: usize,
    },
    /// Not a regular expression, or too large a one.
    #[error(transparent)]
    BadPattern(#[from] BadPattern),
    /// A word that is none of the six.
    #[error(
        "'{found}' is nothing a policy applies to: use all, queues, exchanges, classic_queues, quorum_queues or streams"
    )]
    BadApplyTo {
        /// As given.
        found: String,
    },
    /// The definition is no JSON object.
    #[error("the definition must be a JSON object such as {{\"max-length\": 1000}}: {reason}")]
    NotAnObject {
        /// Why.
        reason: String,
    },
    /// A definition that says nothing.
    #[error("the definition is empty: a policy says at least one thing")]
    EmptyDefinition,
    /// A key that is none.
    #[error("'{key}' is not a policy key; known are {known}")]
    UnknownKey {
        /// As given.
        key: String,
        /// Those there are.
        known: String,
    },
    /// A key of a feature of RabbitMQ that is not here.
    #[error("'{key}' means nothing here: {why}")]
    Elsewhere {
        /// As given.
        key: String,
        /// Why.
        why: &'static str,
    },
    /// A value that does not fit its key.
    #[error("'{key}' {reason}")]
    BadValue {
        /// Which key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// An operator policy holds limits only.
    #[error("'{key}' cannot be in an operator policy; these can: {allowed}")]
    NotForOperators {
        /// Which key.
        key: &'static str,
        /// Those that can.
        allowed: String,
    },
    /// A key for queues in a policy for exchanges, or the other way round.
    #[error("'{key}' has no meaning for a policy that applies to {apply_to}")]
    NotForThese {
        /// Which key.
        key: &'static str,
        /// What the policy applies to.
        apply_to: ApplyTo,
    },
    /// Too many policies.
    #[error("the vhost has {POLICIES_MAX} policies already: clear some")]
    TooMany,
}

/// What somebody wants to hold for every queue or exchange whose name fits.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySpec {
    /// Its name, unique among the policies of its kind in its vhost.
    pub name: Box<str>,
    /// A regular expression, searched for in the name (so `^orders` is a beginning).
    pub pattern: Box<str>,
    /// What it is for.
    pub apply_to: ApplyTo,
    /// The highest one that fits is in force; of equal ones the first by name.
    pub priority: i64,
    /// What it says.
    pub definition: PolicyDefinition,
}

impl PolicySpec {
    /// Checks what can be checked without a broker.
    pub fn check(&self, kind: PolicyKind) -> Result<(), PolicyError> {
        Policy::new(kind, self.clone()).map(|_| ())
    }
}

/// A policy that can be asked.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) spec: PolicySpec,
    pattern: Regex,
}

impl Policy {
    pub(crate) fn new(kind: PolicyKind, spec: PolicySpec) -> Result<Self, PolicyError> {
        if spec.name.is_empty() || spec.name.len() > NAME_MAX_BYTES {
            return Err(PolicyError::BadName { size_bytes: spec.name.len() });
        }
        let pattern = compile(&spec.pattern)?;
        spec.definition.check_use(kind, spec.apply_to)?;
        Ok(Self { spec, pattern })
    }

    /// Whether it is for this.
    fn fits(&self, subject: Subject<'_>, name: &str) -> bool {
        self.spec.apply_to.includes(subject) && is_match(&self.pattern, name)
    }
}

/// The policies in force for one thing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Best<'p> {
    pub(crate) policy: Option<&'p Policy>,
    pub(crate) operator: Option<&'p Policy>,
}

/// The policies of a vhost.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    users: BTreeMap<Box<str>, Policy>,
    operators: BTreeMap<Box<str>, Policy>,
}

impl Policies {
    fn list(&self, kind: PolicyKind) -> &BTreeMap<Box<str>, Policy> {
        match kind {
            PolicyKind::User => &self.users,
            PolicyKind::Operator => &self.operators,
        }
    }

    fn list_mut(&mut self, kind: PolicyKind) -> &mut BTreeMap<Box<str>, Policy> {
        match kind {
            PolicyKind::User => &mut self.users,
            PolicyKind::Operator => &mut self.operators,
        }
    }

    /// Adds a policy, or replaces the one of its name.
    pub(crate) fn set(&mut self, kind: PolicyKind, policy: Policy) -> Result<(), PolicyError> {
        let list = self.list_mut(kind);
        if list.len() >= POLICIES_MAX && !list.contains_key(&policy.spec.name) {
            return Err(PolicyError::TooMany);
        }
        list.insert(policy.spec.name.clone(), policy);
        Ok(())
    }

    /// Removes a policy; whether there was one.
    pub(crate) fn clear(&mut self, kind: PolicyKind, name: &str) -> bool {
        self.list_mut(kind).remove(name).is_some()
    }

    /// All of a kind, by name.
    pub(crate) fn iter(&self, kind: PolicyKind) -> impl Iterator<Item = &Policy> {
        self.list(kind).values()
    }

    /// Whether there is none at all: nothing to be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.operators.is_empty()
    }

    /// What the policies of these names say together.
    pub(crate) fn said(&self, policy: Option<&str>, operator: Option<&str>) -> Table {
        merge::definition(&Best {
            policy: policy.and_then(|name| self.users.get(name)),
            operator: operator.and_then(|name| self.operators.get(name)),
        })
    }

    /// Those in force for something of this name.
    pub(crate) fn best(&self, subject: Subject<'_>, name: &str) -> Best<'_> {
        let best = |kind| {
            let mut found: Option<&Policy> = None;
            for policy in self.list(kind).values() {
                let higher = found.is_none_or(|best| policy.spec.priority > best.spec.priority);
                if higher && policy.fits(subject, name) {
                    found = Some(policy);
                }
            }
            found
        };
        Best { policy: best(PolicyKind::User), operator: best(PolicyKind::Operator) }
    }
}
