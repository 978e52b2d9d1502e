//! A queue as the watchdog sees it: whether it should have gone on, and a push if it does not.

use super::QueueCell;
use super::cell::State;
use super::machine::Progress;
use super::pump::Work;
use crate::watchdog::{OVERDUE_MS, StuckCause};
use std::sync::Arc;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Somebody was at work with it.
    Busy,
    /// It goes on, or waits for what it may wait for.
    Well,
    /// It would be stuck if it stayed so.
    Suspect(Found),
}

/// See [`Look`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) cause: StuckCause,
    pub(crate) progress: Progress,
    pub(crate) ready: u64,
    /// Consumers with credit.
    pub(crate) able: u64,
}

impl QueueCell {
    /// Looks at it without waiting for it. Whoever lets go of its lock has handed out all that could be, so what
    /// could be handed out now was forgotten, or is about to be.
    pub(crate) fn look_at(&self, now_ms: u64) -> Look {
        if let Some(stream) = &self.stream {
            return stream.look_at();
        }
        let Some(state) = self.state.try_lock() else { return Look::Busy };
        if state.deleted || state.sinks.is_empty() {
            return Look::Well;
        }
        let Some(cause) = state.suspicion(now_ms) else { return Look::Well };
        let progress = Progress { loads: state.loads.into(), ..state.machine.progress() };
        let (ready, able) = (state.machine.ready_count(), state.machine.able_count());
        Look::Suspect(Found { cause, progress, ready, able })
    }

    /// Gets a queue that is stuck going again, whatever it was that was forgotten.
    pub(crate) fn push_on(self: &Arc<Self>, work: &mut Work<'_>) {
        if let Some(stream) = &self.stream {
            return stream.push_on(self, work);
        }
        {
            let mut state = self.state.lock();
            if state.deleted {
                return;
            }
            state.loading = false;
            let State { sinks, machine, .. } = &mut *state;
            for sink in sinks.iter() {
                if !machine.is_closed(sink.key) || !sink.inbox.has_drained() {
                    continue;
                }
                sink.inbox.forget_stalled(self, sink.key);
                machine.set_open(sink.key, true);
            }
            self.pump(&mut state, work);
        }
        work.scratch.wake();
    }
}

impl State {
    /// Why it should have gone on, if it should.
    fn suspicion(&self, now_ms: u64) -> Option<StuckCause> {
        let overdue = |at_ms: u64| at_ms.saturating_add(OVERDUE_MS) <= now_ms;
        if self.machine.next_deadline_ms().is_some_and(overdue) {
            return Some(StuckCause::Overdue);
        }
        if self.machine.ready_count() == 0 {
            return None;
        }
        if self.loading {
            return Some(StuckCause::Loading);
        }
        // What is ready may be of groups in use; then there is neither.
        if self.machine.has_work() || self.machine.wants_groups().is_some() {
            return Some(StuckCause::Undelivered);
        }
        if self.machine.lacks_active() {
            return Some(StuckCause::NobodyActive);
        }
        let forgotten = self.sinks.iter().any(|s| self.machine.is_closed(s.key) && s.inbox.has_drained());
        forgotten.then_some(StuckCause::TapClosed)
    }
}

/// What no door leads to: the faults that the watchdog is for.
#[cfg(test)]
impl QueueCell {
    pub(crate) fn append_and_forget(
        self: &Arc<Self>,
        messages: &mut dyn Iterator<Item = millpond_model::Message>,
        work: &mut Work<'_>,
    ) {
        let mut state = self.state.lock();
        let super::logs::Logs::One(log) = &self.log else { return };
        state.machine.enqueued(log.append(work.batch, messages));
    }

    pub(crate) fn forget_to_load(&self) {
        self.state.lock().loading = true;
    }

    pub(crate) fn shut_taps(&self) {
        let State { sinks, machine, .. } = &mut *self.state.lock();
        sinks.iter().for_each(|sink| machine.set_open(sink.key, false));
    }
}
