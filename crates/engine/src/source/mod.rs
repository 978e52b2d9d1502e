//! Sources: where events come from. See docs/guide/sources.md.
//!
//! A kind of source is two things: what the file says of it ([`Kind`]), and what looks for events ([`Source`]). The
//! runner (`runner`) owns everything else: when to look, the session, back-pressure, the commit of events and cursor
//! in one batch, waiting after errors, counters. A kind needs to know nothing of messages.
//!
//! What a kind promises: `look` gives the same items with the same ids for the same cursor, as far as the outside
//! still has them, and changes nothing outside that would lose them; what may only happen once they are kept is done
//! in `committed`. After any error a kind is opened anew from the cursor that was committed last, so its own memory is
//! never more than a shortcut.

mod broker;
mod desk;
mod file;
mod http;
mod journald;
mod messages;
mod replication;
mod runner;
mod shape;
mod slots;
mod syslog;
mod table;
mod thinker;
mod timer;

use crate::failures::Failures;
use crate::topology::{Node, Report};
use crate::worker::Tools;
use bytes::Bytes;
pub(crate) use desk::Desk;
use millpond_broker::{DeliveryId, Outcome};
use millpond_model::QueueName;
use parking_lot::Mutex;
pub(crate) use runner::run;
use serde_json::Value;
pub(crate) use slots::{Slot, left_behind, removed};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Items that one look should give at most; a kind that has more says so (`Found::more`).
pub(crate) const LOOK_ITEMS_MAX: usize = 1000;

/// Bytes that one look should give at most, the last item beyond.
pub(crate) const LOOK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A kind by its name in the file, and how its part of the file is read.
pub(crate) type ReadKind = fn(&Node, &str, &mut Report) -> Option<Arc<dyn Kind>>;

/// Every kind there is. A new one adds its line here and has a file of its own.
pub(crate) const KINDS: &[(&str, ReadKind)] = &[
    ("broker", broker::read),
    ("file", file::read),
    ("http", http::read),
    ("journald", journald::read),
    ("messages", messages::read),
    ("syslog", syslog::read),
    ("mysql", table::read_mysql),
    ("postgres", table::read_postgres),
    ("sqlite", table::read_sqlite),
    ("timer", timer::read),
];

/// A future of a source.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, SourceError>> + Send + 'a>>;

/// What the file says of a source of one kind.
pub(crate) trait Kind: fmt::Debug + Send + Sync {
    /// As the file names it. A cursor that another kind left under the same name of a source is not taken.
    fn name(&self) -> &'static str;

    /// In which ways it can be looked at, and which one is the default.
    fn polling(&self) -> Polling;

    /// The type of its events, unless the file or an item says another.
    fn event_type(&self) -> String;

    /// The queue that comes and goes with a source of that name.
    fn own_queue(&self, _source: &str) -> Option<QueueName> {
        None
    }

    /// The replication slot that a source of that name uses on a server.
    fn slot(&self, _source: &str) -> Option<Slot> {
        None
    }

    /// What no other source may take from beside one of that name, in words: each would miss what the other takes.
    fn takes_alone(&self, _source: &str) -> Option<String> {
        None
    }

    /// Makes ready to look. Called when the source starts, and again after every error.
    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError>;
}

/// What a source is opened with.
pub(crate) struct Opening<'a> {
    /// Of the source.
    pub(crate) name: &'a str,
    /// Broker, data directory and the like.
    pub(crate) tools: &'a Tools,
}

/// Looks for events. Owned by one task.
pub(crate) trait Source: Send {
    /// What is there beyond the cursor (`None`: nothing was ever committed). Fixed polling has `wait` zero: it looks
    /// and returns. Long polling returns the moment something is there, and after `wait` at the latest, with nothing.
    /// At most about [`LOOK_ITEMS_MAX`] and [`LOOK_BYTES_MAX`]. May be dropped at any await.
    fn look<'a>(
        &'a mut self,
        desk: &'a mut Desk,
        cursor: Option<&'a Value>,
        wait: Duration,
    ) -> Work<'a, Found>;

    /// Everything up to `cursor` is on the disk: what had to wait for that can be done now (acknowledge, delete). Not
    /// called if the process died in between, so `look` must bear what was not done.
    fn committed<'a>(&'a mut self, _cursor: &'a Value) -> Work<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What a look found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In order.
    pub(crate) items: Vec<Item>,
    /// Where to go on; kept in one commit with the items. `None`: as it was.
    pub(crate) cursor: Option<Value>,
    /// There is more: look again at once, also in fixed polling.
    pub(crate) more: bool,
    /// Deliveries of the desk's session that are settled in the same commit.
    pub(crate) settles: Vec<(DeliveryId, Outcome)>,
    /// Bytes of these deliveries (`Message::size_bytes`), which are let go of then.
    pub(crate) settled_bytes: usize,
}

