//! What a front end may ask.

use crate::broker::change_value;
use crate::delayed::DelayCell;
use crate::event::Delivery;
use crate::history::History;
use crate::queue::QueueCell;
use crate::reply::ReplyBox;
use crate::stats::{Count, Meter};
use millpond_model::table::Table;
use millpond_model::{ConsumerTag, ExchangeName, Message, QueueName};
use millpond_store::Batch;
use std::sync::Arc;

/// Declare an exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclareExchange {
    /// Its name.
    pub name: ExchangeName,
    /// `direct`, `fanout`, `topic`, `headers`, `x-...` (or an unknown type: an error). Ignored if passive.
    pub kind: Box<str>,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when its last outgoing binding goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// `alternate-exchange` and whatever the client sent.
    pub arguments: Table,
}

/// Declare a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclareQueue {
    /// Its name; empty: the broker makes one (`amq.gen-...`).
    pub name: QueueName,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to this session and goes with it.
    pub exclusive: bool,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// `x-...` and whatever the client sent.
    pub arguments: Table,
}

/// What declare-queue answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDeclared {
    /// The name, made up or given.
    pub name: QueueName,
    /// Ready messages.
    pub ready: u64,
    /// All consumers.
    pub consumers: u64,
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue.
    Queue(QueueName),
    /// Another exchange.
    Exchange(ExchangeName),
}

/// A binding to be made or removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The exchange that messages come to.
    pub source: ExchangeName,
    /// Where they go.
    pub destination: Destination,
    /// The binding key (bytes off the wire, at most 255).
    pub key: Box<[u8]>,
    /// For headers exchanges; part of the binding's identity.
    pub arguments: Table,
}

/// Consume from a queue.
#[derive(Debug, Clone)]
pub struct ConsumeRequest {
    /// The queue.
    pub queue: QueueName,
    /// Shown to people; uniqueness on a channel is the front end's matter.
    pub tag: ConsumerTag,
    /// Deliveries count as settled when handed out.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Higher is served first (`x-priority`).
    pub priority: i64,
    /// Most unsettled deliveries at once; 0 = no limit.
    pub prefetch: u32,
    /// The prefetch was asked for all consumers of a channel together (basic.qos with `global`): it is each
    /// consumer's own all the same, and streams refuse it.
    pub prefetch_shared: bool,
    /// Chosen by the front end; comes back with every delivery and cancel, so that it finds its channel fast.
    pub cookie: u64,
    /// The number of its channel, shown to people; 0: it has none.
    pub channel: u16,
    /// All consumer arguments, for those the broker warns about.
    pub arguments: Table,
}

/// A running consumer of this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConsumerId(pub u64);

/// A queue as a session names it in deliveries (a slot in the session's own table; cheap to copy and compare).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueRef(pub u32);

/// The bit of a [`QueueRef`] that names a consumer of a stream.
const STREAM_BIT: u32 = 1 << 31;

impl QueueRef {
    /// The number of one of a session's stream consumers: each has its own, because each has its own place.
    pub(crate) fn of_stream(number: u32) -> Self {
        Self(number | STREAM_BIT)
    }

    /// Whether its deliveries come from a stream: their sequence numbers are offsets.
    #[inline]
    pub fn is_stream(self) -> bool {
        self.0 & STREAM_BIT != 0
    }
}

/// One unsettled delivery, as the front end remembers it by its delivery tag: 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryId {
    /// The queue.
    pub queue: QueueRef,
    /// Its sequence number there.
    pub seq: u64,
}

/// The routing key that, on the default exchange, gives a delivery back instead of publishing: what basic.nack has no
/// field for is said by headers.
pub const GIVE_BACK_KEY: &str = "amq.millpond.nack";

/// What becomes of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Accept,
    /// Back to where it was, marked as redelivered (basic.nack/recover with requeue).
    Requeue,
    /// As `Requeue`, and counts as a failed delivery (basic.reject with requeue; X9).
    Fail,
    /// As `Requeue`, and it waits so long before it is ready again.
    Retry {
        /// Milliseconds; 0: as `Requeue`.
        delay_ms: u64,
    },
    /// Not wanted: dead-lettered or dropped.
    Reject,
}

/// Where a publish goes; found by `Session::route`, good for the next `Session::publish`. Cloning counts a reference.
#[derive(Debug, Clone)]
pub struct Route(pub(crate) Arc<RouteInner>);

