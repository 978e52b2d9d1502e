//! The end of a queue.

use super::cell::QueueCell;
use super::consumers::Sink;
use super::machine::Machine;
use super::pump::Work;
use std::sync::Arc;

/// Why a queue is not to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDeleted {
    InUse,
    NotEmpty,
}

/// Under which conditions a queue is to be deleted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeleteIf {
    pub(crate) unused: bool,
    pub(crate) empty: bool,
    /// Only if nobody has used it for as long as `x-expires` says, at this time.
    pub(crate) expired_ms: Option<u64>,
}

impl QueueCell {
    /// Marks the queue as gone if the conditions hold, with its messages; returns how many were ready, and the
    /// consumers that are to be told. The caller holds the topology.
    pub(crate) fn delete(
        self: &Arc<Self>,
        when: DeleteIf,
        work: &mut Work<'_>,
    ) -> Result<(u64, Vec<Sink>), NotDeleted> {
        if let Some(stream) = &self.stream {
            let gone = stream.delete(when, work)?;
            let mut state = self.state.lock();
            state.deleted = true;
            self.end_meter(&state, work.core);
            work.scratch.wake_later(&mut state.waiters);
            return Ok(gone);
        }
        let mut state = self.state.lock();
        if when.unused && !state.sinks.is_empty() {
            return Err(NotDeleted::InUse);
        }
        if when.expired_ms.is_some_and(|now_ms| !state.is_expired(now_ms)) {
            return Err(NotDeleted::InUse);
        }
        let ready = state.machine.ready_count();
        if when.empty && ready + state.machine.waiting_count() > 0 {
            return Err(NotDeleted::NotEmpty);
        }
        state.deleted = true;
        self.end_meter(&state, work.core);
        state.machine = Machine::default();
        state.exclusive_consumer = None;
        self.log.delete(work.batch);
        self.forget_retained(&mut state, work);
        if let Some(mut dedup) = state.care.dedup.take() {
            dedup.clear(work.batch);
        }
        work.scratch.wake_later(&mut state.waiters);
        Ok((ready, std::mem::take(&mut state.sinks)))
    }
}
