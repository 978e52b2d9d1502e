//! Keyed values: a B-tree on disk, and over it what the log's window has changed.

use crate::db::{Db, VALUES};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Values {
    pub(crate) db: Arc<Db>,
    overlay: Mutex<Overlay>,
}

/// Changes that are not in the B-tree yet; `None` is a removal.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    changes: BTreeMap<Bytes, Change>,
    /// Counts snapshots.
    generation: u64,
}

#[derive(Debug, Clone)]
struct Change {
    value: Option<Bytes>,
    generation: u64,
}

/// Keys with their new value, or without one.
pub(crate) type Changes = Vec<(Bytes, Option<Bytes>)>;

impl Overlay {
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) {
        let change = Change { value: value.map(Bytes::copy_from_slice), generation: self.generation };
        self.changes.insert(Bytes::copy_from_slice(key), change);
    }

    /// All changes so far, and the number to forget them by once they are in the B-tree.
    pub(crate) fn snapshot(&mut self) -> (u64, Changes) {
        let generation = self.generation;
        self.generation += 1;
        (generation, self.changes.iter().map(|(key, change)| (key.clone(), change.value.clone())).collect())
    }

    /// Forgets the changes of a snapshot, but for keys changed again since.
    pub(crate) fn forget(&mut self, generation: u64) {
        self.changes.retain(|_, change| change.generation > generation);
    }
}

impl Values {
    pub(crate) fn new(db: Arc<Db>, overlay: Overlay) -> Self {
        Self { db, overlay: Mutex::new(overlay) }
    }

    pub(crate) fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock()
    }

    pub(crate) fn with_prefix(&self, prefix: &[u8]) -> io::Result<Vec<(Bytes, Bytes)>> {
        // The overlay first: what leaves it is in the B-tree by then.
        let overlay = self.overlay.lock();
        let mut values: BTreeMap<Bytes, Bytes> = self.db.read(|transaction| {
            let table = transaction.open_table(VALUES)?;
            let mut found = BTreeMap::new();
            for entry in table.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                found.insert(Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value()));
            }
            Ok(found)
        })?;
        let changed = overlay.changes.range(Bytes::copy_from_slice(prefix)..);
        for (key, change) in changed.take_while(|(key, _)| key.starts_with(prefix)) {
            match &change.value {
                Some(value) => values.insert(key.clone(), value.clone()),
                None => values.remove(key),
            };
        }
        Ok(values.into_iter().collect())
    }
}
