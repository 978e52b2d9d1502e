//! The machine and time: what leases, paces and delayed retries bring about.

use super::groups::GroupFigures;
use super::holders::ConsumerFigures;
use super::pace::{PaceFigures, Rate};
use super::ready::Piece;
use super::timed::{LeaseEnd, TimedSettings};
use super::{ConsumerKey, Machine, OwnerKey, Return};
use std::ops::Range;

/// A queue in figures.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MachineFigures {
    /// Messages that could be handed out.
    pub(crate) ready: u64,
    /// Messages that wait out a delay before they are ready again.
    pub(crate) waiting: u64,
    /// Messages that were handed out.
    pub(crate) unacked: u64,
    /// The queue's own pace.
    pub(crate) pace: Option<PaceFigures>,
    /// Where messages go by groups.
    pub(crate) groups: Option<GroupFigures>,
    /// In the order in which they came.
    pub(crate) consumers: Vec<ConsumerFigures>,
}

impl Machine {
    /// Whether it must be told the time.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.timed.is_some()
    }

    /// Makes it a queue with a single active consumer; with `takeover`, a newcomer of a higher priority follows the
    /// active one as soon as that one holds nothing. Before the first consumer comes.
    pub(crate) fn set_single_active(&mut self, takeover: bool) {
        self.holders.set_single_active(takeover);
    }

    /// What the queue asks for from now on. Messages that are held or wait keep the times they have.
    pub(crate) fn apply(&mut self, settings: TimedSettings) {
        if settings != TimedSettings::default() {
            self.timed.get_or_insert_default();
        }
        if let Some(timed) = &mut self.timed {
            timed.apply(settings, self.now_ms);
        }
    }

    /// Changes a consumer's pace (`None`: as fast as it can).
    pub(crate) fn set_rate(&mut self, key: ConsumerKey, rate: Option<Rate>) {
        self.timed.get_or_insert_default();
        self.holders.set_rate(key, rate, self.now_ms);
    }

    /// Changes how long a consumer may hold what it is given from now on (`None`: as the queue says).
    pub(crate) fn set_lease(&mut self, key: ConsumerKey, lease_ms: Option<u64>) {
        self.timed.get_or_insert_default();
        self.holders.set_lease(key, lease_ms);
    }

    /// Those of `seqs` that `owner` holds on a lease begin it anew; how many.
    pub(crate) fn renew(&mut self, owner: OwnerKey, seqs: Range<u64>) -> u64 {
        let Self { unacked, holders, timed: Some(timed), now_ms, .. } = self else { return 0 };
        let mut n = 0;
        unacked.take(seqs, |slot, seqs, _| {
            if holders.owner(slot) == Some(owner) {
                n += timed.leases.renew(seqs, *now_ms);
            }
            false
        });
        n
    }

    /// It is `now_ms`: leases that have ended are added to `ended` and their messages requeued as failed, delays
    /// that have ended make their messages ready.
    pub(crate) fn advance(&mut self, now_ms: u64, ended: &mut Vec<LeaseEnd>) {
        self.now_ms = self.now_ms.max(now_ms);
        let now_ms = self.now_ms;
        self.holders.advance(now_ms);
        let Some(timed) = &mut self.timed else { return };
        let due = timed.leases.take_due(now_ms);
        while let Some((seq, past)) = timed.waiting.pop_due(now_ms) {
            self.ready.insert(Piece { start: seq, end: seq + 1, past });
            if let Some(groups) = &mut self.groups {
                groups.waited(seq);
            }
        }
        let (unacked, mut grounds) = self.split();
        for seqs in due {
            unacked.take(seqs, |slot, seqs, past| {
                if let Some(owner) = grounds.holders.owner(slot) {
                    note_end(ended, owner, seqs.clone());
                }
                grounds.bring_back(slot, seqs, past, Return::Failed);
                true
            });
        }
    }

    /// The next moment at which `advance` brings something about, if any.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        let timed = self.timed.as_ref()?;
        let pace = timed.pace.as_ref().filter(|_| self.ready.count() != 0);
        let paced = pace.map(|pace| pace.next_ms()).filter(|at_ms| *at_ms > self.now_ms);
        [self.holders.next_paced_ms(), timed.leases.next_due_ms(), timed.waiting.next_due_ms(), paced]
            .into_iter()
            .flatten()
            .min()
    }

    /// Messages that wait out a delay before they are ready again.
    pub(crate) fn waiting_count(&self) -> u64 {
        self.timed.as_ref().map_or(0, |timed| timed.waiting.count())
    }

    /// How it stands at `now_ms`.
    pub(crate) fn figures(&mut self, now_ms: u64) -> MachineFigures {
        let (waiting, groups) = (self.waiting_count(), self.group_figures());
        let pace = self.timed.as_mut().and_then(|timed| timed.pace.as_mut());
        MachineFigures {
            ready: self.ready.count(),
            waiting,
            unacked: self.unacked.count(),
            pace: pace.map(|pace| pace.figures(now_ms)),
            groups,
            consumers: self.holders.figures(now_ms),
        }
    }
}

fn note_end(ended: &mut Vec<LeaseEnd>, owner: OwnerKey, seqs: Range<u64>) {
    match ended.last_mut().filter(|end| end.owner == owner && end.seqs.end == seqs.start) {
        Some(end) => end.seqs.end = seqs.end,
        None => ended.push(LeaseEnd { owner, seqs }),
    }
}
