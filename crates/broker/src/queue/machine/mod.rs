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
//! Time: calls that depend on it use the moment of the last `advance`. A machine that is not `is_timed` needs none;
//! one that is says by `next_deadline_ms` when it wants to be told again.
//!
//! Conservation: enqueued = ready + waiting + unacked + dying + settled + purged + dead, after every call
//! (`check_conservation`).
//!
//! Cost: a run costs the same whatever its length, but for the note of who holds what (`unacked`: a few
//! nanoseconds a message). Memory: nothing while idle, a few bytes a message that is unacked, nothing a message that
//! is ready (`ready`: by piece, not by message).

mod dying;
mod groups;
mod holders;
mod leases;
mod pace;
mod ready;
mod retry;
mod sac;
mod sizes;
mod standing;
#[cfg(test)]
mod tests;
mod time;
mod timed;
mod unacked;

pub(crate) use dying::Reason;
pub(crate) use ready::{Past, Return};

use dying::Dying;
use groups::Groups;
use holders::{Holders, Turn};
use ready::{Piece, Ready};
use std::ops::Range;
use timed::Timed;
use unacked::Unacked;

pub(crate) use groups::GroupFigures;
pub(crate) use holders::ConsumerFigures;
pub(crate) use pace::{PaceFigures, Rate};
pub(crate) use retry::{Backoff, Retry, RetryOn};
pub(crate) use standing::Progress;
pub(crate) use time::MachineFigures;
pub(crate) use timed::{LeaseEnd, TimedSettings};

/// Who holds unacked messages: a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OwnerKey(pub(crate) u64);

impl OwnerKey {
    /// Who brings messages to other queues; no session comes to have this number.
    pub(crate) const TRANSFERS: Self = Self(u64::MAX);
}

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
    /// How long it may hold a message; 0: for ever; `None`: as the queue says. Of no effect with `no_ack`.
    pub(crate) lease_ms: Option<u64>,
    /// The pace at which it is given messages.
    pub(crate) rate: Option<Rate>,
}

/// Consecutive messages for one consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Whose they are.
    pub(crate) consumer: ConsumerKey,
    /// At least one.
    pub(crate) seqs: Range<u64>,
    /// What they went through.
    pub(crate) past: Past,
    /// They are settled already: the caller settles them in the log.
    pub(crate) no_ack: bool,
    slot: u32,
}

impl Run {
    /// Whether they were handed out before.
    pub(crate) fn redelivered(&self) -> bool {
        self.past.handed != 0
    }
}

/// What a get took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Which message.
    pub(crate) seq: u64,
    /// What it went through.
    pub(crate) past: Past,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    ready: Ready,
    unacked: Unacked,
    holders: Holders,
    dying: Dying,
    /// Failed deliveries after which a message dies; `None`: never (X9).
    delivery_limit: Option<u16>,
    enqueued: u64,
    settled: u64,
    purged: u64,
    dead: u64,
    /// Nobody is given anything.
    paused: bool,
    /// The moment of the last `advance`.
    now_ms: u64,
    /// Only where a lease, a pace or delayed retries were ever asked for.
    timed: Option<Box<Timed>>,
    /// Only where messages go by groups.
    groups: Option<Box<Groups>>,
}

impl Machine {
    /// A machine over what was recovered (ascending, disjoint). All of it counts as handed out before, because that
    /// is not persisted.
    pub(crate) fn new(ready: &[Range<u64>]) -> Self {
        let mut this = Self::default();
        for seqs in ready {
            this.ready.insert(Piece {
                start: seqs.start,
                end: seqs.end,
                past: Past { handed: 1, failed: 0 },
            });
        }
        this.enqueued = this.ready.count();
        this
    }

    /// New messages: ready, in the order of their numbers, none of which came before.
    #[inline]
    pub(crate) fn enqueued(&mut self, seqs: Range<u64>) {
        if seqs.is_empty() {
            return;
        }
        self.enqueued += seqs.end - seqs.start;
        self.ready.insert(Piece { start: seqs.start, end: seqs.end, past: Past::default() });
        if let Some(groups) = &mut self.groups {
            groups.came(seqs);
        }
    }

