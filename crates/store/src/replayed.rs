//! What the log's window says, on top of what the B-tree says.

use crate::batch::{Op, Ops};
use crate::queue::QueueId;
use crate::queue::disk::SegmentFile;
use crate::values::Overlay;
use crate::wal::record::{self, Payload, Position};
use crate::wal::replay::Damage;
use bytes::Bytes;
use hashbrown::HashMap;
use millpond_model::Message;
use std::collections::VecDeque;
use std::ops::Range;

/// What the log's window says of one queue.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Appends below are in segment files or were settled before the window.
    pub(crate) floor: u64,
    pub(crate) files: VecDeque<SegmentFile>,
    /// The window speaks of it.
    pub(crate) touched: bool,
    pub(crate) next_seq: u64,
    pub(crate) messages: Vec<(u64, Message)>,
    pub(crate) settled: Vec<Range<u64>>,
    pub(crate) deleted: bool,
}

impl Replayed {
    fn append(&mut self, seq: u64, message: Message) {
        self.next_seq = self.next_seq.max(seq.saturating_add(1));
        if seq >= self.floor {
            self.messages.push((seq, message));
        }
    }

    fn settle(&mut self, seqs: Range<u64>) {
        self.next_seq = self.next_seq.max(seqs.end);
        match self.settled.last_mut() {
            Some(last) if last.end == seqs.start => last.end = seqs.end,
            _ => self.settled.push(seqs),
        }
    }

    /// The carried messages replace all earlier ones of these numbers.
    fn carry(&mut self, seqs: &Range<u64>) {
        self.next_seq = self.next_seq.max(seqs.end);
        self.messages.retain(|(seq, _)| !seqs.contains(seq));
    }

    /// The messages that live, ascending.
    pub(crate) fn finish(&mut self) -> Vec<(u64, Message)> {
        let mut messages = std::mem::take(&mut self.messages);
        messages.sort_by_key(|(seq, _)| *seq);
        messages.dedup_by_key(|(seq, _)| *seq);
        self.settled.sort_unstable_by_key(|range| range.start);
        let mut settled = self.settled.iter().peekable();
        let mut settled_to = 0;
        messages.retain(|(seq, _)| {
            while let Some(range) = settled.next_if(|range| range.start <= *seq) {
                settled_to = settled_to.max(range.end);
            }
            *seq >= settled_to
        });
        messages
    }
}

/// The state that replay builds on what the B-tree says.
#[derive(Debug, Default)]
pub(crate) struct ReplayState {
    pub(crate) queues: HashMap<QueueId, Replayed>,
    pub(crate) values: Overlay,
}

impl ReplayState {
    fn queue(&mut self, id: QueueId) -> &mut Replayed {
        let queue = self.queues.entry(id).or_default();
        queue.touched = true;
        queue
    }

    /// Applies one batch.
    pub(crate) fn apply(&mut self, at: Position, payload: &Bytes) -> Result<(), Damage> {
        let damage = |what: String| Damage { at, what };
        let message = |record: &[u8]| {
            Message::from_record(payload.slice_ref(record)).map_err(|e| damage(e.to_string()))
        };
        for op in Ops::new(payload) {
            match op.map_err(|e| damage(e.to_string()))? {
                Op::Append { queue, first_seq, records, .. } => {
                    let queue = self.queue(queue);
                    for (seq, record) in (first_seq..).zip(records) {
                        queue.append(seq, message(record)?);
                    }
                }
                Op::Settle { queue, seqs } => self.queue(queue).settle(seqs),
                Op::DeleteQueue { queue } => self.queue(queue).deleted = true,
                Op::Carry { queue, seqs, messages } => {
                    let queue = self.queue(queue);
                    queue.carry(&seqs);
                    for (seq, record) in messages {
                        queue.append(seq, message(record)?);
                    }
                }
                Op::Put { key, value } => self.values.apply(key, Some(value)),
                Op::Delete { key } => self.values.apply(key, None),
            }
        }
        Ok(())
    }
}

/// For the fuzzer: reads any bytes as a segment of the log, and as the payload of a batch whose checksum fits.
#[doc(hidden)]
pub fn fuzz_log(data: &[u8]) {
    let mut state = ReplayState::default();
    let bytes = Bytes::copy_from_slice(data);
    let mut offset = 0;
    while let Some((payload, end)) = record::read_frame(1, &bytes, offset) {
        assert!(end > offset, "a frame has no length");
        if let Payload::Batch(payload) = payload {
            let _ = state.apply(Position { segment: 1, offset: offset as u32 }, &bytes.slice_ref(payload));
        }
        offset = end;
    }
    let _ = record::highest_mark(1, &bytes, offset);
    let _ = state.apply(Position::default(), &bytes);
    for queue in state.queues.values_mut() {
        let messages = queue.finish();
        assert!(messages.is_sorted_by(|a, b| a.0 < b.0), "numbers do not ascend");
        assert!(messages.last().is_none_or(|(seq, _)| *seq < queue.next_seq || *seq == u64::MAX));
    }
}
