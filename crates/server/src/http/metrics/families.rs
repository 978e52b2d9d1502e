//! Which metrics there are: RabbitMQ's names, and families as `/metrics/detailed` knows them.

use crate::http::Facts;
use crate::http::facts::Process;
use millpond_broker::{Broker, ChannelInfo, Count, Figures, Resource, StoreStatus};

/// Where the value of a metric comes from.
pub(super) enum Of<T> {
    /// It only grows: the sum of these.
    Counts(&'static [Count]),
    /// It rises and falls.
    Level(fn(&T) -> u64),
}

/// A metric of each thing of a kind.
pub(super) struct Metric<T> {
    pub(super) family: &'static str,
    /// Without `rabbitmq_` or `rabbitmq_detailed_`; ours begin with `millpond_`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) of: Of<T>,
}

/// A thing that is counted, with what was counted, if anything was.
pub(super) trait Counted {
    fn figures(&self) -> Option<&Figures>;
}

/// A queue, or all of them.
pub(super) struct Queue {
    pub(super) ready: u64,
    pub(super) unacked: u64,
    pub(super) waiting: u64,
    pub(super) consumers: u64,
    pub(super) figures: Option<Figures>,
}

impl Counted for Queue {
    fn figures(&self) -> Option<&Figures> {
        self.figures.as_ref()
    }
}

impl Counted for ChannelInfo {
    fn figures(&self) -> Option<&Figures> {
        Some(&self.figures)
    }
}

/// A connection.
pub(super) struct Connection {
    pub(super) channels: u64,
    pub(super) figures: Option<Figures>,
}

impl Counted for Connection {
    fn figures(&self) -> Option<&Figures> {
        self.figures.as_ref()
    }
}

/// An exchange.
pub(super) struct Exchange(pub(super) Option<Figures>);

impl Counted for Exchange {
    fn figures(&self) -> Option<&Figures> {
        self.0.as_ref()
    }
}

const fn metric<T>(family: &'static str, name: &'static str, help: &'static str, of: Of<T>) -> Metric<T> {
    Metric { family, name, help, of }
}

const LENGTHS: &str = "queue_coarse_metrics";
const DELIVERIES: &str = "queue_delivery_metrics";

pub(super) static QUEUES: &[Metric<Queue>] = &[
    metric(LENGTHS, "queue_messages_ready", "Messages to be delivered", Of::Level(|it| it.ready)),
    metric(
        LENGTHS,
        "queue_messages_unacked",
        "Messages delivered and not settled",
        Of::Level(|it| it.unacked),
    ),
    metric(LENGTHS, "queue_messages", "All messages", Of::Level(|it| it.ready + it.unacked + it.waiting)),
    metric(
        LENGTHS,
        "millpond_queue_messages_delayed",
        "Messages that wait before they are delivered again",
        Of::Level(|it| it.waiting),
    ),
    metric("queue_consumer_count", "queue_consumers", "Consumers", Of::Level(|it| it.consumers)),
    metric(
        "queue_metrics",
        "queue_messages_published_total",
        "Messages that came",
        Of::Counts(&[Count::Publish]),
    ),
    metric(
        DELIVERIES,
        "queue_get_ack_total",
        "Taken by basic.get, to be acknowledged",
        Of::Counts(&[Count::Get]),
    ),
    metric(DELIVERIES, "queue_get_total", "Taken by basic.get and settled", Of::Counts(&[Count::GetNoAck])),
    metric(
        DELIVERIES,
        "queue_get_empty_total",
        "basic.get that found nothing",
        Of::Counts(&[Count::GetEmpty]),
    ),
    metric(
        DELIVERIES,
        "queue_messages_delivered_ack_total",
        "Delivered, to be acknowledged",
        Of::Counts(&[Count::Deliver]),
    ),
    metric(
        DELIVERIES,
        "queue_messages_delivered_total",
        "Delivered and settled",
        Of::Counts(&[Count::DeliverNoAck]),
    ),
    metric(
        DELIVERIES,
        "queue_messages_redelivered_total",
        "Delivered again",
        Of::Counts(&[Count::Redeliver]),
    ),
    metric(DELIVERIES, "queue_messages_acked_total", "Acknowledged", Of::Counts(&[Count::Ack])),
    metric(DELIVERIES, "millpond_queue_messages_rejected_total", "Not wanted", Of::Counts(&[Count::Reject])),
    metric(DELIVERIES, "millpond_queue_messages_requeued_total", "Given back", Of::Counts(&[Count::Requeue])),
    metric(DELIVERIES, "millpond_queue_messages_expired_total", "Too old", Of::Counts(&[Count::Expired])),
    metric(
        DELIVERIES,
        "millpond_queue_messages_dropped_total",
        "Ended without a dead-letter exchange",
        Of::Counts(&[Count::Dropped]),
    ),
    metric(
        DELIVERIES,
        "millpond_queue_messages_dead_lettered_total",
        "Dead-lettered for whatever reason",
        Of::Counts(&[
            Count::DeadRejected,
            Count::DeadExpired,
            Count::DeadMaxLength,
            Count::DeadDeliveryLimit,
        ]),
    ),
];

const CHANNEL: &str = "channel_metrics";
const CHANNEL_OUT: &str = "channel_queue_metrics";
const CHANNEL_IN: &str = "channel_exchange_metrics";

pub(super) static CHANNELS: &[Metric<ChannelInfo>] = &[
    metric(CHANNEL, "channel_consumers", "Consumers", Of::Level(|it| it.consumers)),
    metric(CHANNEL, "channel_messages_unacked", "Delivered and not settled", Of::Level(|it| it.unacked)),
    metric(
        CHANNEL,
        "channel_messages_unconfirmed",
        "Published and not confirmed",
        Of::Level(|it| it.unconfirmed),
    ),
    metric(CHANNEL, "channel_messages_uncommitted", "In a transaction", Of::Level(|it| it.uncommitted)),
    metric(CHANNEL, "channel_acks_uncommitted", "Acks in a transaction", Of::Level(|it| it.acks_uncommitted)),
    metric(CHANNEL, "channel_prefetch", "basic.qos of the channel", Of::Level(|it| u64::from(it.prefetch))),
    metric(CHANNEL_IN, "channel_messages_published_total", "Published", Of::Counts(&[Count::Publish])),
    metric(CHANNEL_IN, "channel_messages_confirmed_total", "Confirmed", Of::Counts(&[Count::Confirm])),
    metric(
        CHANNEL_IN,
        "channel_messages_unroutable_returned_total",
        "Mandatory messages returned",
        Of::Counts(&[Count::ReturnUnroutable]),
    ),
    metric(
        CHANNEL_IN,
        "channel_messages_unroutable_dropped_total",
        "Messages that no queue took",
        Of::Counts(&[Count::DropUnroutable]),
    ),
    metric(
        CHANNEL_OUT,
        "channel_get_ack_total",
        "Taken by basic.get, to be acknowledged",
        Of::Counts(&[Count::Get]),
    ),
    metric(
        CHANNEL_OUT,
        "channel_get_total",
        "Taken by basic.get and settled",
        Of::Counts(&[Count::GetNoAck]),
    ),
    metric(
        CHANNEL_OUT,
        "channel_get_empty_total",
        "basic.get that found nothing",
        Of::Counts(&[Count::GetEmpty]),
    ),
    metric(
        CHANNEL_OUT,
        "channel_messages_delivered_ack_total",
        "Delivered, to be acknowledged",
        Of::Counts(&[Count::Deliver]),
    ),
    metric(
        CHANNEL_OUT,
        "channel_messages_delivered_total",
        "Delivered and settled",
        Of::Counts(&[Count::DeliverNoAck]),
    ),
    metric(
        CHANNEL_OUT,
        "channel_messages_redelivered_total",
        "Delivered again",
        Of::Counts(&[Count::Redeliver]),
    ),
    metric(CHANNEL_OUT, "channel_messages_acked_total", "Acknowledged", Of::Counts(&[Count::Ack])),
];

const TRAFFIC: &str = "connection_coarse_metrics";
const CONNECTION: &str = "connection_metrics";

pub(super) static CONNECTIONS: &[Metric<Connection>] = &[
    metric(TRAFFIC, "connection_incoming_bytes_total", "Bytes received", Of::Counts(&[Count::RecvOct])),
    metric(TRAFFIC, "connection_outgoing_bytes_total", "Bytes sent", Of::Counts(&[Count::SendOct])),
    metric(
        CONNECTION,
        "connection_incoming_packets_total",
        "Reads of the socket",
        Of::Counts(&[Count::RecvCnt]),
    ),
    metric(
        CONNECTION,
        "connection_outgoing_packets_total",
        "Writes to the socket",
        Of::Counts(&[Count::SendCnt]),
    ),
    metric(CONNECTION, "connection_channels", "Channels", Of::Level(|it| it.channels)),
];

pub(super) static EXCHANGES: &[Metric<Exchange>] = &[
    metric(
        "exchange_metrics",
        "exchange_messages_published_total",
        "Published to it",
        Of::Counts(&[Count::PublishIn]),
    ),
    metric(
        "exchange_metrics",
        "millpond_exchange_messages_routed_total",
        "Brought to queues",
        Of::Counts(&[Count::PublishOut]),
    ),
];

/// A metric of the node.
pub(super) struct Single {
    pub(super) family: &'static str,
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) is_counter: bool,
    pub(super) labels: String,
    pub(super) value: u64,
}

