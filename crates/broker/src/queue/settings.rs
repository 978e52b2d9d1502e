//! What a queue's arguments ask of it, read once.

use super::dedup::{DedupTerms, IDS_DEFAULT_MAX, WINDOW_DEFAULT_MS};
use super::grouping::GroupTerms;
use super::logs::Priorities;
use super::machine::TimedSettings;
use super::retained::RetainTerms;
use super::timing;
use millpond_model::ExchangeName;
use millpond_model::table::{Table, Value};
use std::sync::{Arc, LazyLock};

/// Failed deliveries that a quorum queue bears when it is not told (X9).
const QUORUM_DELIVERY_LIMIT: u16 = 20;

/// What happens to a publish that would make a queue too long (T4, T5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The oldest ready message goes.
    #[default]
    DropHead,
    /// The new one is refused: a nack for those who asked for confirms.
    RejectPublish,
    /// As above, and dead-lettered.
    RejectPublishDlx,
}

/// Where dead messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetterTo {
    pub(crate) exchange: ExchangeName,
    /// Instead of the keys they came with.
    pub(crate) routing_key: Option<Box<[u8]>>,
}

/// Priorities of a quorum queue: it has them without being asked (T6).
const QUORUM_PRIORITIES: Priorities = Priorities { max: 31, default: 4 };

/// Which priorities the arguments ask for: fixed when the queue is declared.
pub(crate) fn priorities(arguments: &Table) -> Priorities {
    if arguments.get("x-queue-type").and_then(Value::as_str) == Some("quorum") {
        return QUORUM_PRIORITIES;
    }
    let max = arguments.get("x-max-priority").and_then(Value::as_i64);
    Priorities { max: max.and_then(|max| u8::try_from(max).ok()).unwrap_or(0), default: 0 }
}

/// Whether the arguments say that nothing is to be delivered.
pub(crate) fn is_paused(arguments: &Table) -> bool {
    arguments.get("x-paused").and_then(Value::as_bool) == Some(true)
}

/// The arguments that are acted on; times in milliseconds, sizes in bytes of bodies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct QueueSettings {
    pub(crate) quorum: bool,
    pub(crate) message_ttl_ms: Option<u64>,
    pub(crate) expires_ms: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) max_length_bytes: Option<u64>,
    pub(crate) overflow: Overflow,
    pub(crate) dead_letter: Option<DeadLetterTo>,
    pub(crate) delivery_limit: Option<u16>,
    pub(crate) dedup: Option<DedupTerms>,
    /// Only one consumer at a time is active (A5); fixed when the queue is declared.
    pub(crate) single_active: bool,
    /// Nothing is delivered.
    pub(crate) paused: bool,
    /// Leases, pace and delayed retries.
    pub(crate) timed: TimedSettings,
    /// What was acked is remembered.
    pub(crate) retain: Option<RetainTerms>,
    /// Which messages go to one consumer at a time.
    pub(crate) groups: Option<GroupTerms>,
}

impl QueueSettings {
    /// Of arguments that [`super::arguments::check`] has accepted.
    pub(crate) fn of(arguments: &Table) -> Self {
        let number = |name: &str| arguments.get(name).and_then(Value::as_i64);
        let count = |name: &str| number(name).and_then(|value| u64::try_from(value).ok());
        let text = |name: &str| arguments.get(name).and_then(Value::as_str);
        let quorum = text("x-queue-type") == Some("quorum");
        let dead_letter = text("x-dead-letter-exchange").and_then(|exchange| {
            let exchange = ExchangeName::new(exchange).ok()?;
            let routing_key = text("x-dead-letter-routing-key").map(|key| key.as_bytes().into());
            Some(DeadLetterTo { exchange, routing_key })
        });
        Self {
            quorum,
            message_ttl_ms: count("x-message-ttl"),
            expires_ms: count("x-expires"),
            max_length: count("x-max-length"),
            max_length_bytes: count("x-max-length-bytes"),
            overflow: match text("x-overflow") {
                Some("reject-publish") => Overflow::RejectPublish,
                Some("reject-publish-dlx") => Overflow::RejectPublishDlx,
                _ => Overflow::DropHead,
            },
            dead_letter,
            delivery_limit: match number("x-delivery-limit") {
                None => quorum.then_some(QUORUM_DELIVERY_LIMIT),
                // Below zero: no limit. Above what is counted: never reached.
                Some(limit) => u16::try_from(limit).ok(),
            },
            dedup: arguments.get("x-message-deduplication").and_then(Value::as_bool).filter(|on| *on).map(
                |_| DedupTerms {
                    header: text("x-deduplication-header").map(Into::into),
                    window_ms: count("x-cache-ttl").unwrap_or(WINDOW_DEFAULT_MS),
                    ids_max: count("x-cache-size").map_or(IDS_DEFAULT_MAX, |max| max as usize),
                },
            ),
            single_active: arguments.get("x-single-active-consumer").and_then(Value::as_bool) == Some(true),
            paused: is_paused(arguments),
            timed: timing::of_queue(arguments),
            retain: RetainTerms::of(arguments),
            groups: GroupTerms::of(arguments),
        }
    }

    /// In memory; all queues that ask for nothing share one.
    pub(crate) fn shared(settings: Self) -> Arc<Self> {
        static PLAIN: LazyLock<Arc<QueueSettings>> = LazyLock::new(Arc::default);
        if settings == **PLAIN { PLAIN.clone() } else { Arc::new(settings) }
    }

    /// Whether publishes may have to be refused.
    pub(crate) fn refuses(&self) -> bool {
        self.overflow != Overflow::DropHead && (self.max_length.is_some() || self.max_length_bytes.is_some())
    }

    /// Whether deliveries say how often they failed before.
    pub(crate) fn counts_deliveries(&self) -> bool {
        self.quorum || self.delivery_limit.is_some()
    }
}
