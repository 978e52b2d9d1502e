//! The queues a session has dealings with, by the small number that its deliveries carry.

use crate::queue::QueueCell;
use crate::queue::machine::OwnerKey;
use crate::request::QueueRef;
use hashbrown::HashMap;
use std::sync::Arc;

/// Below so many entries nobody looks for deleted queues.
const SWEEP_MIN: usize = 64;

/// Numbers ascend and are not used twice, so that a late ack of a deleted queue never meets another queue.
#[derive(Debug, Default)]
pub(crate) struct QueueTable {
    /// Ascending by number.
    entries: Vec<(QueueRef, Arc<QueueCell>)>,
    /// Consumers of streams, in the same way.
    readers: Vec<(QueueRef, Arc<QueueCell>)>,
    numbers: HashMap<u64, QueueRef>,
    next: u32,
    /// How many entries make it worth looking for deleted queues.
    sweep_at: usize,
}

impl QueueTable {
    /// The number of a queue; new ones get one.
    pub(crate) fn number(&mut self, cell: &Arc<QueueCell>) -> QueueRef {
        let id = cell.spec().id.0;
        if let Some(number) = self.numbers.get(&id) {
            return *number;
        }
        if self.entries.len() >= self.sweep_at {
            self.sweep();
        }
        let number = QueueRef(self.next);
        self.next += 1;
        self.entries.push((number, cell.clone()));
        self.numbers.insert(id, number);
        number
    }

    /// A number for a new consumer of a stream; those that have nothing left to settle are forgotten.
    pub(crate) fn reader_number(&mut self, stream: &Arc<QueueCell>, owner: OwnerKey) -> QueueRef {
        self.readers.retain(|(number, cell)| {
            let room = cell.stream().filter(|_| !cell.is_deleted());
            room.is_some_and(|room| room.has_reader(owner, *number))
        });
        let number = QueueRef::of_stream(self.next);
        self.next += 1;
        self.readers.push((number, stream.clone()));
        number
    }

    pub(crate) fn get(&self, number: QueueRef) -> Option<&Arc<QueueCell>> {
        let entries = if number.is_stream() { &self.readers } else { &self.entries };
        let at = entries.binary_search_by_key(&number, |entry| entry.0).ok()?;
        Some(&entries[at].1)
    }

    /// Takes all queues out.
    pub(crate) fn take(&mut self) -> Vec<Arc<QueueCell>> {
        self.numbers.clear();
        self.entries.drain(..).chain(self.readers.drain(..)).map(|entry| entry.1).collect()
    }

    fn sweep(&mut self) {
        let numbers = &mut self.numbers;
        self.entries.retain(|(_, cell)| {
            let deleted = cell.is_deleted();
            if deleted {
                numbers.remove(&cell.spec().id.0);
            }
            !deleted
        });
        self.sweep_at = (self.entries.len() * 2).max(SWEEP_MIN);
    }
}
