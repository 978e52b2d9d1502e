//! Why a message would, or would not, reach a queue.

use super::VhostMissing;
use crate::access::{AccessRefused, Origin, Right, Thing};
use crate::error::PublishError;
use crate::queue::QueueCell;
use crate::request::Destination;
use crate::routing::{ExchangeKind, Resolution, RouteStep};
use crate::{Broker, Login};
use millpond_model::properties::RawProperties;
use millpond_model::{ExchangeName, QueueName, UserName, VhostName};
use std::sync::Arc;

/// A message that might be published.
#[derive(Debug, Clone)]
pub struct ExplainRequest {
    /// To this exchange.
    pub exchange: ExchangeName,
    /// With this key.
    pub routing_key: Box<[u8]>,
    /// Its properties, encoded and checked.
    pub properties: Vec<u8>,
    /// The queue that is asked about.
    pub queue: Option<QueueName>,
    /// By whom, if it is to be looked whether they may.
    pub by: Option<Publisher>,
}

/// Whose permissions count.
#[derive(Debug, Clone)]
pub enum Publisher {
    /// Those of a user, as they are kept.
    User(UserName),
    /// Those of whoever asks: a token has its own.
    Login(Login),
}

/// What becomes of the message at a queue, or why it does not come there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueReason {
    /// Which queue.
    pub queue: QueueName,
    /// For programs: `missing`, `not_routed`, `stored`, `refused_full`, `drops_oldest`, `once`, `expires`, `paused`,
    /// `no_consumers`, `exclusive`.
    pub code: &'static str,
    /// In words.
    pub reason: String,
    /// What the reason is about, by name.
    pub facts: Vec<(&'static str, u64)>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Where it would go, by name, if it may be published.
    pub queues: Vec<QueueName>,
    /// Bindings that were looked at, in the order of the message's way.
    pub steps: Vec<RouteStep>,
    /// There were more.
    pub truncated: bool,
    /// Why it may not be published, if it may not: `exchange_missing`, `internal_exchange`, `write_refused`,
    /// `topic_refused`, `bad_property`, with the words.
    pub refused: Option<(&'static str, String)>,
    /// Of the queues it would go to, and of the one that was asked about.
    pub queue_reasons: Vec<QueueReason>,
}

/// Why nothing is explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// There is no such vhost.
    #[error(transparent)]
    Vhost(#[from] VhostMissing),
    /// A header that decides about the way cannot be read.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Broker {
    /// Works out where a message would go and why, by the bindings and permissions as they are; nothing is published.
    pub fn explain(&self, vhost: &VhostName, request: &ExplainRequest) -> Result<Explanation, ExplainError> {
        let found = self.vhost(vhost)?;
        let properties = RawProperties::from_checked(&request.properties);
        let router = found.read();
        let (steps, truncated) = router.explain(&request.exchange, &request.routing_key, &properties)?;
        let mut resolution = Resolution::default();
        let exchange = request.exchange.as_str();
        let routed = router.route(exchange.as_bytes(), &request.routing_key, &properties, &mut resolution);
        let is_topic = router.exchange(exchange).is_some_and(|spec| spec.routes_as() == ExchangeKind::Topic);
        let asked = request.queue.as_ref().map(|name| {
            let cell = router.queue(name.as_str()).map(|queue| queue.0.clone());
            (name.clone(), cell)
        });
        drop(router);
        let mut cells: Vec<_> = resolution.queues.into_iter().map(|queue| queue.0).collect();
        cells.sort_by(|a, b| a.spec().name.cmp(&b.spec().name));
        let refused = match routed {
            Err(error) => Some((code_of(&error), error.to_string())),
            Ok(()) => request
                .by
                .as_ref()
                .and_then(|by| self.refusal(by, vhost, (exchange, &request.routing_key), is_topic)),
        };
        let mut queue_reasons: Vec<_> = cells.iter().flat_map(reasons).collect();
        if let Some((name, cell)) = asked
            && !cells.iter().any(|cell| cell.spec().name == name)
        {
            queue_reasons.push(absent(&name, cell.is_some(), &steps));
        }
        let queues = match refused {
            Some(_) => Vec::new(),
            None => cells.iter().map(|cell| cell.spec().name.clone()).collect(),
        };
        Ok(Explanation { queues, steps, truncated, refused, queue_reasons })
    }

    /// Why a user may not publish there.
    fn refusal(
        &self,
        by: &Publisher,
        vhost: &VhostName,
        (exchange, key): (&str, &[u8]),
        is_topic: bool,
    ) -> Option<(&'static str, String)> {
        let access = &self.core.access;
        let login = match by {
            Publisher::User(user) => {
                let (origin, actor) = (Origin::Table { version: 0 }, self.actor.clone());
                Login { user: user.clone(), peer: None, origin, actor }
            }
            Publisher::Login(login) => login.clone(),
        };
        let told = |code, refused: AccessRefused| Some((code, refused.to_string()));
        if let Err(refused) = access.check(&login, vhost, Right::Write, Thing::Exchange(exchange)) {
            return told("write_refused", refused);
        }
        match access.check_topic(&login, vhost, Right::Write, (exchange, key)) {
            Err(refused) if is_topic => told("topic_refused", refused),
            _ => None,
        }
    }
}

fn code_of(error: &PublishError) -> &'static str {
    match error {
        PublishError::ExchangeMissing { .. } => "exchange_missing",
        PublishError::InternalExchange { .. } => "internal_exchange",
        PublishError::Forbidden(_) => "write_refused",
        _ => "bad_property",
    }
}

