//! What is counted, by the names that RabbitMQ has for it, and of which kind of thing.

macro_rules! counts {
    ($($(#[$doc:meta])* $count:ident = $name:literal,)*) => {
        /// Something that is counted; the last ones are levels, which also fall.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Count {
            $($(#[$doc])* $count,)*
        }

        impl Count {
            /// All.
            pub const ALL: &[Self] = &[$(Self::$count,)*];

            /// RabbitMQ's name for it, or ours where it counts no such thing.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$count => $name,)*
                }
            }
        }
    };
}

counts! {
    /// Messages that came: to a queue, by a channel.
    Publish = "publish",
    /// Of a channel: those of `Publish` that are to be confirmed.
    ToConfirm = "publish_to_confirm",
    /// Confirmed publishes.
    Confirm = "confirm",
    /// Publishes that were nacked.
    Nack = "nack",
    /// Mandatory messages that no queue took.
    ReturnUnroutable = "return_unroutable",
    /// Other messages that no queue took.
    DropUnroutable = "drop_unroutable",
    /// Deliveries to consumers that acknowledge.
    Deliver = "deliver",
    /// Deliveries to consumers that do not.
    DeliverNoAck = "deliver_no_ack",
    /// Single messages taken that are to be acknowledged.
    Get = "get",
    /// Single messages taken that are not.
    GetNoAck = "get_no_ack",
    /// Nothing was there to be taken.
    GetEmpty = "get_empty",
    /// Those of the above that had been delivered before.
    Redeliver = "redeliver",
    /// Acknowledged deliveries.
    Ack = "ack",
    /// Deliveries given back, to be delivered again.
    Requeue = "requeue",
    /// Deliveries that were not wanted.
    Reject = "reject",
    /// Messages whose time to live was over.
    Expired = "expired",
    /// Messages that ended in the queue without a dead-letter exchange: expired, too many, delivered too often.
    Dropped = "drop",
    /// Dead-lettered because of a reject.
    DeadRejected = "dead_letter_rejected",
    /// Dead-lettered because their time to live was over.
    DeadExpired = "dead_letter_expired",
    /// Dead-lettered because the queue was too long.
    DeadMaxLength = "dead_letter_maxlen",
    /// Dead-lettered because they were delivered too often.
    DeadDeliveryLimit = "dead_letter_delivery_limit",
    /// Messages that sessions published to an exchange.
    PublishIn = "publish_in",
    /// Messages that it brought to queues.
    PublishOut = "publish_out",
    /// Bytes received.
    RecvOct = "recv_oct",
    /// Bytes sent.
    SendOct = "send_oct",
    /// Reads of the socket that brought something.
    RecvCnt = "recv_cnt",
    /// Writes to the socket.
    SendCnt = "send_cnt",
    /// Connections that came.
    ConnectionCreated = "connection_created",
    /// Connections that went.
    ConnectionClosed = "connection_closed",
    /// Channels that came.
    ChannelCreated = "channel_created",
    /// Channels that went.
    ChannelClosed = "channel_closed",
    /// Declarations of queues, of those too that were there.
    QueueDeclared = "queue_declared",
    /// Queues that came.
    QueueCreated = "queue_created",
    /// Queues that went.
    QueueDeleted = "queue_deleted",
    /// Messages to be delivered.
    Ready = "messages_ready",
    /// Messages delivered and not settled.
    Unacked = "messages_unacknowledged",
    /// Messages that wait out a delay.
    Waiting = "messages_delayed",
    /// Consumers.
    Consumers = "consumers",
}

impl Count {
    /// Those that fall too.
    pub(crate) const LEVELS: [Self; 4] = [Self::Ready, Self::Unacked, Self::Waiting, Self::Consumers];
}

const COUNTS: usize = Count::Consumers as usize + 1;

/// Whose counts they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
    /// A channel.
    Channel,
    /// A connection.
    Connection,
    /// What comes and goes on the node.
    Churn,
    /// All there is in a vhost, or on the node.
    Totals,
}

/// The counts of a kind, and where each is among them.
struct Layout {
    counts: &'static [Count],
    places: [u8; COUNTS],
}

const NOWHERE: u8 = u8::MAX;

impl Layout {
    const fn of(counts: &'static [Count]) -> Self {
        let mut places = [NOWHERE; COUNTS];
        let mut at = 0;
        while at < counts.len() {
            places[counts[at] as usize] = at as u8;
            at += 1;
        }
        Self { counts, places }
    }
}

static QUEUE: Layout = Layout::of(&[
    Count::Publish,
    Count::Deliver,
    Count::DeliverNoAck,
    Count::Get,
    Count::GetNoAck,
    Count::GetEmpty,
    Count::Redeliver,
    Count::Ack,
    Count::Requeue,
    Count::Reject,
    Count::Expired,
    Count::Dropped,
    Count::DeadRejected,
    Count::DeadExpired,
    Count::DeadMaxLength,
    Count::DeadDeliveryLimit,
    Count::Ready,
    Count::Unacked,
    Count::Waiting,
    Count::Consumers,
]);
static EXCHANGE: Layout = Layout::of(&[Count::PublishIn, Count::PublishOut]);
static CHANNEL: Layout = Layout::of(&[
    Count::Publish,
    Count::ToConfirm,
    Count::Confirm,
    Count::Nack,
    Count::ReturnUnroutable,
    Count::DropUnroutable,
    Count::Deliver,
    Count::DeliverNoAck,
    Count::Get,
    Count::GetNoAck,
    Count::GetEmpty,
    Count::Redeliver,
    Count::Ack,
]);
static CONNECTION: Layout = Layout::of(&[Count::RecvOct, Count::SendOct, Count::RecvCnt, Count::SendCnt]);
static CHURN: Layout = Layout::of(&[
    Count::ConnectionCreated,
    Count::ConnectionClosed,
    Count::ChannelCreated,
    Count::ChannelClosed,
    Count::QueueDeclared,
    Count::QueueCreated,
    Count::QueueDeleted,
]);
static TOTALS: Layout = Layout::of(Count::ALL);

impl Kind {
    fn layout(self) -> &'static Layout {
        match self {
            Self::Queue => &QUEUE,
            Self::Exchange => &EXCHANGE,
            Self::Channel => &CHANNEL,
            Self::Connection => &CONNECTION,
            Self::Churn => &CHURN,
            Self::Totals => &TOTALS,
        }
    }

    /// What is counted of it, in the order of [`Self::place`].
    pub fn counts(self) -> &'static [Count] {
        self.layout().counts
    }

    /// Where a count is; `None`: it is not counted.
    #[inline]
    pub(super) fn place(self, count: Count) -> Option<usize> {
        let place = self.layout().places[count as usize];
        (place != NOWHERE).then_some(place as usize)
    }

    /// Which of the totals grows with a count: each of them with the counts of one kind only, so that nothing is
    /// counted twice.
    pub(super) fn total_of(self, count: Count) -> Option<Count> {
        match (self, count) {
            // What the exchange counts is all that any session publishes.
            (Self::Exchange, Count::PublishIn) => Some(Count::Publish),
            (Self::Queue, Count::Publish) => None,
            (
                Self::Channel,
                Count::ToConfirm
                | Count::Confirm
                | Count::Nack
                | Count::ReturnUnroutable
                | Count::DropUnroutable,
            ) => Some(count),
            // The queue counts what is delivered to whomever.
            (Self::Channel, _) => None,
            _ => Some(count),
        }
    }
}
