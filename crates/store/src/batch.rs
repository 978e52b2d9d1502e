//! What becomes durable together: operations, encoded as they come.
//!
//! A batch is the payload of one record of the log ([`crate::wal::record`] has the frame around it):
//! operations one after another, integers LEB128 unless a width is given, all little-endian.
//!
//! ```text
//! 1 append        queue | first seq | count u32 | count x (length | message record)
//! 2 append again  queue | first seq | count u32 | position in this payload of the first (length | record);
//!                 the count records that lie there back to back (a fan-out's bodies are stored once)
//! 3 settle        queue | first seq | count
//! 4 put           length | key | length | value
//! 5 delete        length | key
//! 6 delete queue  queue
//! 7 carry         queue | first seq | end seq | count u32 | count x (seq, less the seq before | length | record)
//! ```
//!
//! Large records are not copied: they are kept by reference beside the encoded bytes and written from there.

use crate::encoding::{Reader, put_bytes, put_varint};
use crate::store::Shared;
use crate::{QueueId, epoch};
use bytes::Bytes;
use hashbrown::HashMap;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

pub(crate) const OP_APPEND: u8 = 1;
pub(crate) const OP_APPEND_AGAIN: u8 = 2;
pub(crate) const OP_SETTLE: u8 = 3;
pub(crate) const OP_PUT: u8 = 4;
pub(crate) const OP_DELETE: u8 = 5;
pub(crate) const OP_DELETE_QUEUE: u8 = 6;
pub(crate) const OP_CARRY: u8 = 7;

/// Length of the frame header that a body keeps free at its front.
pub(crate) const HEADER_BYTES: usize = 8;

/// Records from here on are written from where they are.
const LARGE_RECORD_BYTES: usize = 16 << 10;

/// Buffers above this are not kept for reuse.
const POOLED_MAX_BYTES: usize = 1 << 20;

/// The encoded operations of a batch.
#[derive(Debug)]
pub(crate) struct Body {
    /// Frame header, then the operations without the large records.
    bytes: Vec<u8>,
    /// Large records, each with the place in `bytes` where it belongs.
    large: Vec<(usize, Bytes)>,
    large_len: usize,
    run: Run,
    /// Records that are in the payload.
    stored: Vec<Stored>,
    /// How many of them were there when the queue of the run was begun: those can be referred to.
    shareable: usize,
    /// Where the next record to be shared probably is in `stored`.
    hint: usize,
    index: HashMap<(usize, usize), u32>,
    /// How many of `stored` are in `index`.
    indexed: usize,
    settling: Option<(QueueId, Range<u64>)>,
    pub(crate) grows: bool,
    pub(crate) has_values: bool,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    address: usize,
    len: u32,
    /// Of its length prefix in the payload.
    start: u32,
    end: u32,
}

/// The append operation that can still be lengthened.
#[derive(Debug, Clone, Copy)]
struct Run {
    kind: u8,
    queue: u64,
    next_seq: u64,
    count_at: usize,
    count: u32,
    /// Where the record behind the last one referred to begins.
    again_end: u32,
}

const NO_RUN: Run = Run { kind: 0, queue: 0, next_seq: 0, count_at: 0, count: 0, again_end: 0 };

impl Default for Body {
    fn default() -> Self {
        Self {
            bytes: vec![0; HEADER_BYTES],
            large: Vec::new(),
            large_len: 0,
            run: NO_RUN,
            stored: Vec::new(),
            shareable: 0,
            hint: 0,
            index: HashMap::new(),
            indexed: 0,
            settling: None,
            grows: false,
            has_values: false,
        }
    }
}

