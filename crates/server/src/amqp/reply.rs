//! What goes wrong, as the client is told: the one place where the broker's errors become reply codes.

use millpond_amqp_codec::{ContentHeaderError, FrameError, MethodError, ReplyCode};
use millpond_broker::{
    BindError, ChannelLimit, ConsumeError, DeclareExchangeError, DeclareQueueError, DeleteExchangeError,
    DeleteQueueError, GetError, OpenSessionError, PublishError, QueueError, WriteRefused,
};
use millpond_model::NameError;
use std::fmt::Display;

/// Why a channel or the connection is to be closed; the code says which of the two ([`ReplyCode::is_hard`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: ReplyCode,
    /// The whole reply text: `NOT_FOUND - no queue 'q' in vhost '/'`.
    pub(crate) text: String,
    /// Class and method that it is about, where one is known.
    pub(crate) method: (u16, u16),
}

impl Fault {
    #[cold]
    pub(crate) fn new(code: ReplyCode, explanation: impl Display) -> Self {
        Self { code, text: code.text(explanation), method: (0, 0) }
    }

    /// Names the method that it is about.
    pub(crate) fn of(mut self, class_id: u16, method_id: u16) -> Self {
        self.method = (class_id, method_id);
        self
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::new(error.reply_code(), error)
    }
}

impl From<MethodError> for Fault {
    fn from(error: MethodError) -> Self {
        Self::new(error.reply_code(), error)
    }
}

impl From<ContentHeaderError> for Fault {
    fn from(error: ContentHeaderError) -> Self {
        Self::new(error.reply_code(), error)
    }
}

impl From<NameError> for Fault {
    fn from(error: NameError) -> Self {
        Self::new(ReplyCode::SyntaxError, error)
    }
}

/// A full or poisoned store is no fault of the client's: the channel is closed, the connection may try again.
impl From<WriteRefused> for Fault {
    fn from(error: WriteRefused) -> Self {
        Self::new(ReplyCode::PreconditionFailed, error)
    }
}

impl From<DeclareExchangeError> for Fault {
    fn from(error: DeclareExchangeError) -> Self {
        use DeclareExchangeError as E;
        let code = match &error {
            E::Missing { .. } => ReplyCode::NotFound,
            E::Inequivalent { .. } | E::UnknownType { .. } | E::BadArgument { .. } | E::Refused(_) => {
                ReplyCode::PreconditionFailed
            }
            E::Forbidden(_) | E::Reserved { .. } | E::DefaultExchange => ReplyCode::AccessRefused,
        };
        Self::new(code, error)
    }
}

impl From<DeleteExchangeError> for Fault {
    fn from(error: DeleteExchangeError) -> Self {
        use DeleteExchangeError as E;
        let code = match &error {
            E::Forbidden(_) | E::BuiltIn { .. } | E::DefaultExchange => ReplyCode::AccessRefused,
            E::InUse { .. } | E::Refused(_) => ReplyCode::PreconditionFailed,
        };
        Self::new(code, error)
    }
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        Self::new(queue_code(&error), error)
    }
}

fn queue_code(error: &QueueError) -> ReplyCode {
    match error {
        QueueError::Forbidden(_) => ReplyCode::AccessRefused,
        QueueError::Missing { .. } => ReplyCode::NotFound,
        QueueError::Locked { .. } => ReplyCode::ResourceLocked,
        QueueError::Refused(_) => ReplyCode::PreconditionFailed,
        QueueError::NotForStreams { .. } => ReplyCode::NotImplemented,
    }
}

impl From<DeclareQueueError> for Fault {
    fn from(error: DeclareQueueError) -> Self {
        use DeclareQueueError as E;
        let code = match &error {
            E::Queue(error) => queue_code(error),
            E::Inequivalent { .. } | E::BadArgument { .. } | E::TooMany { .. } => {
                ReplyCode::PreconditionFailed
            }
            E::Reserved { .. } => ReplyCode::AccessRefused,
        };
        Self::new(code, error)
    }
}

impl From<DeleteQueueError> for Fault {
    fn from(error: DeleteQueueError) -> Self {
        use DeleteQueueError as E;
        let code = match &error {
            E::Queue(error) => queue_code(error),
            E::InUse { .. } | E::NotEmpty { .. } => ReplyCode::PreconditionFailed,
        };
        Self::new(code, error)
    }
}

impl From<BindError> for Fault {
    fn from(error: BindError) -> Self {
        use BindError as E;
        let code = match &error {
            E::ExchangeMissing { .. } => ReplyCode::NotFound,
            E::Queue(error) => queue_code(error),
            E::Forbidden(_) | E::DefaultExchange | E::ReplyQueue { .. } => ReplyCode::AccessRefused,
            E::BadBinding { .. } => ReplyCode::PreconditionFailed,
        };
        Self::new(code, error)
    }
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        use PublishError as E;
        let code = match &error {
            E::ExchangeMissing { .. } => ReplyCode::NotFound,
            E::Forbidden(_) | E::InternalExchange { .. } => ReplyCode::AccessRefused,
            E::TooLarge { .. } | E::WrongUserId { .. } | E::BadProperty { .. } => {
                ReplyCode::PreconditionFailed
            }
        };
        Self::new(code, error)
    }
}

impl From<ConsumeError> for Fault {
    fn from(error: ConsumeError) -> Self {
        use ConsumeError as E;
        let code = match &error {
            E::Queue(error) => queue_code(error),
            E::ExclusiveUse { .. } => ReplyCode::AccessRefused,
            E::BadArgument { .. } | E::NoPrefetch { .. } | E::ReplyInboxExists => {
                ReplyCode::PreconditionFailed
            }
            E::TooMany { .. } => ReplyCode::NotAllowed,
        };
        Self::new(code, error)
    }
}

impl From<GetError> for Fault {
    fn from(error: GetError) -> Self {
        let code = match &error {
            GetError::Queue(error) => queue_code(error),
            // Waited for, never sent.
            GetError::Loading => ReplyCode::InternalError,
        };
        Self::new(code, error)
    }
}

impl From<ChannelLimit> for Fault {
    fn from(error: ChannelLimit) -> Self {
        Self::new(ReplyCode::NotAllowed, error)
    }
}

impl From<OpenSessionError> for Fault {
    fn from(error: OpenSessionError) -> Self {
        use OpenSessionError as E;
        let code = match &error {
            E::VhostMissing { .. }
            | E::Forbidden { .. }
            | E::TooManySessions { .. }
            | E::VhostLimit { .. }
            | E::UserLimit { .. } => ReplyCode::NotAllowed,
            E::ShuttingDown => ReplyCode::ConnectionForced,
        };
        Self::new(code, error)
    }
}
