//! Calls whoever asked for it at a moment: one thread, a heap of moments, the earliest waited for.
//!
//! An alarm cannot be taken back: who is called looks for itself whether there is anything to do, which costs less
//! than finding an entry in the heap. The thread starts with the first alarm.

use crate::clock::Clock;
use crate::core::Core;
use parking_lot::{Condvar, Mutex};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};

/// Who is called.
pub(crate) trait OnTimer: Send + Sync {
    /// The moment has come. On the timer's thread, without any lock: must not block for long.
    fn on_timer(self: Arc<Self>, core: &Arc<Core>);
}

/// See the module.
pub(crate) struct Timer {
    clock: Clock,
    state: Arc<(Mutex<State>, Condvar)>,
    core: Weak<Core>,
}

#[derive(Default)]
struct State {
    alarms: BinaryHeap<Reverse<Alarm>>,
    /// Told apart when they ring at the same moment: in the order they were asked for.
    next_number: u64,
    running: bool,
    closed: bool,
}

struct Alarm {
    at_ms: u64,
    number: u64,
    whom: Weak<dyn OnTimer>,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_ms, self.number).cmp(&(other.at_ms, other.number))
    }
}

impl Timer {
    pub(crate) fn new(clock: Clock, core: Weak<Core>) -> Self {
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let turned = Arc::downgrade(&state);
        clock.on_advance(move || {
            if let Some(state) = turned.upgrade() {
                // Under the lock, so that a turn between a look at the clock and the wait is not missed.
                let _state = state.0.lock();
                state.1.notify_all();
            }
        });
        Self { clock, state, core }
    }

    /// Has `whom` called at a moment (milliseconds since 1970; one that has passed: at once). Only the object is
    /// kept, not kept alive.
    pub(crate) fn arm(&self, at_ms: u64, whom: Weak<dyn OnTimer>) {
        let (lock, wake) = &*self.state;
        let mut state = lock.lock();
        if state.closed {
            return;
        }
        let number = state.next_number;
        state.next_number += 1;
        let earliest = state.alarms.peek().is_none_or(|first| at_ms < first.0.at_ms);
        state.alarms.push(Reverse(Alarm { at_ms, number, whom }));
        if !state.running {
            state.running = self.start();
        } else if earliest {
            wake.notify_all();
        }
    }

    fn start(&self) -> bool {
        let (state, clock, core) = (self.state.clone(), self.clock.clone(), self.core.clone());
        let run = move || run(&state, &clock, &core);
        match std::thread::Builder::new().name("millpond-timer".into()).spawn(run) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, "no thread for timers: what waits for a time waits for the next alarm");
                false
            }
        }
    }

    /// Nobody is called any more.
    pub(crate) fn close(&self) {
        let (lock, wake) = &*self.state;
        let mut state = lock.lock();
        state.closed = true;
        state.alarms.clear();
        wake.notify_all();
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("clock", &self.clock).finish_non_exhaustive()
    }
}

fn run(state: &(Mutex<State>, Condvar), clock: &Clock, core: &Weak<Core>) {
    let (lock, wake) = state;
    let mut due = Vec::new();
    let mut guard = lock.lock();
    while !guard.closed {
        let now_ms = clock.now_ms();
        while let Some(alarm) = guard.alarms.peek().filter(|first| first.0.at_ms <= now_ms) {
            due.push(alarm.0.whom.clone());
            guard.alarms.pop();
        }
        if !due.is_empty() {
            drop(guard);
            let Some(core) = core.upgrade() else { return };
            for whom in due.drain(..) {
                if let Some(whom) = whom.upgrade() {
                    whom.on_timer(&core);
                }
            }
            drop(core);
            guard = lock.lock();
            continue;
        }
        let until = guard.alarms.peek().map(|first| first.0.at_ms).and_then(|at_ms| clock.instant_of(at_ms));
        match until {
            Some(until) => drop(wake.wait_until(&mut guard, until)),
            None => wake.wait(&mut guard),
        }
    }
}
