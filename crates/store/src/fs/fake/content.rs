//! The bytes of one fake file: what readers see, what a power loss would leave, and what lies between.

use super::rng::Rng;
use std::collections::BTreeSet;
use std::io::IoSlice;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// What the page cache writes back at once, and what space is counted in.
pub(super) const PAGE_BYTES: usize = 4096;

/// A change that no sync has covered yet.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

/// The bytes of one file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// What readers see.
    current: Vec<u8>,
    /// What is on the disk for sure.
    durable: Vec<u8>,
    /// Leads from `durable` to `current` (unless a sync has failed).
    pending: Vec<Change>,
    /// Numbers of the pages that take space.
    pages: BTreeSet<usize>,
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn used_bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    /// Space that writing `len` bytes at `offset` would newly take.
    pub(super) fn growth_bytes(&self, offset: usize, len: usize) -> u64 {
        let missing = pages_of(offset, len).filter(|page| !self.pages.contains(page)).count();
        (missing * PAGE_BYTES) as u64
    }

    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], offset: usize, len: usize) {
        let mut data: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        data.truncate(len);
        if data.is_empty() {
            return;
        }
        self.pages.extend(pages_of(offset, data.len()));
        put(&mut self.current, offset, &data);
        self.pending.push(Change::Write { offset, data });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.current.resize(len, 0);
        self.pages.retain(|page| page * PAGE_BYTES < len);
        self.pending.push(Change::SetLen(len));
    }

    /// A sync that succeeded: nothing is pending any more.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write { offset, data } => put(&mut self.durable, offset, &data),
                Change::SetLen(len) => self.durable.resize(len, 0),
            }
        }
    }

    /// A sync that failed: some of what was pending is on the disk; the rest never will be, whatever later syncs
    /// say, because the system has marked its pages clean.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        self.settle_by_chance(rng);
    }

    /// The file after a power loss.
    pub(super) fn after_power_loss(&self, rng: &mut Rng) -> Self {
        let mut left = self.clone();
        left.settle_by_chance(rng);
        let pages = pages_of(0, left.durable.len()).collect();
        Self { current: left.durable.clone(), durable: left.durable, pending: Vec::new(), pages }
    }

    /// Decides for each pending change what of it is on the disk.
    fn settle_by_chance(&mut self, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        let unit = if rng.chance(4) { SECTOR_BYTES } else { PAGE_BYTES };
        // Either the disk took the changes in order and stopped within one, or any part of any of them is there.
        if rng.chance(3) {
            let stop = rng.below(pending.len() + 1);
            for (number, change) in pending.into_iter().enumerate() {
                let odds = if number < stop { 8 } else { 4 };
                if number <= stop {
                    self.settle(change, rng, odds, unit);
                }
            }
        } else {
            let odds = [0, 1, 4, 7, 8][rng.below(5)];
            for change in pending {
                self.settle(change, rng, odds, unit);
            }
        }
    }

    fn settle(&mut self, change: Change, rng: &mut Rng, odds: u64, unit: usize) {
        match change {
            Change::SetLen(len) => {
                if rng.chance(odds) {
                    self.durable.resize(len, 0);
                }
            }
            Change::Write { offset, data } => {
                let end = offset + data.len();
                // The size may be there without the data.
                if rng.chance(odds) && self.durable.len() < end {
                    self.durable.resize(end, 0);
                }
                let mut at = offset;
                while at < end {
                    let next = end.min((at / unit + 1) * unit);
                    if rng.chance(odds) {
                        put(&mut self.durable, at, &data[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
        }
    }
}

fn pages_of(offset: usize, len: usize) -> std::ops::Range<usize> {
    offset / PAGE_BYTES..(offset + len).div_ceil(PAGE_BYTES)
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}
