//! The queue machine: the only judge of which messages are ready, who holds which, who has credit, whose turn it is.
//!
//! Pure: it knows sequence numbers, never a message, a clock or a lock. Calls bring what happened, answers say what
//! to do. The caller tells what came (`enqueued`) or left (`settle`...), then asks `next_run` until there is none.
//!
//! Order and fairness
//! - The lowest ready message goes first; what is requeued returns to where it was (A8).
//! - Among the consumers that have credit and room, those of the highest priority get all, in turn, message by
//!   message; a blocked one stalls nobody (A6). So a run has more than one message only if one consumer is alone
//!   there.
//!
//! Conservation: enqueued = ready + unacked + settled + purged, after every call (`check_conservation`).
//!
//! Cost: a run costs the same whatever its length, but for the note of who holds what (`unacked`: a few
//! nanoseconds a message). Memory: nothing while idle, a few bytes a message that is unacked, nothing a message that
//! is ready (`ready`: by piece, not by message).

mod holders;
mod ready;
#[cfg(test)]
mod tests;
mod unacked;

use holders::Holders;
use ready::{Piece, Ready};
use std::ops::Range;
use unacked::Unacked;

/// Who holds unacked messages: a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OwnerKey(pub(crate) u64);

/// A consumer of this queue; a key is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConsumerKey(pub(crate) u64);

/// What a consumer asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Who holds what it is given.
    pub(crate) owner: OwnerKey,
    /// Higher is served first.
    pub(crate) priority: i64,
    /// Most unacked messages at once; 0 = no limit. Of no effect with `no_ack`.
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
    slot: u32,
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
pub(crate) struct Machine {
    ready: Ready,
    unacked: Unacked,
    holders: Holders,
    /// What `enqueued` may bring next.
    next_seq: u64,
    enqueued: u64,
    settled: u64,
    purged: u64,
}

impl Machine {
    /// A machine over what was recovered (ascending, disjoint). All of it counts as handed out before, because that
    /// is not persisted. `next_seq` is the first sequence number that `enqueued` may bring.
    pub(crate) fn new(ready: &[Range<u64>], next_seq: u64) -> Self {
        let mut this = Self { next_seq, ..Self::default() };
        for seqs in ready {
            debug_assert!(seqs.end <= next_seq, "recovered {seqs:?} of a queue that ended at {next_seq}");
            this.ready.insert(Piece { start: seqs.start, end: seqs.end, deliveries: 1 });
        }
        this.enqueued = this.ready.count();
        this
    }

    /// New messages: ready, behind all others. Numbers given before are left out.
    #[inline]
    pub(crate) fn enqueued(&mut self, seqs: Range<u64>) {
        debug_assert!(seqs.start >= self.next_seq, "{seqs:?} came after {}", self.next_seq);
        let seqs = seqs.start.max(self.next_seq)..seqs.end;
        if seqs.is_empty() {
            return;
        }
        self.next_seq = seqs.end;
        self.enqueued += seqs.end - seqs.start;
        self.ready.insert(Piece { start: seqs.start, end: seqs.end, deliveries: 0 });
    }

    /// A consumer comes; it is open, and last in its priority's round.
    pub(crate) fn add_consumer(&mut self, key: ConsumerKey, terms: Terms) {
        self.holders.add(key, terms);
    }

    /// A consumer goes; its unacked messages stay with its owner. Whether it was there.
    pub(crate) fn remove_consumer(&mut self, key: ConsumerKey) -> bool {
        self.holders.remove(key)
    }

    /// Changes how many unacked messages a consumer may have.
    pub(crate) fn set_prefetch(&mut self, key: ConsumerKey, prefetch: u32) {
        self.holders.set_prefetch(key, prefetch);
    }

    /// Whether there is room in the consumer's inbox.
    pub(crate) fn set_open(&mut self, key: ConsumerKey, open: bool) {
        self.holders.set_open(key, open);
    }

