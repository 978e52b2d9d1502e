//! A message as it is kept everywhere: one contiguous record of bytes, shared by reference.
//!
//! The same bytes serve the queue, the write-ahead log and the way out, so that a message is copied
//! once from the socket's read buffer and once into the socket's write buffer or the log.
//!
//! Record, no padding:
//!
//! ```text
//! flags u8 | exchange length u8 | exchange | routing key length u8 | routing key
//!          | properties length, LEB128 u32 | properties | published at u64 | body
//! ```
//!
//! `flags`: bit 0 = persistent (delivery-mode 2), bit 1 = it says when it was published (milliseconds since 1970,
//! little-endian; absent otherwise). The other bits are zero and refused, so that a later version can give them
//! meaning. `properties` is the AMQP 0-9-1 basic property list (section 4.2.6.1:
//! flag words and values), see [`crate::properties`]. The body takes what is left.

use crate::limits::SHORT_STRING_MAX_BYTES;
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Range;

const FLAG_PERSISTENT: u8 = 1;
const FLAG_STAMPED: u8 = 2;
/// In memory only: the property list has an expiration.
const FLAG_EXPIRES: u8 = 0x80;

/// Of the time of publishing.
const STAMP_BYTES: usize = 8;

/// Why bytes are not a message record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It ends before its fields do.
    #[error("a message record of {size_bytes} bytes ends inside its {field}")]
    Truncated {
        /// Where.
        field: &'static str,
        /// Of the whole record.
        size_bytes: usize,
    },
    /// Bits that this version does not know.
    #[error("a message record has unknown flags {flags:#04x}: it was written by a newer version")]
    UnknownFlags {
        /// All flags.
        flags: u8,
    },
}

/// An immutable message; cloning counts a reference.
#[derive(Debug, Clone)]
pub struct Message {
    record: Bytes,
    routing_key_at: u16,
    properties_at: u32,
    body_at: u32,
    /// Those of the record, and those in memory only: no need to touch the record for them.
    flags: u8,
}

/// What the flags in memory say beside those of the record.
#[inline]
fn memory_flags(properties: &[u8]) -> u8 {
    // The expiration's bit in the property flags, see [`crate::properties`].
    if properties.first().is_some_and(|high| high & 1 != 0) { FLAG_EXPIRES } else { 0 }
}

impl Message {
    /// Builds a message of its own that does not say when it was published; batches off a socket use
    /// [`MessageBatch`].
    pub fn new(
        exchange: &[u8],
        routing_key: &[u8],
        properties: &[u8],
        persistent: bool,
        body: &[u8],
    ) -> Self {
        Self::published_at(0, exchange, routing_key, properties, persistent, body)
    }

    /// As [`Self::new`], published at a time in milliseconds since 1970 (0: it does not say).
    pub fn published_at(
        now_ms: u64,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &[u8],
        persistent: bool,
        body: &[u8],
    ) -> Self {
        let mut batch = MessageBatch::default();
        batch.set_time(now_ms);
        batch.start(exchange, routing_key, properties, persistent, body.len());
        batch.push_body(body);
        batch.end();
        batch.finish().pop().expect("one message was put in")
    }

    /// As a log keeps it that is read again and again: persistent, and saying when it was published (now, if it did
    /// not). A copy of the record, unless it is so already.
    pub fn lasting(self, now_ms: u64) -> Self {
        if self.is_persistent() && self.flags & FLAG_STAMPED != 0 {
            return self;
        }
        let published_ms = self.published_ms().unwrap_or(now_ms);
        let (exchange, routing_key) = (self.exchange(), self.routing_key());
        Self::published_at(published_ms, exchange, routing_key, self.properties(), true, self.body())
    }

