//! Answers that say no, and the one place where the broker's errors become statuses.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millpond_broker::{
    AlterError, BadPattern, BindError, ConsumeError, DeclareExchangeError, DeclareQueueError,
    DeleteExchangeError, DeleteQueueError, OpenSessionError, OperationRefused, PaceError, ParameterError,
    PolicyError, PublishError, QueueError, SetPolicyError, TransferError, UserError, VhostError,
    VhostMissing, WriteRefused,
};
use serde_json::{Map, Value};

/// Seconds that a client who comes too fast is asked to wait.
const RETRY_AFTER_S: u64 = 1;

/// A request that was not carried out: nothing of it has happened.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// Members beside `error` and `reason`.
    more: Map<String, Value>,
    /// When a client who comes too fast may come again.
    retry_after_s: u64,
    /// What the management API calls it, if not by its status.
    word: Option<&'static str>,
    /// Whether a browser is not told that it may ask for the password itself.
    is_quiet: bool,
    reason: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { status, more: Map::new(), retry_after_s: RETRY_AFTER_S, word: None, is_quiet: false, reason }
    }

    pub(crate) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// Come again later: the broker has all that it can take for now.
    pub(crate) fn too_fast(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, reason)
    }

    /// How long the client is asked to wait.
    pub(crate) fn after_ms(mut self, ms: u64) -> Self {
        self.retry_after_s = ms.div_ceil(1000);
        self
    }

    /// Gives it the name that RabbitMQ's management API has for it.
    pub(crate) fn called(mut self, word: &'static str) -> Self {
        self.word = Some(word);
        self
    }

    /// For a page that asks for the password itself: the browser is not told to.
    pub(crate) fn quietly(mut self) -> Self {
        self.is_quiet = true;
        self
    }

    /// The broker cannot serve this now, or ever again.
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    }

    /// Adds a member to the answer.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }
}

impl Refusal {
    /// The status it answers with.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// RabbitMQ's name for it, if it has its own.
    pub(crate) fn word(&self) -> Option<&'static str> {
        self.word
    }

    /// What the answer has beside the reason.
    pub(crate) fn more(&self) -> &Map<String, Value> {
        &self.more
    }

    /// What is wrong.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

