//! Alarms: the machine runs out of memory or disk, so publishers wait (contract C11).
//!
//! Somebody measures and tells ([`Broker::check_resources`]); publishers' sessions ask for the level, one relaxed
//! load a batch. Consumers and what makes room go on. Publishers of clients are held back by their front ends while an
//! alarm is young (they are told, with connection.blocked), and refused when it is old, so that nobody waits for ever
//! without an answer. In-process sessions (rules) are not held back: they move messages on.

use crate::notice::Notice;
use crate::{Broker, Session};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

/// What runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Resident memory of the process.
    Memory,
    /// Space on the disk of the data directory.
    Disk,
}

impl Resource {
    /// `memory` or `disk`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// What publishers of clients have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmLevel {
    /// Publish.
    Clear,
    /// Wait.
    Blocking,
    /// Hear a refusal: the alarm is old.
    Refusing,
}

/// What was measured; `None`: not known here. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Resident memory of the process.
    pub memory_bytes: Option<u64>,
    /// Free on the disk of the data directory.
    pub disk_free_bytes: Option<u64>,
}

/// From where on it is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimits {
    /// More resident memory than this is an alarm. Bytes.
    pub memory_max_bytes: u64,
    /// Less free disk than this is an alarm. Bytes.
    pub disk_free_min_bytes: u64,
    /// Age from which publishes are refused instead of waiting; `None`: they wait.
    pub refuse_after_ms: Option<u64>,
}

/// An alarm that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmInfo {
    /// What runs out.
    pub resource: Resource,
    /// Since when. Milliseconds since 1970.
    pub since_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// An [`AlarmLevel`].
    level: AtomicU8,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was looked at last.
    last: Option<(Resources, ResourceLimits)>,
    /// In the order in which they were set.
    set: Vec<AlarmInfo>,
    /// Of sessions that wait for another level.
    waiters: HashMap<u64, Waker>,
}

impl Alarms {
    #[inline]
    pub(crate) fn level(&self) -> AlarmLevel {
        match self.level.load(Ordering::Relaxed) {
            0 => AlarmLevel::Clear,
            1 => AlarmLevel::Blocking,
            _ => AlarmLevel::Refusing,
        }
    }

    /// As in RabbitMQ's connection.blocked: `low on memory`, `low on disk`, `low on memory & disk`.
    pub(crate) fn reason(&self) -> Arc<str> {
        let set: Vec<_> = self.state.lock().set.iter().map(|alarm| alarm.resource.as_str()).collect();
        format!("low on {}", set.join(" & ")).into()
    }

    fn check(&self, measured: Resources, limits: &ResourceLimits, now_ms: u64, tell: &dyn Fn(Notice)) {
        let mut state = self.state.lock();
        state.last = Some((measured, *limits));
        let over = |value: Option<u64>, is_alarm: &dyn Fn(u64) -> bool| value.is_some_and(is_alarm);
        let memory = over(measured.memory_bytes, &|bytes| bytes > limits.memory_max_bytes);
        let disk = over(measured.disk_free_bytes, &|bytes| bytes < limits.disk_free_min_bytes);
        state.note(Resource::Memory, memory, measured.memory_bytes, limits.memory_max_bytes, now_ms, tell);
        state.note(Resource::Disk, disk, measured.disk_free_bytes, limits.disk_free_min_bytes, now_ms, tell);
        let oldest_ms = state.set.iter().map(|alarm| alarm.since_ms).min();
        let level = match oldest_ms {
            None => AlarmLevel::Clear,
            Some(since_ms) => match limits.refuse_after_ms {
                Some(after_ms) if now_ms.saturating_sub(since_ms) >= after_ms => AlarmLevel::Refusing,
                _ => AlarmLevel::Blocking,
            },
        };
        if level == self.level() {
            return;
        }
        if level == AlarmLevel::Refusing {
            tracing::warn!("publishes are refused: the alarm is old");
        }
        self.level.store(level as u8, Ordering::Relaxed);
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.into_values().for_each(Waker::wake);
    }

    /// Wakes `waker` when the level is not this one any more.
    fn poll_change(&self, session: u64, from: AlarmLevel, cx: &Context<'_>) -> Poll<AlarmLevel> {
        let mut state = self.state.lock();
        // Under the lock, so that a change in between is not missed.
        let level = self.level();
        if level != from {
            return Poll::Ready(level);
        }
        state.waiters.insert(session, cx.waker().clone());
        Poll::Pending
    }

    /// A session is gone.
    pub(crate) fn forget(&self, session: u64) {
        if self.level() != AlarmLevel::Clear {
            self.state.lock().waiters.remove(&session);
        }
    }
}

impl State {
    fn note(
        &mut self,
        resource: Resource,
        is_alarm: bool,
        value: Option<u64>,
        limit: u64,
        now_ms: u64,
        tell: &dyn Fn(Notice),
    ) {
        let known = self.set.iter().position(|alarm| alarm.resource == resource);
        match (known, is_alarm) {
            (None, true) => {
                tracing::warn!(
                    resource = resource.as_str(),
                    bytes = value,
                    limit,
                    "alarm set: publishers wait"
                );
                self.set.push(AlarmInfo { resource, since_ms: now_ms });
                tell(Notice::AlarmSet { resource: resource.as_str() });
            }
            (Some(at), false) => {
                tracing::warn!(resource = resource.as_str(), bytes = value, limit, "alarm cleared");
                self.set.remove(at);
                tell(Notice::AlarmCleared { resource: resource.as_str() });
            }
            _ => {}
        }
    }
}

impl Broker {
    /// Compares what was measured with the limits: sets and clears alarms, and lets publishers wait, be refused, or
    /// go on. To be called every second or so; the age of an alarm is looked at here too.
    pub fn check_resources(&self, measured: Resources, limits: &ResourceLimits) {
        let tell = |notice| self.core.tell(|| notice);
        self.core.alarms.check(measured, limits, self.core.options.clock.now_ms(), &tell);
    }

    /// What [`Self::check_resources`] was told last.
    pub fn resources(&self) -> Option<(Resources, ResourceLimits)> {
        self.core.alarms.state.lock().last
    }

    /// The alarms that are set.
    pub fn alarms(&self) -> Vec<AlarmInfo> {
        self.core.alarms.state.lock().set.clone()
    }
}

impl Session {
    /// What this session's publishers have to do.
    #[inline]
    pub fn alarm_level(&self) -> AlarmLevel {
        self.core.alarms.level()
    }

    /// Why, for connection.blocked.
    pub fn alarm_reason(&self) -> Arc<str> {
        self.core.alarms.reason()
    }

    /// Ready with the level as soon as it is not `from`.
    pub fn poll_alarm(&mut self, from: AlarmLevel, cx: &mut Context<'_>) -> Poll<AlarmLevel> {
        self.core.alarms.poll_change(self.owner.0, from, cx)
    }
}
