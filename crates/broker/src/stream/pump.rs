//! Hands messages to the readers of a stream: what each may take, out of the log, into its inbox.

use super::arguments::Filter;
use super::room::{Reader, State, StreamRoom};
use crate::event::Delivery;
use crate::queue::machine::ConsumerKey;
use crate::queue::{QueueCell, Work};
use crate::session::inbox::Stalled;
use crate::stats::Count;
use millpond_model::Message;
use std::sync::Arc;

/// Most messages looked at in one piece; more follow in the next.
const PIECE_MAX: u64 = 1024;

/// Entries the room keeps space for between calls.
const FETCHED_KEPT_MAX: usize = 2 * PIECE_MAX as usize;

impl StreamRoom {
    /// Hands out all that can be handed out now, to one reader or to all.
    pub(super) fn pump(
        &self,
        cell: &Arc<QueueCell>,
        state: &mut State,
        only: Option<ConsumerKey>,
        work: &mut Work<'_>,
    ) {
        let range = match only {
            None => 0..state.readers.len(),
            Some(key) => match state.readers.binary_search_by_key(&key, |reader| reader.sink.key) {
                Ok(at) => at..at + 1,
                Err(_) => return,
            },
        };
        let mut wakers = Vec::new();
        for at in range {
            while self.piece(cell, state, at, &mut wakers, work) {}
        }
        state.fetched.shrink_to(FETCHED_KEPT_MAX);
        work.scratch.wake_later(&mut wakers);
    }

    /// Hands one piece to a reader; whether there may be more for it.
    fn piece(
        &self,
        cell: &Arc<QueueCell>,
        state: &mut State,
        at: usize,
        wakers: &mut Vec<std::task::Waker>,
        work: &Work<'_>,
    ) -> bool {
        let State { machine, readers, fetched, .. } = state;
        let reader = &mut readers[at];
        let key = reader.sink.key;
        let Some(turn) = machine.turn(key) else { return false };
        let room_bytes = reader.sink.inbox.room_bytes().max(1);
        let picky = reader.filter.is_some() || reader.since_ms.is_some();
        // Who passes messages over may have to look at more than it may take.
        let count = if picky { PIECE_MAX } else { turn.count.min(PIECE_MAX) };
        let read = self.log.read(turn.from, count as usize, room_bytes, fetched);
        let mut items = Vec::with_capacity(fetched.len().min(turn.count as usize));
        let (mut size_bytes, mut next) = (0, read.next);
        for (offset, message) in fetched.drain(..) {
            if items.len() as u64 == turn.count {
                next = offset;
                break;
            }
            if picky && !reader.wants(&message) {
                continue;
            }
            size_bytes += message.size_bytes();
            items.push(Delivery { seq: offset, redelivered: false, message });
        }
        machine.given(key, items.iter().map(|item| item.seq), next);
        if read.loading && next == read.next {
            machine.set_loading(key, next);
        }
        if items.is_empty() {
            return !read.loading;
        }
        cell.meter(work.core).add(Count::Deliver, items.len() as u64);
        let stalled = || Stalled { cell: cell.clone(), consumer: key };
        let sink = &reader.sink;
        let (open, waker) = sink.inbox.deliver(sink.cookie, sink.queue, &mut items, size_bytes, stalled);
        wakers.extend(waker);
        if !open {
            machine.set_open(key, false);
        }
        open
    }
}

impl Reader {
    fn wants(&mut self, message: &Message) -> bool {
        if let Some(since_ms) = self.since_ms {
            if message.published_ms().is_some_and(|published_ms| published_ms < since_ms) {
                return false;
            }
            self.since_ms = None;
        }
        self.filter.as_ref().is_none_or(|filter: &Filter| filter.wants(message))
    }
}