    /// Takes a record that came from a disk.
    pub fn from_record(record: Bytes) -> Result<Self, RecordError> {
        let cut = |field| RecordError::Truncated { field, size_bytes: record.len() };
        let flags = *record.first().ok_or(cut("flags"))?;
        if flags & !(FLAG_PERSISTENT | FLAG_STAMPED) != 0 {
            return Err(RecordError::UnknownFlags { flags });
        }
        let exchange_len = *record.get(1).ok_or(cut("exchange"))? as usize;
        let routing_key_at = 2 + exchange_len;
        let key_len = *record.get(routing_key_at).ok_or(cut("exchange"))? as usize;
        let (properties_len, at) =
            read_varint(&record, routing_key_at + 1 + key_len).ok_or(cut("routing key"))?;
        let properties_end = at + properties_len as usize;
        let stamp_bytes = if flags & FLAG_STAMPED != 0 { STAMP_BYTES } else { 0 };
        let body_at = properties_end + stamp_bytes;
        if body_at > record.len() {
            return Err(cut("properties"));
        }
        Ok(Self {
            routing_key_at: routing_key_at as u16,
            properties_at: at as u32,
            body_at: body_at as u32,
            flags: flags | memory_flags(&record[at..properties_end]),
            record,
        })
    }

    /// The whole record, as it goes to a disk.
    pub fn record(&self) -> &Bytes {
        &self.record
    }

    /// The exchange it was published to.
    pub fn exchange(&self) -> &[u8] {
        &self.record[2..self.routing_key_at as usize]
    }

    /// Its routing key.
    pub fn routing_key(&self) -> &[u8] {
        let at = self.routing_key_at as usize;
        &self.record[at + 1..at + 1 + self.record[at] as usize]
    }

    /// Exchange and routing key, each behind its length in one byte: two AMQP short strings, ready to be
    /// copied into a delivery.
    pub fn address(&self) -> &[u8] {
        let key_at = self.routing_key_at as usize;
        &self.record[1..key_at + 1 + self.record[key_at] as usize]
    }

    /// The encoded property list.
    pub fn properties(&self) -> &[u8] {
        let stamp_bytes = if self.flags & FLAG_STAMPED != 0 { STAMP_BYTES } else { 0 };
        &self.record[self.properties_at as usize..self.body_at as usize - stamp_bytes]
    }

    /// When it was published, in milliseconds since 1970; `None` if the record does not say.
    pub fn published_ms(&self) -> Option<u64> {
        let at = self.body_at as usize;
        let stamp = (self.flags & FLAG_STAMPED != 0).then(|| &self.record[at - STAMP_BYTES..at])?;
        Some(u64::from_le_bytes(stamp.try_into().ok()?))
    }

    /// Whether its property list has an expiration. Costs no look at the record.
    #[inline]
    pub fn has_expiration(&self) -> bool {
        self.flags & FLAG_EXPIRES != 0
    }

    /// Length of the body in bytes. Costs no look at the record.
    #[inline]
    pub fn body_size_bytes(&self) -> usize {
        self.record.len() - self.body_at as usize
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.record[self.body_at as usize..]
    }

    /// The body, sharing the record's memory.
    pub fn body_bytes(&self) -> Bytes {
        self.record.slice(self.body_at as usize..)
    }

    /// Whether it asked to survive a restart (delivery-mode 2).
    pub fn is_persistent(&self) -> bool {
        self.flags & FLAG_PERSISTENT != 0
    }

    /// Length of the whole record in bytes: what it costs in memory and in the log.
    pub fn size_bytes(&self) -> usize {
        self.record.len()
    }
}

/// Assembles the messages of one read buffer back to back in one allocation.
#[derive(Debug, Default)]
pub struct MessageBatch {
    buffer: BytesMut,
    heads: Vec<Head>,
    open: bool,
    /// When the messages begun from now on were published; 0: they do not say.
    time_ms: u64,
}

#[derive(Debug)]
struct Head {
    record: Range<u32>,
    routing_key_at: u16,
    properties_at: u32,
    body_at: u32,
    flags: u8,
}

impl MessageBatch {
    /// Says when the messages begun from now on were published: milliseconds since 1970, 0 for not known.
    #[inline]
    pub fn set_time(&mut self, now_ms: u64) {
        self.time_ms = now_ms;
    }