impl Body {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES && self.settling.is_none()
    }

    /// Length of the payload.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - HEADER_BYTES + self.large_len
    }

    /// Adds one message to a queue; runs of consecutive numbers become one operation.
    #[inline]
    pub(crate) fn append(&mut self, queue: QueueId, seq: u64, record: &Bytes) {
        if self.run.queue != queue.0 || self.run.kind == 0 {
            self.end_run();
            self.shareable = self.stored.len();
            self.hint = 0;
        }
        if self.shareable > 0
            && let Some(at) = self.find(record)
        {
            return self.append_again(queue, seq, at);
        }
        if self.run.kind != OP_APPEND || self.run.next_seq != seq {
            self.begin_run(OP_APPEND, queue, seq);
        }
        let start = self.len() as u32;
        put_varint(&mut self.bytes, record.len() as u64);
        if record.len() < LARGE_RECORD_BYTES {
            self.bytes.extend_from_slice(record);
        } else {
            self.large.push((self.bytes.len(), record.clone()));
            self.large_len += record.len();
        }
        let end = self.len() as u32;
        self.stored.push(Stored { address: record.as_ptr() as usize, len: record.len() as u32, start, end });
        self.run.next_seq = seq + 1;
        self.run.count += 1;
    }

    fn append_again(&mut self, queue: QueueId, seq: u64, at: usize) {
        let stored = self.stored[at];
        self.hint = at + 1;
        let run = self.run;
        if run.kind != OP_APPEND_AGAIN || run.next_seq != seq || run.again_end != stored.start {
            self.begin_run(OP_APPEND_AGAIN, queue, seq);
            put_varint(&mut self.bytes, u64::from(stored.start));
        }
        self.run.next_seq = seq + 1;
        self.run.count += 1;
        self.run.again_end = stored.end;
    }

    /// Where a record already is. The bytes are compared too: memory may have been given back and used again
    /// since it was stored.
    fn find(&mut self, record: &Bytes) -> Option<usize> {
        let key = (record.as_ptr() as usize, record.len());
        let at = match self.stored[..self.shareable].get(self.hint) {
            Some(next) if (next.address, next.len as usize) == key => self.hint,
            _ => {
                for (at, stored) in self.stored.iter().enumerate().skip(self.indexed) {
                    self.index.insert((stored.address, stored.len as usize), at as u32);
                }
                self.indexed = self.stored.len();
                *self.index.get(&key)? as usize
            }
        };
        let stored = self.stored[at];
        if record.len() >= LARGE_RECORD_BYTES {
            // Kept by reference, so its memory cannot have been used again.
            return Some(at);
        }
        let before: usize = if self.large.is_empty() { 0 } else { self.large_before(stored.start as usize) };
        let end = stored.end as usize - before + HEADER_BYTES;
        (self.bytes[end - record.len()..end] == **record).then_some(at)
    }

    /// Bytes of large records in front of a payload position.
    fn large_before(&self, position: usize) -> usize {
        let mut before = 0;
        for (place, record) in &self.large {
            if place - HEADER_BYTES + before >= position {
                break;
            }
            before += record.len();
        }
        before
    }

    fn begin_run(&mut self, kind: u8, queue: QueueId, seq: u64) {
        self.end_run();
        self.grows = true;
        self.bytes.push(kind);
        put_varint(&mut self.bytes, queue.0);
        put_varint(&mut self.bytes, seq);
        let count_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.run = Run { kind, queue: queue.0, next_seq: seq, count_at, count: 0, again_end: 0 };
    }

    fn end_run(&mut self) {
        if self.run.kind != 0 {
            let at = self.run.count_at;
            self.bytes[at..at + 4].copy_from_slice(&self.run.count.to_le_bytes());
            self.run = NO_RUN;
        }
    }

    /// Drops messages of a queue; neighbours become one operation.
    #[inline]
    pub(crate) fn settle(&mut self, queue: QueueId, seqs: Range<u64>) {
        if let Some((of, pending)) = &mut self.settling {
            if *of == queue && pending.end == seqs.start {
                pending.end = seqs.end;
                return;
            }
            self.end_settle();
        }
        self.settling = Some((queue, seqs));
    }

    fn end_settle(&mut self) {
        if let Some((queue, seqs)) = self.settling.take() {
            self.end_run();
            self.bytes.push(OP_SETTLE);
            put_varint(&mut self.bytes, queue.0);
            put_varint(&mut self.bytes, seqs.start);
            put_varint(&mut self.bytes, seqs.end - seqs.start);
        }
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.end_run();
        self.bytes.push(OP_PUT);
        put_bytes(&mut self.bytes, key);
        put_bytes(&mut self.bytes, value);
        self.grows = true;
        self.has_values = true;
    }

    pub(crate) fn delete(&mut self, key: &[u8]) {
        self.end_run();
        self.bytes.push(OP_DELETE);
        put_bytes(&mut self.bytes, key);
        self.has_values = true;
    }

    pub(crate) fn delete_queue(&mut self, queue: QueueId) {
        self.end_run();
        self.bytes.push(OP_DELETE_QUEUE);
        put_varint(&mut self.bytes, queue.0);
    }

    /// What of the messages `seqs` of a queue still lives: replaces all that the log has said of them. Does not
    /// count as growth: it lets the log retire what it replaces.
    pub(crate) fn carry(&mut self, queue: QueueId, seqs: &Range<u64>, messages: &[(u64, Bytes)]) {
        self.end_run();
        self.bytes.push(OP_CARRY);
        put_varint(&mut self.bytes, queue.0);
        put_varint(&mut self.bytes, seqs.start);
        put_varint(&mut self.bytes, seqs.end);
        self.bytes.extend_from_slice(&(messages.len() as u32).to_le_bytes());
        let mut before = 0;
        for (seq, record) in messages {
            put_varint(&mut self.bytes, seq - before);
            before = *seq;
            put_varint(&mut self.bytes, record.len() as u64);
            if record.len() < LARGE_RECORD_BYTES {
                self.bytes.extend_from_slice(record);
            } else {
                self.large.push((self.bytes.len(), record.clone()));
                self.large_len += record.len();
            }
        }
    }

    /// Ends what is pending; returns the checksum of the payload.
    pub(crate) fn seal(&mut self) -> u32 {
        self.end_settle();
        self.end_run();
        let mut crc = 0;
        for slice in self.slices().skip(1) {
            crc = crc32c::crc32c_append(crc, slice);
        }
        crc
    }

    pub(crate) fn set_header(&mut self, header: [u8; HEADER_BYTES]) {
        self.bytes[..HEADER_BYTES].copy_from_slice(&header);
    }

    /// The frame header, then the payload in pieces.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = HEADER_BYTES;
        let pieces = self.large.iter().flat_map(move |(place, record)| {
            let small = &self.bytes[at..*place];
            at = *place;
            [small, &record[..]]
        });
        let last = self.large.last().map_or(HEADER_BYTES, |(place, _)| *place);
        std::iter::once(&self.bytes[..HEADER_BYTES]).chain(pieces).chain(std::iter::once(&self.bytes[last..]))
    }

    /// The whole frame, for one write.
    pub(crate) fn push_slices<'a>(&'a self, out: &mut Vec<IoSlice<'a>>) {
        if self.large.is_empty() {
            out.push(IoSlice::new(&self.bytes));
        } else {
            out.extend(self.slices().map(IoSlice::new));
        }
    }

    /// Calls `apply` for every put (with its value) and delete, in order.
    pub(crate) fn for_each_value(&self, mut apply: impl FnMut(&[u8], Option<&[u8]>)) {
        let joined;
        let payload = if self.large.is_empty() {
            &self.bytes[HEADER_BYTES..]
        } else {
            joined = self.slices().skip(1).flatten().copied().collect::<Vec<u8>>();
            &joined
        };
        for op in Ops::new(payload) {
            match op {
                Ok(Op::Put { key, value }) => apply(key, Some(value)),
                Ok(Op::Delete { key }) => apply(key, None),
                _ => {}
            }
        }
    }

    fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        self.large.clear();
        self.large_len = 0;
        self.run = NO_RUN;
        self.stored.clear();
        self.shareable = 0;
        self.hint = 0;
        self.index.clear();
        self.indexed = 0;
        self.settling = None;
        self.grows = false;
        self.has_values = false;
    }

    /// Made ready for the next batch; `None` if it has grown too large to keep.
    pub(crate) fn recycled(mut self) -> Option<Self> {
        self.clear();
        (self.bytes.capacity() <= POOLED_MAX_BYTES && self.stored.capacity() <= POOLED_MAX_BYTES / 24)
            .then_some(self)
    }
}

