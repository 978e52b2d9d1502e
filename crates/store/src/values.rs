//! Keyed values: a B-tree on disk, and over it what the log's window has changed.

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Values {
    overlay: Mutex<Overlay>,
}

/// Changes that are in the log only; `None` is a removal.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    changes: BTreeMap<Bytes, Option<Bytes>>,
}

impl Overlay {
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.changes.insert(Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
    }
}

impl Values {
    pub(crate) fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock()
    }

    pub(crate) fn with_prefix(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let overlay = self.overlay.lock();
        overlay
            .changes
            .range(Bytes::copy_from_slice(prefix)..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
            .collect()
    }
}
