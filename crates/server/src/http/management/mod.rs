//! The management API as RabbitMQ has it, under `/api`: what exists, changed and listed by any of its clients.
//!
//! | File | Paths |
//! |---|---|
//! | `node` | overview, nodes, cluster-name, extensions, feature-flags, health checks |
//! | `vhosts`, `limits` | vhosts; vhost-limits, user-limits |
//! | `login` | login |
//! | `users` | users, whoami, permissions, topic-permissions, auth |
//! | `policies` | policies, operator-policies, parameters |
//! | `exchanges`, `queues`, `messages`, `bindings` | what is in a vhost; publish, get, purge |
//! | `connections` | connections, channels, consumers |
//! | `definitions` | export and import |
//! | `engine` | rules, sources, topology, secrets |
//! | `live` | the others' answers again and again |
//!
//! Who asks is an [`Asker`]: what belongs to no session goes through `Operator::may`, what is a vhost's goes through a
//! session of the asker, so that permissions are those of AMQP. Handlers refuse with [`Refusal`]s; one layer says
//! those in RabbitMQ's words.

mod bindings;
mod connections;
mod definitions;
mod engine;
mod exchanges;
mod fields;
mod health;
mod limits;
mod listing;
mod live;
mod login;
mod messages;
mod node;
mod policies;
mod queues;
mod users;
mod vhosts;

use super::Facts;
use super::door::Door;
use super::refusal::Refusal;
use crate::engine_door::EngineDoor;
use crate::stop::StopSignal;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::Response;
use millpond_broker::{Broker, Login, OpenSession, Operation, Operator, Session, VhostInfo};
use millpond_model::{ExchangeName, NameError, QueueName, UserName, VhostName};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::Semaphore;

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
    let asked = Router::new()
        .merge(node::router())
        .merge(health::router())
        .merge(vhosts::router())
        .merge(limits::router())
        .merge(login::router())
        .merge(users::router())
        .merge(policies::router())
        .merge(exchanges::router())
        .merge(queues::router())
        .merge(messages::router())
        .merge(bindings::router())
        .merge(connections::router())
        .merge(definitions::router())
        .merge(engine::router())
        .fallback(|| async { missing() })
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(map_response(in_rabbitmq_words))
        .with_state(shared.clone());
    let live = live::router(shared, asked.clone(), stop).layer(map_response(in_rabbitmq_words));
    Router::new().nest("/api", asked.merge(live))
}

/// Somebody who may use the management side.
#[derive(Debug)]
struct Asker(Operator);

impl FromRequestParts<Shared> for Asker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let login = shared.door.login(parts).await?;
        let operator = shared.broker.operator(login);
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
    Refusal::new(StatusCode::NOT_FOUND, "Not Found").called("Object Not Found")
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

/// RabbitMQ has its own statuses and words: what may not be done is 401, what does not fit 400.
async fn in_rabbitmq_words(response: Response) -> Response {
    let Some(refusal) = response.extensions().get::<Refusal>() else { return response };
    let (status, word) = match refusal.status() {
        StatusCode::UNAUTHORIZED => (StatusCode::UNAUTHORIZED, "not_authorized"),
        // What RabbitMQ has no word for stays what it is.
        StatusCode::FORBIDDEN if refusal.word().is_some() => (StatusCode::FORBIDDEN, "forbidden"),
        StatusCode::FORBIDDEN => (StatusCode::UNAUTHORIZED, "not_authorised"),
        StatusCode::CONFLICT | StatusCode::BAD_REQUEST => (StatusCode::BAD_REQUEST, "bad_request"),
        StatusCode::NOT_FOUND => (StatusCode::NOT_FOUND, "not_found"),
        StatusCode::PAYLOAD_TOO_LARGE => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
        StatusCode::TOO_MANY_REQUESTS => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
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
