//! Waiting for a change of definitions to be durable, without a session.

use millpond_store::{CommitError, OnCommit};
use parking_lot::{Condvar, Mutex};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The end of a change that has happened in memory: a future for async callers, [`Self::wait`] for others. Dropping
/// it changes nothing.
#[must_use = "the change is not on the disk yet"]
#[derive(Debug)]
pub struct Saved(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct State {
    result: Option<Result<(), CommitError>>,
    waker: Option<Waker>,
}

impl Saved {
    /// With what the store is to tell.
    pub(crate) fn new() -> (Self, Arc<dyn OnCommit>) {
        let shared = Arc::new(Shared::default());
        (Self(shared.clone()), shared)
    }

    /// Nothing had to be written.
    pub(crate) fn already() -> Self {
        let (saved, told) = Self::new();
        told.committed(0, Ok(()));
        saved
    }

    /// Waits on this thread; not for a thread of an async runtime.
    pub fn wait(self) -> Result<(), CommitError> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            self.0.told.wait(&mut state);
        }
    }
}

impl OnCommit for Shared {
    fn committed(&self, _token: u64, result: Result<(), CommitError>) {
        let mut state = self.state.lock();
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        self.told.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Saved {
    type Output = Result<(), CommitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state.lock();
        if let Some(result) = state.result.take() {
            return Poll::Ready(result);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
