//! Blocks of segment files that readers of streams have asked for, kept for those that come after.
//!
//! One cache for all queues, with one limit: what readers cost in memory depends neither on how many there are nor
//! on how far they are behind.

use hashbrown::HashMap;
use millpond_model::Message;
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes of blocks that are kept.
const CACHE_MAX_BYTES: u64 = 8 << 20;

/// The messages of one block, ascending by number.
pub(crate) type Block = Arc<[(u64, Message)]>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct BlockCache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By queue and first number.
    blocks: HashMap<(u64, u64), Entry>,
    bytes: u64,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    block: Block,
    bytes: u64,
    /// The clock at its last use.
    used: u64,
}

impl BlockCache {
    /// A queue's block that begins with that number.
    pub(crate) fn get(&self, queue: u64, first_seq: u64) -> Option<Block> {
        let mut state = self.0.lock();
        state.clock += 1;
        let clock = state.clock;
        let entry = state.blocks.get_mut(&(queue, first_seq))?;
        entry.used = clock;
        Some(entry.block.clone())
    }

    /// Whether that block is here; does not count as a use.
    pub(crate) fn has(&self, queue: u64, first_seq: u64) -> bool {
        self.0.lock().blocks.contains_key(&(queue, first_seq))
    }

    /// Keeps a block, in place of those that were not used for longest.
    pub(crate) fn put(&self, queue: u64, block: Vec<(u64, Message)>, bytes: u64) {
        let Some((first_seq, _)) = block.first() else { return };
        let key = (queue, *first_seq);
        let mut state = self.0.lock();
        state.clock += 1;
        let entry = Entry { block: block.into(), bytes, used: state.clock };
        state.bytes += bytes;
        if let Some(before) = state.blocks.insert(key, entry) {
            state.bytes -= before.bytes;
        }
        while state.bytes > CACHE_MAX_BYTES && state.blocks.len() > 1 {
            let oldest = state.blocks.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
            let Some(gone) = oldest.and_then(|key| state.blocks.remove(&key)) else { return };
            state.bytes -= gone.bytes;
        }
    }

    /// Forgets a queue's blocks.
    pub(crate) fn forget(&self, queue: u64) {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        state.blocks.retain(|(of, _), entry| {
            if *of == queue {
                state.bytes -= entry.bytes;
            }
            *of != queue
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: u64) -> Vec<(u64, Message)> {
        vec![(first, Message::new(b"", b"", b"\0\0", true, b"body"))]
    }

    #[test]
    fn what_was_not_used_for_longest_leaves_first() {
        let cache = BlockCache::default();
        for first in 0..8 {
            cache.put(1, block(first), 1 << 20);
        }
        assert!(cache.get(1, 0).is_some());
        cache.put(2, block(0), 1 << 20);
        assert!(cache.has(1, 0) && cache.has(2, 0) && !cache.has(1, 1));
        cache.forget(1);
        assert!(!cache.has(1, 0) && cache.has(2, 0));
        assert_eq!(cache.0.lock().bytes, 1 << 20);
    }

    #[test]
    fn a_block_over_the_limit_is_kept_until_the_next_comes() {
        let cache = BlockCache::default();
        cache.put(1, block(0), CACHE_MAX_BYTES + 1);
        assert!(cache.has(1, 0));
        cache.put(1, block(1), 10);
        assert!(!cache.has(1, 0) && cache.has(1, 1));
    }
}