/// Why a queue that was asked about does not get it.
fn absent(name: &QueueName, is_there: bool, steps: &[RouteStep]) -> QueueReason {
    let queue = name.clone();
    if !is_there {
        return QueueReason {
            reason: format!("there is no queue '{queue}'"),
            queue,
            code: "missing",
            facts: Vec::new(),
        };
    }
    let to = Destination::Queue(name.clone());
    let met = steps.iter().filter(|step| step.destination.as_ref() == Some(&to)).count();
    let reason = match met {
        0 => format!("no exchange on the message's way is bound to queue '{name}'"),
        _ => format!("none of the bindings to queue '{name}' takes the message"),
    };
    QueueReason { queue, code: "not_routed", reason, facts: vec![("bindings_met", met as u64)] }
}

fn reasons(cell: &Arc<QueueCell>) -> Vec<QueueReason> {
    let name = &cell.spec().name;
    let told = |code, reason: String, facts| QueueReason { queue: name.clone(), code, reason, facts };
    let mut found = Vec::new();
    let (ready, consumers) = cell.counts();
    let fate = cell.fate();
    match fate.full {
        Some(true) => found.push(told(
            "refused_full",
            format!("the queue is as long as it may be ({ready} messages) and refuses it"),
            vec![("ready", ready)],
        )),
        Some(false) => {
            found.push(told("stored", "it is put into the queue".to_owned(), vec![("ready", ready)]));
            found.push(told(
                "drops_oldest",
                format!("the queue is as long as it may be: its oldest message goes ({ready} are ready)"),
                vec![("ready", ready)],
            ));
        }
        None => found.push(told("stored", "it is put into the queue".to_owned(), vec![("ready", ready)])),
    }
    if fate.once {
        let reason = "the queue takes each id once: a repeated one is dropped".to_owned();
        found.push(told("once", reason, Vec::new()));
    }
    if let Some(ttl_ms) = fate.ttl_ms {
        found.push(told("expires", format!("it expires after {ttl_ms} ms"), vec![("ttl_ms", ttl_ms)]));
    }
    if fate.paused {
        found.push(told("paused", "the queue is paused: nobody is given anything".to_owned(), Vec::new()));
    }
    if consumers == 0 {
        found.push(told("no_consumers", "nobody consumes from the queue".to_owned(), Vec::new()));
    }
    if cell.spec().exclusive.is_some() {
        let reason = "the queue belongs to one connection, which alone reads it".to_owned();
        found.push(told("exclusive", reason, Vec::new()));
    }
    found
}
