//! Content (section 4.2.6): a header frame and as many body frames as the body needs.

use crate::frame::{FRAME_END, FRAME_OVERHEAD_BYTES, FrameKind, head};
use crate::{ReplyCode, Sink};
use millpond_model::properties::{PropertiesError, RawProperties};
use std::ops::Range;

/// The class whose methods carry content.
pub const BASIC_CLASS: u16 = 60;

/// Class, weight and body size before the properties.
const FIXED_BYTES: usize = 12;

/// A content header: `class u16 | weight u16 = 0 | body size u64 | property list`.
#[derive(Debug, Clone, Copy)]
pub struct ContentHeader<'a> {
    /// Length of the body in all its frames.
    pub body_size_bytes: u64,
    /// Checked.
    pub properties: RawProperties<'a>,
}

/// Why a payload is not a content header of the basic class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentHeaderError {
    /// Not even the fixed part.
    #[error("a content header of {size_bytes} bytes; the least is 14")]
    TooShort {
        /// How long it is.
        size_bytes: usize,
    },
    /// Only the basic class has content.
    #[error("a content header of class {class_id}; expected class 60")]
    WrongClass {
        /// The class found.
        class_id: u16,
    },
    /// Reserved, always 0.
    #[error("a content header with weight {weight}; it must be 0")]
    Weight {
        /// What was found.
        weight: u16,
    },
    /// The property list is malformed.
    #[error("properties: {0}")]
    Properties(#[from] PropertiesError),
}

impl ContentHeaderError {
    /// What to close the connection with.
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            Self::WrongClass { .. } | Self::Weight { .. } => ReplyCode::UnexpectedFrame,
            Self::TooShort { .. } | Self::Properties(_) => ReplyCode::FrameError,
        }
    }
}

impl<'a> ContentHeader<'a> {
    /// Reads a header frame's payload.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, ContentHeaderError> {
        let Some((&[c0, c1, w0, w1, size @ ..], properties)) = payload.split_first_chunk::<FIXED_BYTES>()
        else {
            return Err(ContentHeaderError::TooShort { size_bytes: payload.len() });
        };
        let (class_id, weight) = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([w0, w1]));
        if class_id != BASIC_CLASS {
            return Err(ContentHeaderError::WrongClass { class_id });
        }
        if weight != 0 {
            return Err(ContentHeaderError::Weight { weight });
        }
        let body_size_bytes = u64::from_be_bytes(size);
        Ok(Self { body_size_bytes, properties: RawProperties::parse(properties)? })
    }
}

/// Appends a header frame; `properties` is an encoded list.
#[inline]
pub fn encode_content_header<S: Sink>(out: &mut S, channel: u16, body_size_bytes: u64, properties: &[u8]) {
    let mut fixed = [0; 7 + FIXED_BYTES];
    let size_bytes = (FIXED_BYTES + properties.len()) as u32;
    fixed[..7].copy_from_slice(&head(FrameKind::Header, channel, size_bytes));
    fixed[7..9].copy_from_slice(&BASIC_CLASS.to_be_bytes());
    fixed[11..].copy_from_slice(&body_size_bytes.to_be_bytes());
    out.put(&fixed);
    out.put(properties);
    out.put(&[FRAME_END]);
}

/// The pieces of a body of that length that fit frames of at most `frame_max_bytes` (0 for no limit); none for an
/// empty body.
pub fn split_body(body_len: usize, frame_max_bytes: u32) -> impl Iterator<Item = Range<usize>> {
    let piece = match frame_max_bytes as usize {
        0 => u32::MAX as usize,
        frame_max => frame_max.saturating_sub(FRAME_OVERHEAD_BYTES).max(1),
    };
    (0..body_len).step_by(piece).map(move |start| start..body_len.min(start + piece))
}

/// The seven bytes before a piece of a body, for callers that write large bodies from where they lie; behind the
/// piece goes [`FRAME_END`].
#[inline]
pub fn body_frame_head(channel: u16, piece_size_bytes: u32) -> [u8; 7] {
    head(FrameKind::Body, channel, piece_size_bytes)
}

/// Appends a body as frames of at most `frame_max_bytes`; an empty body has no frame.
#[inline]
pub fn encode_body<S: Sink>(out: &mut S, channel: u16, body: &[u8], frame_max_bytes: u32) {
    for piece in split_body(body.len(), frame_max_bytes) {
        let piece = &body[piece];
        out.reserve_more(piece.len() + FRAME_OVERHEAD_BYTES);
        out.put(&body_frame_head(channel, piece.len() as u32));
        out.put(piece);
        out.put(&[FRAME_END]);
    }
}

/// Appends a header frame and the body's frames.
#[inline]
pub fn encode_content<S: Sink>(
    out: &mut S,
    channel: u16,
    properties: &[u8],
    body: &[u8],
    frame_max_bytes: u32,
) {
    out.reserve_more(properties.len() + body.len() + 7 + FIXED_BYTES + 1 + FRAME_OVERHEAD_BYTES);
    encode_content_header(out, channel, body.len() as u64, properties);
    encode_body(out, channel, body, frame_max_bytes);
}
