//! Single messages, for who asks for one.

use super::cell::QueueCell;
use super::machine::Reason;
use super::pump::Work;
use super::tick::Getter;
use crate::event::Delivery;
use crate::stats::Count;
use millpond_store::Fetch;
use std::sync::Arc;

/// Why a get took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellGetError {
    /// Nothing is ready.
    Empty,
    /// The first ready message is on disk; the number of loads so far.
    Loading(u32),
}

impl QueueCell {
    /// Takes the first ready message (where messages go by groups, the first that may go to this owner); with how
    /// many are left.
    pub(crate) fn get(
        self: &Arc<Self>,
        getter: Getter<'_>,
        no_ack: bool,
        work: &mut Work<'_>,
    ) -> Result<(Delivery, u64), CellGetError> {
        let owner = getter.owner;
        let mut state = self.state.lock();
        self.tick(&mut state, work);
        if !no_ack {
            state.note_lessee(getter);
        }
        state.care.used(work);
        let mut fetched = Vec::with_capacity(1);
        self.tend(&mut state, work);
        loop {
            let known = self.learn_groups_to_get(&mut state, owner);
            let Some(one) = state.machine.next_to_get(owner).map(|seq| seq..seq + 1) else {
                if known == Fetch::Loading {
                    return Err(CellGetError::Loading(state.loads));
                }
                self.meter(work.core).add(Count::GetEmpty, 1);
                return Err(CellGetError::Empty);
            };
            if self.log.fetch(one.clone(), usize::MAX, &mut fetched) == Fetch::Loading {
                return Err(CellGetError::Loading(state.loads));
            }
            if let Some(over) = state.cut_expired(&mut fetched, work.core) {
                state.machine.doom_range(over..over + 1, Reason::Expired);
                self.tend(&mut state, work);
                continue;
            }
            let Some(taken) = state.machine.get(owner, no_ack) else { return Err(CellGetError::Empty) };
            let Some((seq, message)) = fetched.pop() else {
                tracing::warn!(queue = %self.spec.name, seq = taken.seq, "a message is missing in the store");
                state.machine.settle(owner, one, &mut Vec::new());
                continue;
            };
            if no_ack {
                work.scratch.settled.push(one);
                self.settle_taken(&mut state, work);
            }
            let meter = self.meter(work.core);
            meter.add(if no_ack { Count::GetNoAck } else { Count::Get }, 1);
            meter.add(Count::Redeliver, u64::from(taken.past.handed != 0));
            let message = state.counted(message, taken.past);
            self.tend(&mut state, work);
            let delivery = Delivery { seq, redelivered: taken.past.handed != 0, message };
            return Ok((delivery, state.machine.ready_count()));
        }
    }
}
