//! The management API as RabbitMQ has it, under `/api`: what exists, changed and listed by any of its clients.
//!
//! | File | Paths |
//! |---|---|
//! | `node` | overview, nodes, extensions, feature-flags, health checks |
//! | `vhosts`, `limits` | vhosts; vhost-limits, user-limits |
//! | `login` | login |
//! | `users` | users, whoami, permissions, topic-permissions, auth |
//! | `policies`, `parameters` | policies, operator-policies; parameters, global-parameters, cluster-name |
//! | `shovels` | shovels: how they are |
//! | `exchanges`, `queues`, `messages`, `bindings` | what is in a vhost; publish, get, purge |
//! | `connections` | connections, channels, consumers |
//! | `definitions`, `imported` | export and import; what came of it |
//! | `operations`, `transfers` | queues paused, browsed and emptied into others; consumers changed and ended |
//! | `explain`, `graph` | where a message would go and why; what there is and how it hangs together |
//! | `waiting` | schedules, delayed messages |
//! | `engine` | rules, sources, topology, secrets |
//! | `statistics` | none of its own: what was counted, as all of them show it |
//! | `attention` | what somebody should look at |
//! | `audit` | audit: who changed what, who was refused; auth/attempts |
//! | `live` | the others' answers again and again |
//!
//! Who asks is an [`Asker`]: what belongs to no session goes through `Operator::may`, what is a vhost's goes through a
//! session of the asker, so that permissions are those of AMQP. Handlers refuse with [`Refusal`]s; one layer says
//! those in RabbitMQ's words.

mod attention;
mod audit;
mod bindings;
mod connections;
pub(crate) mod definitions;
mod engine;
mod exchanges;
mod explain;
mod fields;
mod graph;
mod health;
pub(crate) mod imported;
mod limits;
mod listing;
mod live;
mod login;
mod messages;
mod node;
mod operations;
mod parameters;
mod policies;
mod queues;
mod shovels;
mod statistics;
mod transfers;
mod users;
mod vhosts;
mod waiting;

use super::Facts;
use super::door::Door;
pub(super) use listing::parameters;
pub(super) use node::RABBITMQ_VERSION;

use super::refusal::Refusal;
use crate::engine_door::EngineDoor;
use crate::stop::StopSignal;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
pub(super) use connections::REASON;
use millpond_broker::{Broker, FrontEnd, Login, OpenSession, Operation, Operator, Session, VhostInfo};
use millpond_model::{ExchangeName, NameError, QueueName, UserName, VhostName};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower_service::Service;

/// Largest request: definitions, or a message in Base64.
const BODY_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Lists worked out at once: each takes a core, and a hundred thousand queues some 100 MB.
static LISTING: Semaphore = Semaphore::const_new(LISTING_MAX);
const LISTING_MAX: usize = 2;

/// What the path calls the default exchange.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// What the handlers share.
#[derive(Debug)]
struct Management {
    broker: Broker,
    facts: Arc<Facts>,
    door: Arc<Door>,
    engine: Option<Arc<dyn EngineDoor>>,
}

type Shared = Arc<Management>;
type Answer = Result<Response, Refusal>;

/// The management API.
pub(super) fn router(
    broker: Broker,
    facts: Arc<Facts>,
    door: Arc<Door>,
    engine: Option<Arc<dyn EngineDoor>>,
    stop: StopSignal,
) -> Router {
    let shared = Arc::new(Management { broker, facts, door, engine });
    let asked = asked(shared.clone());
    let live = live::router(shared, asked.clone(), stop).layer(from_fn(in_rabbitmq_words));
    let again = asked.clone();
    let api = asked.merge(live).fallback(move |request| without_slash(again, request));
    // What is nested begins behind the slash.
    let page = get(|| async { Redirect::permanent("/api") });
    Router::new().nest("/api", api).route_service("/api/", page)
}

