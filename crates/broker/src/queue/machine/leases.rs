//! Which unacked messages are held on a lease, and when each ends.

use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::ops::Range;

#[derive(Debug, Clone, Copy)]
struct Lease {
    due_ms: u64,
    length_ms: u64,
}

/// About 50 bytes a message that is held on a lease; nothing for others.
#[derive(Debug, Default)]
pub(super) struct Leases {
    of: HashMap<u64, Lease, foldhash::fast::FixedState>,
    by_due: BTreeSet<(u64, u64)>,
}

impl Leases {
    /// They begin now.
    pub(super) fn add(&mut self, seqs: Range<u64>, now_ms: u64, length_ms: u64) {
        let due_ms = now_ms.saturating_add(length_ms);
        for seq in seqs {
            self.of.insert(seq, Lease { due_ms, length_ms });
            self.by_due.insert((due_ms, seq));
        }
    }

    /// These are not held any more.
    pub(super) fn remove(&mut self, seqs: Range<u64>) {
        if self.of.is_empty() {
            return;
        }
        for seq in seqs {
            if let Some(lease) = self.of.remove(&seq) {
                self.by_due.remove(&(lease.due_ms, seq));
            }
        }
    }

    /// Those of them that are held on a lease begin it anew; how many.
    pub(super) fn renew(&mut self, seqs: Range<u64>, now_ms: u64) -> u64 {
        let mut n = 0;
        for seq in seqs {
            if let Some(lease) = self.of.get_mut(&seq) {
                self.by_due.remove(&(lease.due_ms, seq));
                lease.due_ms = now_ms.saturating_add(lease.length_ms);
                self.by_due.insert((lease.due_ms, seq));
                n += 1;
            }
        }
        n
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.by_due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Those whose lease has ended, ascending; they are held on none any more.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<Range<u64>> {
        let mut seqs = Vec::new();
        while let Some((due_ms, seq)) = self.by_due.first().copied()
            && due_ms <= now_ms
        {
            self.by_due.pop_first();
            self.of.remove(&seq);
            seqs.push(seq);
        }
        super::joined(seqs)
    }

    #[cfg(test)]
    pub(super) fn check(&self) -> Result<(), String> {
        let same = self.of.iter().all(|(seq, lease)| self.by_due.contains(&(lease.due_ms, *seq)));
        match same && self.of.len() == self.by_due.len() {
            true => Ok(()),
            false => Err(format!("{} leases, {} ends of leases", self.of.len(), self.by_due.len())),
        }
    }

    #[cfg(test)]
    pub(super) fn due_ms(&self, seq: u64) -> Option<u64> {
        self.of.get(&seq).map(|lease| lease.due_ms)
    }

    #[cfg(test)]
    pub(super) fn seqs(&self) -> impl Iterator<Item = u64> {
        self.of.keys().copied()
    }
}
