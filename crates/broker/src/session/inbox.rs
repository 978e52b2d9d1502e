//! What waits for a session: deliveries, cancels, replies, ends of commits.
//!
//! Many write (queue cells, the log writer's thread), one reads (the session's own task). A writer pushes once a
//! batch and wakes the reader at most once. Delivered bytes are counted until the front end says that they left for
//! the socket; over the limit the queue cell closes the consumer's tap and leaves a note here, and the session opens
//! it again when half of the limit has drained.

use crate::event::{Deliveries, Delivery, SessionEvent};
use crate::queue::QueueCell;
use crate::queue::machine::ConsumerKey;
use crate::request::QueueRef;
use millpond_model::{Message, QueueName};
use millpond_store::{CommitError, OnCommit};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The mailbox of one session.
#[derive(Debug)]
pub(crate) struct Inbox {
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<SessionEvent>,
    waker: Option<Waker>,
    /// Delivered and not written to the socket yet.
    delivered_bytes: usize,
    /// Replies that wait here.
    reply_bytes: usize,
    /// Consumers whose tap was closed because of `delivered_bytes`.
    stalled: Vec<Stalled>,
    closed: bool,
}

/// A consumer that waits for its session to drain.
#[derive(Debug)]
pub(crate) struct Stalled {
    pub(crate) cell: Arc<QueueCell>,
    pub(crate) consumer: ConsumerKey,
}

impl Inbox {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, state: Mutex::default() }
    }

    /// Takes the deliveries of one consumer out of `items`. `false`: the limit is passed, close the consumer's tap;
    /// the note that opens it again is made here, under the same lock, so that it cannot be missed. The waker is for
    /// the caller to wake once it has let go of the queue.
    pub(crate) fn deliver(
        &self,
        cookie: u64,
        queue: QueueRef,
        items: &mut Vec<Delivery>,
        size_bytes: usize,
        stalled: impl FnOnce() -> Stalled,
    ) -> (bool, Option<Waker>) {
        let mut state = self.state.lock();
        if state.closed {
            items.clear();
            return (true, None);
        }
        match state.events.last_mut() {
            Some(SessionEvent::Deliveries(last)) if last.cookie == cookie && last.queue == queue => {
                last.items.append(items);
            }
            _ => {
                let items = std::mem::take(items);
                state.events.push(SessionEvent::Deliveries(Deliveries { cookie, queue, items }));
            }
        }
        state.delivered_bytes += size_bytes;
        let open = state.delivered_bytes <= self.max_bytes;
        if !open {
            state.stalled.push(stalled());
        }
        (open, state.waker.take())
    }

    /// Bytes that may still be delivered before the tap closes.
    pub(crate) fn room_bytes(&self) -> usize {
        self.max_bytes.saturating_sub(self.state.lock().delivered_bytes)
    }

    /// A reply to a direct reply-to request. `false`: dropped, because the requester does not read.
    pub(crate) fn reply(&self, cookie: u64, message: Message) -> bool {
        let mut state = self.state.lock();
        if state.closed || state.reply_bytes > self.max_bytes {
            return false;
        }
        state.reply_bytes += message.size_bytes();
        self.push(state, SessionEvent::Reply { cookie, message });
        true
    }

    /// A consumer was ended by the broker.
    pub(crate) fn cancelled(&self, cookie: u64, queue: QueueName) {
        self.push(self.state.lock(), SessionEvent::ConsumerCancelled { cookie, queue });
    }

    /// The process is about to go down.
    pub(crate) fn drain(&self) {
        self.push(self.state.lock(), SessionEvent::Drain);
    }

    /// The process goes down.
    pub(crate) fn shut_down(&self) {
        self.push(self.state.lock(), SessionEvent::Shutdown);
    }

    /// The session is to end.
    pub(crate) fn end(&self, reason: Arc<str>) {
        self.push(self.state.lock(), SessionEvent::Closed { reason });
    }

    /// Leases of messages that the session holds have ended. The waker is the caller's, as in [`Self::deliver`].
    pub(crate) fn lease_ended(&self, queue: QueueRef, seqs: Range<u64>) -> Option<Waker> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        match state.events.last_mut() {
            Some(SessionEvent::LeasesEnded { queue: last, seqs: ended }) if *last == queue => {
                ended.push(seqs)
            }
            _ => state.events.push(SessionEvent::LeasesEnded { queue, seqs: vec![seqs] }),
        }
        state.waker.take()
    }

    fn push(&self, mut state: parking_lot::MutexGuard<'_, State>, event: SessionEvent) {
        if state.closed {
            return;
        }
        state.events.push(event);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves what waits to `out`; whether there was anything.
    pub(crate) fn take(&self, out: &mut Vec<SessionEvent>) -> bool {
        Self::take_from(&mut self.state.lock(), out)
    }

    fn take_from(state: &mut State, out: &mut Vec<SessionEvent>) -> bool {
        if state.events.is_empty() {
            return false;
        }
        state.reply_bytes = 0;
        out.append(&mut state.events);
        // A burst must not leave an idle session with a large empty vector.
        if state.events.capacity() > EVENTS_KEPT_MAX {
            state.events = Vec::new();
        }
        true
    }

    /// As [`Self::take`], waiting.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, out: &mut Vec<SessionEvent>) -> Poll<()> {
        let mut state = self.state.lock();
        if Self::take_from(&mut state, out) {
            return Poll::Ready(());
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Bytes have left for the socket; the consumers to be opened again.
    pub(crate) fn written(&self, size_bytes: usize) -> Vec<Stalled> {
        let mut state = self.state.lock();
        state.delivered_bytes = state.delivered_bytes.saturating_sub(size_bytes);
        if state.stalled.is_empty() || state.delivered_bytes > self.max_bytes / 2 {
            return Vec::new();
        }
        std::mem::take(&mut state.stalled)
    }

    /// Whether consumers whose tap was closed because of this inbox should be open again.
    pub(crate) fn has_drained(&self) -> bool {
        let state = self.state.lock();
        !state.closed && state.delivered_bytes <= self.max_bytes / 2
    }

    /// Takes a consumer's deliveries back that the session has not taken; their sequence numbers.
    pub(crate) fn take_back(&self, cookie: u64, queue: QueueRef) -> Vec<u64> {
        let mut seqs = Vec::new();
        let mut state = self.state.lock();
        let mut size_bytes = 0;
        state.events.retain(|event| match event {
            SessionEvent::Deliveries(it) if it.cookie == cookie && it.queue == queue => {
                size_bytes += it.items.iter().map(|item| item.message.size_bytes()).sum::<usize>();
                seqs.extend(it.items.iter().map(|item| item.seq));
                false
            }
            _ => true,
        });
        state.delivered_bytes = state.delivered_bytes.saturating_sub(size_bytes);
        seqs
    }

    /// Forgets that a consumer waits for the session to drain.
    pub(crate) fn forget_stalled(&self, cell: &Arc<QueueCell>, consumer: ConsumerKey) {
        let mut state = self.state.lock();
        state.stalled.retain(|it| it.consumer != consumer || !Arc::ptr_eq(&it.cell, cell));
    }

    /// Nothing is taken in any more, and what waits is dropped.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let events = std::mem::take(&mut state.events);
        let stalled = std::mem::take(&mut state.stalled);
        drop(state);
        drop((events, stalled));
    }
}

/// Events an idle inbox keeps room for.
const EVENTS_KEPT_MAX: usize = 64;

impl OnCommit for Inbox {
    fn committed(&self, token: u64, result: Result<(), CommitError>) {
        self.push(self.state.lock(), SessionEvent::Committed { token, result });
    }
}
