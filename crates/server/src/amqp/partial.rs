//! Bodies that have not come whole, and what they hold of their connection's limit.

use millpond_broker::Route;
use millpond_model::MessageBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A publish whose body has not come whole.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(super) batch: MessageBatch,
    pub(super) route: Route,
    pub(super) mandatory: bool,
    pub(super) missing_bytes: u64,
    pub(super) received_bytes: usize,
    pub(super) share: Share,
}

/// What a partial body holds of its connection's limit; given back when it is dropped, whoever does that.
#[derive(Debug)]
pub(super) struct Share {
    total: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    pub(super) fn of(total: &Arc<AtomicUsize>) -> Self {
        Self { total: total.clone(), bytes: 0 }
    }

    /// Grows to so many bytes; what all shares of the connection are then.
    pub(super) fn grow_to(&mut self, bytes: usize) -> usize {
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        self.total.fetch_add(more, Relaxed) + more
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Relaxed);
    }
}
