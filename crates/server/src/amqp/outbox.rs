//! What waits for the socket: one contiguous buffer for small frames, large bodies where they lie, and barriers
//! that hold back what must not leave before a commit.

use super::pool;
use crate::tls::Wire;
use bytes::Bytes;
use millpond_amqp_codec::{FRAME_END, body_frame_head, encode_body, encode_content_header, split_body};
use millpond_model::Message;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// Bodies from this size on are written from where they lie. Bytes.
const LARGE_BODY_MIN_BYTES: usize = 16 * 1024;

/// A written prefix of the buffer is cut off from this size on. Bytes.
const COMPACT_MIN_BYTES: usize = 256 * 1024;

/// Pieces of one vectored write.
const SLICES_MAX: usize = 64;

#[derive(Debug)]
enum Chunk {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Positions count all bytes ever put in.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Before `tail`, in order.
    chunks: VecDeque<Chunk>,
    /// Where frames are appended.
    tail: Vec<u8>,
    /// How much of the first piece is written.
    front_at: usize,
    /// Position up to which all is written.
    written: u64,
    /// Position where `tail` begins.
    tail_from: u64,
    /// Position from which on a commit is waited for, and its token; ascending.
    barriers: VecDeque<(u64, u64)>,
    /// Position where a group of deliveries ends, and its size for the broker.
    deliveries: VecDeque<(u64, usize)>,
}

