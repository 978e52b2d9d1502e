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

    fn from_entry((start, (end, deliveries)): (u64, (u64, u16))) -> Self {
        Self { start, end, deliveries }
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
    /// Start to end and deliveries; all behind `head`.
    rest: BTreeMap<u64, (u64, u16)>,
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
            self.head = self.rest.pop_first().map(Piece::from_entry).unwrap_or_default();
        }
    }

    /// Adds a piece that overlaps none, wherever it belongs.
    pub(super) fn insert(&mut self, piece: Piece) {
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
                self.rest.insert(self.head.start, (self.head.end, self.head.deliveries));
                self.head = piece;
            }
        } else {
            self.insert_behind(piece);
        }
    }

    fn insert_behind(&mut self, mut piece: Piece) {
        if let Some((next_end, deliveries)) = self.rest.get(&piece.end).copied()
            && deliveries == piece.deliveries
        {
            self.rest.remove(&piece.end);
            piece.end = next_end;
        }
        let before = self.rest.range_mut(..piece.start).next_back();
        let (end, deliveries) = match before {
            Some((_, (end, deliveries))) => (end, *deliveries),
            None => (&mut self.head.end, self.head.deliveries),
        };
        if *end == piece.start && deliveries == piece.deliveries {
            *end = piece.end;
        } else {
            self.rest.insert(piece.start, (piece.end, piece.deliveries));
        }
    }

    /// Takes those of `seqs` that are here, ascending; ranges that touch are joined.
    pub(super) fn remove(&mut self, seqs: Range<u64>) -> Vec<Range<u64>> {
        let touched: Vec<Piece> =
            self.pieces().filter(|piece| piece.start < seqs.end && piece.end > seqs.start).collect();
        let mut gone = Vec::new();
        for piece in touched {
            self.take_piece(piece);
            let (from, to) = (piece.start.max(seqs.start), piece.end.min(seqs.end));
            super::push_joined(&mut gone, from..to);
            self.insert(Piece { end: from, ..piece });
            self.insert(Piece { start: to, ..piece });
        }
        gone
    }

    /// Takes a whole piece that is here.
    fn take_piece(&mut self, piece: Piece) {
        if piece == self.head {
            self.take_first(piece.end - piece.start);
        } else if self.rest.remove(&piece.start).is_some() {
            self.count -= piece.end - piece.start;
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
        let rest = self.rest.iter().map(|(start, end)| Piece::from_entry((*start, *end)));
        self.first().into_iter().chain(rest)
    }
}