/// One operation, as replay sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    /// `records` is a run of `count` (length | record), as it lies in the payload.
    Append {
        queue: QueueId,
        first_seq: u64,
        count: u32,
        records: Records<'a>,
    },
    Settle {
        queue: QueueId,
        seqs: Range<u64>,
    },
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        key: &'a [u8],
    },
    DeleteQueue {
        queue: QueueId,
    },
    /// Those of the messages `seqs` that lived.
    Carry {
        queue: QueueId,
        seqs: Range<u64>,
        messages: Vec<(u64, &'a [u8])>,
    },
}

/// Records back to back, each behind its length; known to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut reader = Reader::new(self.0);
        let record = reader.bytes()?;
        self.0 = &self.0[reader.at..];
        Some(record)
    }
}

/// A payload that no batch ever was.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("operation {tag} at byte {position} of a batch is cut short or unknown")]
pub(crate) struct BadOp {
    pub(crate) tag: u8,
    pub(crate) position: usize,
}

/// The operations of a payload.
#[derive(Debug)]
pub(crate) struct Ops<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { reader: Reader::new(payload), failed: false }
    }

    fn op(&mut self, tag: u8) -> Option<Op<'a>> {
        let r = &mut self.reader;
        Some(match tag {
            OP_APPEND | OP_APPEND_AGAIN => {
                let (queue, first_seq, count) = (QueueId(r.varint()?), r.varint()?, r.u32()?);
                first_seq.checked_add(u64::from(count))?;
                let payload = r.bytes;
                let start = if tag == OP_APPEND { r.at } else { usize::try_from(r.varint()?).ok()? };
                let mut run = Reader::new(payload);
                run.at = start;
                for _ in 0..count {
                    run.bytes()?;
                }
                let records = Records(payload.get(start..run.at)?);
                if tag == OP_APPEND {
                    r.at = run.at;
                }
                Op::Append { queue, first_seq, count, records }
            }
            OP_SETTLE => {
                let (queue, first) = (QueueId(r.varint()?), r.varint()?);
                Op::Settle { queue, seqs: first..first.checked_add(r.varint()?)? }
            }
            OP_PUT => Op::Put { key: r.bytes()?, value: r.bytes()? },
            OP_DELETE => Op::Delete { key: r.bytes()? },
            OP_DELETE_QUEUE => Op::DeleteQueue { queue: QueueId(r.varint()?) },
            OP_CARRY => {
                let (queue, seqs, count) = (QueueId(r.varint()?), r.varint()?..r.varint()?, r.u32()?);
                let mut messages = Vec::new();
                let mut seq = 0u64;
                for _ in 0..count {
                    seq = seq.checked_add(r.varint()?)?;
                    messages.push((seq, r.bytes()?));
                }
                Op::Carry { queue, seqs, messages }
            }
            _ => return None,
        })
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, BadOp>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_at_end() {
            return None;
        }
        let position = self.reader.at;
        let tag = self.reader.u8()?;
        let op = self.op(tag).ok_or(BadOp { tag, position });
        self.failed = op.is_err();
        Some(op)
    }
}

