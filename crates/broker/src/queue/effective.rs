//! What a queue acts by, which an operator may change while it works.

use super::settings::QueueSettings;
use super::{QueueCell, Work};
use crate::vhost::Effective;
use std::sync::Arc;

impl QueueCell {
    /// What it acts by.
    pub(crate) fn effective(&self) -> Arc<Effective> {
        self.effective.lock().clone()
    }

    /// Acts by something else from now on, also on the messages that are here already (X8). May let messages die:
    /// not to be called with the topology's lock.
    pub(crate) fn apply(self: &Arc<Self>, effective: Effective, work: &mut Work<'_>) {
        self.apply_intake(&effective.arguments);
        if let Some(stream) = &self.stream {
            stream.apply(self, &effective.arguments, work);
            *self.effective.lock() = effective.shared();
            return;
        }
        let settings = QueueSettings::of(&effective.arguments);
        *self.effective.lock() = effective.shared();
        {
            let mut state = self.state.lock();
            if state.deleted || settings == *state.settings {
                return;
            }
            state.machine.set_delivery_limit(settings.delivery_limit);
            self.tick_now(&mut state, work);
            state.machine.apply(settings.timed);
            state.machine.set_paused(settings.paused);
            state.change_groups(settings.groups.as_ref());
            let weighs = settings.max_length_bytes.is_some();
            if weighs != state.machine.is_weighing() {
                state.machine.weigh(weighs);
            }
            self.change_retained(&mut state, settings.retain, work);
            state.care.change(&settings, work);
            state.settings = QueueSettings::shared(settings);
            self.pump(&mut state, work);
        }
        work.scratch.wake();
    }
}