/// The refusal itself goes along as an extension, for a layer that says it in other words.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let this = self.clone();
        let reason = self.status.canonical_reason().unwrap_or("error");
        let mut body = self.more;
        body.insert("error".to_owned(), reason.to_lowercase().replace(' ', "_").into());
        body.insert("reason".to_owned(), self.reason.into());
        let mut response = (self.status, Json(Value::Object(body))).into_response();
        let header = match self.status {
            StatusCode::UNAUTHORIZED if !this.is_quiet => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Millpond\"")))
            }
            StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, self.retry_after_s.into())),
            _ => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(this);
        response
    }
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<OpenSessionError> for Refusal {
    fn from(error: OpenSessionError) -> Self {
        let status = match error {
            OpenSessionError::VhostMissing { .. } => StatusCode::NOT_FOUND,
            OpenSessionError::Forbidden { .. } => StatusCode::FORBIDDEN,
            OpenSessionError::TooManySessions { .. }
            | OpenSessionError::VhostLimit { .. }
            | OpenSessionError::UserLimit { .. } => StatusCode::TOO_MANY_REQUESTS,
            OpenSessionError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        let status = match error {
            PublishError::ExchangeMissing { .. } => StatusCode::NOT_FOUND,
            PublishError::Forbidden(_) | PublishError::InternalExchange { .. } => StatusCode::FORBIDDEN,
            PublishError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            PublishError::WrongUserId { .. } | PublishError::BadProperty { .. } => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<WriteRefused> for Refusal {
    fn from(refused: WriteRefused) -> Self {
        use millpond_broker::CommitError;
        match refused {
            WriteRefused::Alarm { .. } | WriteRefused::Store(CommitError::OutOfSpace { .. }) => {
                Self::too_fast(refused.to_string())
            }
            WriteRefused::Store(_) => Self::unavailable(refused.to_string()),
        }
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Refused(refused) => refused.into(),
            QueueError::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, error.to_string()),
            QueueError::Missing { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            QueueError::Locked { .. } | QueueError::NotForStreams { .. } => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
        }
    }
}

impl From<ConsumeError> for Refusal {
    fn from(error: ConsumeError) -> Self {
        match error {
            ConsumeError::Queue(error) => error.into(),
            ConsumeError::ExclusiveUse { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            ConsumeError::BadArgument { .. } | ConsumeError::NoPrefetch { .. } => {
                Self::bad_request(error.to_string())
            }
            ConsumeError::TooMany { .. } => Self::too_fast(error.to_string()),
            ConsumeError::ReplyInboxExists => Self::new(StatusCode::CONFLICT, error.to_string()),
        }
    }
}

impl From<DeclareQueueError> for Refusal {
    fn from(error: DeclareQueueError) -> Self {
        let status = match error {
            DeclareQueueError::Queue(error) => return error.into(),
            DeclareQueueError::Inequivalent { .. } => StatusCode::CONFLICT,
            DeclareQueueError::Reserved { .. } => StatusCode::FORBIDDEN,
            DeclareQueueError::TooMany { .. } | DeclareQueueError::BadArgument { .. } => {
                StatusCode::BAD_REQUEST
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<DeleteQueueError> for Refusal {
    fn from(error: DeleteQueueError) -> Self {
        match error {
            DeleteQueueError::Queue(error) => error.into(),
            DeleteQueueError::InUse { .. } | DeleteQueueError::NotEmpty { .. } => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
        }
    }
}

impl From<BindError> for Refusal {
    fn from(error: BindError) -> Self {
        let status = match error {
            BindError::Queue(error) => return error.into(),
            BindError::ExchangeMissing { .. } => StatusCode::NOT_FOUND,
            BindError::BadBinding { .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        };
        Self::new(status, error.to_string())
    }
}

// ---- the management side

impl From<OperationRefused> for Refusal {
    fn from(refused: OperationRefused) -> Self {
        Self::new(StatusCode::FORBIDDEN, refused.to_string())
    }
}

impl From<VhostMissing> for Refusal {
    fn from(missing: VhostMissing) -> Self {
        Self::new(StatusCode::NOT_FOUND, missing.to_string())
    }
}

impl From<VhostError> for Refusal {
    fn from(error: VhostError) -> Self {
        match error {
            VhostError::Missing(missing) => missing.into(),
            VhostError::Refused(refused) => refused.into(),
            VhostError::Protected { .. } => Self::new(StatusCode::PRECONDITION_FAILED, error.to_string()),
            other => Self::bad_request(other.to_string()),
        }
    }
}

impl From<UserError> for Refusal {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Missing { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            UserError::Vhost(missing) => missing.into(),
            UserError::Refused(refused) => refused.into(),
            other => Self::bad_request(other.to_string()),
        }
    }
}

impl From<ParameterError> for Refusal {
    fn from(error: ParameterError) -> Self {
        match error {
            ParameterError::Vhost(missing) => missing.into(),
            ParameterError::Refused(refused) => refused.into(),
            ParameterError::Missing { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            other => Self::bad_request(other.to_string()),
        }
    }
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<BadPattern> for Refusal {
    fn from(error: BadPattern) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<SetPolicyError> for Refusal {
    fn from(error: SetPolicyError) -> Self {
        match error {
            SetPolicyError::Vhost(missing) => missing.into(),
            SetPolicyError::Refused(refused) => refused.into(),
            SetPolicyError::Policy(error) => error.into(),
            SetPolicyError::Missing { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
        }
    }
}

impl From<PaceError> for Refusal {
    fn from(error: PaceError) -> Self {
        match error {
            PaceError::Vhost { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            PaceError::Queue(error) => error.into(),
            PaceError::BadArgument { .. } => Self::bad_request(error.to_string()),
        }
    }
}

impl From<AlterError> for Refusal {
    fn from(error: AlterError) -> Self {
        match error {
            AlterError::Vhost(missing) => missing.into(),
            AlterError::Queue(error) => error.into(),
            other => Self::bad_request(other.to_string()),
        }
    }
}

impl From<TransferError> for Refusal {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Vhost(missing) => missing.into(),
            TransferError::Queue(error) => error.into(),
            TransferError::Refused(refused) => refused.into(),
            other => Self::bad_request(other.to_string()),
        }
    }
}

impl From<DeclareExchangeError> for Refusal {
    fn from(error: DeclareExchangeError) -> Self {
        let status = match error {
            DeclareExchangeError::Refused(refused) => return refused.into(),
            DeclareExchangeError::Missing { .. } => StatusCode::NOT_FOUND,
            DeclareExchangeError::Inequivalent { .. } => StatusCode::CONFLICT,
            DeclareExchangeError::Forbidden(_)
            | DeclareExchangeError::Reserved { .. }
            | DeclareExchangeError::DefaultExchange => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<DeleteExchangeError> for Refusal {
    fn from(error: DeleteExchangeError) -> Self {
        let status = match error {
            DeleteExchangeError::Refused(refused) => return refused.into(),
            DeleteExchangeError::InUse { .. } => StatusCode::CONFLICT,
            _ => StatusCode::FORBIDDEN,
        };
        Self::new(status, error.to_string())
    }
}
