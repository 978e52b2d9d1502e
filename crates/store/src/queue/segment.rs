//! Segment files of a queue: blocks of messages in the order of their numbers.
//!
//! `queues/<queue, 16 hexadecimal digits>/<file number, 8 digits>.seg` holds persistent messages and lives across
//! restarts; the same under `spill/` holds transient ones that were paged out, and is removed at the start.
//! A file is blocks back to back, without a header; how far it is valid and where its blocks begin is in the
//! B-tree ([`crate::db`]), in the same transaction that moves the start of the log.
//!
//! ```text
//! body length u32 | checksum u32 | first seq u64 | count u32 | body
//! body: count x (seq, less the one expected | length | message record), LEB128
//! ```
//!
//! The checksum is CRC-32C over `queue u64 | file number u32 | position u64 | first seq u64 | count u32 | body`.

use crate::encoding::{Reader, put_varint};
use bytes::Bytes;
use millpond_model::Message;

pub(crate) const BLOCK_HEADER_BYTES: usize = 20;

/// What a block is written for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) queue: u64,
    pub(crate) file: u32,
    pub(crate) position: u64,
}

/// Where a block begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockAt {
    pub(crate) first_seq: u64,
    pub(crate) position: u64,
    /// When its first message was published, in milliseconds since 1970; 0: it does not say.
    pub(crate) time_ms: u64,
}

fn checksum(place: Place, first_seq: u64, count: u32, body: &[u8]) -> u32 {
    let mut seeded = [0; 32];
    seeded[..8].copy_from_slice(&place.queue.to_le_bytes());
    seeded[8..12].copy_from_slice(&place.file.to_le_bytes());
    seeded[12..20].copy_from_slice(&place.position.to_le_bytes());
    seeded[20..28].copy_from_slice(&first_seq.to_le_bytes());
    seeded[28..].copy_from_slice(&count.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seeded), body)
}

/// Encodes messages, ascending by number, as blocks of about `block_size_bytes` that begin at `place`.
pub(crate) fn encode_blocks<'a>(
    mut place: Place,
    messages: impl Iterator<Item = (u64, &'a Message)>,
    block_size_bytes: usize,
    out: &mut Vec<u8>,
) -> Vec<BlockAt> {
    let mut blocks = Vec::new();
    let mut messages = messages.peekable();
    while let Some((first_seq, first)) = messages.peek() {
        let (first_seq, time_ms) = (*first_seq, first.published_ms().unwrap_or(0));
        let start = out.len();
        out.resize(start + BLOCK_HEADER_BYTES, 0);
        let (mut expected, mut count) = (first_seq, 0u32);
        while let Some((seq, message)) = messages.next_if(|(_, message)| {
            count == 0 || out.len() - start + message.size_bytes() <= block_size_bytes
        }) {
            put_varint(out, seq - expected);
            put_varint(out, message.size_bytes() as u64);
            out.extend_from_slice(message.record());
            expected = seq + 1;
            count += 1;
        }
        let body_len = (out.len() - start - BLOCK_HEADER_BYTES) as u32;
        let crc = checksum(place, first_seq, count, &out[start + BLOCK_HEADER_BYTES..]);
        let header = &mut out[start..start + BLOCK_HEADER_BYTES];
        header[..4].copy_from_slice(&body_len.to_le_bytes());
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header[8..16].copy_from_slice(&first_seq.to_le_bytes());
        header[16..].copy_from_slice(&count.to_le_bytes());
        blocks.push(BlockAt { first_seq, position: place.position, time_ms });
        place.position += (out.len() - start) as u64;
    }
    blocks
}

/// The messages of the block that `bytes` begins with; they share its memory.
pub(crate) fn decode_block(place: Place, bytes: &Bytes) -> Result<Vec<(u64, Message)>, String> {
    let mut reader = Reader::new(bytes);
    let header = (|| Some((reader.u32()?, reader.u32()?, reader.u64()?, reader.u32()?)))();
    let (body_len, crc, first_seq, count) = header.ok_or("a block's header is cut short")?;
    let body = reader.take(body_len as usize).ok_or("a block is cut short")?;
    if checksum(place, first_seq, count, body) != crc {
        return Err("a block's checksum does not fit".into());
    }
    let mut body_reader = Reader::new(body);
    let mut messages = Vec::with_capacity((count as usize).min(body.len()));
    let mut expected = first_seq;
    for _ in 0..count {
        let fields = (|| {
            let seq = expected.checked_add(body_reader.varint()?)?;
            Some((seq, body_reader.bytes()?))
        })();
        let (seq, record) = fields.ok_or("a block's records are cut short")?;
        let message = Message::from_record(bytes.slice_ref(record)).map_err(|e| e.to_string())?;
        messages.push((seq, message));
        expected = seq + 1;
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_where_they_were_written_for_and_nowhere_else() {
        let seqs = [3, 4, 5, 900, 901, 70_000];
        let messages: Vec<(u64, Message)> =
            seqs.iter().map(|seq| (*seq, Message::new(b"x", b"key", b"\0\0", true, &[b'm'; 40]))).collect();
        let place = Place { queue: 9, file: 2, position: 100 };
        let mut out = Vec::new();
        let blocks = encode_blocks(place, messages.iter().map(|(s, m)| (*s, m)), 128, &mut out);
        assert!(blocks.len() > 1);
        let out = Bytes::from(out);
        let mut found = Vec::new();
        for block in &blocks {
            let place = Place { position: block.position, ..place };
            let bytes = out.slice((block.position - 100) as usize..);
            let decoded = decode_block(place, &bytes).unwrap();
            assert_eq!(decoded[0].0, block.first_seq);
            found.extend(decoded.into_iter().map(|(seq, message)| (seq, message.record().to_vec())));
            assert!(decode_block(Place { file: 3, ..place }, &bytes).is_err());
            assert!(decode_block(Place { position: 99, ..place }, &bytes).is_err());
            assert!(decode_block(place, &bytes.slice(..30)).is_err());
        }
        let written: Vec<(u64, Vec<u8>)> =
            messages.into_iter().map(|(seq, message)| (seq, message.record().to_vec())).collect();
        assert_eq!(found, written);
    }
}
