//! Who still has a batch open that was begun before a moment.
//!
//! A snapshot of a queue may hold effects of batches that are not submitted yet. The checkpointer, after its
//! snapshots, turns the epoch and waits until nobody holds a pin of the old one. Two counters are enough,
//! since it turns only after the epoch before has drained.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

#[derive(Debug, Default)]
pub(crate) struct Epochs {
    current: AtomicU64,
    pins: [AtomicUsize; 2],
    waiting: AtomicBool,
    closing: AtomicBool,
    gate: Mutex<()>,
    drained: Condvar,
}

/// Which of the two counters a pin is in.
pub(crate) type Pin = u8;

impl Epochs {
    #[inline]
    pub(crate) fn pin(&self) -> Pin {
        loop {
            let parity = (self.current.load(SeqCst) & 1) as u8;
            self.pins[parity as usize].fetch_add(1, SeqCst);
            if (self.current.load(SeqCst) & 1) as u8 == parity {
                return parity;
            }
            self.unpin(parity);
        }
    }

    #[inline]
    pub(crate) fn unpin(&self, pin: Pin) {
        if self.pins[pin as usize].fetch_sub(1, SeqCst) == 1 && self.waiting.load(SeqCst) {
            let _gate = self.gate.lock();
            self.drained.notify_all();
        }
    }

    /// Waits until every batch that is open now has been submitted or dropped; `false` if the store is closed
    /// before. One caller at a time.
    pub(crate) fn wait_for_open(&self) -> bool {
        self.waiting.store(true, SeqCst);
        let old = (self.current.fetch_add(1, SeqCst) & 1) as usize;
        let mut gate = self.gate.lock();
        while self.pins[old].load(SeqCst) != 0 {
            if self.closing.load(SeqCst) {
                return false;
            }
            self.drained.wait(&mut gate);
        }
        self.waiting.store(false, SeqCst);
        true
    }

    /// Nobody waits any more, nor ever again.
    pub(crate) fn close(&self) {
        let _gate = self.gate.lock();
        self.closing.store(true, SeqCst);
        self.drained.notify_all();
    }
}
