//! What goes wrong with a database.

use std::time::Duration;

/// Why a statement was not done, or what it answered is not usable.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// No topology names it any more.
    #[error("there is no database '{name}': 'databases' in the topology names those there are")]
    Missing {
        /// Its name.
        name: String,
    },
    /// No connection was made.
    #[error("database '{database}': no connection: {reason}")]
    Connect {
        /// Its name.
        database: String,
        /// Why.
        reason: String,
    },
    /// All connections were in use for too long.
    #[error("database '{database}': all {connections} connections were in use for {} ms", waited.as_millis())]
    Busy {
        /// Its name.
        database: String,
        /// How many there may be.
        connections: u32,
        /// How long that was waited for.
        waited: Duration,
    },
    /// The answer did not come in time.
    #[error("database '{database}': no answer within {} ms", limit.as_millis())]
    Timeout {
        /// Its name.
        database: String,
        /// `statement_timeout`.
        limit: Duration,
    },
    /// The connection broke while a statement was under way: whether it was done is not known.
    #[error("database '{database}': the connection broke: {reason}")]
    Lost {
        /// Its name.
        database: String,
        /// Why.
        reason: String,
    },
    /// The database refused the statement.
    #[error("database '{database}': {reason} ({code})")]
    Refused {
        /// Its name.
        database: String,
        /// SQLSTATE, or the number of the error.
        code: String,
        /// What the database says.
        reason: String,
        /// Whether the same statement may be done another time: a deadlock, a lock that was not got, a server that
        /// shuts down.
        may_pass: bool,
    },
    /// A value cannot be given to the database, or its answer not be shown as JSON. Seen before the statement is done,
    /// wherever that is possible.
    #[error("database '{database}': {reason}")]
    Value {
        /// Its name.
        database: String,
        /// What, and what to do.
        reason: String,
    },
    /// The statement was undone, for it did not concern as many rows as expected.
    #[error(
        "database '{database}': the statement concerned {found} rows, expected {expected}: it was undone"
    )]
    Rows {
        /// Its name.
        database: String,
        /// Rows given or changed.
        found: u64,
        /// `1`, `1-5`.
        expected: String,
    },
}

impl DatabaseError {
    /// Whether the same statement may succeed another time. An account that is refused counts as well: it is the file
    /// or the database that has to change, and not the message.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Busy { .. } | Self::Timeout { .. } | Self::Lost { .. } => true,
            // The row may come.
            Self::Rows { .. } => true,
            Self::Refused { may_pass, .. } => *may_pass,
            Self::Missing { .. } | Self::Value { .. } => false,
        }
    }

    /// Whether the database is down or overloaded, so that other statements would fare no better now.
    pub(crate) fn is_of_database(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Busy { .. } | Self::Lost { .. })
    }

    /// Whether the connection it came on can be used again.
    pub(super) fn spares_connection(&self) -> bool {
        match self {
            Self::Value { .. } | Self::Rows { .. } => true,
            Self::Refused { may_pass, .. } => !may_pass,
            _ => false,
        }
    }
}