/// The same for those inside the process, without `/api` in front and without what does not end.
pub(super) fn inside(
    broker: Broker,
    facts: Arc<Facts>,
    door: Arc<Door>,
    engine: Option<Arc<dyn EngineDoor>>,
) -> Router {
    asked(Arc::new(Management { broker, facts, door, engine }))
}

/// What is asked and answered.
fn asked(shared: Shared) -> Router {
    Router::new()
        .merge(node::router())
        .merge(attention::router())
        .merge(audit::router())
        .merge(health::router())
        .merge(vhosts::router())
        .merge(limits::router())
        .merge(login::router())
        .merge(users::router())
        .merge(policies::router())
        .merge(parameters::router())
        .merge(exchanges::router())
        .merge(queues::router())
        .merge(messages::router())
        .merge(bindings::router())
        .merge(connections::router())
        .merge(definitions::router())
        .merge(engine::router())
        .merge(explain::router())
        .merge(graph::router())
        .merge(waiting::router())
        .merge(operations::router())
        .merge(transfers::router())
        .merge(shovels::router())
        .merge(crate::http::openapi::router())
        .fallback(|| async { missing().called(OBJECT_NOT_FOUND) })
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(from_fn(in_rabbitmq_words))
        .with_state(shared)
}

/// Somebody who may use the management side.
#[derive(Debug)]
struct Asker(Operator);

impl FromRequestParts<Shared> for Asker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let login = shared.door.login(parts, FrontEnd::Management).await?;
        let operator = shared.broker.operator(login);
        // Without the query, in which anything may stand.
        let operator = operator.asking(format!("{} {}", parts.method, parts.uri.path()));
        operator.may(Operation::Enter)?;
        Ok(Self(operator))
    }
}

impl Asker {
    fn login(&self) -> &Login {
        self.0.login()
    }

    /// The broker, if this may be done with it.
    fn may(&self, operation: Operation<'_>) -> Result<&Broker, Refusal> {
        Ok(self.0.may(operation)?)
    }

    fn can(&self, operation: Operation<'_>) -> bool {
        self.0.can(operation)
    }

    /// The broker, for somebody who may see this vhost.
    fn see(&self, vhost: &VhostName) -> Result<&Broker, Refusal> {
        self.may(Operation::See(vhost))
    }

    fn administer(&self) -> Result<&Broker, Refusal> {
        self.may(Operation::Administer)
    }

    /// The vhosts that the asker may see, by name.
    fn vhosts(&self) -> Result<Vec<VhostInfo>, Refusal> {
        let mut all = self.may(Operation::Enter)?.list_vhosts();
        all.retain(|vhost| self.can(Operation::See(&vhost.name)));
        Ok(all)
    }

    /// The names of the vhosts that are meant: one, or all that the asker may see.
    fn vhosts_meant(&self, named: Option<&str>) -> Result<Vec<VhostName>, Refusal> {
        match named {
            None => Ok(self.vhosts()?.into_iter().map(|vhost| vhost.name).collect()),
            Some(name) => {
                let vhost = vhost_name(name)?;
                self.see(&vhost)?;
                Ok(vec![vhost])
            }
        }
    }

    /// A session of the asker, with its permissions.
    fn session(&self, vhost: &VhostName) -> Result<Session, Refusal> {
        let broker = self.may(Operation::Enter)?;
        let request = OpenSession {
            login: self.login().clone(),
            vhost: vhost.clone(),
            name: format!("management API of {}", self.login().user).into(),
        };
        let mut session = broker.open_session(request)?;
        session.set_confirming(true);
        Ok(session)
    }
}

/// Works an answer out where it holds no connection up: lists may be long.
async fn aside(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    // Never closed; if it were, there would only be more at once.
    let _slot = LISTING.acquire().await;
    let worked_out = tokio::task::spawn_blocking(work).await;
    worked_out.unwrap_or_else(|error| Err(Refusal::unavailable(error.to_string())))
}

/// There is nothing of that name.
fn missing() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "Not Found")
}

