//! Ready messages as an operator looks at them and takes some out: nothing is delivered, counted or marked.

use super::cell::QueueCell;
use super::machine::{OwnerKey, Return};
use super::pump::Work;
use crate::admin::Browsed;
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

    /// As [`Self::look`], of those that somebody holds.
    pub(crate) fn look_unacked(
        &self,
        from: u64,
        count_max: usize,
        waker: &Waker,
        out: &mut Vec<Browsed>,
    ) -> Looked {
        self.wait(waker);
        let mut state = self.state.lock();
        let held = state.machine.held_from(from, count_max);
        let mut seen = Vec::new();
        let mut last = None;
        for (seq, holder, past) in held.iter().copied() {
            seen.clear();
            if self.log.peek(seq..seq + 1, 1, &mut seen) == Fetch::Loading && seen.is_empty() {
                return last.map_or(Looked::Loading, Looked::Next);
            }
            let holder = holder.and_then(|key| state.sink(key)).map(|sink| sink.shown.tag.clone());
            let browsed = |(place, message)| Browsed { place, message, handed: past.handed, holder };
            out.extend(seen.pop().map(browsed));
            last = Some(seq + 1);
        }
        match last.filter(|_| held.len() == count_max) {
            Some(next) => Looked::Next(next),
            None => Looked::End,
        }
    }

    /// Adds how often ready messages were handed out.
    pub(crate) fn with_pasts(&self, seen: Vec<(u64, Message)>, out: &mut Vec<Browsed>) {
        let state = self.state.lock();
        out.extend(seen.into_iter().map(|(place, message)| {
            let handed = state.machine.ready_past(place).map_or(0, |past| past.handed);
            Browsed { place, message, handed, holder: None }
        }));
    }

    /// Has nobody else take a message that is ready; [`Self::let_go`] follows. `false`: it is not ready any more.
    pub(crate) fn hold_ready(&self, seq: u64) -> bool {
        self.state.lock().machine.hold(OwnerKey::TRANSFERS, seq)
    }

    /// A message that was held is elsewhere now, or ready again where it was.
    pub(crate) fn let_go(self: &Arc<Self>, seq: u64, is_elsewhere: bool, work: &mut Work<'_>) {
        let (owner, one) = (OwnerKey::TRANSFERS, seq..seq + 1);
        let mut state = self.state.lock();
        if is_elsewhere {
            let mut gone = Vec::new();
            state.machine.settle(owner, one, &mut gone);
            self.log.settle(work.batch, &gone);
        } else {
            state.machine.requeue(owner, one, Return::Untouched);
        }
        self.pump(&mut state, work);
        drop(state);
        work.scratch.wake();
    }
}
