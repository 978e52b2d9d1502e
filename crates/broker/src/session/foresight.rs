//! What a definition would find, asked before it is made: nothing changes, nothing is written.

use super::Session;
use super::definitions::strip_queue;
use crate::error::{DeclareExchangeError, DeclareQueueError};
use crate::request::{Binding, DeclareExchange, DeclareQueue};
use millpond_model::QueueName;

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
}