/// Changes that become durable together or not at all.
///
/// While it is open it holds checkpoints up: open late, commit soon. Dropped without a commit it writes
/// nothing; effects on queue logs in memory stay.
#[derive(Debug)]
pub struct Batch {
    shared: Arc<Shared>,
    body: Option<Body>,
    pin: epoch::Pin,
}

impl Batch {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let pin = shared.epochs.pin();
        Self { shared, body: None, pin }
    }

    #[inline]
    pub(crate) fn body(&mut self) -> &mut Body {
        self.body.get_or_insert_with(|| self.shared.pool.take())
    }

    pub(crate) fn take_body(&mut self) -> Option<Body> {
        self.body.take()
    }

    /// Sets a keyed value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.body().put(key, value);
    }

    /// Removes a keyed value.
    pub fn delete(&mut self, key: &[u8]) {
        self.body().delete(key);
    }

    /// Whether nothing durable is in it.
    pub fn is_empty(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_empty)
    }

    /// Whether it has appends or puts (which a full store refuses) and not only settlements and deletes.
    pub fn grows(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.grows)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            self.shared.pool.give(body);
        }
        self.shared.epochs.unpin(self.pin);
    }
}

/// Buffers between two uses.
#[derive(Debug, Default)]
pub(crate) struct Pool(parking_lot::Mutex<Vec<Body>>);

/// How many buffers are kept.
const POOL_MAX: usize = 64;

impl Pool {
    pub(crate) fn take(&self) -> Body {
        self.0.lock().pop().unwrap_or_default()
    }

    pub(crate) fn give(&self, body: Body) {
        if let Some(body) = body.recycled() {
            let mut kept = self.0.lock();
            if kept.len() < POOL_MAX {
                kept.push(body);
            }
        }
    }
}