impl Single {
    fn gauge(family: &'static str, name: &'static str, help: &'static str, value: u64) -> Self {
        Self { family, name, help, is_counter: false, labels: String::new(), value }
    }

    fn counter(family: &'static str, name: &'static str, help: &'static str, value: u64) -> Self {
        Self { is_counter: true, ..Self::gauge(family, name, help, value) }
    }

    pub(super) fn labelled(mut self, labels: impl Into<String>) -> Self {
        self.labels = labels.into();
        self
    }
}

/// What came and went.
pub(super) fn churn(node: &Figures) -> Vec<Single> {
    let counter =
        |name, help, count| Single::counter("connection_churn_metrics", name, help, node.get(count));
    vec![
        counter("connections_opened_total", "Connections opened", Count::ConnectionCreated),
        counter("connections_closed_total", "Connections closed", Count::ConnectionClosed),
        counter("channels_opened_total", "Channels opened", Count::ChannelCreated),
        counter("channels_closed_total", "Channels closed", Count::ChannelClosed),
        counter("queues_declared_total", "Queues declared", Count::QueueDeclared),
        counter("queues_created_total", "Queues created", Count::QueueCreated),
        counter("queues_deleted_total", "Queues deleted", Count::QueueDeleted),
    ]
}

/// The process and the machine.
pub(super) fn machine(broker: &Broker, facts: &Facts) -> Vec<Single> {
    let Process { memory_bytes, files, files_max } = Facts::process();
    let alarms = broker.alarms();
    let has_alarm = |resource| u64::from(alarms.iter().any(|alarm| alarm.resource == resource));
    let node = |name, help, value| Single::gauge("node_metrics", name, help, value);
    let coarse = |name, help, value| Single::gauge("node_coarse_metrics", name, help, value);
    let mut all = vec![
        coarse("process_open_fds", "Open files and sockets", files as u64),
        coarse("process_resident_memory_bytes", "Memory", memory_bytes),
        node("process_max_fds", "How many files may be open", files_max),
        node(
            "erlang_uptime_seconds",
            "Since the start; RabbitMQ's name, without Erlang",
            facts.uptime_ms() / 1000,
        ),
        node("millpond_uptime_milliseconds", "Since the start", facts.uptime_ms()),
        node(
            "alarms_memory_used_watermark",
            "1 if there is an alarm for memory",
            has_alarm(Resource::Memory),
        ),
        node(
            "alarms_free_disk_space_watermark",
            "1 if there is an alarm for the disk",
            has_alarm(Resource::Disk),
        ),
    ];
    if let Some((measured, limits)) = broker.resources() {
        all.extend(measured.disk_free_bytes.map(|bytes| {
            coarse("disk_space_available_bytes", "Free on the disk of the data directory", bytes)
        }));
        all.push(node(
            "resident_memory_limit_bytes",
            "From here on there is an alarm for memory",
            limits.memory_max_bytes,
        ));
        all.push(node(
            "disk_space_available_limit_bytes",
            "Below this there is an alarm for the disk",
            limits.disk_free_min_bytes,
        ));
    }
    all
}

