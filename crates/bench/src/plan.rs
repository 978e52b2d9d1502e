//! What is to be measured.

use millpond_amqp_client::Uri;
use std::time::Duration;

/// What a body carries at least: a moment and a number. Bytes.
pub const BODY_MIN_BYTES: usize = 16;

/// Largest body. Bytes.
const BODY_MAX_BYTES: usize = 64 << 20;

/// Most producers, consumers or queues.
const PARTIES_MAX: usize = 1000;

/// The usual kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// One producer, one queue, one consumer; transient, without confirms and acks.
    Raw,
    /// As `raw`, persistent, with confirms and acks.
    Safe,
    /// One producer, a fanout exchange, four queues with a consumer each.
    Fanout,
    /// Four producers and four consumers on four queues; persistent, with confirms and acks.
    Many,
    /// One message at a time, there and back.
    PingPong,
    /// A given rate, persistent, with confirms and acks: how long a message takes.
    Paced,
    /// A queue is filled without a consumer, then drained.
    Backlog,
}

impl Scenario {
    /// All of them, in the order in which they are run.
    pub const ALL: &[Self] =
        &[Self::Raw, Self::Safe, Self::Fanout, Self::Many, Self::PingPong, Self::Paced, Self::Backlog];

    /// As a person writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Safe => "safe",
            Self::Fanout => "fanout",
            Self::Many => "many",
            Self::PingPong => "pingpong",
            Self::Paced => "paced",
            Self::Backlog => "backlog",
        }
    }

    /// In a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Raw => "one producer to one consumer, transient, no confirms, no acks",
            Self::Safe => "one producer to one consumer, persistent, confirms and acks",
            Self::Fanout => "one producer, a fanout exchange, four queues with a consumer each",
            Self::Many => "four producers and consumers on four queues, persistent, confirms and acks",
            Self::PingPong => "one message at a time, there and back",
            Self::Paced => "a given rate (1000/s), persistent, confirms and acks: latency",
            Self::Backlog => "a queue filled without a consumer (100,000 messages), then drained",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.name() == name)
    }
}

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Against which broker.
    pub uri: Uri,
    /// What kind of work.
    pub scenario: Scenario,
    /// How long messages are published; not for `backlog`.
    pub duration: Duration,
    /// Messages of a backlog.
    pub count: u64,
    /// Of each body, [`BODY_MIN_BYTES`] at least.
    pub size_bytes: usize,
    /// Publishing connections.
    pub producers: usize,
    /// Consuming connections, spread over the queues.
    pub consumers: usize,
    /// Queues; producers are spread over them, unless all get everything (`fanout`).
    pub queues: usize,
    /// All producers together, messages a second; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// Publishes that may be unconfirmed, for each producer; 0: no confirms.
    pub confirm_window: u32,
    /// Deliveries that may be unacked, for each consumer; 0: no acks at all.
    pub prefetch: u16,
    /// Persistent messages in durable queues.
    pub persistent: bool,
    /// `x-queue-type`.
    pub queue_type: Option<String>,
}

/// Why a plan cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    /// The body cannot hold what is measured with, or is larger than is sensible.
    #[error("a body has {BODY_MIN_BYTES} to {BODY_MAX_BYTES} bytes, not {size_bytes}")]
    Size {
        /// What was asked.
        size_bytes: usize,
    },
    /// None, or too many of something.
    #[error("there are 1 to {PARTIES_MAX} {what}, not {count}")]
    Parties {
        /// `producers`
        what: &'static str,
        /// What was asked.
        count: usize,
    },
    /// A queue would have no consumer.
    #[error("{consumers} consumers cannot serve {queues} queues: each needs one")]
    Unserved {
        /// What was asked.
        consumers: usize,
        /// What was asked.
        queues: usize,
    },
    /// Nothing would happen.
    #[error("a {what} of 0 measures nothing")]
    Zero {
        /// `rate`
        what: &'static str,
    },
}

impl Plan {
    /// The scenario as it is usually run, for five seconds.
    pub fn new(uri: Uri, scenario: Scenario) -> Self {
        let raw = Self {
            uri,
            scenario,
            duration: Duration::from_secs(5),
            count: 100_000,
            size_bytes: 100,
            producers: 1,
            consumers: 1,
            queues: 1,
            rate: None,
            confirm_window: 0,
            prefetch: 0,
            persistent: false,
            queue_type: None,
        };
        let safe = |plan| Self { confirm_window: 1000, prefetch: 1000, persistent: true, ..plan };
        match scenario {
            Scenario::Raw => raw,
            Scenario::PingPong => raw,
            Scenario::Safe | Scenario::Backlog => safe(raw),
            Scenario::Fanout => Self { consumers: 4, queues: 4, ..raw },
            Scenario::Many => safe(Self { producers: 4, consumers: 4, queues: 4, ..raw }),
            Scenario::Paced => safe(Self { rate: Some(1000), ..raw }),
        }
    }

    /// Whether it can be carried out.
    pub fn check(&self) -> Result<(), BadPlan> {
        if !(BODY_MIN_BYTES..=BODY_MAX_BYTES).contains(&self.size_bytes) {
            return Err(BadPlan::Size { size_bytes: self.size_bytes });
        }
        let parties = [("producers", self.producers), ("consumers", self.consumers), ("queues", self.queues)];
        for (what, count) in parties {
            if !(1..=PARTIES_MAX).contains(&count) {
                return Err(BadPlan::Parties { what, count });
            }
        }
        if self.consumers < self.queues {
            return Err(BadPlan::Unserved { consumers: self.consumers, queues: self.queues });
        }
        for (what, is_zero) in [
            ("rate", self.rate == Some(0)),
            ("duration", self.duration.is_zero()),
            ("count", self.count == 0),
        ] {
            if is_zero {
                return Err(BadPlan::Zero { what });
            }
        }
        Ok(())
    }

    /// Copies of each message that are delivered.
    pub(crate) fn copies(&self) -> u64 {
        if self.is_fanout() { self.queues as u64 } else { 1 }
    }

    pub(crate) fn is_fanout(&self) -> bool {
        self.scenario == Scenario::Fanout
    }
}
