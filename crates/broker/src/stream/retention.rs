//! How much a stream keeps: by size when messages come, by age when time passes, from its head, whole blocks of
//! segment files at a time.

use super::room::{State, StreamRoom};
use crate::core::Core;
use crate::queue::Work;
use crate::timer::OnTimer;
use std::sync::{Arc, Weak};

/// How much may be published before it is looked how large the stream is: a share of its limit within these. Bytes.
const CHECK_SHARE: u64 = 32;
const CHECK_MIN_BYTES: u64 = 64 << 10;
const CHECK_MAX_BYTES: u64 = 8 << 20;

/// How long to wait before messages are dropped again that are too old: a share of the age within these.
const PAUSE_SHARE: u64 = 64;
const PAUSE_MIN_MS: u64 = 100;
const PAUSE_MAX_MS: u64 = 60_000;

impl StreamRoom {
    /// Looks after what was published just now.
    pub(super) fn retain(
        self: &Arc<Self>,
        state: &mut State,
        size_bytes: u64,
        now_ms: u64,
        work: &mut Work<'_>,
    ) {
        if let Some(size_max_bytes) = state.retention.size_max_bytes {
            state.unchecked_bytes += size_bytes;
            let enough = (size_max_bytes / CHECK_SHARE).clamp(CHECK_MIN_BYTES, CHECK_MAX_BYTES);
            if state.unchecked_bytes >= enough {
                state.unchecked_bytes = 0;
                state.machine.trimmed(self.log.trim_to_size(work.batch, size_max_bytes));
            }
        }
        if let Some(age_max_ms) = state.retention.age_max_ms.filter(|_| !state.armed) {
            self.arm(state, now_ms.saturating_add(age_max_ms), work.core);
        }
    }

    fn arm(self: &Arc<Self>, state: &mut State, at_ms: u64, core: &Core) {
        state.armed = true;
        let whom: Weak<Self> = Arc::downgrade(self);
        core.timer.arm(at_ms, whom);
    }

    /// After a start or a change of what is kept: drops what is too much, and watches the rest.
    pub(crate) fn watch(self: &Arc<Self>, core: &Core) {
        core.work(|work| {
            let mut state = self.state.lock();
            if let Some(size_max_bytes) = state.retention.size_max_bytes {
                state.machine.trimmed(self.log.trim_to_size(work.batch, size_max_bytes));
            }
            self.expire(&mut state, work);
        });
    }

    /// Drops what is too old; the timer calls again for what is left.
    fn expire(self: &Arc<Self>, state: &mut State, work: &mut Work<'_>) {
        let Some(age_max_ms) = state.retention.age_max_ms else { return };
        let now_ms = work.core.options.clock.now_ms();
        let (first, oldest_ms) = self.log.trim_older(work.batch, now_ms.saturating_sub(age_max_ms));
        state.machine.trimmed(first);
        if let Some(oldest_ms) = oldest_ms.filter(|_| !state.armed) {
            let pause_ms = (age_max_ms / PAUSE_SHARE).clamp(PAUSE_MIN_MS, PAUSE_MAX_MS);
            // One millisecond more: what is just as old as allowed stays.
            let due_ms = oldest_ms.saturating_add(age_max_ms).saturating_add(1);
            self.arm(state, due_ms.max(now_ms + pause_ms), work.core);
        }
    }
}

impl OnTimer for StreamRoom {
    fn on_timer(self: Arc<Self>, core: &Arc<Core>) {
        core.work(|work| {
            let mut state = self.state.lock();
            state.armed = false;
            self.expire(&mut state, work);
        });
    }
}