    /// Whether `next_run` would answer.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.ready.count() != 0 && self.holders.turn().is_some()
    }

    /// The lowest ready messages in one piece: what the next run or get will take from. To see before whether their
    /// content is in memory, and to read ahead.
    pub(crate) fn first_ready(&self) -> Option<Range<u64>> {
        self.ready.first().map(|piece| piece.start..piece.end)
    }

    /// Assigns the next messages, at most `max`.
    #[inline]
    pub(crate) fn next_run(&mut self, max: u32) -> Option<Run> {
        let piece = self.ready.first()?;
        let turn = self.holders.turn()?;
        let n = (piece.end - piece.start).min(turn.limit).min(max.into());
        if n == 0 {
            return None;
        }
        let seqs = piece.start..piece.start + n;
        self.ready.take_first(n);
        if turn.no_ack {
            self.settled += n;
            self.holders.given(0);
        } else {
            self.unacked.insert(seqs.clone(), turn.slot, piece.deliveries);
            self.holders.given(n);
        }
        Some(Run {
            consumer: turn.consumer,
            seqs,
            redelivered: piece.deliveries != 0,
            no_ack: turn.no_ack,
            slot: turn.slot,
            deliveries: piece.deliveries,
        })
    }

    /// A run, from `from` on, could not be handed out: those are ready again as if never assigned, also no_ack ones;
    /// if that is the whole run, the consumer has its turn back. To be called before anything else happens to them.
    pub(crate) fn give_back(&mut self, run: &Run, from: u64) {
        let seqs = from.clamp(run.seqs.start, run.seqs.end)..run.seqs.end;
        if run.no_ack {
            self.settled -= seqs.end - seqs.start;
            self.ready.insert(Piece { start: seqs.start, end: seqs.end, deliveries: run.deliveries });
        } else {
            self.take_back(seqs, |_, slot| slot == run.slot, 0);
        }
        if from <= run.seqs.start {
            self.holders.return_turn(run.consumer);
        }
    }

    /// Takes the first ready message for `basic.get`; with `no_ack` it is settled, and the caller settles it in the
    /// log.
    pub(crate) fn get(&mut self, owner: OwnerKey, no_ack: bool) -> Option<Taken> {
        let piece = self.ready.first()?;
        let seq = piece.start;
        self.ready.take_first(1);
        if no_ack {
            self.settled += 1;
        } else {
            let slot = self.holders.got(owner);
            self.unacked.insert(seq..seq + 1, slot, piece.deliveries);
        }
        Some(Taken { seq, redelivered: piece.deliveries != 0 })
    }

    /// Accept or reject: those of `seqs` that `owner` holds are done with. They are added to `settled` (ascending,
    /// joined with its last range where they touch), for the log.
    pub(crate) fn settle(&mut self, owner: OwnerKey, seqs: Range<u64>, settled: &mut Vec<Range<u64>>) {
        let Self { unacked, holders, settled: count, .. } = self;
        unacked.take(seqs, |slot, seqs, _| {
            if holders.owner(slot) != Some(owner) {
                return false;
            }
            let n = seqs.end - seqs.start;
            holders.returned(slot, n);
            *count += n;
            push_joined(settled, seqs);
            true
        });
    }

    /// Those of `seqs` that `owner` holds return to where they were, as handed out once more. How many.
    pub(crate) fn requeue(&mut self, owner: OwnerKey, seqs: Range<u64>) -> u64 {
        self.take_back(seqs, |holders, slot| holders.owner(slot) == Some(owner), 1)
    }

    /// As `requeue`, but as if never handed out: what waited in an inbox when its consumer went. How many.
    pub(crate) fn release(&mut self, owner: OwnerKey, seqs: Range<u64>) -> u64 {
        self.take_back(seqs, |holders, slot| holders.owner(slot) == Some(owner), 0)
    }

    /// An owner goes: its consumers are removed, all that it holds is requeued. How many.
    pub(crate) fn close_owner(&mut self, owner: OwnerKey) -> u64 {
        for key in self.holders.consumers_of(owner) {
            self.holders.remove(key);
        }
        let n = self.holders.unacked_of(owner);
        if n != 0 {
            let Self { unacked, holders, ready, .. } = self;
            unacked.take_any(|slot, seqs, deliveries| {
                let mine = holders.owner(slot) == Some(owner);
                if mine {
                    bring_back(holders, ready, slot, seqs, deliveries.saturating_add(1));
                }
                mine
            });
        }
        n
    }

    /// Drops all ready messages; which they were, for the log.
    pub(crate) fn purge(&mut self) -> Vec<Range<u64>> {
        self.purged += self.ready.count();
        self.ready.drain()
    }

    /// Drops those of `seqs` that are ready; which they were, for the log.
    pub(crate) fn remove_ready(&mut self, seqs: Range<u64>) -> Vec<Range<u64>> {
        let gone = self.ready.remove(seqs);
        self.purged += gone.iter().map(|range| range.end - range.start).sum::<u64>();
        gone
    }

    /// Ready messages.
    #[inline]
    pub(crate) fn ready_count(&self) -> u64 {
        self.ready.count()
    }

    fn take_back(&mut self, seqs: Range<u64>, whose: impl Fn(&Holders, u32) -> bool, deliveries: u16) -> u64 {
        let Self { unacked, holders, ready, .. } = self;
        let mut n = 0;
        unacked.take(seqs, |slot, seqs, before| {
            let taken = whose(holders, slot);
            if taken {
                n += seqs.end - seqs.start;
                bring_back(holders, ready, slot, seqs, before.saturating_add(deliveries));
            }
            taken
        });
        n
    }
}

fn bring_back(holders: &mut Holders, ready: &mut Ready, slot: u32, seqs: Range<u64>, deliveries: u16) {
    holders.returned(slot, seqs.end - seqs.start);
    ready.insert(Piece { start: seqs.start, end: seqs.end, deliveries });
}

/// Adds a range to ascending ranges.
fn push_joined(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// Questions of tests.
#[cfg(test)]
impl Machine {
    /// Whether `owner` holds `seq`.
    pub(crate) fn owns(&self, owner: OwnerKey, seq: u64) -> bool {
        self.unacked.holder(seq).is_some_and(|slot| self.holders.owner(slot) == Some(owner))
    }

    /// Messages handed out and not settled.
    pub(crate) fn unacked_count(&self) -> u64 {
        self.unacked.count()
    }

    /// Consumers, whether they could take anything or not.
    pub(crate) fn consumer_count(&self) -> usize {
        self.holders.consumer_count()
    }

    /// Nothing ready, nothing unacked, nobody consuming.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.count() == 0 && self.unacked.count() == 0 && self.consumer_count() == 0
    }

    /// What breaks the law of conservation or the order of the insides, if anything does.
    pub(crate) fn check_conservation(&self) -> Result<(), String> {
        let (ready, unacked) = (self.ready.count(), self.unacked.count());
        let (enqueued, settled, purged) = (self.enqueued, self.settled, self.purged);
        if enqueued != ready + unacked + settled + purged {
            return Err(format!(
                "enqueued {enqueued} != ready {ready} + unacked {unacked} + settled {settled} + purged {purged}"
            ));
        }
        let mut sum = 0;
        let mut end = 0;
        for piece in self.ready.pieces() {
            if piece.start < end || piece.start >= piece.end {
                return Err(format!("ready piece {piece:?} after {end}"));
            }
            end = piece.end;
            sum += piece.end - piece.start;
        }
        if sum != ready {
            return Err(format!("ready pieces have {sum}, the count says {ready}"));
        }
        self.holders.check(unacked)
    }
}
