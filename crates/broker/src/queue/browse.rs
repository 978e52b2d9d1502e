//! Ready messages as an operator looks at them and takes some out: nothing is delivered, counted or marked.

use super::cell::QueueCell;
use super::pump::Work;
use millpond_model::Message;
use millpond_store::Fetch;
use std::sync::Arc;
use std::task::Waker;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looked {
    /// What was asked for; the next look goes on here.
    Next(u64),
    /// There is no more.
    End,
    /// It is being read from disk; the waker will be woken.
    Loading,
}

impl QueueCell {
    /// Adds up to `count_max` ready messages from the sequence number `from` on, in the order of delivery.
    pub(crate) fn look(
        &self,
        from: u64,
        count_max: usize,
        waker: &Waker,
        out: &mut Vec<(u64, Message)>,
    ) -> Looked {
        // The wake-up is asked for first, so that a load that ends meanwhile is not missed.
        self.wait(waker);
        if let Some(stream) = &self.stream {
            return stream.look(from, count_max, out);
        }
        let state = self.state.lock();
        let mut at = from;
        while out.len() < count_max {
            let Some(ready) = state.machine.ready_from(at).filter(|_| !state.deleted) else {
                return Looked::End;
            };
            let before = out.len();
            let peek = self.log.peek(ready.clone(), count_max - before, out);
            let last = out[before..].last().map(|(seq, _)| seq + 1);
            if peek == Fetch::Loading {
                return last.map_or(Looked::Loading, Looked::Next);
            }
            at = if out.len() == count_max { last.unwrap_or(ready.end) } else { ready.end };
        }
        Looked::Next(at)
    }

    /// Takes a message out for good, if it is still ready.
    pub(crate) fn take_ready(self: &Arc<Self>, seq: u64, work: &mut Work<'_>) -> bool {
        let mut state = self.state.lock();
        let gone = state.machine.remove_ready(seq..seq + 1);
        self.log.settle(work.batch, &gone);
        self.look_on(&mut state, work);
        drop(state);
        work.scratch.wake();
        !gone.is_empty()
    }
}
