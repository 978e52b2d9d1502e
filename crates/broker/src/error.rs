//! One error type an operation. Mapped to reply codes or HTTP by each front end, once.

use crate::access::AccessRefused;
use millpond_model::{ExchangeName, QueueName, UserName, VhostName};
use millpond_store::{CommitError, ReadValuesError};
use std::net::IpAddr;
use std::sync::Arc;

/// Why a broker cannot start on a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenBrokerError {
    /// A definition cannot be read.
    #[error("definition {key:?} cannot be read: {reason}")]
    BadDefinition {
        /// Its key in the store.
        key: String,
        /// Why.
        reason: String,
    },
    /// The store does not say what is defined.
    #[error(transparent)]
    Values(#[from] ReadValuesError),
}

/// Why a login failed; the client is told only that it did.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such user.
    #[error("no user `{user}`")]
    UnknownUser {
        /// As sent.
        user: String,
    },
    /// Wrong password.
    #[error("wrong password for user `{user}`")]
    WrongPassword {
        /// The user.
        user: UserName,
    },
    /// Too many failed ones of late.
    #[error("too many failed logins as `{user}` from {peer}: wait {}s", .retry_after_ms.div_ceil(1000))]
    TooManyAttempts {
        /// As sent.
        user: String,
        /// From where.
        peer: IpAddr,
        /// When the next attempt is looked at.
        retry_after_ms: u64,
    },
    /// One of before that holds no longer.
    #[error("the login of user `{user}` has ended: its password or tags were changed, or it is gone")]
    Ended {
        /// The user.
        user: UserName,
    },
    /// Only allowed from this machine.
    #[error("user `{user}` may only connect from this machine (loopback)")]
    LoopbackOnly {
        /// The user.
        user: UserName,
    },
}

/// Why no session could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenSessionError {
    /// No such vhost.
    #[error("vhost `{vhost}` not found")]
    VhostMissing {
        /// As asked.
        vhost: VhostName,
    },
    /// No permission on it.
    #[error("access to vhost '{vhost}' refused for user '{user}'")]
    Forbidden {
        /// Who.
        user: UserName,
        /// Where.
        vhost: VhostName,
    },
    /// Connection limit reached.
    #[error("node connection limit ({limit}) is reached")]
    TooManySessions {
        /// The limit.
        limit: usize,
    },
    /// The vhost takes no more (`max-connections`).
    #[error("access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached")]
    VhostLimit {
        /// Where.
        vhost: VhostName,
        /// Who.
        user: UserName,
        /// The limit.
        limit: u64,
    },
    /// The user has as many as allowed (`max-connections`).
    #[error("connection refused for user '{user}': user connection limit ({limit}) is reached")]
    UserLimit {
        /// Who.
        user: UserName,
        /// The limit.
        limit: u64,
    },
    /// Going down.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

/// The user has as many channels as allowed (`max-channels`; 530).
#[derive(Debug, thiserror::Error)]
#[error(
    "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
)]
pub struct ChannelLimit {
    /// Who.
    pub user: UserName,
    /// The limit.
    pub limit: u64,
}

/// An argument that differs from what exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inequivalent {
    /// `durable`, `x-message-ttl`...
    pub argument: String,
    /// As in RabbitMQ's text: `'true'`, `none`, `the value '5' of type 'signedint'`...
    pub received: String,
    /// The same of what exists.
    pub current: String,
}

/// Why an exchange was not declared.
#[derive(Debug, thiserror::Error)]
pub enum DeclareExchangeError {
    /// Not allowed (403).
    #[error(transparent)]
    Forbidden(#[from] AccessRefused),
    /// Passive, and there is none.
    #[error("no exchange '{exchange}' in vhost '{vhost}'")]
    Missing {
        /// Which.
        exchange: ExchangeName,
        /// Where.
        vhost: VhostName,
    },
    /// Exists with another shape.
    #[error("inequivalent arg '{}' for exchange '{exchange}' in vhost '{vhost}': received {} but current is {}", .arg.argument, .arg.received, .arg.current)]
    Inequivalent {
        /// Which.
        exchange: ExchangeName,
        /// Where.
        vhost: VhostName,
        /// The difference.
        arg: Inequivalent,
    },
    /// Names starting `amq.` are the broker's.
    #[error("exchange name '{exchange}' contains reserved prefix 'amq.*'")]
    Reserved {
        /// Which.
        exchange: ExchangeName,
    },
    /// The default exchange cannot be declared.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// A type that is not served (406).
    #[error(
        "unknown exchange type '{kind}': use direct, fanout, topic, headers, x-events, x-consistent-hash, x-modulus-hash, x-random, x-local-random, x-recent-history or x-delayed-message"
    )]
    UnknownType {
        /// As sent.
        kind: String,
    },
    /// An argument with a bad type or value (406).
    #[error("invalid arg '{argument}' for exchange '{exchange}': {reason}")]
    BadArgument {
        /// Which.
        exchange: ExchangeName,
        /// Which argument.
        argument: String,
        /// Why.
        reason: String,
    },
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
}

/// Why an exchange was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteExchangeError {
    /// Not allowed (403).
    #[error(transparent)]
    Forbidden(#[from] AccessRefused),
    /// `amq.*` (403).
    #[error("exchange '{exchange}' in vhost '{vhost}' is built in and cannot be deleted")]
    BuiltIn {
        /// Which.
        exchange: ExchangeName,
        /// Where.
        vhost: VhostName,
    },
    /// The default exchange (403).
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// if-unused, and it has bindings (406).
    #[error("exchange '{exchange}' in vhost '{vhost}' in use")]
    InUse {
        /// Which.
        exchange: ExchangeName,
        /// Where.
        vhost: VhostName,
    },
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
}

