//! Messages out of a stream of bytes (RFC 6587): counted octets, `12 <34>1 ...`, or lines. Each message says which.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read in one go.
const READ_BYTES: usize = 16 * 1024;

/// Digits of a count.
const COUNT_MAX_DIGITS: usize = 8;

/// A message that came.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    /// It was longer than messages may be.
    pub(super) cut: bool,
}

/// Splits what a connection sends.
pub(super) struct Frames<S> {
    stream: S,
    max_bytes: usize,
    buffer: Vec<u8>,
    /// Bytes of a counted message that are passed over; `None`: up to the end of the line.
    skip: Option<Skip>,
    ended: bool,
}

enum Skip {
    Bytes(usize),
    Line,
}

impl<S: AsyncRead + Unpin> Frames<S> {
    pub(super) fn new(stream: S, max_bytes: usize) -> Self {
        Self { stream, max_bytes, buffer: Vec::new(), skip: None, ended: false }
    }

    /// The next message; `None`: the connection has ended.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take() {
                return Ok(Some(frame));
            }
            if self.ended {
                // A last line may lack its end.
                let rest = std::mem::take(&mut self.buffer);
                let is_line = self.skip.is_none() && rest.first() == Some(&b'<');
                return Ok(is_line.then_some(Frame { bytes: rest, cut: false }));
            }
            let before = self.buffer.len();
            self.buffer.resize(before + READ_BYTES, 0);
            let read = self.stream.read(&mut self.buffer[before..]).await;
            self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
            self.ended = read? == 0;
        }
    }

    /// A message that is whole, or too long.
    fn take(&mut self) -> Option<Frame> {
        loop {
            match self.skip.take() {
                Some(Skip::Bytes(left)) => {
                    let some = left.min(self.buffer.len());
                    self.buffer.drain(..some);
                    if some < left {
                        self.skip = Some(Skip::Bytes(left - some));
                        return None;
                    }
                }
                Some(Skip::Line) => match self.buffer.iter().position(|byte| *byte == b'\n') {
                    Some(end) => drop(self.buffer.drain(..=end)),
                    None => {
                        self.buffer.clear();
                        self.skip = Some(Skip::Line);
                        return None;
                    }
                },
                None => {}
            }
            let frame = self.take_one()?;
            // Line ends between messages, as some send behind counted ones.
            if !frame.bytes.iter().all(u8::is_ascii_whitespace) {
                return Some(frame);
            }
        }
    }

    fn take_one(&mut self) -> Option<Frame> {
        match self.count() {
            Count::Unknown => None,
            Count::Of { digits, len } => {
                let whole = digits + 1 + len;
                let cut = len > self.max_bytes;
                let needed = if cut { digits + 1 + self.max_bytes } else { whole };
                if self.buffer.len() < needed {
                    return None;
                }
                let bytes = self.buffer[digits + 1..needed].to_vec();
                self.buffer.drain(..needed);
                if cut {
                    self.skip = Some(Skip::Bytes(whole - needed));
                }
                Some(Frame { bytes, cut })
            }
            Count::None => {
                let end = self.buffer.iter().position(|byte| *byte == b'\n' || *byte == 0);
                match end {
                    Some(end) if end <= self.max_bytes => {
                        let bytes = self.buffer[..end].to_vec();
                        self.buffer.drain(..=end);
                        Some(Frame { bytes, cut: false })
                    }
                    _ if self.buffer.len() > self.max_bytes => {
                        let bytes: Vec<u8> = self.buffer.drain(..self.max_bytes).collect();
                        self.skip = Some(Skip::Line);
                        Some(Frame { bytes, cut: true })
                    }
                    _ => None,
                }
            }
        }
    }

    /// What the beginning of the buffer says of a count.
    fn count(&self) -> Count {
        match self.buffer.first() {
            None => return Count::Unknown,
            Some(b'1'..=b'9') => {}
            Some(_) => return Count::None,
        }
        let digits = self.buffer.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match self.buffer.get(digits) {
            _ if digits > COUNT_MAX_DIGITS => Count::None,
            None => Count::Unknown,
            Some(b' ') => {
                let text = std::str::from_utf8(&self.buffer[..digits]).unwrap_or_default();
                text.parse().map_or(Count::None, |len| Count::Of { digits, len })
            }
            Some(_) => Count::None,
        }
    }
}

enum Count {
    /// Not enough has come.
    Unknown,
    /// It is a line.
    None,
    Of {
        digits: usize,
        len: usize,
    },
}