#[derive(Debug)]
pub(crate) struct RouteInner {
    /// The exchange it begins at.
    pub(crate) exchange: Arc<Meter>,
    /// Each queue once.
    pub(crate) cells: Vec<Arc<QueueCell>>,
    /// Whether any of them keeps persistent messages.
    pub(crate) stored: bool,
    /// Whether any of them may refuse a message.
    pub(crate) refuses: bool,
    /// Whether one of them, a stream, keeps the others too.
    pub(crate) keeps_all: bool,
    /// What few routes have.
    pub(crate) aside: Option<Box<Aside>>,
}

/// Where a message goes beside its queues.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// The requester that a direct reply goes to.
    pub(crate) reply: Option<ReplyBox>,
    /// Histories that it becomes a part of.
    pub(crate) histories: Vec<Arc<History>>,
    /// Where it waits first, and for how many milliseconds.
    pub(crate) delays: Vec<(Arc<DelayCell>, u64)>,
    /// Which messages it takes back there before that: those with this `message_id`.
    pub(crate) cancels: Option<(Arc<DelayCell>, Box<[u8]>)>,
    /// It is a word to the broker: a delivery is given back.
    pub(crate) gives_back: bool,
}

impl Aside {
    /// Boxed, if there is anything in it.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        let any = self.reply.is_some()
            || !self.histories.is_empty()
            || !self.delays.is_empty()
            || self.cancels.is_some()
            || self.gives_back;
        any.then(|| Box::new(self))
    }
}

impl Route {
    /// Whether a queue on it may refuse a message: ask [`crate::Session::take_refused`] after the publish.
    pub fn may_refuse(&self) -> bool {
        self.0.refuses
    }

    /// Whether nothing takes the message: a mandatory one is returned. A delayed one is taken (M7).
    pub fn is_unroutable(&self) -> bool {
        let takes = |aside: &Aside| {
            aside.reply.is_some() || !aside.delays.is_empty() || aside.cancels.is_some() || aside.gives_back
        };
        self.0.cells.is_empty() && !self.0.aside.as_ref().is_some_and(|aside| takes(aside))
    }

    /// Whether the message takes back others that wait and does not wait itself: whether there were any is known
    /// after the publish, ask [`crate::Session::take_missed`]; a mandatory one that missed is returned.
    pub fn only_cancels(&self) -> bool {
        self.0.aside.as_ref().is_some_and(|aside| aside.cancels.is_some() && aside.delays.is_empty())
    }

    /// Whether the message is no message but gives a delivery of its channel back ([`GIVE_BACK_KEY`]): it is for the
    /// front end, which knows deliveries by their tags.
    #[inline]
    pub fn gives_back(&self) -> bool {
        self.0.aside.as_ref().is_some_and(|aside| aside.gives_back)
    }

    /// As [`Self::is_nowhere`]; if so the message is counted, for it will not be handed to [`crate::Session::publish`].
    pub fn count_if_nowhere(&self) -> bool {
        let is_nowhere = self.is_nowhere();
        self.0.exchange.add_shared(Count::PublishIn, u64::from(is_nowhere));
        is_nowhere
    }

    /// Whether publishing the message would do nothing. An unroutable message may still have to be published: an
    /// exchange on its way keeps it for queues that come later.
    pub fn is_nowhere(&self) -> bool {
        self.0.cells.is_empty() && self.0.aside.is_none()
    }
}

/// What `basic.get` answers.
#[derive(Debug, Clone)]
pub struct Got {
    /// The message.
    pub delivery: Delivery,
    /// The queue, for settling.
    pub queue: QueueRef,
    /// Ready messages left.
    pub ready: u64,
}

/// A message and where it goes.
pub type Publish = (Message, Route);

/// When a change is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing to wait for.
    Now,
    /// When `SessionEvent::Committed` with this token comes. Tokens of a session ascend and complete in order.
    Pending(u64),
}

/// What a vhost may have; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostLimits {
    /// Connections at once (`max-connections`).
    pub connections_max: Option<u64>,
    /// Queues, those of connections for themselves included (`max-queues`).
    pub queues_max: Option<u64>,
}

/// What a user may have over all vhosts; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserLimits {
    /// Connections at once (`max-connections`).
    pub connections_max: Option<u64>,
    /// Channels at once, over all connections (`max-channels`).
    pub channels_max: Option<u64>,
}

/// A keyed value that changes in the same commit as publishes and settlements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueChange {
    /// Whose it is, as in [`crate::Broker::put_value`].
    pub room: &'static str,
    /// Its key within the room.
    pub key: Box<[u8]>,
    /// What it becomes; `None`: it goes.
    pub value: Option<Box<[u8]>>,
}

impl ValueChange {
    pub(crate) fn put_into(&self, batch: &mut Batch) {
        change_value(batch, self.room, &self.key, self.value.as_deref());
    }
}
