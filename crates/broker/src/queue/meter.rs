//! What is counted of a queue.

use super::QueueCell;
use super::cell::State;
use super::pump::Work;
use crate::core::Core;
use crate::stats::{Count, Meter};
use std::sync::Arc;

/// What one call hands out, counted until it is through.
#[derive(Debug, Default)]
pub(super) struct Handed {
    pub(super) deliver: u64,
    pub(super) deliver_no_ack: u64,
    pub(super) redeliver: u64,
}

impl QueueCell {
    /// Where it is counted what happens here. What happens under the queue's lock is counted there by `add`.
    #[inline]
    pub(crate) fn meter(self: &Arc<Self>, core: &Core) -> &Arc<Meter> {
        self.meter.get_or_init(|| {
            let vhost = self.vhost().map(|vhost| vhost.name.clone());
            core.stats.queue_meter(vhost, Arc::downgrade(self), self.adopted())
        })
    }

    /// What was counted so far, if anything.
    pub(crate) fn counted(&self) -> Option<&Arc<Meter>> {
        self.meter.get()
    }

    /// The broker begins with what is here; how many messages that is.
    pub(crate) fn adopt(&self) -> u64 {
        *self.adopted.get_or_init(|| self.counts().0)
    }

    fn adopted(&self) -> u64 {
        self.adopted.get().copied().unwrap_or(0)
    }

    /// The levels may be others. A queue nobody uses needs no meter for that.
    #[inline]
    pub(super) fn stir(self: &Arc<Self>, state: &State, core: &Core) {
        match self.meter.get() {
            Some(meter) => meter.touch(),
            None if state.machine.ready_count() != self.adopted() || !state.sinks.is_empty() => {
                self.meter(core).touch();
            }
            None => {}
        }
    }

    /// The queue goes with all that is in it.
    pub(super) fn end_meter(self: &Arc<Self>, state: &State, core: &Core) {
        self.stir(state, core);
        if self.adopted() != 0 {
            self.meter(core);
        }
        if let Some(meter) = self.meter.get() {
            meter.end();
        }
    }

    /// What was handed out in this call.
    #[inline]
    pub(super) fn count_handed(self: &Arc<Self>, work: &mut Work<'_>) {
        let Handed { deliver, deliver_no_ack, redeliver } = std::mem::take(&mut work.scratch.handed);
        if deliver + deliver_no_ack != 0 {
            let meter = self.meter(work.core);
            meter.add(Count::Deliver, deliver);
            meter.add(Count::DeliverNoAck, deliver_no_ack);
            meter.add(Count::Redeliver, redeliver);
        }
    }

    /// The levels, in the order of `Count::LEVELS`.
    pub(crate) fn levels(&self) -> [u64; 4] {
        if let Some(stream) = &self.stream {
            let (ready, consumers) = stream.counts();
            return [ready, stream.unacked_count(), 0, consumers];
        }
        let state = self.state.lock();
        let machine = &state.machine;
        [machine.ready_count(), machine.unacked_count(), machine.waiting_count(), state.sinks.len() as u64]
    }
}