    /// A consumer comes; it is open, and last in its priority's round.
    pub(crate) fn add_consumer(&mut self, key: ConsumerKey, terms: Terms) {
        if terms.lease_ms.is_some() || terms.rate.is_some() {
            self.timed.get_or_insert_default();
        }
        self.holders.add(key, terms, self.now_ms);
    }

    /// A consumer goes; its unacked messages stay with its owner. Whether it was there.
    pub(crate) fn remove_consumer(&mut self, key: ConsumerKey) -> bool {
        self.holders.remove(key)
    }

    /// Changes how many unacked messages a consumer may have.
    pub(crate) fn set_prefetch(&mut self, key: ConsumerKey, prefetch: u32) {
        self.holders.set_prefetch(key, prefetch);
    }

    /// Pauses one consumer, or lets it go on.
    pub(crate) fn pause_consumer(&mut self, key: ConsumerKey, paused: bool) {
        self.holders.set_paused(key, paused);
    }

    /// Whether what a consumer is given is settled at once.
    pub(crate) fn is_no_ack(&self, key: ConsumerKey) -> bool {
        self.holders.terms(key).is_some_and(|terms| terms.no_ack)
    }

    /// Whether there is room in the consumer's inbox.
    pub(crate) fn set_open(&mut self, key: ConsumerKey, open: bool) {
        self.holders.set_open(key, open);
    }