/// One event as its kind sees it; the runner makes a CloudEvent of it.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Unique within the source, and the same whenever it is looked at again; the event's id is `SOURCE/ID`.
    pub(crate) id: String,
    /// The event's type, if the item knows better than its kind.
    pub(crate) event_type: Option<String>,
    /// The event's subject.
    pub(crate) subject: Option<String>,
    /// When it happened, in milliseconds since 1970; else now.
    pub(crate) time_ms: Option<u64>,
    /// Its data.
    pub(crate) data: Payload,
    /// Further attributes (CloudEvents' extensions): lower case letters and digits, scalars.
    pub(crate) attributes: Vec<(String, Value)>,
    /// For an item that was an event already: its `source`; its `id` is then taken as it is, and its `time` is among
    /// the attributes.
    pub(crate) origin: Option<String>,
    /// Rules and sources that it has come through in the broker; 0 for what comes from outside.
    pub(crate) hops: u64,
}

impl Item {
    /// With JSON for data.
    pub(crate) fn json(id: impl Into<String>, data: Value) -> Self {
        Self {
            id: id.into(),
            event_type: None,
            subject: None,
            time_ms: None,
            data: Payload::Json(data),
            attributes: Vec::new(),
            origin: None,
            hops: 0,
        }
    }
}

/// The data of an item.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// Sent as `application/json`.
    Json(Value),
    /// Sent as they are.
    Raw {
        /// What they are.
        content_type: Option<String>,
        /// How they are encoded: `gzip`.
        encoding: Option<String>,
        /// The bytes.
        bytes: Bytes,
    },
}

/// Why a source cannot look, or its events cannot be published. It waits and tries again by itself.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct SourceError {
    /// What was wrong, with which value, and what to do.
    pub(crate) reason: String,
    /// When the other side says to come back; else the runner's own back-off.
    pub(crate) retry_after: Option<Duration>,
}

impl SourceError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry_after: None }
    }
}

/// When a source looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poll {
    /// Fixed polling: at multiples of this.
    Every(Duration),
    /// Long polling: always, and a look returns after this at the latest.
    Long(Duration),
}

/// The ways in which a kind can be looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Polling {
    /// If the file says nothing.
    pub(crate) default: Poll,
    /// Whether `{every: ..}` may be said.
    pub(crate) every: bool,
    /// Whether `{long: ..}` may be said.
    pub(crate) long: bool,
}

/// What a source is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState {
    /// It looks for events.
    Running,
    /// It was stopped.
    Stopped,
    /// It cannot look now and tries again by itself.
    Waiting {
        /// What for.
        reason: String,
    },
}

impl SourceState {
    /// The state without what it waits for.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Waiting { .. } => "waiting",
        }
    }

    /// What it waits for.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Waiting { reason } => Some(reason),
            _ => None,
        }
    }
}

impl fmt::Display for SourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            None => f.pad(self.word()),
            Some(reason) => write!(f, "waiting: {reason}"),
        }
    }
}

/// What others see of a source, and the cursor that was committed last.
#[derive(Debug)]
pub(crate) struct SourceVitals {
    pub(crate) state: Mutex<SourceState>,
    /// Of the kind by that name.
    pub(crate) cursor: Mutex<Option<KeptCursor>>,
    pub(crate) events: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) failures: Failures,
}

impl SourceVitals {
    pub(crate) fn new(cursor: Option<KeptCursor>) -> Self {
        Self {
            state: Mutex::new(SourceState::Stopped),
            cursor: Mutex::new(cursor),
            events: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            failures: Failures::default(),
        }
    }
}

/// The version of kept cursors.
const CURSOR_VERSION: u64 = 1;

/// Prefix of the keys of cursors.
pub(crate) const CURSOR_PREFIX: &str = "source/";

/// A cursor as it is kept: `{"version": 1, "kind": KIND, "cursor": ...}`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeptCursor {
    pub(crate) kind: String,
    pub(crate) cursor: Value,
}

impl KeptCursor {
    pub(crate) fn encode(kind: &str, cursor: &Value) -> Box<[u8]> {
        let kept = serde_json::json!({"version": CURSOR_VERSION, "kind": kind, "cursor": cursor});
        kept.to_string().into_bytes().into()
    }

    /// `None`: it was written by a newer version, or is no cursor.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut kept: Value = serde_json::from_slice(value).ok()?;
        if kept.get("version").and_then(Value::as_u64) != Some(CURSOR_VERSION) {
            return None;
        }
        let kind = kept.get("kind")?.as_str()?.to_owned();
        Some(Self { kind, cursor: kept.get_mut("cursor")?.take() })
    }
}
