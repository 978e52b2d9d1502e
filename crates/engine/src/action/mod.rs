//! Actions on the outside.

mod file;
mod http;

pub(crate) use file::{Appended, FileWriter};
pub(crate) use http::HttpClient;

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
}