/// The store, since it was opened.
pub(super) fn store(broker: &Broker) -> Vec<Single> {
    const FAMILY: &str = "millpond_store";
    let figures = broker.store_figures();
    let counter = |name, help, value| Single::counter(FAMILY, name, help, value);
    vec![
        counter("millpond_store_batches_total", "Batches written to the log", figures.batches),
        counter(
            "millpond_store_groups_total",
            "Writes to the log, of a group of batches each",
            figures.groups,
        ),
        counter("millpond_store_log_bytes_total", "Written to the log", figures.log_bytes),
        counter("millpond_store_syncs_total", "Syncs of the log", figures.syncs),
        counter("millpond_store_sync_microseconds_total", "How long the syncs took", figures.sync_us),
        Single::gauge(FAMILY, "millpond_store_memory_bytes", "Messages in memory", figures.memory_bytes),
        Single::gauge(
            FAMILY,
            "millpond_store_writable",
            "0: it is full, or a write failed",
            u64::from(matches!(broker.store_status(), StoreStatus::Writable)),
        ),
    ]
}

const PROTOCOL: &str = "protocol=\"amqp091\"";
const QUEUE: &str = "protocol=\"amqp091\",queue_type=\"rabbit_classic_queue\"";
const DEAD: &str = "queue_type=\"rabbit_classic_queue\",dead_letter_strategy=\"at_least_once\"";
const DELIVERED: &[Count] = &[Count::Deliver, Count::DeliverNoAck, Count::Get, Count::GetNoAck];

