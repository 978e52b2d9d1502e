//! What is shown of a shovel.

use crate::spec::{From, ShovelSpec, To};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// How a shovel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShovelState {
    /// It connects and declares.
    Starting,
    /// It moves, or waits for messages.
    Running,
    /// It could not go on, and tries again after a while.
    Waiting {
        /// Why.
        reason: String,
    },
}

impl ShovelState {
    /// RabbitMQ's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting { .. } => "terminated",
        }
    }
}

/// A shovel as it is now; cheap to write, read by whoever looks.
#[derive(Debug)]
pub struct ShovelStatus {
    state: Mutex<(ShovelState, u64)>,
    /// Messages that are safe where they went.
    forwarded: AtomicU64,
    /// Messages that were taken and are not safe yet.
    pending: AtomicU64,
    /// Messages that it still has to move before it ends; `u64::MAX`: it does not end.
    remaining: AtomicU64,
}

impl ShovelStatus {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            state: Mutex::new((ShovelState::Starting, now_ms)),
            forwarded: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            remaining: AtomicU64::new(u64::MAX),
        }
    }

    /// How it is.
    pub fn state(&self) -> ShovelState {
        self.state.lock().0.clone()
    }

    /// Messages moved since this process started it.
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// Whether the state is another one than before.
    pub(crate) fn set(&self, state: ShovelState, now_ms: u64) -> bool {
        let mut known = self.state.lock();
        let is_new = known.0 != state;
        if is_new {
            *known = (state, now_ms);
        }
        is_new
    }

    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.remaining.load(Ordering::Relaxed) {
            u64::MAX => None,
            left => Some(left),
        }
    }

    pub(crate) fn set_remaining(&self, left: u64) {
        self.remaining.store(left, Ordering::Relaxed);
    }

    pub(crate) fn moved(&self, messages: u64) {
        self.forwarded.fetch_add(messages, Ordering::Relaxed);
        if let Some(left) = self.remaining() {
            self.set_remaining(left.saturating_sub(messages));
        }
    }

    pub(crate) fn set_pending(&self, messages: u64) {
        self.pending.store(messages, Ordering::Relaxed);
    }

    /// As RabbitMQ's management shows a shovel, with what is ours beside it.
    pub(crate) fn show(&self, vhost: &str, name: &str, spec: &ShovelSpec) -> Value {
        let (state, since_ms) = self.state.lock().clone();
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| drop(out.insert(key.to_owned(), value));
        put("name", name.into());
        put("vhost", vhost.into());
        put("type", "dynamic".into());
        put("state", state.word().into());
        put("since", since_ms.into());
        if let ShovelState::Waiting { reason } = &state {
            put("reason", reason.as_str().into());
        }
        put("src_protocol", "amqp091".into());
        put("dest_protocol", "amqp091".into());
        put("src_uri", spec.source.shown().into());
        put("dest_uri", spec.dest.shown().into());
        match &spec.from {
            From::Queue { name, .. } => put("src_queue", name.as_str().into()),
            From::Exchange { name, key } => {
                put("src_exchange", name.as_str().into());
                put("src_exchange_key", key.as_str().into());
            }
        }
        match &spec.to {
            To::Queue { name, .. } => put("dest_queue", name.as_str().into()),
            To::Exchange { name, key } => {
                put("dest_exchange", name.as_str().into());
                put("dest_exchange_key", key.as_deref().unwrap_or("").into());
            }
            To::Same => {}
        }
        put("ack_mode", spec.ack_mode.word().into());
        put("prefetch_count", spec.prefetch.into());
        put("forwarded", self.forwarded().into());
        put("pending", self.pending.load(Ordering::Relaxed).into());
        put("remaining", self.remaining().map_or(json!("unlimited"), Value::from));
        Value::Object(out)
    }
}