    /// Whether anybody is given anything from now on, whoever has credit or asks.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether `next_run` would answer.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.ready.count() != 0
            && self.is_someone_open()
            && (self.groups.is_none() || self.has_grouped_work())
    }

    /// Whether some consumer has credit, and the queue's pace lets it have something.
    #[inline]
    fn is_someone_open(&self) -> bool {
        let allowed =
            !self.paused && self.timed.as_ref().is_none_or(|timed| timed.allowance(self.now_ms) != 0);
        allowed && self.holders.turn(self.now_ms).is_some()
    }

    /// Assigns the next messages, at most `max`.
    #[inline]
    pub(crate) fn next_run(&mut self, max: u32) -> Option<Run> {
        if self.paused {
            return None;
        }
        if self.groups.is_some() {
            return self.next_grouped_run(max);
        }
        let piece = self.ready.first()?;
        let turn = self.holders.turn(self.now_ms)?;
        let mut n = (piece.end - piece.start).min(turn.limit).min(max.into());
        if let Some(timed) = &self.timed {
            n = n.min(timed.allowance(self.now_ms));
        }
        if n == 0 {
            return None;
        }
        self.ready.take_first(n);
        Some(self.hand(&turn, piece.start..piece.start + n, piece.past))
    }

    /// These, which were ready, go to the consumer whose turn it is.
    #[inline]
    fn hand(&mut self, turn: &Turn, seqs: Range<u64>, past: Past) -> Run {
        let n = seqs.end - seqs.start;
        let held = if turn.no_ack { 0 } else { n };
        self.settled += n - held;
        if !turn.no_ack {
            self.unacked.insert(seqs.clone(), turn.slot, past);
        }
        if turn.at_front {
            self.holders.given(n, held, self.now_ms);
        } else {
            self.holders.given_out_of_turn(turn.slot, n, held, self.now_ms);
        }
        if let Some(timed) = &mut self.timed {
            timed.given(seqs.clone(), !turn.no_ack, turn.lease_ms, self.now_ms);
        }
        Run { consumer: turn.consumer, seqs, past, no_ack: turn.no_ack, slot: turn.slot }
    }

    /// A run, from `from` on, could not be handed out: those are ready again as if never assigned, also no_ack ones;
    /// if that is the whole run, the consumer has its turn back. To be called before anything else happens to them.
    pub(crate) fn give_back(&mut self, run: &Run, from: u64) {
        let seqs = from.clamp(run.seqs.start, run.seqs.end)..run.seqs.end;
        if let Some(timed) = &mut self.timed {
            let n = seqs.end - seqs.start;
            self.holders.not_given(run.consumer, n);
            timed.pace.iter_mut().for_each(|pace| pace.untake(n));
        }
        if run.no_ack {
            self.settled -= seqs.end - seqs.start;
            self.ready.insert(Piece { start: seqs.start, end: seqs.end, past: run.past });
            if let Some(groups) = &mut self.groups {
                groups.came(seqs);
            }
        } else {
            self.take_back(seqs, |_, slot| slot == run.slot, Return::Untouched);
        }
        if from <= run.seqs.start {
            self.holders.return_turn(run.consumer);
        }
    }

    /// Takes the next message for `basic.get` (`next_to_get`); with `no_ack` it is settled, and the caller settles it
    /// in the log.
    pub(crate) fn get(&mut self, owner: OwnerKey, no_ack: bool) -> Option<Taken> {
        let seq = self.next_to_get(owner)?;
        let piece = self.ready.from(seq)?;
        self.ready.take(seq..seq + 1);
        if no_ack {
            self.settled += 1;
            self.got_grouped(seq, None);
        } else {
            let slot = self.holders.got(owner);
            self.got_grouped(seq, Some(slot));
            self.unacked.insert(seq..seq + 1, slot, piece.past);
            if let Some(timed) = &mut self.timed {
                timed.lease(seq..seq + 1, None, self.now_ms);
            }
        }
        Some(Taken { seq, past: piece.past })
    }

    /// One that is ready is held by `owner` from now on, whatever consumers there are; `false`: it is not ready.
    pub(crate) fn hold(&mut self, owner: OwnerKey, seq: u64) -> bool {
        let Some(piece) = self.ready.from(seq).filter(|piece| piece.start <= seq) else { return false };
        self.ready.take(seq..seq + 1);
        if let Some(groups) = &mut self.groups {
            groups.removed(seq..seq + 1);
        }
        let slot = self.holders.got(owner);
        self.unacked.insert(seq..seq + 1, slot, piece.past);
        true
    }

    /// Accept or reject: those of `seqs` that `owner` holds are done with. They are added to `settled` (ascending,
    /// joined with its last range where they touch), for the log.
    pub(crate) fn settle(&mut self, owner: OwnerKey, seqs: Range<u64>, settled: &mut Vec<Range<u64>>) {
        let Self { unacked, holders, ready, settled: count, timed, groups, .. } = self;
        unacked.take(seqs, |slot, seqs, _| {
            if holders.owner(slot) != Some(owner) {
                return false;
            }
            ready.forget_weights(seqs.clone());
            let n = seqs.end - seqs.start;
            holders.returned(slot, n);
            *count += n;
            if let Some(timed) = timed {
                timed.leases.remove(seqs.clone());
            }
            if let Some(groups) = groups {
                groups.left(seqs.clone());
            }
            push_joined(settled, seqs);
            true
        });
    }

    /// Those of `seqs` that `owner` holds return to where they were, at once or after the delay that the queue has for
    /// it; one that has failed too often dies. How many.
    pub(crate) fn requeue(&mut self, owner: OwnerKey, seqs: Range<u64>, how: Return) -> u64 {
        if matches!(how, Return::After(_)) {
            self.timed.get_or_insert_default();
        }
        self.take_back(seqs, |holders, slot| holders.owner(slot) == Some(owner), how)
    }

    /// An owner goes: its consumers are removed, all that it holds is requeued. How many.
    pub(crate) fn close_owner(&mut self, owner: OwnerKey) -> u64 {
        for key in self.holders.consumers_of(owner) {
            self.holders.remove(key);
        }
        let n = self.holders.unacked_of(owner);
        if n != 0 {
            let (unacked, mut grounds) = self.split();
            unacked.take_any(|slot, seqs, past| {
                let mine = grounds.holders.owner(slot) == Some(owner);
                if mine {
                    grounds.bring_back(slot, seqs, past, Return::Failed);
                }
                mine
            });
        }
        n
    }

    /// Drops all messages that nobody holds; which they were, for the log.
    pub(crate) fn purge(&mut self) -> Vec<Range<u64>> {
        let gone = self.ready.drain();
        self.purged_too(gone, 0..u64::MAX)
    }

    /// Drops those of `seqs` that nobody holds; which they were, for the log.
    pub(crate) fn remove_ready(&mut self, seqs: Range<u64>) -> Vec<Range<u64>> {
        let gone = self.ready.remove(seqs.clone());
        self.purged_too(gone, seqs)
    }

    /// Beside `gone`, drops those of `seqs` that wait; counts all of them.
    fn purged_too(&mut self, mut gone: Vec<Range<u64>>, seqs: Range<u64>) -> Vec<Range<u64>> {
        if let Some(groups) = &mut self.groups {
            gone.iter().for_each(|range| groups.removed(range.clone()));
        }
        if let Some(timed) = self.timed.as_mut().filter(|timed| timed.waiting.count() != 0) {
            let waiting = timed.waiting.remove(&seqs);
            if let Some(groups) = &mut self.groups {
                waiting.iter().for_each(|seq| groups.gave_up(*seq));
            }
            gone = joined(gone.into_iter().flatten().chain(waiting).collect());
        }
        self.purged += gone.iter().map(|range| range.end - range.start).sum::<u64>();
        self.forget_weights(&gone);
        gone
    }

    /// Messages that were settled, ever.
    #[inline]
    pub(crate) fn settled_count(&self) -> u64 {
        self.settled
    }

    /// Messages handed out and not settled.
    pub(crate) fn unacked_count(&self) -> u64 {
        self.unacked.count()
    }

    /// Ready messages.
    #[inline]
    pub(crate) fn ready_count(&self) -> u64 {
        self.ready.count()
    }

    fn take_back(&mut self, seqs: Range<u64>, whose: impl Fn(&Holders, u32) -> bool, how: Return) -> u64 {
        let (unacked, mut grounds) = self.split();
        let mut n = 0;
        unacked.take(seqs, |slot, seqs, past| {
            let taken = whose(grounds.holders, slot);
            if taken {
                n += seqs.end - seqs.start;
                grounds.bring_back(slot, seqs, past, how);
            }
            taken
        });
        n
    }

    fn split(&mut self) -> (&mut Unacked, Grounds<'_>) {
        let Self { unacked, holders, ready, dying, delivery_limit, timed, groups, now_ms, .. } = self;
        let (timed, groups) = (timed.as_deref_mut(), groups.as_deref_mut());
        let (delivery_limit, now_ms) = (*delivery_limit, *now_ms);
        (unacked, Grounds { holders, ready, dying, delivery_limit, timed, groups, now_ms })
    }
}

