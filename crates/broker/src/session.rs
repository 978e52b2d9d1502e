//! A front-end connection as the broker sees it.

use crate::error::*;
use crate::event::SessionEvent;
use crate::request::*;
use millpond_model::properties::RawProperties;
use millpond_model::{ExchangeName, QueueName};
use std::task::{Context, Poll};

/// One connection's (or rule's) view of the broker; used by one task, `&mut`. Dropping it closes it: consumers go,
/// unsettled deliveries are requeued, exclusive queues are deleted.
#[derive(Debug)]
pub struct Session(());

impl Session {
    /// Takes events out of the inbox into `out` (appended); `Pending` and a wake-up later when there is none.
    pub fn poll_events(&mut self, _cx: &mut Context<'_>, _out: &mut Vec<SessionEvent>) -> Poll<()> {
        unimplemented!()
    }

    /// As `poll_events`, without waiting: whether anything came.
    pub fn try_events(&mut self, _out: &mut Vec<SessionEvent>) -> bool {
        unimplemented!()
    }

    /// Ready while this session may publish more; `Pending` while a queue that it published to is over its limits
    /// (or, without confirms, while the store is full). The front end does not read its socket until it is ready.
    pub fn poll_publish_ready(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        unimplemented!()
    }

    /// Told by the front end how many bytes of deliveries taken by `poll_events` have left for the socket; the inbox
    /// limit counts bytes from delivery until here.
    pub fn deliveries_written(&mut self, _bytes: usize) {
        unimplemented!()
    }

    // ---- definitions. Each returns when the answer may be sent (the durable part is in a commit).

    /// Declares an exchange.
    pub fn declare_exchange(&mut self, _request: &DeclareExchange) -> Result<Durability, DeclareExchangeError> {
        unimplemented!()
    }

    /// Deletes an exchange; a missing one is fine.
    pub fn delete_exchange(
        &mut self,
        _name: &ExchangeName,
        _if_unused: bool,
    ) -> Result<Durability, DeleteExchangeError> {
        unimplemented!()
    }

    /// Declares a queue.
    pub fn declare_queue(
        &mut self,
        _request: &DeclareQueue,
    ) -> Result<(QueueDeclared, Durability), DeclareQueueError> {
        unimplemented!()
    }

    /// Deletes a queue; returns how many ready messages went. A missing one is fine (0).
    pub fn delete_queue(
        &mut self,
        _name: &QueueName,
        _if_unused: bool,
        _if_empty: bool,
    ) -> Result<(u64, Durability), DeleteQueueError> {
        unimplemented!()
    }

    /// Drops all ready messages; returns how many.
    pub fn purge_queue(&mut self, _name: &QueueName) -> Result<(u64, Durability), QueueError> {
        unimplemented!()
    }

    /// Binds a queue or an exchange to an exchange.
    pub fn bind(&mut self, _binding: &Binding) -> Result<Durability, BindError> {
        unimplemented!()
    }

    /// Removes a binding; a missing one is fine.
    pub fn unbind(&mut self, _binding: &Binding) -> Result<Durability, BindError> {
        unimplemented!()
    }

    // ---- publish

    /// Where a message with this exchange, key and properties goes. Cached per session for exchanges that look at the
    /// key only. Checks what must be checked at the door: exchange exists and is not internal, user_id, expiration,
    /// CC/BCC, reply-to, body size. `properties` may be changed by the front end afterwards only as
    /// [`Session::rewrite_properties`] says.
    pub fn route(
        &mut self,
        _exchange: &[u8],
        _routing_key: &[u8],
        _properties: &RawProperties<'_>,
        _body_size_bytes: u64,
    ) -> Result<Route, PublishError> {
        unimplemented!()
    }

    /// The property bytes to store when they must differ from those published: BCC removed, direct reply-to
    /// rewritten. `None` (nearly always): as they are.
    pub fn rewrite_properties(&mut self, _properties: &RawProperties<'_>) -> Option<Vec<u8>> {
        unimplemented!()
    }

    /// Publishes a batch: grouped by queue, appended, delivered, committed. Drains `batch`. `Pending` if any of it
    /// must reach the disk. `Err`: the store takes no writes and nothing of the batch was taken (nack).
    pub fn publish(&mut self, _batch: &mut Vec<Publish>) -> Result<Durability, WriteRefused> {
        unimplemented!()
    }

    // ---- consume

    /// Starts a consumer; deliveries come as events (never before this returns).
    pub fn consume(&mut self, _request: ConsumeRequest) -> Result<ConsumerId, ConsumeError> {
        unimplemented!()
    }

    /// Ends a consumer; its unsettled deliveries stay with the session. Deliveries of it that wait in the inbox and
    /// were not taken yet are requeued. Unknown: fine.
    pub fn cancel(&mut self, _consumer: ConsumerId) {
        unimplemented!()
    }

    /// Changes how many unsettled deliveries a consumer may have.
    pub fn set_prefetch(&mut self, _consumer: ConsumerId, _prefetch: u32) {
        unimplemented!()
    }

    /// Takes one message. `Ok(None)`: the queue is empty. A message that must be read from disk first:
    /// `Err(GetError::Loading)`, and `poll_loaded` tells when to try again.
    pub fn get(&mut self, _queue: &QueueName, _no_ack: bool) -> Result<Option<Got>, GetError> {
        unimplemented!()
    }

    /// Ready when the queue that answered `Loading` has loaded.
    pub fn poll_loaded(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        unimplemented!()
    }

    /// Settles deliveries of this session, in any order, of any queues. Unknown ones are ignored.
    pub fn settle(&mut self, _deliveries: &[DeliveryId], _outcome: Outcome) {
        unimplemented!()
    }

    /// Publishes and settles as one commit: all durable or nothing, across queues. Drains `publishes`.
    pub fn transact(
        &mut self,
        _publishes: &mut Vec<Publish>,
        _settles: &[(DeliveryId, Outcome)],
    ) -> Result<Durability, WriteRefused> {
        unimplemented!()
    }

    // ---- direct reply-to (contract A14)

    /// Opens this session's reply inbox for one channel; replies come as `SessionEvent::Reply` with the cookie.
    /// The returned name is what `amq.rabbitmq.reply-to` in reply_to is rewritten to.
    pub fn open_reply_inbox(&mut self, _cookie: u64) -> Result<QueueName, ConsumeError> {
        unimplemented!()
    }

    /// Closes it.
    pub fn close_reply_inbox(&mut self, _cookie: u64) {
        unimplemented!()
    }

    /// Confirm mode of this connection's publishers: decides what a full store does (nack or wait).
    pub fn set_confirming(&mut self, _confirming: bool) {
        unimplemented!()
    }
}
