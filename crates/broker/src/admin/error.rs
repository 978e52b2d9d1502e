//! Why an operator's request is refused.

use crate::policy::PolicyError;
use crate::{QueueError, WriteRefused};
use millpond_model::{ExchangeName, QueueName, VhostName};

/// No such vhost.
#[derive(Debug, thiserror::Error)]
#[error("no vhost '{vhost}'")]
pub struct VhostMissing {
    /// As asked.
    pub vhost: VhostName,
}

/// Why a vhost is not made, changed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    /// There is none.
    #[error(transparent)]
    Missing(#[from] VhostMissing),
    /// Without a name nobody could connect to it.
    #[error("a vhost needs a name of 1 to 255 bytes")]
    NoName,
    /// Rules and the default address need it.
    #[error(
        "the vhost '/' cannot be deleted: rules and clients without a vhost use it; delete its queues instead"
    )]
    Default,
    /// Somebody wants it kept.
    #[error("vhost '{vhost}' is protected from deletion: take the protection away first")]
    Protected {
        /// Which.
        vhost: VhostName,
    },
    /// Tags are few and short.
    #[error("a vhost has at most {limit} tags of 255 bytes")]
    TooManyTags {
        /// How many.
        limit: usize,
    },
    /// A description is a short text.
    #[error("a description of {size_bytes} bytes is over the limit of 255")]
    DescriptionTooLong {
        /// How long it is.
        size_bytes: usize,
    },
    /// Too many.
    #[error("there are {limit} vhosts already, which is the limit: delete some")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
}

/// Why a policy is not set or cleared.
#[derive(Debug, thiserror::Error)]
pub enum SetPolicyError {
    /// There is no such vhost.
    #[error(transparent)]
    Vhost(#[from] VhostMissing),
    /// The policy cannot be.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// There is none to be cleared.
    #[error("no {kind} '{policy}' in vhost '{vhost}'")]
    Missing {
        /// `policy` or `operator policy`.
        kind: &'static str,
        /// As asked.
        policy: String,
        /// Where.
        vhost: VhostName,
    },
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
}

/// Why a queue's arguments are not altered.
#[derive(Debug, thiserror::Error)]
pub enum AlterError {
    /// There is no such vhost.
    #[error(transparent)]
    Vhost(#[from] VhostMissing),
    /// There is no such queue, or the store takes no writes.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Only what a policy can say.
    #[error(
        "'{argument}' cannot be altered on a queue that is there: only what a policy can set ({alterable})"
    )]
    Fixed {
        /// As given.
        argument: String,
        /// What can be.
        alterable: String,
    },
    /// A value that does not fit.
    #[error("'{argument}' {reason}")]
    BadValue {
        /// Which argument.
        argument: String,
        /// What is wrong.
        reason: String,
    },
    /// The queue belongs to a connection, which declared it as it wants it.
    #[error("queue '{queue}' is exclusive to a connection: it cannot be altered")]
    Exclusive {
        /// Which.
        queue: QueueName,
    },
}

/// Why a delayed message is not taken back.
#[derive(Debug, thiserror::Error)]
pub enum CancelDelayedError {
    /// No such vhost.
    #[error(transparent)]
    Vhost(#[from] VhostMissing),
    /// It does not wait there, or not any more.
    #[error("no message {id} waits at exchange '{exchange}': it may have been released")]
    Missing {
        /// Where it was looked for.
        exchange: ExchangeName,
        /// As asked.
        id: u64,
    },
    /// No message with that `message_id` waits there, or not any more.
    #[error(
        "no message with the message_id '{message_id}' waits at exchange '{exchange}': it may have been released"
    )]
    Unnamed {
        /// Where it was looked for.
        exchange: ExchangeName,
        /// As asked.
        message_id: String,
    },
    /// After a start, what waits at the exchange is still being read.
    #[error("what waits at exchange '{exchange}' is still being read after the start: try again in a moment")]
    Loading {
        /// Where.
        exchange: ExchangeName,
    },
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
}

/// Why a queue's figures are not shown, or its consumers' pace is not changed.
#[derive(Debug, thiserror::Error)]
pub enum PaceError {
    /// There is no such vhost.
    #[error("no vhost '{vhost}'")]
    Vhost {
        /// As asked.
        vhost: VhostName,
    },
    /// There is no such queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A value that does not fit.
    #[error("'{argument}': {reason}")]
    BadArgument {
        /// Which argument.
        argument: &'static str,
        /// What is wrong.
        reason: String,
    },
}