impl Outbox {
    /// Where frames are appended.
    #[inline]
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = pool::take_output();
        }
        &mut self.tail
    }

    /// Header and body frames of a message.
    #[inline]
    pub(crate) fn content(&mut self, channel: u16, message: &Message, frame_max_bytes: u32) {
        self.content_with(channel, message.properties(), message, frame_max_bytes);
    }

    /// As [`Self::content`], with other properties.
    #[inline]
    pub(crate) fn content_with(
        &mut self,
        channel: u16,
        properties: &[u8],
        message: &Message,
        frame_max_bytes: u32,
    ) {
        let body = message.body();
        encode_content_header(self.buffer(), channel, body.len() as u64, properties);
        if body.len() < LARGE_BODY_MIN_BYTES {
            encode_body(&mut self.tail, channel, body, frame_max_bytes);
        } else {
            self.large_body(channel, &message.body_bytes(), frame_max_bytes);
        }
    }

    fn large_body(&mut self, channel: u16, body: &Bytes, frame_max_bytes: u32) {
        for range in split_body(body.len(), frame_max_bytes) {
            let piece = body.slice(range);
            self.buffer().extend_from_slice(&body_frame_head(channel, piece.len() as u32));
            if piece.len() < LARGE_BODY_MIN_BYTES {
                self.tail.extend_from_slice(&piece);
            } else {
                let head = std::mem::take(&mut self.tail);
                self.tail_from += (head.len() + piece.len()) as u64;
                self.chunks.push_back(Chunk::Own(head));
                self.chunks.push_back(Chunk::Shared(piece));
            }
            self.buffer().push(FRAME_END);
        }
    }

    /// Bytes that wait, those behind a barrier included.
    #[inline]
    pub(crate) fn pending_bytes(&self) -> usize {
        (self.end() - self.written) as usize
    }

    /// Whether a write could do anything now.
    #[inline]
    pub(crate) fn is_writable(&self) -> bool {
        self.allowed() > self.written
    }

    /// What comes after this waits for the commit of that token.
    pub(crate) fn barrier(&mut self, token: u64) {
        let at = self.end();
        match self.barriers.back_mut() {
            // Nothing lies between the two, so the later one holds for both: tokens complete in order.
            Some((last_at, last_token)) if *last_at == at => *last_token = token.max(*last_token),
            _ => self.barriers.push_back((at, token)),
        }
    }

    /// How many barriers wait.
    pub(crate) fn barriers(&self) -> usize {
        self.barriers.len()
    }

    /// Commits up to that token are durable.
    pub(crate) fn committed(&mut self, token: u64) {
        while self.barriers.front().is_some_and(|(_, waited_for)| *waited_for <= token) {
            self.barriers.pop_front();
        }
    }

    /// Whether the commit of that token is waited for.
    pub(crate) fn waits_for(&self, token: u64) -> bool {
        self.barriers.iter().any(|(_, waited_for)| *waited_for == token)
    }

    /// Drops what is behind a barrier: its commit failed or the connection ends.
    pub(crate) fn drop_barred(&mut self) {
        let Some((at, _)) = self.barriers.front().copied() else { return };
        self.barriers.clear();
        while at < self.tail_from {
            // Barriers stand between frames, so what is cut off is whole frames.
            self.tail.clear();
            let Some(chunk) = self.chunks.pop_back() else { break };
            let start = self.tail_from - chunk.as_slice().len() as u64;
            self.tail_from = start;
            self.tail = match chunk {
                Chunk::Own(bytes) => bytes,
                Chunk::Shared(bytes) => bytes.into(),
            };
        }
        self.tail.truncate((at - self.tail_from) as usize);
    }

    /// A group of deliveries of that size for the broker has been put in.
    #[inline]
    pub(crate) fn deliveries_end(&mut self, size_bytes: usize) {
        self.deliveries.push_back((self.end(), size_bytes));
    }

    /// Size of the groups of deliveries that have left since the last call.
    #[inline]
    pub(crate) fn take_deliveries_written(&mut self) -> usize {
        let mut size_bytes = 0;
        while let Some((end, size)) = self.deliveries.front().copied().filter(|(end, _)| *end <= self.written)
        {
            debug_assert!(end <= self.written);
            size_bytes += size;
            self.deliveries.pop_front();
        }
        size_bytes
    }

    /// Writes what may leave, as much as the socket takes; how much that was.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, socket: &mut Wire) -> Poll<io::Result<usize>> {
        let allowed = (self.allowed() - self.written) as usize;
        if allowed == 0 {
            return Poll::Ready(Ok(0));
        }
        let written = if self.chunks.is_empty() {
            let piece = &self.tail[self.front_at..];
            let piece = &piece[..piece.len().min(allowed)];
            std::task::ready!(Pin::new(socket).poll_write(cx, piece))?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.slices(&mut slices, allowed);
            std::task::ready!(Pin::new(socket).poll_write_vectored(cx, &slices[..count]))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Writes all that may leave.
    pub(crate) async fn write_all(&mut self, socket: &mut Wire) -> io::Result<()> {
        while self.is_writable() {
            std::future::poll_fn(|cx| self.poll_write(cx, socket)).await?;
        }
        std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_flush(cx)).await
    }

    /// Gives memory back that only grew for a burst.
    pub(crate) fn shrink(&mut self) {
        if self.deliveries.is_empty() && self.deliveries.capacity() > 16 {
            self.deliveries = VecDeque::new();
        }
        if self.chunks.is_empty() && self.chunks.capacity() > 0 {
            self.chunks = VecDeque::new();
        }
    }

    /// How much was ever put in.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.tail_from + self.tail.len() as u64
    }

    #[inline]
    fn allowed(&self) -> u64 {
        self.barriers.front().map_or_else(|| self.end(), |(at, _)| *at)
    }

    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX], allowed: usize) -> usize {
        let (mut skip, mut left, mut count) = (self.front_at, allowed, 0);
        for piece in self.chunks.iter().map(Chunk::as_slice).chain([self.tail.as_slice()]) {
            let piece = &piece[skip..];
            skip = 0;
            let piece = &piece[..piece.len().min(left)];
            if piece.is_empty() {
                continue;
            }
            slices[count] = IoSlice::new(piece);
            count += 1;
            left -= piece.len();
            if left == 0 || count == SLICES_MAX {
                break;
            }
        }
        count
    }

    fn advance(&mut self, written: usize) {
        self.written += written as u64;
        self.front_at += written;
        while let Some(first) = self.chunks.front() {
            let len = first.as_slice().len();
            if self.front_at < len {
                return;
            }
            self.front_at -= len;
            if let Some(Chunk::Own(bytes)) = self.chunks.pop_front() {
                pool::give_output(bytes);
            }
        }
        if self.front_at == self.tail.len() {
            self.tail_from += self.tail.len() as u64;
            self.front_at = 0;
            pool::give_output(std::mem::take(&mut self.tail));
        } else if self.front_at >= COMPACT_MIN_BYTES && self.front_at * 2 >= self.tail.len() {
            self.tail.drain(..self.front_at);
            self.tail_from += self.front_at as u64;
            self.front_at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would leave, all of it.
    fn leaving(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = outbox.slices(&mut slices, (outbox.allowed() - outbox.written) as usize);
        slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn what_is_behind_a_barrier_leaves_after_its_commit() {
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(b"one ");
        outbox.barrier(7);
        outbox.buffer().extend_from_slice(b"two ");
        outbox.barrier(8);
        outbox.buffer().extend_from_slice(b"three");
        assert_eq!(leaving(&outbox), b"one ");
        outbox.advance(4);
        assert!(!outbox.is_writable());
        outbox.committed(7);
        assert_eq!(leaving(&outbox), b"two ");
        outbox.committed(9);
        assert_eq!(leaving(&outbox), b"two three");
        outbox.advance(9);
        assert_eq!(outbox.pending_bytes(), 0);
    }

    #[test]
    fn large_bodies_are_written_from_where_they_lie_and_in_frames() {
        let body: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let message = Message::new(b"x", b"k", &[0, 0], false, &body);
        let mut outbox = Outbox::default();
        outbox.content(1, &message, 40_000);
        let mut expected = Vec::new();
        millpond_amqp_codec::encode_content(&mut expected, 1, &[0, 0], &body, 40_000);
        assert_eq!(leaving(&outbox), expected);
        assert_eq!(outbox.pending_bytes(), expected.len());
        for step in [1, 30_000, 5_000, 40_000] {
            outbox.advance(step);
            expected.drain(..step);
            assert_eq!(leaving(&outbox), expected);
        }
    }

    #[test]
    fn what_is_behind_a_failed_barrier_is_dropped_whole() {
        let body = vec![7; 50_000];
        let message = Message::new(b"x", b"k", &[0, 0], false, &body);
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(b"before");
        outbox.advance(2);
        outbox.barrier(1);
        outbox.content(1, &message, 131_072);
        outbox.drop_barred();
        outbox.buffer().extend_from_slice(b" after");
        assert_eq!(leaving(&outbox), b"fore after");
    }

    #[test]
    fn deliveries_count_as_written_when_their_last_byte_has_left() {
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(b"12345");
        outbox.deliveries_end(50);
        outbox.buffer().extend_from_slice(b"678");
        outbox.deliveries_end(30);
        outbox.advance(4);
        assert_eq!(outbox.take_deliveries_written(), 0);
        outbox.advance(4);
        assert_eq!(outbox.take_deliveries_written(), 80);
    }
}
