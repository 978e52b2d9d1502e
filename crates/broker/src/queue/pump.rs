//! Carries out what the machine assigns: contents out of the log, deliveries into inboxes, once a batch and consumer.

use super::cell::{QueueCell, State};
use super::machine::{ConsumerKey, Reason, Run};
use super::meter::Handed;
use crate::core::Core;
use crate::dead_letter::Dead;
use crate::event::Delivery;
use crate::session::inbox::Stalled;
use millpond_model::Message;
use millpond_store::{Batch, Fetch};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

/// Most messages assigned to one consumer in one piece; more follow in the next piece.
const RUN_MAX: u32 = 512;

/// Entries a thread's scratch keeps room for between batches.
const SCRATCH_KEPT_MAX: usize = 16 * 1024;

/// What one call into queues works with: the batch that its changes go to, and reusable memory.
pub(crate) struct Work<'a> {
    pub(crate) core: &'a Core,
    pub(crate) batch: &'a mut Batch,
    pub(crate) scratch: &'a mut Scratch,
}

/// Reusable memory of a thread; empty between calls.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    fetched: Vec<(u64, Message)>,
    pub(super) settled: Vec<Range<u64>>,
    outgoing: Vec<Outgoing>,
    pub(super) handed: Handed,
    /// What died in this work and is to be moved.
    pub(crate) dead: Vec<Dead>,
    /// How many publishes were refused in this work.
    pub(crate) refused: u64,
    wakers: Vec<Waker>,
}

/// What one consumer gets out of one pump.
#[derive(Debug)]
struct Outgoing {
    consumer: ConsumerKey,
    items: Vec<Delivery>,
    size_bytes: usize,
    /// What its inbox could take when the pump began.
    room_bytes: usize,
    /// The tap was closed here, because the room is used up.
    closed: bool,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    /// Runs `f` with this thread's scratch; a nested call gets a fresh one.
    pub(crate) fn with<R>(f: impl FnOnce(&mut Self) -> R) -> R {
        let mut scratch = SCRATCH.take().unwrap_or_default();
        let result = f(&mut scratch);
        scratch.fetched.clear();
        scratch.fetched.shrink_to(SCRATCH_KEPT_MAX);
        scratch.settled.shrink_to(SCRATCH_KEPT_MAX);
        SCRATCH.set(Some(scratch));
        result
    }

    /// Wakes the sessions that were delivered to; call it without a lock.
    pub(crate) fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    pub(crate) fn wake_later(&mut self, wakers: &mut Vec<Waker>) {
        self.wakers.append(wakers);
    }
}

impl QueueCell {
    /// Hands out all that can be handed out now, and looks after what is left.
    pub(super) fn pump(self: &Arc<Self>, state: &mut State, work: &mut Work<'_>) {
        self.hand_out(state, work);
        self.tend(state, work);
    }

    pub(super) fn hand_out(self: &Arc<Self>, state: &mut State, work: &mut Work<'_>) {
        self.hand_out_uncounted(state, work);
        self.count_handed(work);
    }

    fn hand_out_uncounted(self: &Arc<Self>, state: &mut State, work: &mut Work<'_>) {
        self.tick(state, work);
        if state.expires() {
            self.expire(state, work);
        }
        self.learn_groups(state);
        while !state.loading && state.machine.has_work() {
            self.assign(state, work);
            let reopened = self.flush(state, work.scratch);
            self.settle_taken(state, work);
            if !reopened {
                return;
            }
            self.learn_groups(state);
        }
    }

    /// What was handed out to those who do not ack is settled.
    pub(super) fn settle_taken(&self, state: &mut State, work: &mut Work<'_>) {
        if !work.scratch.settled.is_empty() && !state.remember(work) {
            self.log.settle(work.batch, &work.scratch.settled);
            work.scratch.settled.clear();
        }
    }

    #[inline]
    fn next_run(&self, state: &mut State) -> Option<Run> {
        let run = state.machine.next_run(RUN_MAX);
        if run.is_some() || !state.machine.is_grouped() {
            return run;
        }
        self.learn_groups(state);
        state.machine.next_run(RUN_MAX)
    }

