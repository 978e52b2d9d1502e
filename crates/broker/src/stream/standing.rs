//! A stream as the watchdog sees it.

use super::room::{Reader, State, StreamRoom};
use crate::queue::machine::Progress;
use crate::queue::{Found, Look, QueueCell, Work};
use crate::watchdog::StuckCause;
use std::sync::Arc;

impl StreamRoom {
    /// As [`QueueCell::look_at`]: the first reader that should have gone on.
    pub(crate) fn look_at(&self) -> Look {
        let Some(state) = self.state.try_lock() else { return Look::Busy };
        let suspect = state.readers.iter().find_map(|reader| state.suspicion(reader));
        suspect.map_or(Look::Well, Look::Suspect)
    }

    /// As [`QueueCell::push_on`].
    pub(crate) fn push_on(&self, cell: &Arc<QueueCell>, work: &mut Work<'_>) {
        {
            let mut state = self.state.lock();
            let State { readers, machine, .. } = &mut *state;
            for Reader { sink, .. } in readers.iter() {
                if sink.inbox.has_drained() {
                    sink.inbox.forget_stalled(cell, sink.key);
                    machine.set_open(sink.key, true);
                }
            }
            machine.loaded();
            self.pump(cell, &mut state, None, work);
        }
        work.scratch.wake();
    }
}

impl State {
    fn suspicion(&self, reader: &Reader) -> Option<Found> {
        let key = reader.sink.key;
        let (position, behind, loading, closed) = self.machine.standing(key)?;
        let cause = match self.machine.turn(key) {
            Some(_) => StuckCause::Undelivered,
            None if behind == 0 => return None,
            None if loading => StuckCause::Loading,
            None if closed && reader.sink.inbox.has_drained() => StuckCause::TapClosed,
            None => return None,
        };
        let progress = Progress { held: key.0, gone: position, loads: 0 };
        Some(Found { cause, progress, ready: behind, able: 1 })
    }
}

#[cfg(test)]
impl StreamRoom {
    /// What no door leads to: a fault that the watchdog is for.
    pub(crate) fn shut_taps(&self) {
        let State { readers, machine, .. } = &mut *self.state.lock();
        readers.iter().for_each(|reader| machine.set_open(reader.sink.key, false));
    }
}