/// Labels, name, help, and what it is the sum of.
type Global = (&'static str, &'static str, &'static str, &'static [Count]);

static GLOBALS: &[Global] = &[
    (PROTOCOL, "global_messages_received_total", "Published", &[Count::Publish]),
    (PROTOCOL, "global_messages_received_confirm_total", "Published, to be confirmed", &[Count::ToConfirm]),
    (PROTOCOL, "global_messages_routed_total", "Brought to queues", &[Count::PublishOut]),
    (PROTOCOL, "global_messages_confirmed_total", "Confirmed", &[Count::Confirm]),
    (
        PROTOCOL,
        "global_messages_unroutable_dropped_total",
        "Messages that no queue took",
        &[Count::DropUnroutable],
    ),
    (
        PROTOCOL,
        "global_messages_unroutable_returned_total",
        "Mandatory messages returned",
        &[Count::ReturnUnroutable],
    ),
    (QUEUE, "global_messages_delivered_total", "Delivered, or taken by basic.get", DELIVERED),
    (
        QUEUE,
        "global_messages_delivered_consume_manual_ack_total",
        "Delivered, to be acknowledged",
        &[Count::Deliver],
    ),
    (
        QUEUE,
        "global_messages_delivered_consume_auto_ack_total",
        "Delivered and settled",
        &[Count::DeliverNoAck],
    ),
    (
        QUEUE,
        "global_messages_delivered_get_manual_ack_total",
        "Taken by basic.get, to be acknowledged",
        &[Count::Get],
    ),
    (
        QUEUE,
        "global_messages_delivered_get_auto_ack_total",
        "Taken by basic.get and settled",
        &[Count::GetNoAck],
    ),
    (QUEUE, "global_messages_get_empty_total", "basic.get that found nothing", &[Count::GetEmpty]),
    (QUEUE, "global_messages_redelivered_total", "Delivered again", &[Count::Redeliver]),
    (QUEUE, "global_messages_acknowledged_total", "Acknowledged", &[Count::Ack]),
    (DEAD, "global_messages_dead_lettered_expired_total", "Too old", &[Count::DeadExpired]),
    (DEAD, "global_messages_dead_lettered_maxlen_total", "Too many", &[Count::DeadMaxLength]),
    (DEAD, "global_messages_dead_lettered_rejected_total", "Not wanted", &[Count::DeadRejected]),
    (
        DEAD,
        "global_messages_dead_lettered_delivery_limit_total",
        "Delivered too often",
        &[Count::DeadDeliveryLimit],
    ),
];

/// Sums over the node since its start, by RabbitMQ's names with its labels. Whatever the door and the kind of queue: it
/// is not told apart here.
pub(super) fn global(node: &Figures, consumers: u64, channels: &[ChannelInfo]) -> Vec<Single> {
    const FAMILY: &str = "global";
    let counter = |(labels, name, help, counts): &Global| {
        let value = counts.iter().map(|count| node.get(*count)).sum();
        Single::counter(FAMILY, name, help, value).labelled(*labels)
    };
    let gauge = |name, help, value| Single::gauge(FAMILY, name, help, value).labelled(PROTOCOL);
    let publishers = channels.iter().filter(|it| it.figures.get(Count::Publish) > 0).count() as u64;
    let gauges = [
        gauge("global_publishers", "Channels that have published", publishers),
        gauge("global_consumers", "Consumers", consumers),
    ];
    GLOBALS.iter().map(counter).chain(gauges).collect()
}
