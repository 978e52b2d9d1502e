//! Reading the log back at the start.

use super::record::{self, Payload, Position};
use super::segment::SegmentDir;
use crate::error::OpenError;
use bytes::Bytes;
use std::path::Path;

/// Where the log ends.
#[derive(Debug)]
pub(crate) struct LogEnd {
    /// Segments that were read, oldest first; the last is where the tail was cut. Empty for a new log.
    pub(crate) read: Vec<u64>,
    /// Behind the last valid frame.
    pub(crate) position: Position,
}

/// A place where the log is not what it must be.
#[derive(Debug)]
pub(crate) struct Damage {
    pub(crate) at: Position,
    pub(crate) what: String,
}

/// Calls `apply` with the payload of every batch from segment `start` on, and the place of its frame. A torn
/// tail ends the log; damage in front of a place that was durable is an error.
pub(crate) fn replay(
    dir: &SegmentDir,
    data_dir: &Path,
    start: u64,
    apply: &mut dyn FnMut(Position, &Bytes) -> Result<(), Damage>,
) -> Result<LogEnd, OpenError> {
    let numbers = dir.numbers().map_err(OpenError::io("list", dir.dir()))?;
    let damaged = |damage: Damage| OpenError::Damaged {
        dir: data_dir.to_owned(),
        file: dir.path(damage.at.segment),
        position_bytes: u64::from(damage.at.offset),
        what: damage.what,
    };
    let mut end = LogEnd { read: Vec::new(), position: Position { segment: start, offset: 0 } };
    if numbers.binary_search(&start).is_err() {
        // A log that was never written, or one whose first segments are gone.
        if let Some(mark) = highest_mark_from(dir, &numbers, start, None)? {
            let what = format!("the segment is missing, but the log was durable up to {mark}");
            return Err(damaged(Damage { at: end.position, what }));
        }
        return Ok(end);
    }
    let mut number = start;
    loop {
        let bytes = Bytes::from(dir.read(number).map_err(OpenError::io("read", &dir.path(number)))?);
        end.read.push(number);
        let (offset, next) = replay_segment(number, &bytes, apply).map_err(&damaged)?;
        end.position = Position { segment: number, offset: offset as u32 };
        match next {
            Some(next) if numbers.binary_search(&next).is_ok() && next > number => number = next,
            Some(next) => {
                let what = format!("the log goes on in segment {next:016x}, which is missing");
                return Err(damaged(Damage { at: end.position, what }));
            }
            None => {
                let mark = highest_mark_from(dir, &numbers, number, Some((&bytes, offset)))?;
                if let Some(mark) = mark.filter(|mark| *mark > end.position) {
                    let what = format!("no valid record here, but the log was durable up to {mark}");
                    return Err(damaged(Damage { at: end.position, what }));
                }
                return Ok(end);
            }
        }
    }
}

/// Where the valid frames of a segment end, and the segment that its end frame names.
fn replay_segment(
    number: u64,
    bytes: &Bytes,
    apply: &mut dyn FnMut(Position, &Bytes) -> Result<(), Damage>,
) -> Result<(usize, Option<u64>), Damage> {
    let mut offset = 0;
    while let Some((payload, end)) = record::read_frame(number, bytes, offset) {
        match payload {
            Payload::Mark(_) => {}
            Payload::End { next_segment } => return Ok((offset, Some(next_segment))),
            Payload::Batch(payload) => {
                apply(Position { segment: number, offset: offset as u32 }, &bytes.slice_ref(payload))?
            }
        }
        offset = end;
    }
    Ok((offset, None))
}

/// The highest place that marks behind the end of what could be read say was durable.
fn highest_mark_from(
    dir: &SegmentDir,
    numbers: &[u64],
    from: u64,
    partly_read: Option<(&[u8], usize)>,
) -> Result<Option<Position>, OpenError> {
    let mut highest = None;
    for number in numbers.iter().copied().filter(|number| *number >= from) {
        let mark = match partly_read.filter(|_| number == from) {
            Some((bytes, offset)) => record::highest_mark(number, bytes, offset),
            None => {
                let bytes = dir.read(number).map_err(OpenError::io("read", &dir.path(number)))?;
                record::highest_mark(number, &bytes, 0)
            }
        };
        highest = highest.max(mark);
    }
    Ok(highest)
}