    /// Takes runs from the machine until it has none, or the next content is on disk.
    fn assign(&self, state: &mut State, work: &mut Work<'_>) {
        while let Some(run) = self.next_run(state) {
            let Some(at) = outgoing_of(state, work.scratch, run.consumer) else {
                // A consumer without a sink cannot be: both come and go under one lock.
                state.machine.give_back(&run, run.seqs.start);
                state.machine.remove_consumer(run.consumer);
                continue;
            };
            let room =
                work.scratch.outgoing[at].room_bytes.saturating_sub(work.scratch.outgoing[at].size_bytes);
            work.scratch.fetched.clear();
            let fetch = self.log.fetch(run.seqs.clone(), room.max(1), &mut work.scratch.fetched);
            let cut = state.cut_expired(&mut work.scratch.fetched, work.core);
            let limited = cut.is_some() || fetch == Fetch::Loading;
            let reached = self.take_fetched(state, work.scratch, &run, at, limited, room.max(1));
            if reached < run.seqs.end {
                state.machine.give_back(&run, reached);
            }
            if run.no_ack && run.seqs.start < reached {
                push_range(&mut work.scratch.settled, run.seqs.start..reached);
                state.machine.forget_sizes(run.seqs.start..reached);
            }
            if fetch == Fetch::Loading {
                state.loading = true;
                return;
            }
            if let Some(over) = cut {
                // Where messages go by groups it need not be the first of the queue.
                state.machine.doom_range(over..over + 1, Reason::Expired);
                self.expire(state, work);
            }
            let out = &mut work.scratch.outgoing[at];
            if out.size_bytes > out.room_bytes {
                out.closed = true;
                state.machine.set_open(run.consumer, false);
            }
        }
    }

    /// Moves what was fetched to its consumer; returns up to where the run was served.
    fn take_fetched(
        &self,
        state: &mut State,
        scratch: &mut Scratch,
        run: &Run,
        at: usize,
        limited: bool,
        room: usize,
    ) -> u64 {
        let out = &mut scratch.outgoing[at];
        let next = scratch.fetched.last().map_or(run.seqs.start, |(seq, _)| seq + 1);
        let count = scratch.fetched.len() as u64;
        let before = out.size_bytes;
        out.items.extend(scratch.fetched.drain(..).map(|(seq, message)| {
            out.size_bytes += message.size_bytes();
            Delivery { seq, redelivered: run.redelivered(), message: state.counted(message, run.past) }
        }));
        let handed = &mut scratch.handed;
        *(if run.no_ack { &mut handed.deliver_no_ack } else { &mut handed.deliver }) += count;
        handed.redeliver += if run.redelivered() { count } else { 0 };
        let out = &scratch.outgoing[at];
        let limited = limited || out.size_bytes - before >= room;
        let reached = if limited { next } else { run.seqs.end };
        if count < reached - run.seqs.start {
            self.forget_missing(state, &out.items[out.items.len() - count as usize..], run, reached);
        }
        reached
    }

    /// The log left out what it does not have any more (damage that recovery reported): nobody will ack it.
    fn forget_missing(&self, state: &mut State, served: &[Delivery], run: &Run, reached: u64) {
        let Some(owner) = state.sink(run.consumer).map(|sink| sink.owner) else { return };
        let mut settled = Vec::new();
        let mut at = run.seqs.start;
        for seq in served.iter().map(|item| item.seq).chain([reached]) {
            if at < seq {
                tracing::warn!(queue = %self.spec().name, from = at, to = seq, "messages are missing in the store");
                state.machine.settle(owner, at..seq, &mut settled);
            }
            at = seq + 1;
        }
    }

    /// Pushes what was collected into the inboxes; whether a tap was opened again meanwhile.
    fn flush(self: &Arc<Self>, state: &mut State, scratch: &mut Scratch) -> bool {
        let mut reopened = false;
        let Scratch { outgoing, wakers, .. } = scratch;
        for mut out in outgoing.drain(..) {
            let consumer = out.consumer;
            let Some(sink) = state.sink(consumer).filter(|_| !out.items.is_empty()) else {
                if out.closed {
                    state.machine.set_open(consumer, true);
                }
                continue;
            };
            let stalled = || Stalled { cell: self.clone(), consumer };
            let (open, waker) =
                sink.inbox.deliver(sink.cookie, sink.queue, &mut out.items, out.size_bytes, stalled);
            wakers.extend(waker);
            state.busy |= !open;
            if open == out.closed {
                state.machine.set_open(consumer, open);
                reopened |= open;
            }
        }
        reopened
    }
}

/// Where a consumer's deliveries are collected.
fn outgoing_of(state: &State, scratch: &mut Scratch, consumer: ConsumerKey) -> Option<usize> {
    if let Some(at) = scratch.outgoing.iter().rposition(|out| out.consumer == consumer) {
        return Some(at);
    }
    let room_bytes = state.sink(consumer)?.inbox.room_bytes();
    scratch.outgoing.push(Outgoing { consumer, items: Vec::new(), size_bytes: 0, room_bytes, closed: false });
    Some(scratch.outgoing.len() - 1)
}

/// Adds a range to a list, joined with the last one where they touch.
pub(super) fn push_range(list: &mut Vec<Range<u64>>, range: Range<u64>) {
    match list.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => list.push(range),
    }
}
