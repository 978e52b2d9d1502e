//! What the passing of time does to a queue with leases, paces or delayed retries.

use super::QueueCell;
use super::cell::State;
use super::consumers::{ConsumerChange, Shown, Sink};
use super::machine::{ConsumerFigures, ConsumerKey, LeaseEnd, MachineFigures, OwnerKey};
use super::pump::Work;
use crate::request::QueueRef;
use crate::session::inbox::Inbox;
use std::ops::Range;
use std::sync::Arc;

/// A session that may hold messages on a lease though it has no consumer here (any more).
pub(super) struct Lessee {
    owner: OwnerKey,
    inbox: Arc<Inbox>,
    queue: QueueRef,
}

/// Who gets a single message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Getter<'a> {
    pub(crate) owner: OwnerKey,
    pub(crate) inbox: &'a Arc<Inbox>,
    pub(crate) queue: QueueRef,
}

impl State {
    /// Remembers whom to tell of the end of leases.
    pub(super) fn note_lessee(&mut self, getter: Getter<'_>) {
        if self.machine.is_timed() && !self.lessees.iter().any(|lessee| lessee.owner == getter.owner) {
            let Getter { owner, inbox, queue } = getter;
            self.lessees.push(Lessee { owner, inbox: inbox.clone(), queue });
        }
    }

    /// A session goes.
    pub(super) fn forget_lessee(&mut self, owner: OwnerKey) {
        self.lessees.retain(|lessee| lessee.owner != owner);
    }

    fn tell_end(&self, ended: LeaseEnd, work: &mut Work<'_>) {
        let LeaseEnd { owner, seqs } = ended;
        let of_consumer = self.sinks.iter().find(|sink| sink.owner == owner).map(|s| (&s.inbox, s.queue));
        let of_lessee = || self.lessees.iter().find(|l| l.owner == owner).map(|l| (&l.inbox, l.queue));
        if let Some((inbox, queue)) = of_consumer.or_else(of_lessee) {
            let waker = inbox.lease_ended(queue, seqs);
            work.scratch.wake_later(&mut waker.into_iter().collect());
        }
    }
}

impl QueueCell {
    /// Tells the machine the time, where it wants to know it.
    #[inline]
    pub(super) fn tick(&self, state: &mut State, work: &mut Work<'_>) {
        if state.machine.is_timed() {
            self.tick_now(state, work);
        }
    }

    /// As [`Self::tick`], also for a machine that does not want to know it yet.
    pub(super) fn tick_now(&self, state: &mut State, work: &mut Work<'_>) {
        let mut ended = Vec::new();
        state.machine.advance(work.core.options.clock.now_ms(), &mut ended);
        for ended in ended {
            tracing::debug!(queue = %self.spec().name, seqs = ?ended.seqs, "a lease has ended");
            state.tell_end(ended, work);
        }
    }

    /// Changes what is said of a consumer.
    pub(crate) fn change_consumer(
        self: &Arc<Self>,
        key: ConsumerKey,
        change: ConsumerChange,
        work: &mut Work<'_>,
    ) {
        if let Some(stream) = &self.stream {
            return stream.change_reader(self, key, change, work);
        }
        let ConsumerChange { prefetch, paused, rate, lease_ms } = change;
        {
            let mut state = self.state.lock();
            self.tick_now(&mut state, work);
            if let Some(rate) = rate {
                state.machine.set_rate(key, rate);
            }
            if lease_ms.is_some() {
                state.machine.set_lease(key, lease_ms);
            }
            if let Some(prefetch) = prefetch {
                state.machine.set_prefetch(key, prefetch);
            }
            if let Some(paused) = paused {
                state.machine.pause_consumer(key, paused);
            }
            self.pump(&mut state, work);
        }
        work.scratch.wake();
    }

    /// Leases of `owner` on these messages begin anew.
    pub(crate) fn renew(self: &Arc<Self>, owner: OwnerKey, seqs: &[Range<u64>], work: &mut Work<'_>) {
        {
            let mut state = self.state.lock();
            if !state.machine.is_timed() {
                return;
            }
            self.tick_now(&mut state, work);
            for range in seqs {
                state.machine.renew(owner, range.clone());
            }
            self.pump(&mut state, work);
        }
        work.scratch.wake();
    }

    /// How it stands, and its consumers.
    pub(crate) fn figures(&self, now_ms: u64) -> (MachineFigures, Vec<(ConsumerFigures, Shown)>) {
        let mut state = self.state.lock();
        let mut figures = state.machine.figures(now_ms);
        if let Some(stream) = &self.stream {
            drop(state);
            (figures.ready, figures.unacked) = (stream.counts().0, stream.unacked_count());
            return (figures, stream.figures());
        }
        let tagged = |it: &ConsumerFigures| Some((*it, state.sink(it.key)?.shown.clone()));
        let consumers = figures.consumers.iter().filter_map(tagged).collect();
        (figures, consumers)
    }

    /// The keys of consumers that `wanted` says yes to.
    pub(crate) fn consumers_where(&self, wanted: &dyn Fn(&Sink) -> bool) -> Vec<ConsumerKey> {
        if let Some(stream) = &self.stream {
            return stream.readers_where(wanted);
        }
        let state = self.state.lock();
        state.sinks.iter().filter(|sink| wanted(sink)).map(|sink| sink.key).collect()
    }
}
