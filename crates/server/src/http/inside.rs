//! The management API for those inside the process: the same handlers, without a socket, as the broker's own user.

use super::door::{Door, Inside};
use super::{Facts, management};
use crate::engine_door::EngineDoor;
use crate::options::HttpOptions;
use crate::progress::Progress;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, Uri};
use millpond_broker::{Actor, Broker};
use std::convert::Infallible;
use std::sync::Arc;
use tower_service::Service;

/// Largest answer: the definitions of a node with a hundred thousand queues. Bytes.
const ANSWER_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Asks what a request over HTTP would ask, and may everything.
#[derive(Debug, Clone)]
pub struct Api {
    router: Router,
    broker: Broker,
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct ApiRequest {
    /// `GET`, `PUT`, `POST` or `DELETE`.
    pub method: String,
    /// Below `/api`, with its query: `/queues/%2F/orders?columns=name`.
    pub path: String,
    /// JSON; empty: none.
    pub body: Bytes,
    /// Why, for those whom it concerns: a client whose connection is closed.
    pub reason: Option<String>,
    /// Moved by what takes long.
    pub progress: Progress,
    /// Who asks, as the audit log names them; `None`: the process itself.
    pub actor: Option<Actor>,
}

/// What comes back.
#[derive(Debug, Clone)]
pub struct ApiAnswer {
    /// Of HTTP.
    pub status: u16,
    /// JSON, or empty.
    pub body: Bytes,
}

/// What cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No method.
    #[error("'{0}' is no method: use GET, PUT, POST or DELETE")]
    Method(String),
    /// No path.
    #[error("'{0}' is no path: it begins with a slash and is without /api, as /queues/%2F/orders")]
    Path(String),
    /// No reason.
    #[error("a reason has no line breaks and no control characters")]
    Reason,
    /// See [`ANSWER_MAX_BYTES`].
    #[error("the answer has more than {ANSWER_MAX_BYTES} bytes: ask for a page of it")]
    TooLarge,
}

impl Api {
    pub(crate) fn new(
        broker: Broker,
        facts: Facts,
        options: &HttpOptions,
        engine: Option<Arc<dyn EngineDoor>>,
    ) -> Self {
        let door = Arc::new(Door::new(broker.clone(), options, facts.http_port(), None));
        Self { router: management::inside(broker.clone(), Arc::new(facts), door, engine), broker }
    }

    /// The answer; refusals are answers too, with the status and the body that a client would get.
    pub async fn ask(&self, asked: ApiRequest) -> Result<ApiAnswer, ApiError> {
        let method: Method = asked.method.parse().map_err(|_| ApiError::Method(asked.method.clone()))?;
        let uri: Option<Uri> = asked.path.parse().ok().filter(|uri: &Uri| uri.authority().is_none());
        let Some(uri) = uri.filter(|_| asked.path.starts_with('/')) else {
            return Err(ApiError::Path(asked.path));
        };
        let mut request = Request::new(Body::from(asked.body));
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        if let Some(reason) = asked.reason {
            let reason = HeaderValue::try_from(reason).map_err(|_| ApiError::Reason)?;
            request.headers_mut().insert(management::REASON, reason);
        }
        let login = match asked.actor {
            Some(actor) => self.broker.in_hands_of(actor).internal_login(),
            None => self.broker.internal_login(),
        };
        request.extensions_mut().insert(Inside(login));
        request.extensions_mut().insert(asked.progress);
        // A router is always ready.
        let answered: Result<_, Infallible> = self.router.clone().call(request).await;
        let response = answered.unwrap_or_else(|never| match never {});
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), ANSWER_MAX_BYTES).await.map_err(|_| ApiError::TooLarge)?;
        Ok(ApiAnswer { status, body })
    }
}
