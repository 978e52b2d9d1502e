//! Which messages a session's commits on their way have brought to which queues.

use crate::queue::QueueCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Entries an idle session keeps room for.
const KEPT_MAX: usize = 16;

/// Messages of one queue.
type Applied = (Arc<QueueCell>, Range<u64>);

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
            self.applied.push((cell.clone(), seqs));
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