/// Where unacked messages return to.
struct Grounds<'m> {
    holders: &'m mut Holders,
    ready: &'m mut Ready,
    dying: &'m mut Dying,
    delivery_limit: Option<u16>,
    timed: Option<&'m mut Timed>,
    groups: Option<&'m mut Groups>,
    now_ms: u64,
}

impl Grounds<'_> {
    fn bring_back(&mut self, slot: u32, seqs: Range<u64>, past: Past, how: Return) {
        self.holders.returned(slot, seqs.end - seqs.start);
        let past = past.returned(how);
        if let Some(timed) = &mut self.timed {
            timed.leases.remove(seqs.clone());
        }
        if how == Return::Failed && self.delivery_limit.is_some_and(|limit| past.failed > limit) {
            if let Some(groups) = &mut self.groups {
                groups.left(seqs.clone());
            }
            self.dying.push(seqs, Reason::DeliveryLimit);
            return;
        }
        if let Some(timed) = &mut self.timed
            && timed.keep(seqs.clone(), how, past, self.now_ms)
        {
            if let Some(groups) = &mut self.groups {
                groups.waits(seqs);
            }
            return;
        }
        if let Some(groups) = &mut self.groups {
            groups.returned(seqs.clone());
        }
        self.ready.insert(Piece { start: seqs.start, end: seqs.end, past });
    }
}

/// Ranges of numbers that come in any order.
fn joined(mut seqs: Vec<u64>) -> Vec<Range<u64>> {
    seqs.sort_unstable();
    let mut ranges = Vec::new();
    for seq in seqs {
        push_joined(&mut ranges, seq..seq + 1);
    }
    ranges
}

/// Adds a range to ascending ranges.
fn push_joined(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}
