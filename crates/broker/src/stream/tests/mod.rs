//! Tests of the stream machine: a table of scenes, and random histories against a plain model.

mod history;
mod table;

/// A small random generator, so that a failing history can be told by its seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}
