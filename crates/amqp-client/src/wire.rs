//! A socket with its two buffers: whole frames in, anything out.

use crate::stream::Stream;
use bytes::{Buf, Bytes, BytesMut};
use millpond_amqp_codec::{FrameError, FrameReader};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt, AsyncWrite};

/// Read at once. Bytes.
const READ_BYTES: usize = 128 * 1024;

#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    input: BytesMut,
    pub(crate) output: BytesMut,
    /// Agreed on, or what is taken before that.
    pub(crate) frame_max_bytes: u32,
    /// Bytes were handed to the stream since its last flush.
    is_unflushed: bool,
}

impl Wire {
    pub(crate) fn new(stream: Stream, frame_max_bytes: u32) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Self { stream, input, output, frame_max_bytes, is_unflushed: false }
    }

    /// Ready when all output has left.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.is_unflushed = true;
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what there is; 0 at the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(READ_BYTES);
        // This future keeps nothing between its polls: it may be made anew for each.
        let read = pin!(self.stream.read_buf(&mut self.input));
        read.poll(cx)
    }

    /// All whole frames that were read, as one block; `None`: not one yet.
    pub(crate) fn take_frames(&mut self) -> Result<Option<Bytes>, FrameError> {
        let mut frames = FrameReader::new(&self.input, self.frame_max_bytes);
        let result = loop {
            match frames.next() {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match (frames.consumed(), result) {
            (0, Ok(())) => Ok(None),
            (0, Err(error)) => Err(error),
            // What is wrong behind them is found again next time.
            (whole, _) => Ok(Some(self.input.split_to(whole).freeze())),
        }
    }

    /// What was read and is no frame: the first bytes of a foreign protocol, or a protocol header.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input
    }

    pub(crate) async fn shutdown(&mut self) {
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}
