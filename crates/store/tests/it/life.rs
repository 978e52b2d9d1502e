//! One life of a store: carries out the steps of a history and remembers what was submitted.

use crate::harness::{Completions, Crashed, Listener, await_failing, is_failing, read};
use crate::history::Op;
use crate::model::{Effect, State};
use bytes::Bytes;
use millpond_model::Message;
use millpond_store::fs::FakeFs;
use millpond_store::{Batch, CommitError, OnCommit, QueueId, QueueLog, Store, StoreStatus};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, RngCore, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// A batch that was handed to the store; its place in the list is its token.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) effects: Vec<Effect>,
    /// Its completion is not told.
    pub(crate) quiet: bool,
}

pub(crate) struct Queue {
    pub(crate) id: u64,
    pub(crate) durable: bool,
    pub(crate) log: QueueLog,
    pub(crate) listener: Arc<Listener>,
    /// What the log should hand out: whatever was appended and not settled, durable or not.
    pub(crate) live: BTreeMap<u64, Bytes>,
    pub(crate) next_seq: u64,
    /// Settled in an earlier life. (What was settled in this one must not be settled again: it would be a matter
    /// of taste in which of the batches it is.)
    pub(crate) gone: BTreeSet<u64>,
}

/// A store at work.
pub(crate) struct Running {
    pub(crate) fs: FakeFs,
    pub(crate) store: Store,
    pub(crate) queues: Vec<Queue>,
    pub(crate) submitted: Vec<Submitted>,
    pub(crate) completions: Arc<Completions>,
    /// Batches begun and not yet committed.
    pub(crate) open: [Option<(Batch, Vec<Effect>)>; 2],
    pub(crate) may_be_full: bool,
    /// Numbers that are never used twice in a history.
    pub(crate) next_queue: u64,
    pub(crate) next_message: u64,
    /// Values as readers should see them when nothing is open; not kept up once a batch was refused.
    values: Option<State>,
}

impl Running {
    pub(crate) fn new(fs: FakeFs, store: Store, values: State, next_queue: u64, next_message: u64) -> Self {
        Self {
            fs,
            store,
            queues: Vec::new(),
            submitted: Vec::new(),
            completions: Arc::default(),
            open: [None, None],
            may_be_full: false,
            next_queue,
            next_message,
            values: Some(values),
        }
    }

    pub(crate) fn step(&mut self, op: &Op) -> Result<(), Crashed> {
        match op {
            Op::CreateQueue { durable } if self.queues.len() < 12 => {
                let id = self.next_queue;
                self.next_queue += 1;
                self.add_queue(id, *durable);
            }
            Op::CreateQueue { .. } => {}
            Op::DeleteQueue { queue, slot } => self.delete_queue(*queue, *slot),
            Op::Append { queues, slot, sizes, persistent } => self.append(queues, *slot, sizes, *persistent),
            Op::Settle { queue, slot, pick } => self.settle(*queue, *slot, *pick),
            Op::Put { slot, key, size } => {
                let mut value = format!("{}:", self.next_message).into_bytes();
                self.next_message += 1;
                value.resize(value.len() + size, b'v');
                let (batch, effects) = self.batch(*slot);
                let key = format!("key/{key}").into_bytes();
                batch.put(&key, &value);
                effects.push(Effect::Put(key, value));
            }
            Op::Delete { slot, key } => {
                let (batch, effects) = self.batch(*slot);
                let key = format!("key/{key}").into_bytes();
                batch.delete(&key);
                effects.push(Effect::Delete(key));
            }
            Op::Commit { slot, wait, quiet } => {
                self.commit(*slot, *quiet && !*wait);
                if *wait {
                    self.commit_all();
                    self.wait_last()?;
                }
            }
            Op::WaitAll => {
                self.commit_all();
                self.wait_last()?;
                self.check_values();
            }
            Op::Fetch { queue, bytes_max, pick } => self.fetch(*queue, *bytes_max, *pick)?,
            Op::Room(room) => self.fs.set_capacity_bytes(room.map(|room| self.fs.used_bytes() + room)),
        }
        if self.fs.is_stopped() { Err(Crashed) } else { Ok(()) }
    }

    pub(crate) fn add_queue(&mut self, id: u64, durable: bool) {
        let log = self.store.create_queue(QueueId(id), durable);
        self.adopt_queue(Queue {
            id,
            durable,
            listener: Listener::on(&log),
            log,
            live: BTreeMap::new(),
            next_seq: 0,
            gone: BTreeSet::new(),
        });
    }

    pub(crate) fn adopt_queue(&mut self, queue: Queue) {
        self.queues.push(queue);
    }

    fn batch(&mut self, slot: usize) -> (&mut Batch, &mut Vec<Effect>) {
        let (batch, effects) = self.open[slot].get_or_insert_with(|| (self.store.begin(), Vec::new()));
        (batch, effects)
    }

    fn delete_queue(&mut self, queue: usize, slot: usize) {
        if self.queues.len() < 2 {
            return;
        }
        let queue = self.queues.swap_remove(queue % self.queues.len());
        let (batch, effects) = self.batch(slot);
        queue.log.delete(batch);
        if queue.durable {
            effects.push(Effect::DeleteQueue(queue.id));
        }
    }

