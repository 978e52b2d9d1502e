//! The ready messages: a sorted set of sequence numbers, kept as pieces.

use std::collections::BTreeMap;
use std::ops::Range;

/// Consecutive ready messages with the same past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) end: u64,
    /// How often each was handed out before; stays at its largest value once there.
    pub(super) deliveries: u16,
}

impl Piece {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether `next` continues this piece.
    fn joins(&self, next: &Piece) -> bool {
        self.end == next.start && self.deliveries == next.deliveries
    }
}

/// Pieces in ascending order, none empty, none overlapping. The first lies outside the tree: a queue that is
/// drained in order, which is nearly every queue, never touches the tree.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Empty only if there is nothing at all.
    head: Piece,
    /// By start; all behind `head`.
    rest: BTreeMap<u64, Piece>,
    count: u64,
}

impl Ready {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    #[inline]
    pub(super) fn first(&self) -> Option<Piece> {
        (self.count != 0).then_some(self.head)
    }

    /// Takes the first `n`, which the first piece has.
    #[inline]
    pub(super) fn take_first(&mut self, n: u64) {
        debug_assert!(n <= self.head.end - self.head.start);
        self.head.start += n;
        self.count -= n;
        if self.head.is_empty() {
            self.head = self.rest.pop_first().map(|(_, piece)| piece).unwrap_or_default();
        }
    }

    /// Adds a piece that overlaps none, wherever it belongs.
    pub(super) fn insert(&mut self, mut piece: Piece) {
        if piece.is_empty() {
            return;
        }
        let was_empty = self.count == 0;
        self.count += piece.end - piece.start;
        if was_empty {
            self.head = piece;
        } else if piece.end <= self.head.start {
            if piece.joins(&self.head) {
                self.head.start = piece.start;
            } else {
                self.rest.insert(self.head.start, self.head);
                self.head = piece;
            }
        } else {
            if let Some(next) = self.rest.get(&piece.end).copied()
                && piece.joins(&next)
            {
                self.rest.remove(&next.start);
                piece.end = next.end;
            }
            let before = self.rest.range_mut(..piece.start).next_back();
            let before = before.map_or(&mut self.head, |(_, before)| before);
            if before.joins(&piece) {
                before.end = piece.end;
            } else {
                self.rest.insert(piece.start, piece);
            }
        }
    }

    /// Takes all; ranges that touch are joined.
    pub(super) fn drain(&mut self) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        for piece in self.pieces() {
            super::push_joined(&mut ranges, piece.start..piece.end);
        }
        *self = Self::default();
        ranges
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.first().into_iter().chain(self.rest.values().copied())
    }
}
