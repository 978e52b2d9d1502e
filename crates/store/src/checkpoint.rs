//! Retires segments of the log.

use parking_lot::{Condvar, Mutex};

#[derive(Debug, Default)]
pub(crate) struct Checkpointer {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    woken: bool,
    closing: bool,
}

impl Checkpointer {
    /// Something may have to be done.
    pub(crate) fn wake(&self) {
        self.state.lock().woken = true;
        self.wake.notify_one();
    }

    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }
}
