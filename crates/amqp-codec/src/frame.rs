//! Frames (section 4.2.3): `type u8 | channel u16 | size u32 | payload | 0xCE`.

use crate::ReplyCode;

/// The octet behind every frame.
pub const FRAME_END: u8 = 0xCE;

/// What a frame has around its payload, in bytes.
pub const FRAME_OVERHEAD_BYTES: usize = 8;

/// The least `frame_max` that may be agreed on, in bytes.
pub const FRAME_MAX_MIN_BYTES: u32 = 4096;

/// A whole heartbeat frame.
pub const HEARTBEAT: [u8; 8] = [FrameKind::Heartbeat as u8, 0, 0, 0, 0, 0, 0, FRAME_END];

const HEAD_BYTES: usize = 7;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A method, see [`crate::Method::decode`].
    Method = 1,
    /// A content header, see [`crate::ContentHeader::decode`].
    Header = 2,
    /// A piece of a body.
    Body = 3,
    /// Nothing: a sign of life, on channel 0.
    Heartbeat = 8,
}

/// A whole frame in the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// On which channel.
    pub channel: u16,
    /// Without head and end octet.
    pub payload: &'a [u8],
}

/// Why a connection's bytes are not frames; none is recoverable, as the next frame's place is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No such frame type.
    #[error("unknown frame type {kind} on channel {channel}; known are 1, 2, 3 and 8")]
    UnknownKind {
        /// The octet found.
        kind: u8,
        /// The two after it.
        channel: u16,
    },
    /// Larger than agreed, the 8 bytes of grace included.
    #[error(
        "a frame of type {kind} with a payload of {size_bytes} bytes is over the agreed frame_max of {frame_max_bytes}"
    )]
    TooLarge {
        /// Its type.
        kind: u8,
        /// Of the payload.
        size_bytes: u32,
        /// Agreed on.
        frame_max_bytes: u32,
    },
    /// The end octet is not where the size says.
    #[error("a frame of type {kind} with a payload of {size_bytes} bytes ends with {found:#04x}, not 0xce")]
    BadEnd {
        /// Its type.
        kind: u8,
        /// Of the payload.
        size_bytes: u32,
        /// What is there.
        found: u8,
    },
    /// Heartbeats belong to the connection.
    #[error("a heartbeat on channel {channel}; it belongs on channel 0")]
    HeartbeatOnChannel {
        /// Where it came.
        channel: u16,
    },
    /// Heartbeats are empty.
    #[error("a heartbeat with a payload of {size_bytes} bytes; it has none")]
    HeartbeatWithPayload {
        /// How long it is.
        size_bytes: u32,
    },
}

impl FrameError {
    /// What to close the connection with.
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            Self::HeartbeatOnChannel { .. } => ReplyCode::UnexpectedFrame,
            _ => ReplyCode::FrameError,
        }
    }
}

/// Takes frames off a read buffer, one after the other.
#[derive(Debug)]
pub struct FrameReader<'a> {
    input: &'a [u8],
    at: usize,
    payload_max: u32,
}

impl<'a> FrameReader<'a> {
    /// Reads `input` from its start. `frame_max_bytes` as agreed in connection.tune-ok, 0 for no limit (not
    /// advisable on a server).
    ///
    /// As in RabbitMQ, a frame may be 8 bytes longer than agreed: the payload, not the frame, is held against the
    /// limit, because clients disagree on which of the two the number means.
    pub fn new(input: &'a [u8], frame_max_bytes: u32) -> Self {
        let payload_max = if frame_max_bytes == 0 { u32::MAX } else { frame_max_bytes };
        Self { input, at: 0, payload_max }
    }

    /// The next whole frame; `None` when there are not enough bytes for one. A wrong head is reported before the
    /// payload is there. After an error there is nothing more to be had.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "it returns a Result<Option>, for the question mark")]
    pub fn next(&mut self) -> Result<Option<Frame<'a>>, FrameError> {
        let rest = &self.input[self.at..];
        let Some(&[kind_octet, ch0, ch1, s0, s1, s2, s3]) = rest.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let channel = u16::from_be_bytes([ch0, ch1]);
        let size_bytes = u32::from_be_bytes([s0, s1, s2, s3]);
        let kind = match kind_octet {
            1 => FrameKind::Method,
            2 => FrameKind::Header,
            3 => FrameKind::Body,
            8 => FrameKind::Heartbeat,
            kind => return Err(FrameError::UnknownKind { kind, channel }),
        };
        if size_bytes > self.payload_max {
            let frame_max_bytes = self.payload_max;
            return Err(FrameError::TooLarge { kind: kind_octet, size_bytes, frame_max_bytes });
        }
        if kind == FrameKind::Heartbeat {
            check_heartbeat(channel, size_bytes)?;
        }
        let end = HEAD_BYTES + size_bytes as usize;
        let Some(&found) = rest.get(end) else { return Ok(None) };
        if found != FRAME_END {
            return Err(FrameError::BadEnd { kind: kind_octet, size_bytes, found });
        }
        self.at += end + 1;
        Ok(Some(Frame { kind, channel, payload: &rest[HEAD_BYTES..end] }))
    }

    /// How many bytes of the input the frames given out so far took.
    #[inline]
    pub fn consumed(&self) -> usize {
        self.at
    }

    /// After [`Self::next`] said `None`: how many more bytes the next frame needs at least; a hint for the size of
    /// the read buffer.
    pub fn missing(&self) -> usize {
        let rest = &self.input[self.at..];
        let whole = match rest.first_chunk::<HEAD_BYTES>() {
            Some(&[_, _, _, s0, s1, s2, s3]) => {
                FRAME_OVERHEAD_BYTES + u32::from_be_bytes([s0, s1, s2, s3]) as usize
            }
            None => FRAME_OVERHEAD_BYTES,
        };
        whole.saturating_sub(rest.len())
    }
}

#[cold]
fn check_heartbeat(channel: u16, size_bytes: u32) -> Result<(), FrameError> {
    match (channel, size_bytes) {
        (0, 0) => Ok(()),
        (0, _) => Err(FrameError::HeartbeatWithPayload { size_bytes }),
        _ => Err(FrameError::HeartbeatOnChannel { channel }),
    }
}

/// A frame's first seven bytes.
#[inline]
pub(crate) fn head(kind: FrameKind, channel: u16, size_bytes: u32) -> [u8; HEAD_BYTES] {
    let [ch0, ch1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size_bytes.to_be_bytes();
    [kind as u8, ch0, ch1, s0, s1, s2, s3]
}
