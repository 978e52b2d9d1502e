//! Messages that were acked and could not be taken over at once: they are in the queue's log still.
//!
//! That they were acked is written down, as keyed values in the batch of the ack, so it is as durable as any other:
//! after a restart they are not ready again, and are taken over then.

use crate::definition::{decode_range, encode_range, pending_key};
use millpond_store::{Batch, QueueId};
use std::collections::VecDeque;
use std::ops::Range;

/// See the module. In the order of the acks.
#[derive(Debug)]
pub(super) struct Pending {
    queue: QueueId,
    /// The queue survives a restart.
    stored: bool,
    ranges: VecDeque<Range<u64>>,
    /// Under which number the first one is written; the others follow.
    first: u64,
    /// How many of the first ones are written down.
    noted: usize,
}

impl Pending {
    pub(super) fn new(queue: QueueId, stored: bool) -> Self {
        Self { queue, stored, ranges: VecDeque::new(), first: 0, noted: 0 }
    }

    pub(super) fn push(&mut self, seqs: Range<u64>) {
        let is_open = self.noted < self.ranges.len();
        match self.ranges.back_mut() {
            Some(last) if is_open && last.end == seqs.start => last.end = seqs.end,
            _ => self.ranges.push_back(seqs),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn front(&self) -> Option<Range<u64>> {
        self.ranges.front().cloned()
    }

    /// The first range was taken over up to `reached`.
    pub(super) fn taken(&mut self, reached: u64, batch: &mut Batch) {
        let Some(front) = self.ranges.front_mut() else { return };
        let key = pending_key(self.queue, self.first);
        if reached < front.end {
            if reached > front.start && self.noted > 0 {
                batch.put(&key, &encode_range(&(reached..front.end)));
            }
            front.start = reached;
            return;
        }
        if self.noted > 0 {
            batch.delete(&key);
            self.noted -= 1;
        }
        self.ranges.pop_front();
        self.first += 1;
    }

    /// Writes down what is left.
    pub(super) fn note(&mut self, batch: &mut Batch) {
        if self.stored {
            let open = self.ranges.iter().enumerate().skip(self.noted);
            open.for_each(|(at, seqs)| {
                batch.put(&pending_key(self.queue, self.first + at as u64), &encode_range(seqs));
            });
            self.noted = self.ranges.len();
        }
    }

    /// What was written down before the start, in any order.
    pub(super) fn restore(&mut self, mut found: Vec<(u64, Range<u64>)>) {
        found.sort_by_key(|(number, _)| *number);
        self.first = found.first().map_or(0, |(number, _)| *number);
        self.ranges = found.into_iter().map(|(_, seqs)| seqs).collect();
        self.noted = self.ranges.len();
    }

    /// Nothing is to be taken over any more; what was left.
    pub(super) fn clear(&mut self, batch: &mut Batch) -> Vec<Range<u64>> {
        (0..self.noted as u64).for_each(|at| batch.delete(&pending_key(self.queue, self.first + at)));
        self.first += self.ranges.len() as u64;
        self.noted = 0;
        self.ranges.drain(..).collect()
    }
}

/// What the store knows of a queue's memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Its log, once it has one.
    pub(crate) log: Option<QueueId>,
    /// What was acked and is to be taken over, by number.
    pub(crate) pending: Vec<(u64, Range<u64>)>,
}

impl Known {
    /// Takes in a keyed value; `rest` is its key behind the queue's id.
    pub(crate) fn read(&mut self, rest: &[u8], value: &[u8]) -> Result<(), String> {
        if rest.is_empty() {
            self.log = Some(crate::definition::decode_delay(value)?);
            return Ok(());
        }
        let number = rest.try_into().map(u64::from_be_bytes).map_err(|_| "its key ends in no number")?;
        self.pending.push((number, decode_range(value)?));
        Ok(())
    }

    /// Forgets it.
    pub(crate) fn delete(&self, queue: QueueId, batch: &mut Batch) {
        batch.delete(&crate::definition::retained_key(queue));
        self.pending.iter().for_each(|(number, _)| batch.delete(&pending_key(queue, *number)));
    }
}
