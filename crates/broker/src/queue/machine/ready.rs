//! The ready messages: a sorted set of sequence numbers, kept as pieces.

use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a message went through; each number stays at its largest value once there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// How often it was handed out.
    pub(crate) handed: u16,
    /// How many of those failed: rejected with requeue, or whoever had it went (X9).
    pub(crate) failed: u16,
}

impl Past {
    /// Of a message that comes back from whoever had it.
    pub(super) fn returned(self, how: Return) -> Self {
        Self {
            handed: self.handed.saturating_add(u16::from(how != Return::Untouched)),
            failed: self.failed.saturating_add(u16::from(how == Return::Failed)),
        }
    }
}

/// How a message comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// As if never handed out.
    Untouched,
    /// Given back: counts as handed out.
    Given,
    /// As `Given`, to be ready again so many milliseconds later, whatever the queue's rule is.
    After(u64),
    /// Counts as a failed delivery too.
    Failed,
}

/// Consecutive ready messages with the same past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) past: Past,
}

impl Piece {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn from_entry((start, (end, past)): (u64, (u64, Past))) -> Self {
        Self { start, end, past }
    }

    /// Whether `next` continues this piece.
    fn joins(&self, next: &Piece) -> bool {
        self.end == next.start && self.past == next.past
    }
}

/// Pieces in ascending order, none empty, none overlapping. The first lies outside the tree: a queue that is
/// drained in order, which is nearly every queue, never touches the tree.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Empty only if there is nothing at all.
    head: Piece,
    /// Start to end and past; all behind `head`.
    rest: BTreeMap<u64, (u64, Past)>,
    count: u64,
    /// Sizes, if anybody asks for their sum.
    weights: Option<Box<Weights>>,
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
        if let Some(weights) = &mut self.weights {
            weights.ready_bytes -= weights.sum(self.head.start..self.head.start + n);
        }
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
        if let Some(weights) = &mut self.weights {
            weights.ready_bytes += weights.sum(piece.start..piece.end);
        }
        self.count += piece.end - piece.start;
        if was_empty {
            self.head = piece;
        } else if piece.end <= self.head.start {
            if piece.joins(&self.head) {
                self.head.start = piece.start;
            } else {
                self.rest.insert(self.head.start, (self.head.end, self.head.past));
                self.head = piece;
            }
        } else {
            self.insert_behind(piece);
        }
    }

    fn insert_behind(&mut self, mut piece: Piece) {
        if let Some((next_end, past)) = self.rest.get(&piece.end).copied()
            && past == piece.past
        {
            self.rest.remove(&piece.end);
            piece.end = next_end;
        }
        let before = self.rest.range_mut(..piece.start).next_back();
        let (end, past) = match before {
            Some((_, (end, past))) => (end, *past),
            None => (&mut self.head.end, self.head.past),
        };
        if *end == piece.start && past == piece.past {
            *end = piece.end;
        } else {
            self.rest.insert(piece.start, (piece.end, piece.past));
        }
    }

    /// The first piece that ends behind `seq`.
    pub(super) fn from(&self, seq: u64) -> Option<Piece> {
        let head = self.first()?;
        if head.end > seq {
            return Some(head);
        }
        let around = self.rest.range(..=seq).next_back().filter(|(_, (end, _))| *end > seq);
        around.or_else(|| self.rest.range(seq..).next()).map(|(start, end)| Piece::from_entry((*start, *end)))
    }

    /// Takes those of `seqs` that are here, ascending; ranges that touch are joined.
    pub(super) fn remove(&mut self, seqs: Range<u64>) -> Vec<Range<u64>> {
        let mut touched: Vec<Piece> = Vec::new();
        let mut at = seqs.start;
        while let Some(piece) = self.from(at).filter(|piece| piece.start < seqs.end) {
            touched.push(piece);
            at = piece.end;
        }
        let mut gone = Vec::new();
        for piece in touched {
            let (from, to) = (piece.start.max(seqs.start), piece.end.min(seqs.end));
            super::push_joined(&mut gone, from..to);
            self.take(from..to);
        }
        gone
    }

    /// Takes these, which are all in one piece.
    pub(super) fn take(&mut self, seqs: Range<u64>) {
        if seqs.is_empty() {
            return;
        }
        let n = seqs.end - seqs.start;
        if seqs.start == self.head.start {
            return self.take_first(n);
        }
        let (end, past) = if seqs.start < self.head.end {
            (&mut self.head.end, self.head.past)
        } else {
            let Some((_, (end, past))) = self.rest.range_mut(..=seqs.start).next_back() else { return };
            (end, *past)
        };
        let behind = seqs.end..std::mem::replace(end, seqs.start);
        if seqs.start >= self.head.end {
            // All of a piece may have gone.
            self.rest.remove(&seqs.start);
        }
        if !behind.is_empty() {
            self.rest.insert(behind.start, (behind.end, past));
        }
        self.count -= n;
        if let Some(weights) = &mut self.weights {
            weights.ready_bytes -= weights.sum(seqs);
        }
    }

    /// Takes all; ranges that touch are joined.
    pub(super) fn drain(&mut self) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        for piece in self.pieces() {
            super::push_joined(&mut ranges, piece.start..piece.end);
        }
        let mut weights = self.weights.take();
        weights.iter_mut().for_each(|weights| weights.ready_bytes = 0);
        *self = Self { weights, ..Self::default() };
        ranges
    }

    /// Sizes are told from now on, of messages that come.
    pub(super) fn weigh(&mut self) {
        self.weights.get_or_insert_default();
    }

    /// Sizes are told no more.
    pub(super) fn stop_weighing(&mut self) {
        self.weights = None;
    }

    pub(super) fn is_weighing(&self) -> bool {
        self.weights.is_some()
    }

    /// The size of a message that is about to come.
    pub(super) fn set_weight(&mut self, seq: u64, size_bytes: u32) {
        if let Some(weights) = &mut self.weights {
            weights.sizes.insert(seq, size_bytes);
        }
    }

    /// The size of a message that is here, if it was not told before.
    pub(super) fn weigh_ready(&mut self, seq: u64, size_bytes: u32) {
        if let Some(weights) = &mut self.weights
            && weights.sizes.insert(seq, size_bytes).is_none()
        {
            weights.ready_bytes += u64::from(size_bytes);
        }
    }

    /// Messages that will not come back, none of them here.
    pub(super) fn forget_weights(&mut self, seqs: Range<u64>) {
        if let Some(weights) = &mut self.weights {
            for seq in seqs {
                weights.sizes.remove(&seq);
            }
        }
    }

    /// Sum of the sizes that were told of what is here.
    pub(super) fn ready_bytes(&self) -> u64 {
        self.weights.as_ref().map_or(0, |weights| weights.ready_bytes)
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        let rest = self.rest.iter().map(|(start, end)| Piece::from_entry((*start, *end)));
        self.first().into_iter().chain(rest)
    }
}

/// Sizes of messages, ready or not.
#[derive(Debug, Default)]
struct Weights {
    sizes: HashMap<u64, u32, foldhash::fast::FixedState>,
    ready_bytes: u64,
}

impl Weights {
    fn sum(&self, seqs: Range<u64>) -> u64 {
        seqs.filter_map(|seq| self.sizes.get(&seq)).map(|size| u64::from(*size)).sum()
    }
}
