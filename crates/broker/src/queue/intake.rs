//! How fast messages may come: a queue with `x-publish-rate` holds its publishers back.
//!
//! A schedule like that of a pace: each message that is published takes the next moment, one interval after the one
//! before. While that moment is ahead, who published here is not read from. What a connection's read has brought is
//! taken as a whole, so a publisher may be ahead by one read, and waits the longer for it: in the long run the rate is
//! kept. Moments that were missed are made up for within a second, no more.

use super::QueueCell;
use super::timing;
use crate::clock::Clock;
use crate::core::Core;
use crate::timer::OnTimer;
use millpond_model::table::Table;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

/// Idle time that may be made up for.
const SLACK_MS: u64 = 1000;

/// Longest that a publisher is held back at once; then it is asked again. What a slow rate owes is not forgotten by it.
const HOLD_MAX_MS: u64 = 60_000;

const NS_PER_MS: u64 = 1_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Between two messages; 0: no limit. Nanoseconds.
    interval_ns: AtomicU64,
    /// The moment of the next message.
    next_ns: AtomicU64,
    /// Publishers that wait for it.
    waiters: Mutex<Vec<Waker>>,
}

impl Intake {
    /// Goes by another rate from now on; what waits is asked again.
    fn change(&self, per_s: Option<f64>) {
        let interval_ns = per_s.map_or(0, |per_s| ((1e9 / per_s) as u64).max(1));
        if self.interval_ns.swap(interval_ns, Ordering::Relaxed) != interval_ns {
            self.next_ns.store(0, Ordering::Relaxed);
            self.wake();
        }
    }

    /// `count` messages came.
    fn take(&self, count: u64, now_ms: u64) {
        let interval_ns = self.interval_ns.load(Ordering::Relaxed);
        let earliest_ns = now_ms.saturating_sub(SLACK_MS) * NS_PER_MS;
        let next = |next_ns: u64| next_ns.max(earliest_ns).saturating_add(interval_ns.saturating_mul(count));
        let _ = self.next_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at_ns| Some(next(at_ns)));
    }

    /// Until when publishers are held back, if they are.
    fn shut_until_ms(&self, now_ms: u64) -> Option<u64> {
        if self.interval_ns.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let next_ms = self.next_ns.load(Ordering::Relaxed).div_ceil(NS_PER_MS);
        (next_ms > now_ms).then_some(next_ms)
    }

    fn wake(&self) {
        let waiters = std::mem::take(&mut *self.waiters.lock());
        waiters.into_iter().for_each(Waker::wake);
    }
}

impl OnTimer for Intake {
    fn on_timer(self: Arc<Self>, _core: &Arc<Core>) {
        self.wake();
    }
}

impl QueueCell {
    /// Holds publishers to the rate that the arguments ask for.
    pub(super) fn apply_intake(&self, arguments: &Table) {
        // They were checked when they were declared or set.
        match (self.intake.get(), timing::publish_rate_per_s(arguments).ok().flatten()) {
            (None, None) => {}
            (_, per_s) => self.intake.get_or_init(Arc::default).change(per_s),
        }
    }

    /// Clients have published so many.
    #[inline]
    pub(crate) fn note_intake(&self, count: impl FnOnce() -> u64, clock: &Clock) {
        if let Some(intake) = self.intake.get() {
            intake.take(count(), clock.now_ms());
        }
    }

    /// Whether more came than its rate allows by now.
    #[inline]
    pub(super) fn is_intake_shut(&self, clock: &Clock) -> bool {
        self.intake.get().is_some_and(|intake| intake.shut_until_ms(clock.now_ms()).is_some())
    }

    /// Wakes `waker` when more may come; ask again then.
    pub(super) fn wait_for_intake(&self, waker: &Waker, core: &Core) {
        let Some(intake) = self.intake.get() else { return };
        let now_ms = core.options.clock.now_ms();
        let Some(until_ms) = intake.shut_until_ms(now_ms) else { return };
        {
            let mut waiters = intake.waiters.lock();
            if waiters.iter().any(|known| known.will_wake(waker)) {
                return;
            }
            waiters.push(waker.clone());
        }
        let whom = Arc::downgrade(intake);
        core.timer.arm(until_ms.min(now_ms + HOLD_MAX_MS), whom);
    }

    /// Messages a second that publishers are held to, if they are.
    pub(crate) fn publish_rate_per_s(&self) -> Option<f64> {
        let interval_ns = self.intake.get()?.interval_ns.load(Ordering::Relaxed);
        (interval_ns != 0).then(|| 1e9 / interval_ns as f64)
    }
}