/// What may be wrong with a queue that is named (404, 405).
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Not allowed (403).
    #[error(transparent)]
    Forbidden(#[from] AccessRefused),
    /// There is none.
    #[error("no queue '{queue}' in vhost '{vhost}'")]
    Missing {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
    },
    /// Another session has it for itself.
    #[error(
        "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
    )]
    Locked {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
    },
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
    /// What takes messages away has no meaning on a stream (540).
    #[error(
        "{what} is not supported by stream queue '{queue}' in vhost '{vhost}': messages are read from it and not taken out"
    )]
    NotForStreams {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
        /// What was wanted.
        what: &'static str,
    },
}

/// Why a queue was not declared.
#[derive(Debug, thiserror::Error)]
pub enum DeclareQueueError {
    /// Missing (passive) or locked.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Exists with another shape (406).
    #[error("inequivalent arg '{}' for queue '{queue}' in vhost '{vhost}': received {} but current is {}", .arg.argument, .arg.received, .arg.current)]
    Inequivalent {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
        /// The difference.
        arg: Inequivalent,
    },
    /// The vhost has as many queues as allowed (`max-queues`; 406).
    #[error("cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached")]
    TooMany {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
        /// The limit.
        limit: u64,
    },
    /// Names starting `amq.` are the broker's (403).
    #[error("queue name '{queue}' contains reserved prefix 'amq.*'")]
    Reserved {
        /// Which.
        queue: QueueName,
    },
    /// An argument with a bad type or value (406).
    #[error("invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}': {reason}")]
    BadArgument {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
        /// Which argument.
        argument: String,
        /// Why.
        reason: String,
    },
}

/// Why a queue was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteQueueError {
    /// Locked.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// if-unused, and it has consumers (406).
    #[error("queue '{queue}' in vhost '{vhost}' in use")]
    InUse {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
    },
    /// if-empty, and it has messages (406).
    #[error("queue '{queue}' in vhost '{vhost}' not empty")]
    NotEmpty {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
    },
}

/// Why a binding was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Not allowed (403).
    #[error(transparent)]
    Forbidden(#[from] AccessRefused),
    /// The source (404).
    #[error("no exchange '{exchange}' in vhost '{vhost}'")]
    ExchangeMissing {
        /// Which.
        exchange: ExchangeName,
        /// Where.
        vhost: VhostName,
    },
    /// The queue is missing or locked.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The default exchange (403).
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// The direct reply-to pseudo queue (403).
    #[error("operation not permitted on '{queue}'")]
    ReplyQueue {
        /// As sent.
        queue: QueueName,
    },
    /// Bad x-match, or too many `#` (406).
    #[error("invalid binding: {reason}")]
    BadBinding {
        /// Why.
        reason: String,
    },
}

/// Why a publish was refused at the door.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Not allowed (403).
    #[error(transparent)]
    Forbidden(#[from] AccessRefused),
    /// 404.
    #[error("no exchange '{exchange}' in vhost '{vhost}'")]
    ExchangeMissing {
        /// As sent.
        exchange: String,
        /// Where.
        vhost: VhostName,
    },
    /// Internal exchange: 403.
    #[error("cannot publish to internal exchange '{exchange}' in vhost '{vhost}'")]
    InternalExchange {
        /// Which.
        exchange: ExchangeName,
        /// Where.
        vhost: VhostName,
    },
    /// 406.
    #[error("message size {size_bytes} is larger than configured max size {size_max_bytes}")]
    TooLarge {
        /// Of the body.
        size_bytes: u64,
        /// The limit.
        size_max_bytes: u64,
    },
    /// 406.
    #[error("user_id property set to '{claimed}' but authenticated user was '{user}'")]
    WrongUserId {
        /// As sent.
        claimed: String,
        /// The user.
        user: UserName,
    },
    /// 406: expiration, CC/BCC, reply-to.
    #[error("invalid {property}: {reason}")]
    BadProperty {
        /// Which.
        property: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why a consumer was not started.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// Missing or locked.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// 403.
    #[error("queue '{queue}' in vhost '{vhost}' in exclusive use")]
    ExclusiveUse {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
    },
    /// 406.
    #[error("invalid arg '{argument}' for consumer: {reason}")]
    BadArgument {
        /// Which argument.
        argument: String,
        /// Why.
        reason: String,
    },
    /// 530.
    #[error("reached maximum ({limit}) of consumers")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// A consumer of a stream without a prefetch (406).
    #[error(
        "consumer prefetch count is not set for stream queue '{queue}' in vhost '{vhost}': set it with basic.qos"
    )]
    NoPrefetch {
        /// Which.
        queue: QueueName,
        /// Where.
        vhost: VhostName,
    },
    /// 406: a second direct reply-to consumer on a channel.
    #[error("reply consumer already set")]
    ReplyInboxExists,
}

impl From<crate::queue::arguments::BadArgument> for ConsumeError {
    fn from(bad: crate::queue::arguments::BadArgument) -> Self {
        Self::BadArgument { argument: bad.argument.to_owned(), reason: bad.reason }
    }
}

/// Why `basic.get` failed.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Missing or locked.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The message is on disk; try again when `Session::poll_loaded` is ready.
    #[error("the message is being read from disk")]
    Loading,
}

/// No writes are taken; nothing was taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteRefused {
    /// By the store.
    #[error("{0}")]
    Store(CommitError),
    /// By an alarm that is old: publishes of clients only.
    #[error("the broker is {reason}, publishes are refused until the alarm is over")]
    Alarm {
        /// `low on memory`
        reason: Arc<str>,
    },
}
