//! Why actions fail.

use crate::database::DatabaseError;
use crate::function::CallError;
use std::time::Duration;

/// Why an attempt at an action on the outside failed; it may be tried again.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ActionError {
    /// The request did not come to an answer.
    #[error("{place}: {method} {url}: {reason}")]
    Http {
        /// `FILE:LINE`.
        place: String,
        /// Its method.
        method: String,
        /// Where to.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// An answer came, and it is not an expected one.
    #[error("{place}: {method} {url}: the answer is {status}, expected {expected}{answer}")]
    Status {
        /// `FILE:LINE`.
        place: String,
        /// Its method.
        method: String,
        /// Where to.
        url: String,
        /// What came.
        status: u16,
        /// What the rule expects.
        expected: String,
        /// The beginning of the answer's body, after a colon.
        answer: String,
        /// When the other side wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// A secret is missing or of no use. It may be set, so the action is tried again.
    #[error("{place}: {reason}")]
    Secret {
        /// `FILE:LINE`.
        place: String,
        /// Which, and where to set it; never its value.
        reason: String,
    },
    /// A mail was not taken.
    #[error("{place}: mail server '{server}': {reason}")]
    Email {
        /// `FILE:LINE`.
        place: String,
        /// Its name in the file.
        server: String,
        /// What went wrong.
        reason: String,
        /// Whether it was about this moment.
        is_retryable: bool,
        /// Whether it was about the server and not the mail.
        is_of_target: bool,
    },
    /// A provider did not do it.
    #[error("{place}: provider '{provider}': {reason}")]
    Provider {
        /// `FILE:LINE`.
        place: String,
        /// Its name in the file.
        provider: String,
        /// What went wrong.
        reason: String,
        /// Whether it was about this moment.
        is_retryable: bool,
    },
    /// A program was not started, or did not do it.
    #[error("{place}: {program}: {reason}")]
    Exec {
        /// `FILE:LINE`.
        place: String,
        /// Its path.
        program: String,
        /// What went wrong.
        reason: String,
        /// Whether it was about this moment.
        is_retryable: bool,
    },
    /// A function gave no answer.
    #[error("{place}: function '{function}': {error}")]
    Function {
        /// `FILE:LINE`.
        place: String,
        /// Its name in the file.
        function: String,
        /// What went wrong.
        error: CallError,
    },
    /// A line could not be appended.
    #[error("{place}: {path}: {reason}")]
    File {
        /// `FILE:LINE` of the rule.
        place: String,
        /// The file written.
        path: String,
        /// What went wrong.
        reason: String,
    },
    /// A statement was not done, or its answer is not usable.
    #[error("{place}: {error}")]
    Sql {
        /// `FILE:LINE` of the rule.
        place: String,
        /// What went wrong.
        error: DatabaseError,
    },
}

impl ActionError {
    /// Whether another attempt may go better.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Http { .. } | Self::Status { .. } | Self::File { .. } | Self::Secret { .. } => true,
            Self::Sql { error, .. } => error.is_retryable(),
            Self::Function { error, .. } => error.is_retryable(),
            Self::Email { is_retryable, .. }
            | Self::Provider { is_retryable, .. }
            | Self::Exec { is_retryable, .. } => *is_retryable,
        }
    }

    /// How long the other side asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the target is down or overloaded, so that other messages for it would fare no better now.
    pub(crate) fn is_of_target(&self) -> bool {
        match self {
            Self::Http { .. } => true,
            Self::Status { status, .. } => matches!(status, 429 | 502..=504),
            Self::Sql { error, .. } => error.is_of_database(),
            Self::Email { is_of_target, .. } => *is_of_target,
            Self::File { .. }
            | Self::Secret { .. }
            | Self::Provider { .. }
            | Self::Exec { .. }
            | Self::Function { .. } => false,
        }
    }
}