    fn append(&mut self, queues: &[usize], slot: usize, sizes: &[usize], persistent: bool) {
        if self.queues.is_empty() {
            return;
        }
        let mut messages = Vec::new();
        for size in sizes {
            let mut body = format!("message {}:", self.next_message).into_bytes();
            let mut fill = vec![0; *size];
            StdRng::seed_from_u64(self.next_message).fill_bytes(&mut fill);
            body.extend_from_slice(&fill);
            messages.push(Message::new(b"exchange", b"routing.key", b"", persistent, &body));
            self.next_message += 1;
        }
        let mut places: Vec<usize> = queues.iter().map(|queue| queue % self.queues.len()).collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            self.batch(slot);
            let (Some((batch, effects)), queue) = (&mut self.open[slot], &mut self.queues[place]) else {
                return;
            };
            let seqs = queue.log.append(batch, &mut messages.iter().cloned());
            assert!(seqs.start >= queue.next_seq, "queue {}: {} is given twice", queue.id, seqs.start);
            assert_eq!(seqs.end - seqs.start, messages.len() as u64);
            queue.next_seq = seqs.end;
            let records: Vec<_> = seqs.zip(messages.iter().map(|message| message.record().clone())).collect();
            queue.live.extend(records.iter().cloned());
            if queue.durable && persistent {
                effects.push(Effect::Append(queue.id, records));
            }
        }
    }

    fn settle(&mut self, queue: usize, slot: usize, pick: u64) {
        if self.queues.is_empty() {
            return;
        }
        let place = queue % self.queues.len();
        let seqs = choose(&mut StdRng::seed_from_u64(pick), &self.queues[place]);
        self.batch(slot);
        let (Some((batch, effects)), queue) = (&mut self.open[slot], &mut self.queues[place]) else { return };
        queue.log.settle(batch, &seqs);
        let mut settled = Vec::new();
        for seq in seqs.into_iter().flatten() {
            let record = queue.live.remove(&seq);
            // Bit 0 of a record: persistent. Others are settled in memory alone.
            if record.is_some_and(|record| record[0] & 1 == 1) {
                settled.push(seq..seq + 1);
            }
        }
        if queue.durable && !settled.is_empty() {
            effects.push(Effect::Settle(queue.id, settled));
        }
    }

    fn commit(&mut self, slot: usize, quiet: bool) {
        let Some((batch, effects)) = self.open[slot].take() else { return };
        assert_eq!(batch.is_empty(), effects.is_empty(), "{effects:?}");
        if batch.is_empty() {
            return;
        }
        if let Some(values) = &mut self.values {
            values.apply(&effects);
        }
        let token = self.submitted.len() as u64;
        // Whether the store has refused it would never be known.
        let quiet = quiet && !self.may_be_full;
        self.submitted.push(Submitted { effects, quiet });
        self.store.commit(batch, (!quiet).then(|| (self.completions.clone() as Arc<dyn OnCommit>, token)));
    }

    pub(crate) fn commit_all(&mut self) {
        self.commit(0, false);
        self.commit(1, false);
    }

    /// Waits for the last batch that tells (those before it are written then, too).
    pub(crate) fn wait_last(&mut self) -> Result<(), Crashed> {
        if let Some(last) = self.submitted.iter().rposition(|batch| !batch.quiet) {
            match self.completions.wait(last as u64) {
                Err(CommitError::Poisoned { .. }) => return Err(Crashed),
                Err(_) => self.values = None,
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn check_values(&mut self) {
        let refused = |token| matches!(self.completions.get(token), Some(Err(_)));
        if (0..self.submitted.len() as u64).any(refused) {
            self.values = None;
        }
        if let Some(expected) = &self.values {
            match self.store.values(b"key/") {
                Ok(values) => {
                    let values: Vec<(Vec<u8>, Vec<u8>)> =
                        values.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
                    let expected: Vec<_> = expected.values.clone().into_iter().collect();
                    // Batches after a failure are refused, which may not have been told yet.
                    assert!(
                        values == expected || is_failing(&self.store, &self.fs),
                        "values differ from what was put"
                    );
                }
                Err(error) => await_failing(&self.store, &self.fs, &error),
            }
        }
    }

    fn fetch(&mut self, queue: usize, bytes_max: usize, pick: u64) -> Result<(), Crashed> {
        self.commit_all();
        if self.queues.is_empty() {
            return Ok(());
        }
        let queue = &self.queues[queue % self.queues.len()];
        let mut rng = StdRng::seed_from_u64(pick);
        let start = rng.random_range(0..=queue.next_seq);
        let seqs = start..rng.random_range(start..=queue.next_seq);
        let fs = &self.fs;
        let poisoned = || fs.is_stopped() || matches!(self.store.status(), StoreStatus::Poisoned { .. });
        let found = read(&queue.log, &queue.listener, seqs.clone(), bytes_max, &poisoned)?;
        let expected: Vec<(u64, Bytes)> =
            queue.live.range(seqs.clone()).map(|(seq, record)| (*seq, record.clone())).collect();
        let numbers = |of: &[(u64, Bytes)]| of.iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
        assert_eq!(numbers(&found), numbers(&expected), "queue {}: fetch of {seqs:?}", queue.id);
        assert!(found == expected, "queue {}: fetch of {seqs:?} gives other content", queue.id);
        Ok(())
    }
}

/// Sequence numbers to settle: the oldest, one, some, some of them settled before.
fn choose(rng: &mut StdRng, queue: &Queue) -> Vec<Range<u64>> {
    let live: Vec<u64> = queue.live.keys().copied().collect();
    let mut chosen: Vec<u64> = match rng.random_range(0..4) {
        0 => live.iter().copied().take(rng.random_range(1..20)).collect(),
        1 => live.iter().copied().choose(rng).into_iter().collect(),
        2 => live.iter().copied().filter(|_| rng.random_bool(0.5)).collect(),
        _ => live.iter().chain(&queue.gone).copied().filter(|_| rng.random_bool(0.3)).collect(),
    };
    chosen.sort_unstable();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for seq in chosen {
        match ranges.last_mut() {
            Some(range) if range.end == seq => range.end = seq + 1,
            _ => ranges.push(seq..seq + 1),
        }
    }
    ranges
}
