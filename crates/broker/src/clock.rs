//! What time it is: milliseconds since 1970, never going back while the process runs.
//!
//! Machines are told the time; only what carries them out reads this clock. Tests turn one of their own by hand.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock; cloning counts a reference.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

enum Inner {
    /// The system's time when the process began, and what has passed since: a system clock that is set back does
    /// not make messages younger.
    System { began: Instant, began_ms: u64 },
    /// Turned by hand.
    Fake { now_ms: AtomicU64, listeners: Mutex<Vec<Box<dyn Fn() + Send + Sync>>> },
}

impl Clock {
    /// The system's.
    pub fn system() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Arc::new(Inner::System { began: Instant::now(), began_ms: since.as_millis() as u64 }))
    }

    /// One that stands at `now_ms` until [`Self::advance`].
    pub fn fake(now_ms: u64) -> Self {
        Self(Arc::new(Inner::Fake { now_ms: AtomicU64::new(now_ms), listeners: Mutex::default() }))
    }

    /// Milliseconds since 1970.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        match &*self.0 {
            Inner::System { began, began_ms } => began_ms + began.elapsed().as_millis() as u64,
            Inner::Fake { now_ms, .. } => now_ms.load(SeqCst),
        }
    }

    /// Whether it is turned by hand: then a wait for a moment of it has no length.
    pub fn is_fake(&self) -> bool {
        matches!(&*self.0, Inner::Fake { .. })
    }

    /// Turns a fake clock forward; the system's is not moved by it.
    pub fn advance(&self, by_ms: u64) {
        if let Inner::Fake { now_ms, listeners } = &*self.0 {
            now_ms.fetch_add(by_ms, SeqCst);
            listeners.lock().iter().for_each(|listener| listener());
        }
    }

    /// Until when to wait for a moment: `None` on a fake clock, whose `listener` is called at every turn.
    pub(crate) fn instant_of(&self, at_ms: u64) -> Option<Instant> {
        match &*self.0 {
            Inner::System { began, began_ms } => {
                let after = std::time::Duration::from_millis(at_ms.saturating_sub(*began_ms));
                Some(
                    began
                        .checked_add(after)
                        .unwrap_or_else(|| *began + std::time::Duration::from_secs(1 << 32)),
                )
            }
            Inner::Fake { .. } => None,
        }
    }

    /// Has `listener` called whenever a fake clock is turned.
    pub(crate) fn on_advance(&self, listener: impl Fn() + Send + Sync + 'static) {
        if let Inner::Fake { listeners, .. } = &*self.0 {
            listeners.lock().push(Box::new(listener));
        }
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now_ms())
    }
}