fn name<T>(parsed: Result<T, NameError>) -> Result<T, Refusal> {
    parsed.map_err(|error| Refusal::bad_request(error.to_string()))
}

fn vhost_name(text: &str) -> Result<VhostName, Refusal> {
    name(VhostName::new(text))
}

fn user_name(text: &str) -> Result<UserName, Refusal> {
    name(UserName::new(text))
}

fn queue_name(text: &str) -> Result<QueueName, Refusal> {
    name(QueueName::new(text))
}

fn exchange_name(text: &str) -> Result<ExchangeName, Refusal> {
    name(ExchangeName::new(if text == DEFAULT_EXCHANGE { "" } else { text }))
}

/// 201 for what is new, 204 for what was there.
fn put_status(is_new: bool) -> StatusCode {
    if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }
}

/// A path with a slash at its end is meant without it, as RabbitMQ takes it: `/api/users/`.
async fn without_slash(mut asked: Router, mut request: Request) -> Response {
    let uri = request.uri();
    let short = uri.path().trim_end_matches('/');
    let path = match uri.query() {
        _ if short.is_empty() => "/".to_owned(),
        Some(query) => format!("{short}?{query}"),
        None => short.to_owned(),
    };
    if let Ok(path) = PathAndQuery::try_from(path) {
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    // A router is always ready.
    asked.call(request).await.into_response()
}

/// What RabbitMQ calls a thing that is to be shown or deleted and is not there.
const OBJECT_NOT_FOUND: &str = "Object Not Found";

/// Longest text of a refusal that is not ours. Bytes.
const REASON_MAX_BYTES: usize = 4096;

/// RabbitMQ has its own statuses and words: what may not be done is 401, what does not fit 400.
async fn in_rabbitmq_words(request: Request, next: Next) -> Response {
    let is_put = matches!(*request.method(), Method::PUT | Method::POST);
    let response = next.run(request).await;
    let refusal = match response.extensions().get::<Refusal>() {
        Some(refusal) => refusal.clone(),
        // What axum refuses: a path that is no UTF-8, a body that is too large.
        None if response.status().is_client_error() && is_text(&response) => {
            let (parts, body) = response.into_parts();
            let text = axum::body::to_bytes(body, REASON_MAX_BYTES).await.unwrap_or_default();
            let refusal = Refusal::new(parts.status, String::from_utf8_lossy(&text));
            return in_words(Response::from_parts(parts, Body::empty()), &refusal, is_put);
        }
        None => return response,
    };
    in_words(response, &refusal, is_put)
}

fn is_text(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/plain"))
}

fn in_words(response: Response, refusal: &Refusal, is_put: bool) -> Response {
    let (status, word) = match refusal.status() {
        StatusCode::UNAUTHORIZED => (StatusCode::UNAUTHORIZED, "not_authorized"),
        // What RabbitMQ has no word for stays what it is.
        StatusCode::FORBIDDEN if refusal.word().is_some() => (StatusCode::FORBIDDEN, "forbidden"),
        StatusCode::FORBIDDEN => (StatusCode::UNAUTHORIZED, "not_authorised"),
        StatusCode::CONFLICT | StatusCode::BAD_REQUEST => (StatusCode::BAD_REQUEST, "bad_request"),
        StatusCode::NOT_FOUND if is_put => (StatusCode::NOT_FOUND, "not_found"),
        StatusCode::NOT_FOUND => (StatusCode::NOT_FOUND, OBJECT_NOT_FOUND),
        StatusCode::PRECONDITION_FAILED => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
        StatusCode::PAYLOAD_TOO_LARGE => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
        StatusCode::TOO_MANY_REQUESTS => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
        other if other.is_client_error() => (other, "bad_request"),
        other => (other, "internal_server_error"),
    };
    let mut body = refusal.more().clone();
    body.insert("error".to_owned(), refusal.word().unwrap_or(word).into());
    body.insert("reason".to_owned(), refusal.reason().into());
    let body = Value::Object(body).to_string();
    let mut response = response.map(|_| Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
