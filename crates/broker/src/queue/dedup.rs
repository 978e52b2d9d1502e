//! Messages that came before: a queue that was asked to takes one of each id within a window of time.
//!
//! The ids are keyed values of the store, written in the batch that appends their message, so what was confirmed is
//! known again after a restart:
//!
//! ```text
//! d/ queue id u64, big-endian | id -> until when, milliseconds since 1970, u64, big-endian
//! ```

use crate::definition::DEDUP;
use hashbrown::HashMap;
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::RawValue;
use millpond_store::{Batch, QueueId, ReadValuesError, Store};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// What makes two messages the same, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DedupTerms {
    /// The header with the id; `None`: the message-id property.
    pub(crate) header: Option<Box<str>>,
    pub(crate) window_ms: u64,
    /// Ids remembered at most; beyond, the oldest is forgotten.
    pub(crate) ids_max: usize,
}

/// How long an id is remembered when the queue does not say.
pub(crate) const WINDOW_DEFAULT_MS: u64 = 300_000;
/// How many are when it does not say.
pub(crate) const IDS_DEFAULT_MAX: usize = 1_000_000;

#[derive(Debug)]
struct Entry {
    until_ms: u64,
    id: Arc<[u8]>,
    /// Of its message; `None` after a restart.
    seq: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Dedup {
    queue: QueueId,
    stored: bool,
    /// With the end of the time they are remembered.
    known: HashMap<Arc<[u8]>, u64, foldhash::fast::RandomState>,
    /// In the order they came.
    order: VecDeque<Entry>,
}

impl Dedup {
    pub(super) fn new(queue: QueueId, stored: bool) -> Self {
        Self { queue, stored, known: HashMap::default(), order: VecDeque::new() }
    }

    /// With what the store knows.
    pub(super) fn restore(queue: QueueId, store: &Store) -> Result<Self, ReadValuesError> {
        let mut this = Self::new(queue, true);
        let prefix = this.key(&[]);
        let mut entries: Vec<Entry> = Vec::new();
        for (key, value) in store.values(&prefix)? {
            // What was cut short is forgotten.
            let Ok(until_ms) = value[..].try_into().map(u64::from_be_bytes) else { continue };
            entries.push(Entry { until_ms, id: key[prefix.len()..].into(), seq: None });
        }
        entries.sort_by_key(|entry| entry.until_ms);
        this.known = entries.iter().map(|entry| (entry.id.clone(), entry.until_ms)).collect();
        this.order = entries.into();
        Ok(this)
    }

    fn key(&self, id: &[u8]) -> Vec<u8> {
        let mut key = DEDUP.to_vec();
        key.extend_from_slice(&self.queue.0.to_be_bytes());
        key.extend_from_slice(id);
        key
    }

    /// The id of a message, if it has one, and whether it is known already.
    pub(super) fn look(
        &self,
        terms: &DedupTerms,
        message: &Message,
        now_ms: u64,
    ) -> (Option<Arc<[u8]>>, bool) {
        let Some(id) = id_of(terms, message) else { return (None, false) };
        let known = self.known.get(&id[..]).is_some_and(|until_ms| *until_ms > now_ms);
        (Some(id), known)
    }

    /// A message with this id was appended.
    pub(super) fn note(
        &mut self,
        terms: &DedupTerms,
        id: Arc<[u8]>,
        seq: u64,
        now_ms: u64,
        batch: &mut Batch,
    ) {
        let until_ms = now_ms.saturating_add(terms.window_ms);
        if self.stored {
            batch.put(&self.key(&id), &until_ms.to_be_bytes());
        }
        self.known.insert(id.clone(), until_ms);
        self.order.push_back(Entry { until_ms, id, seq: Some(seq) });
        while self.order.len() > terms.ids_max
            || self.order.front().is_some_and(|first| first.until_ms <= now_ms)
        {
            let Some(first) = self.order.pop_front() else { break };
            self.forget(&first, batch);
        }
    }

    /// Messages were taken out again, because their commit failed: they may be published once more.
    pub(super) fn retract(&mut self, seqs: &Range<u64>, batch: &mut Batch) {
        let is_gone = |entry: &Entry| entry.seq.is_some_and(|seq| seqs.contains(&seq));
        let mut at = 0;
        while let Some(entry) = self.order.get(at) {
            if !is_gone(entry) {
                at += 1;
            } else if let Some(entry) = self.order.remove(at) {
                self.forget(&entry, batch);
            }
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self, batch: &mut Batch) {
        for entry in std::mem::take(&mut self.order) {
            self.forget(&entry, batch);
        }
    }

    fn forget(&mut self, entry: &Entry, batch: &mut Batch) {
        // The id may have come again since, and be known for longer.
        if self.known.get(&entry.id) == Some(&entry.until_ms) {
            self.known.remove(&entry.id);
            if self.stored {
                batch.delete(&self.key(&entry.id));
            }
        }
    }
}

fn id_of(terms: &DedupTerms, message: &Message) -> Option<Arc<[u8]>> {
    let properties = RawProperties::from_checked(message.properties());
    match &terms.header {
        None => properties.message_id().map(Arc::from),
        Some(name) => match properties.headers()?.get(name)? {
            RawValue::LongStr(text) => Some(text.into()),
            other => other.as_i64().map(|number| number.to_string().into_bytes().into()),
        },
    }
}
