//! Whether the store takes writes; changes are logged once each.

use crate::error::{CommitError, StoreStatus};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Acquire, Ordering::Release};

const WRITABLE: u8 = 0;
const FULL: u8 = 1;
const POISONED: u8 = 2;

#[derive(Debug)]
pub(crate) struct Status {
    dir: PathBuf,
    state: AtomicU8,
    cause: Mutex<Option<Arc<str>>>,
}

impl Status {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, state: AtomicU8::new(WRITABLE), cause: Mutex::new(None) }
    }

    pub(crate) fn get(&self) -> StoreStatus {
        match self.state.load(Acquire) {
            WRITABLE => StoreStatus::Writable,
            FULL => StoreStatus::Full,
            _ => StoreStatus::Poisoned { cause: self.cause() },
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.state.load(Acquire) == FULL
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.state.load(Acquire) == POISONED
    }

    fn cause(&self) -> Arc<str> {
        self.cause.lock().clone().unwrap_or_else(|| "unknown".into())
    }

    /// Why a batch cannot be taken while the status is what it is.
    pub(crate) fn refusal(&self) -> CommitError {
        if self.is_poisoned() {
            CommitError::Poisoned { cause: self.cause() }
        } else {
            CommitError::OutOfSpace { dir: self.dir.clone() }
        }
    }

    pub(crate) fn set_full(&self, doing: &str, error: &dyn std::fmt::Display) {
        let _cause = self.cause.lock();
        if self.state.load(Acquire) == WRITABLE {
            self.state.store(FULL, Release);
            tracing::error!(
                "no space left in {}: cannot {doing}: {error}; publishes are refused until there is room",
                self.dir.display()
            );
        }
    }

    pub(crate) fn set_writable(&self) {
        let _cause = self.cause.lock();
        if self.state.load(Acquire) == FULL {
            self.state.store(WRITABLE, Release);
            tracing::info!("there is room in {} again: publishes are taken", self.dir.display());
        }
    }

    pub(crate) fn poison(&self, doing: &str, error: &dyn std::fmt::Display) {
        let mut cause = self.cause.lock();
        if self.state.load(Acquire) != POISONED {
            let text = format!("cannot {doing}: {error}");
            tracing::error!(
                "the store in {} is poisoned: {text}; nothing is confirmed any more",
                self.dir.display()
            );
            *cause = Some(text.into());
            self.state.store(POISONED, Release);
        }
    }
}
