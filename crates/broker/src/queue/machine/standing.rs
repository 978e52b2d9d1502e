//! The machine as the watchdog sees it: how far it has come, and who could be given something.

use super::{ConsumerKey, Machine, Past};

/// How far a queue has come; another value after anything was handed out or left. What merely came makes no
/// difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Held by somebody, or on the way back.
    pub(crate) held: u64,
    /// Gone for good.
    pub(crate) gone: u64,
    /// Pieces read from disk.
    pub(crate) loads: u64,
}

impl Machine {
    /// Up to `count_max` messages from `from` on that somebody holds, ascending, with the consumer if it is there.
    pub(crate) fn held_from(&mut self, from: u64, count_max: usize) -> Vec<(u64, Option<ConsumerKey>, Past)> {
        let mut held = Vec::new();
        let Self { unacked, holders, .. } = self;
        unacked.take(from..u64::MAX, |slot, seqs, past| {
            let room = count_max - held.len();
            held.extend(seqs.take(room).map(|seq| (seq, holders.consumer(slot), past)));
            false
        });
        held
    }

    /// What a ready message went through.
    pub(crate) fn ready_past(&self, seq: u64) -> Option<Past> {
        self.ready.from(seq).filter(|piece| piece.start <= seq).map(|piece| piece.past)
    }

    /// See [`Progress`]; of loads the machine knows nothing.
    pub(crate) fn progress(&self) -> Progress {
        let held = self.unacked.count() + self.waiting_count();
        Progress { held, gone: self.settled + self.purged + self.dead, loads: 0 }
    }

    /// Consumers with credit and room, who do not stand by and are not held up by their pace.
    pub(crate) fn able_count(&self) -> u64 {
        self.holders.able_count()
    }

    /// Whether a consumer is given nothing because there was no room in its inbox.
    pub(crate) fn is_closed(&self, key: ConsumerKey) -> bool {
        self.holders.is_closed(key)
    }

    /// Whether there are consumers of which one is to be active, and none is.
    pub(crate) fn lacks_active(&self) -> bool {
        self.holders.lacks_active()
    }
}
