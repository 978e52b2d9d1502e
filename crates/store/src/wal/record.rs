//! A frame of the log.
//!
//! ```text
//! length u32 | checksum u32 | payload of that length
//! ```
//!
//! Little-endian; the checksum is CRC-32C over `segment u64 | offset u32 | length u32 | CRC-32C of the payload
//! u32`, so a frame is only valid where it was written for: bytes of a recycled segment's former life are never
//! taken for frames. A payload is a batch ([`crate::batch`]) or begins with one of two tags of its own:
//!
//! ```text
//! 240 mark  segment u64 | offset u32      first frame of each group: the log was durable up to there
//! 241 end   segment u64                   nothing more in this segment; the log goes on in that one
//! ```
//!
//! A segment file has no header: its number is its name. It is written from the beginning, frame behind
//! frame, and always keeps room for its end frame.

use crate::encoding::Reader;

const TAG_MARK: u8 = 240;
const TAG_END: u8 = 241;

/// Length of a frame header.
pub(crate) const FRAME_HEADER_BYTES: usize = 8;
/// Length of a mark frame.
pub(crate) const MARK_BYTES: usize = FRAME_HEADER_BYTES + MARK_PAYLOAD_BYTES;
const MARK_PAYLOAD_BYTES: usize = 13;
/// Length of an end frame.
pub(crate) const END_BYTES: usize = FRAME_HEADER_BYTES + 9;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u32,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "byte {} of segment {:016x}", self.offset, self.segment)
    }
}

/// The header of a frame that lies at a place.
pub(crate) fn header(at: Position, len: u32, payload_crc: u32) -> [u8; FRAME_HEADER_BYTES] {
    let mut out = [0; FRAME_HEADER_BYTES];
    out[..4].copy_from_slice(&len.to_le_bytes());
    out[4..].copy_from_slice(&checksum(at, len, payload_crc).to_le_bytes());
    out
}

fn checksum(at: Position, len: u32, payload_crc: u32) -> u32 {
    let mut seeded = [0; 20];
    seeded[..8].copy_from_slice(&at.segment.to_le_bytes());
    seeded[8..12].copy_from_slice(&at.offset.to_le_bytes());
    seeded[12..16].copy_from_slice(&len.to_le_bytes());
    seeded[16..].copy_from_slice(&payload_crc.to_le_bytes());
    crc32c::crc32c(&seeded)
}

pub(crate) fn mark_frame(at: Position, durable: Position) -> [u8; MARK_BYTES] {
    let mut out = [0; MARK_BYTES];
    out[8] = TAG_MARK;
    out[9..17].copy_from_slice(&durable.segment.to_le_bytes());
    out[17..21].copy_from_slice(&durable.offset.to_le_bytes());
    let head = header(at, MARK_PAYLOAD_BYTES as u32, crc32c::crc32c(&out[8..]));
    out[..8].copy_from_slice(&head);
    out
}

pub(crate) fn end_frame(at: Position, next_segment: u64) -> [u8; END_BYTES] {
    let mut out = [0; END_BYTES];
    out[8] = TAG_END;
    out[9..17].copy_from_slice(&next_segment.to_le_bytes());
    let head = header(at, 9, crc32c::crc32c(&out[8..]));
    out[..8].copy_from_slice(&head);
    out
}

/// What a payload is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    Mark(Position),
    End { next_segment: u64 },
    Batch(&'a [u8]),
}

/// The payload at a place in a segment's bytes and the place behind it; `None` where there is no valid frame.
pub(crate) fn read_frame(segment: u64, bytes: &[u8], offset: usize) -> Option<(Payload<'_>, usize)> {
    let mut reader = Reader::new(bytes);
    reader.at = offset;
    let (len, crc) = (reader.u32()?, reader.u32()?);
    if len == 0 {
        return None;
    }
    let payload = reader.take(len as usize)?;
    let at = Position { segment, offset: u32::try_from(offset).ok()? };
    if checksum(at, len, crc32c::crc32c(payload)) != crc {
        return None;
    }
    let mut fields = Reader::new(payload);
    let payload = match fields.u8()? {
        TAG_MARK => Payload::Mark(Position { segment: fields.u64()?, offset: fields.u32()? }),
        TAG_END => Payload::End { next_segment: fields.u64()? },
        _ => Payload::Batch(payload),
    };
    Some((payload, reader.at))
}

/// The highest place up to which marks at or behind `offset` say that the log was durable.
pub(crate) fn highest_mark(segment: u64, bytes: &[u8], offset: usize) -> Option<Position> {
    let pattern = (MARK_PAYLOAD_BYTES as u32).to_le_bytes();
    let mut highest = None;
    for at in offset..bytes.len().saturating_sub(MARK_BYTES - 1) {
        if bytes[at..at + 4] == pattern
            && bytes[at + 8] == TAG_MARK
            && let Some((Payload::Mark(position), _)) = read_frame(segment, bytes, at)
        {
            highest = highest.max(Some(position));
        }
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { segment: 7, offset: 3 };
    const DURABLE: Position = Position { segment: 6, offset: 99 };

    #[test]
    fn a_frame_is_read_only_where_it_was_written_for() {
        let mut bytes = vec![0xee; 3];
        bytes.extend_from_slice(&mark_frame(AT, DURABLE));
        bytes.extend_from_slice(&end_frame(Position { segment: 7, offset: 24 }, 12));
        assert_eq!(read_frame(7, &bytes, 3), Some((Payload::Mark(DURABLE), 24)));
        assert_eq!(read_frame(7, &bytes, 24), Some((Payload::End { next_segment: 12 }, 41)));
        assert_eq!(read_frame(8, &bytes, 3), None, "another segment");
        assert_eq!(read_frame(7, &bytes[1..], 2), None, "another offset");
        assert_eq!(highest_mark(7, &bytes, 0), Some(DURABLE));
        assert_eq!(highest_mark(7, &bytes, 4), None);
        for at in 3..24 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(read_frame(7, &damaged, 3), None, "byte {at}");
        }
    }

    #[test]
    fn zeros_and_short_bytes_are_no_frame() {
        assert_eq!(read_frame(1, &[0; 64], 0), None);
        assert_eq!(read_frame(1, &[], 0), None);
        let frame = mark_frame(Position::default(), DURABLE);
        assert_eq!(read_frame(0, &frame[..MARK_BYTES - 1], 0), None);
    }
}
