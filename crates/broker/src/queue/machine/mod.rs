//! The queue machine: the only judge of which messages are ready, who holds which, and whose turn it is.
//!
//! STUB of the API; bodies follow.

use std::ops::Range;

/// A holder of unacked messages: a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OwnerKey(pub(crate) u64);

/// A consumer of this queue; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConsumerKey(pub(crate) u64);

/// What a consumer asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Who holds what it is given.
    pub(crate) owner: OwnerKey,
    /// Higher is served first.
    pub(crate) priority: i64,
    /// Most unacked at once; 0 = no limit.
    pub(crate) prefetch: u32,
    /// What it is given is settled at once.
    pub(crate) no_ack: bool,
}

/// Consecutive messages for one consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Whose they are.
    pub(crate) consumer: ConsumerKey,
    /// At least one.
    pub(crate) seqs: Range<u64>,
    /// Whether they were handed out before.
    pub(crate) redelivered: bool,
    /// They are settled already: the caller settles them in the log.
    pub(crate) no_ack: bool,
    deliveries: u16,
}

/// What a get took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Which message.
    pub(crate) seq: u64,
    /// Whether it was handed out before.
    pub(crate) redelivered: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Machine(());

#[allow(unused_variables, dead_code)]
impl Machine {
    /// A machine over what was recovered (ascending, disjoint); all of it counts as handed out before, because that is
    /// not persisted. `next_seq` is the first sequence number that `enqueued` may bring.
    pub(crate) fn new(ready: &[Range<u64>], next_seq: u64) -> Self {
        unimplemented!()
    }

    /// New messages: ready, behind all others.
    pub(crate) fn enqueued(&mut self, seqs: Range<u64>) {
        unimplemented!()
    }

    /// A consumer comes; it is open and last in its priority's round.
    pub(crate) fn add_consumer(&mut self, key: ConsumerKey, terms: Terms) {
        unimplemented!()
    }

    /// A consumer goes; its unacked stay with its owner. Whether it was there.
    pub(crate) fn remove_consumer(&mut self, key: ConsumerKey) -> bool {
        unimplemented!()
    }

    /// Changes how many unacked a consumer may have.
    pub(crate) fn set_prefetch(&mut self, key: ConsumerKey, prefetch: u32) {
        unimplemented!()
    }

    /// Whether there is room in the consumer's inbox.
    pub(crate) fn set_open(&mut self, key: ConsumerKey, open: bool) {
        unimplemented!()
    }

    /// Whether `next_run` would answer; cheap.
    pub(crate) fn has_work(&self) -> bool {
        unimplemented!()
    }

    /// The lowest ready messages in one piece: what the next run or get will take. To see before whether their
    /// content is in memory, or to read ahead.
    pub(crate) fn first_ready(&self) -> Option<Range<u64>> {
        unimplemented!()
    }

    /// Assigns the next messages, at most `max`.
    pub(crate) fn next_run(&mut self, max: u32) -> Option<Run> {
        unimplemented!()
    }

    /// The end of a run, from `from` on, could not be handed out: ready again as if never assigned (also no_ack ones),
    /// and the consumer has its turn back.
    pub(crate) fn give_back(&mut self, run: &Run, from: u64) {
        unimplemented!()
    }

    /// Takes the first ready message for `basic.get`.
    pub(crate) fn get(&mut self, owner: OwnerKey, no_ack: bool) -> Option<Taken> {
        unimplemented!()
    }

    /// Accept or reject: those of `seqs` that `owner` holds are done with. What was settled is added to `settled`
    /// (ascending, joined with its last range where they touch), for the log.
    pub(crate) fn settle(&mut self, owner: OwnerKey, seqs: Range<u64>, settled: &mut Vec<Range<u64>>) {
        unimplemented!()
    }

    /// Those of `seqs` that `owner` holds return to where they were, as handed out. How many.
    pub(crate) fn requeue(&mut self, owner: OwnerKey, seqs: Range<u64>) -> u64 {
        unimplemented!()
    }

    /// As `requeue`, but as if never handed out: what waited in an inbox when its consumer went. How many.
    pub(crate) fn release(&mut self, owner: OwnerKey, seqs: Range<u64>) -> u64 {
        unimplemented!()
    }

    /// An owner goes: its consumers are removed, all its unacked requeued. How many.
    pub(crate) fn close_owner(&mut self, owner: OwnerKey) -> u64 {
        unimplemented!()
    }

    /// Whether `owner` holds `seq` unacked.
    pub(crate) fn owns(&self, owner: OwnerKey, seq: u64) -> bool {
        unimplemented!()
    }

    /// Drops all ready messages; which they were, for the log.
    pub(crate) fn purge(&mut self) -> Vec<Range<u64>> {
        unimplemented!()
    }

    /// Ready messages.
    pub(crate) fn ready_count(&self) -> u64 {
        unimplemented!()
    }

    /// Messages handed out and not settled.
    pub(crate) fn unacked_count(&self) -> u64 {
        unimplemented!()
    }

    /// Consumers, whether they could take anything or not.
    pub(crate) fn consumer_count(&self) -> usize {
        unimplemented!()
    }

    /// Unacked messages of one consumer.
    pub(crate) fn consumer_unacked(&self, key: ConsumerKey) -> Option<u64> {
        unimplemented!()
    }

    /// Nothing ready, nothing unacked, nobody consuming.
    pub(crate) fn is_idle(&self) -> bool {
        unimplemented!()
    }
}