    /// Begins a message; its body follows in pieces. `exchange` and `routing_key` have at most 255 bytes
    /// each (they came as short strings). A message begun before and not ended is dropped.
    #[inline]
    pub fn start(
        &mut self,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &[u8],
        persistent: bool,
        body_size_bytes: usize,
    ) {
        debug_assert!(
            exchange.len() <= SHORT_STRING_MAX_BYTES && routing_key.len() <= SHORT_STRING_MAX_BYTES
        );
        if self.open {
            self.abandon();
        }
        let start = self.buffer.len();
        self.buffer.reserve(exchange.len() + routing_key.len() + properties.len() + body_size_bytes + 16);
        let persistence = if persistent { FLAG_PERSISTENT } else { 0 };
        let flags = persistence | if self.time_ms != 0 { FLAG_STAMPED } else { 0 };
        self.buffer.put_u8(flags);
        self.buffer.put_u8(exchange.len() as u8);
        self.buffer.put_slice(exchange);
        let routing_key_at = self.buffer.len() - start;
        self.buffer.put_u8(routing_key.len() as u8);
        self.buffer.put_slice(routing_key);
        put_varint(&mut self.buffer, properties.len() as u32);
        let properties_at = self.buffer.len() - start;
        self.buffer.put_slice(properties);
        if self.time_ms != 0 {
            self.buffer.put_u64_le(self.time_ms);
        }
        let body_at = self.buffer.len() - start;
        self.heads.push(Head {
            record: start as u32..start as u32,
            routing_key_at: routing_key_at as u16,
            properties_at: properties_at as u32,
            body_at: body_at as u32,
            flags: flags | memory_flags(properties),
        });
        self.open = true;
    }

    /// Makes room for so many bytes of records in one piece, unless the batch has begun: whoever knows about how
    /// much will come spares the batch from growing, and copying, by doubling.
    #[inline]
    pub fn reserve(&mut self, size_bytes: usize) {
        if self.heads.is_empty() && self.buffer.capacity() < size_bytes {
            self.buffer = BytesMut::with_capacity(size_bytes);
        }
    }

    /// Adds a piece to the body of the message begun last.
    #[inline]
    pub fn push_body(&mut self, piece: &[u8]) {
        self.buffer.put_slice(piece);
    }

    /// Ends the message begun last.
    #[inline]
    pub fn end(&mut self) {
        let end = self.buffer.len() as u32;
        if let Some(head) = self.heads.last_mut().filter(|_| self.open) {
            head.record.end = end;
        }
        self.open = false;
    }

    /// Forgets the message begun last and not ended.
    pub fn abandon(&mut self) {
        if self.open
            && let Some(head) = self.heads.pop()
        {
            self.buffer.truncate(head.record.start as usize);
        }
        self.open = false;
    }

    /// How many messages are complete.
    pub fn len(&self) -> usize {
        self.heads.len() - self.open as usize
    }

    /// Whether no message is complete.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes assembled so far.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Hands the complete messages out, in order; a message begun and not ended stays.
    pub fn finish(&mut self) -> Vec<Message> {
        let mut messages = Vec::with_capacity(self.len());
        self.finish_into(&mut messages);
        messages
    }

    /// As [`Self::finish`], into a vector that the caller keeps.
    pub fn finish_into(&mut self, out: &mut Vec<Message>) {
        let complete = self.len();
        let end = self.heads[..complete].last().map_or(0, |head| head.record.end);
        let block = self.buffer.split_to(end as usize).freeze();
        out.extend(self.heads.drain(..complete).map(|head| Message {
            record: block.slice(head.record.start as usize..head.record.end as usize),
            routing_key_at: head.routing_key_at,
            properties_at: head.properties_at,
            body_at: head.body_at,
            flags: head.flags,
        }));
        if let Some(head) = self.heads.first_mut() {
            head.record = 0..0;
        }
    }
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The value and where it ends.
fn read_varint(bytes: &[u8], mut at: usize) -> Option<(u32, usize)> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}
