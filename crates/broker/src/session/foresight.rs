//! What a definition would find, asked before it is made, and what it is held to: nothing changes, nothing is written.

use super::Session;
use super::definitions::strip_queue;
use crate::error::{DeclareExchangeError, DeclareQueueError, Inequivalent, QueueError};
use crate::queue::QueueCell;
use crate::queue::arguments::{self, QueueType, inequivalent_field};
use crate::request::{Binding, DeclareExchange, DeclareQueue};
use crate::vhost::with_altered;
use millpond_model::QueueName;
use millpond_model::table::Table;

impl Session {
    /// Whether declaring would make an exchange: `false` if one of this shape is there. Errors as declaring has them.
    pub fn would_declare_exchange(&self, request: &DeclareExchange) -> Result<bool, DeclareExchangeError> {
        let is_new = self.vhost.read().check_exchange(request)?.is_some();
        if is_new && request.durable {
            self.core.check_writable()?;
        }
        Ok(is_new)
    }

    /// Whether declaring would make a queue: `false` if one of this shape is there. Errors as declaring has them.
    pub fn would_declare_queue(&self, request: &DeclareQueue) -> Result<bool, DeclareQueueError> {
        let stripped = strip_queue(&request.name);
        let name = stripped.as_ref().unwrap_or(&request.name);
        let typed = self.with_default_type(request);
        let request = typed.as_ref().unwrap_or(request);
        let (there, count) = {
            let router = self.vhost.read();
            (router.queue(name.as_str()).map(|queue| queue.0.clone()), router.queues().len() as u64)
        };
        if let Some(cell) = there {
            self.check_redeclare(request, &cell)?;
            return Ok(false);
        }
        self.check_new_queue(name, request)?;
        self.check_room(name, count)?;
        Ok(true)
    }

    /// The ready messages of a queue; `None`: there is none of that name.
    pub fn ready_count(&self, queue: &QueueName) -> Option<u64> {
        let cell = self.vhost.read().queue(queue.as_str()).map(|queue| queue.0.clone())?;
        Some(cell.counts().0)
    }

    /// Whether a queue is a stream; `None`: there is none of that name.
    pub fn is_stream(&self, queue: &QueueName) -> Option<bool> {
        let cell = self.vhost.read().queue(queue.as_str()).map(|queue| queue.0.clone())?;
        Some(cell.stream().is_some())
    }

    /// Whether there is such an exchange.
    pub fn has_exchange(&self, exchange: &str) -> bool {
        self.vhost.read().exchange(exchange).is_some()
    }

    /// Whether it is bound like that.
    pub fn has_binding(&self, binding: &Binding) -> bool {
        self.vhost.read().has_binding(binding)
    }

    // ---- what a declaration is held to

    /// Whether a declaration fits the queue that is there.
    pub(super) fn check_redeclare(
        &self,
        request: &DeclareQueue,
        cell: &QueueCell,
    ) -> Result<(), DeclareQueueError> {
        self.check_access(cell)?;
        if request.passive {
            return Ok(());
        }
        let spec = cell.spec();
        if request.exclusive != spec.exclusive.is_some() {
            let (queue, vhost) = (spec.name.clone(), self.vhost.name.clone());
            return Err(QueueError::Locked { queue, vhost }.into());
        }
        let differs = if request.durable != spec.durable {
            Some(inequivalent_field("durable", request.durable, spec.durable))
        } else if request.auto_delete != spec.auto_delete {
            Some(inequivalent_field("auto_delete", request.auto_delete, spec.auto_delete))
        } else {
            self.differs_from(&request.arguments, cell)
        };
        match differs {
            None => Ok(()),
            Some(arg) => Err(DeclareQueueError::Inequivalent {
                queue: spec.name.clone(),
                vhost: self.vhost.name.clone(),
                arg,
            }),
        }
    }

    /// The first argument that is neither as declared nor as altered since: clients that know nothing of an
    /// alteration go on declaring what they did, those that know it declare the new value.
    fn differs_from(&self, received: &Table, cell: &QueueCell) -> Option<Inequivalent> {
        let declared = &cell.spec().arguments;
        let differs = arguments::difference(received, declared)?;
        let altered = &cell.effective().altered;
        match altered.is_empty() {
            true => Some(differs),
            false => arguments::difference(received, &with_altered(declared, altered)),
        }
    }

    /// The request with the vhost's default queue type, if that applies to it: to queues that every type can be,
    /// when the client names none.
    pub(super) fn with_default_type(&self, request: &DeclareQueue) -> Option<DeclareQueue> {
        let any_type =
            request.durable && !request.exclusive && !request.auto_delete && !request.name.is_empty();
        if request.passive || !any_type || request.arguments.get("x-queue-type").is_some() {
            return None;
        }
        let kind = self.vhost.definition().default_queue_type;
        if kind.is_empty() {
            return None;
        }
        let mut typed = request.clone();
        typed.arguments.push("x-queue-type", &*kind);
        Some(typed)
    }

    /// Whether the vhost takes one more queue.
    pub(super) fn check_room(&self, name: &QueueName, count: u64) -> Result<(), DeclareQueueError> {
        match self.vhost.definition().limits.queues_max {
            Some(limit) if count >= limit => {
                let (queue, vhost) = (name.clone(), self.vhost.name.clone());
                Err(DeclareQueueError::TooMany { queue, vhost, limit })
            }
            _ => Ok(()),
        }
    }

    /// Whether a queue of this name and shape may be made.
    pub(super) fn check_new_queue(
        &self,
        name: &QueueName,
        request: &DeclareQueue,
    ) -> Result<(), DeclareQueueError> {
        if name.as_str().starts_with("amq.") {
            return Err(DeclareQueueError::Reserved { queue: name.clone() });
        }
        let bad = |argument: &str, reason: String| DeclareQueueError::BadArgument {
            queue: name.clone(),
            vhost: self.vhost.name.clone(),
            argument: argument.to_owned(),
            reason,
        };
        let kind = arguments::check(&request.arguments).map_err(|error| bad(error.argument, error.reason))?;
        if kind == QueueType::Quorum && (!request.durable || request.exclusive || name.is_empty()) {
            let reason = "a quorum queue must be durable, not exclusive, and named by the client".into();
            return Err(bad("x-queue-type", reason));
        }
        let lasting = request.durable && !request.exclusive && !request.auto_delete && !name.is_empty();
        if kind == QueueType::Stream && !lasting {
            let reason = "a stream must be durable, not exclusive, not auto-delete, and named by the client";
            return Err(bad("x-queue-type", reason.into()));
        }
        if request.durable && !request.exclusive {
            self.core.check_writable().map_err(QueueError::from)?;
        }
        for (argument, known) in arguments::without_effect(&request.arguments) {
            if known {
                tracing::warn!(queue = %name, argument, "queue argument is kept and not acted on yet");
            } else {
                tracing::warn!(queue = %name, argument, "queue argument is not known and has no effect");
            }
        }
        Ok(())
    }
}
