//! Sizes of ready messages, for queues whose limits or figures ask for them.

use super::Machine;
use std::ops::Range;

impl Machine {
    /// Sizes of messages are told (`set_size`) and summed up from now on, or not any more.
    pub(crate) fn weigh(&mut self, weigh: bool) {
        if weigh { self.ready.weigh() } else { self.ready.stop_weighing() }
    }

    /// Whether sizes are summed up.
    #[inline]
    pub(crate) fn is_weighing(&self) -> bool {
        self.ready.is_weighing()
    }

    /// The size of the body of a message that `enqueued` is about to bring. Bytes.
    pub(crate) fn set_size(&mut self, seq: u64, size_bytes: u32) {
        self.ready.set_weight(seq, size_bytes);
    }

    /// The size of the body of a ready message that came before sizes were told. Bytes.
    pub(crate) fn weigh_ready(&mut self, seq: u64, size_bytes: u32) {
        self.ready.weigh_ready(seq, size_bytes);
    }

    /// Bytes of the bodies of ready messages, of those whose size was told.
    pub(crate) fn ready_bytes(&self) -> u64 {
        self.ready.ready_bytes()
    }

    pub(super) fn forget_weights(&mut self, gone: &[Range<u64>]) {
        if self.ready.is_weighing() {
            gone.iter().for_each(|range| self.ready.forget_weights(range.clone()));
        }
    }

    /// No-ack messages of a run were handed out for good.
    pub(crate) fn forget_sizes(&mut self, seqs: Range<u64>) {
        self.ready.forget_weights(seqs);
    }
}
