//! Which messages a session's commits on their way have brought to which queues.

use crate::core::Core;
use crate::delayed::DelayCell;
use crate::queue::{QueueCell, Work};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

/// Entries an idle session keeps room for.
const KEPT_MAX: usize = 16;

/// What messages were brought to.
#[derive(Debug)]
pub(super) enum Holder {
    Queue(Arc<QueueCell>),
    Delay(Arc<DelayCell>),
}

impl Holder {
    /// Whether it is the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Queue(one), Self::Queue(other)) => Arc::ptr_eq(one, other),
            (Self::Delay(one), Self::Delay(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether its publishers are to wait.
    pub(super) fn is_over(&self, core: &Core) -> bool {
        match self {
            Self::Queue(cell) => cell.is_over(&core.options.clock) && !cell.is_deleted(),
            Self::Delay(cell) => cell.is_over() && !cell.is_deleted(),
        }
    }

    /// Wakes `waker` when it is relieved or gone; ask again then.
    pub(super) fn wait(&self, waker: &Waker, core: &Core) {
        match self {
            Self::Queue(cell) => cell.wait_for_relief(waker, core),
            Self::Delay(cell) => cell.wait(waker),
        }
    }

    /// Takes messages out again.
    pub(super) fn retract(&self, seqs: Range<u64>, work: &mut Work<'_>) {
        match self {
            Self::Queue(cell) => cell.retract(seqs, work),
            Self::Delay(cell) => cell.retract(seqs, work),
        }
    }
}

/// Messages of one queue.
type Applied = (Holder, Range<u64>);

/// Bounded by the commits that the log's writer has taken and not finished.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    /// Of the batch in hand.
    applied: Vec<Applied>,
    /// With their tokens, ascending.
    waiting: VecDeque<(u64, Applied)>,
}

impl Uncommitted {
    /// The batch in hand has brought messages to a queue.
    pub(super) fn applied(&mut self, cell: &Arc<QueueCell>, seqs: Range<u64>) {
        if !seqs.is_empty() {
            self.applied.push((Holder::Queue(cell.clone()), seqs));
        }
    }

    /// The batch in hand has brought a message to where it waits.
    pub(super) fn held(&mut self, cell: &Arc<DelayCell>, seq: u64) {
        match self.applied.last_mut() {
            Some((Holder::Delay(last), seqs)) if Arc::ptr_eq(last, cell) && seqs.end == seq => seqs.end += 1,
            _ => self.applied.push((Holder::Delay(cell.clone()), seq..seq + 1)),
        }
    }

    /// What the batch in hand has brought is not to be taken out again.
    pub(super) fn forget_applied(&mut self) {
        self.applied.clear();
    }

    /// The batch in hand is on its way under this token.
    pub(super) fn submitted(&mut self, token: u64) {
        self.waiting.extend(self.applied.drain(..).map(|applied| (token, applied)));
    }

    /// A commit has come to its end, and so all before it; what a failed one brought to its queues.
    pub(super) fn committed(&mut self, token: u64, durable: bool) -> Vec<Applied> {
        let mut failed = Vec::new();
        while self.waiting.front().is_some_and(|(of, _)| *of <= token)
            && let Some((of, applied)) = self.waiting.pop_front()
        {
            if of == token && !durable {
                failed.push(applied);
            }
        }
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_MAX {
            self.waiting = VecDeque::new();
        }
        failed
    }
}
