//! What the store should hold: the effects of a run of batches, in the order in which they were submitted.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One thing that a batch does.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// Records of persistent messages by sequence number, in a durable queue.
    Append(u64, Vec<(u64, Bytes)>),
    Settle(u64, Vec<Range<u64>>),
    DeleteQueue(u64),
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// The store was opened again: numbers that were only ever in memory may be given to others.
    Restart,
}

impl Effect {
    /// What it does to one message, in words.
    pub(crate) fn concerns(&self, queue: u64, seq: u64) -> Option<&'static str> {
        match self {
            Effect::Append(id, messages) if *id == queue => {
                messages.iter().any(|(at, _)| *at == seq).then_some("append")
            }
            Effect::Settle(id, ranges) if *id == queue => {
                ranges.iter().any(|range| range.contains(&seq)).then_some("settle")
            }
            Effect::DeleteQueue(id) if *id == queue => Some("delete of the queue"),
            _ => None,
        }
    }
}

/// A queue as the log should have it.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueueState {
    pub(crate) live: BTreeMap<u64, Bytes>,
    /// Settled before they were appended: batches may reach the log in either order.
    settled: BTreeSet<u64>,
    /// No sequence number below may be given again.
    pub(crate) next_seq: u64,
}

/// What a full store has refused: it is in memory all the same, so a checkpoint may or may not have kept it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doubt {
    /// Messages that were appended (with their record) or settled, by queue.
    messages: BTreeMap<u64, BTreeMap<u64, Option<Bytes>>>,
    keys: BTreeSet<Vec<u8>>,
    deleted: BTreeSet<u64>,
}

impl Doubt {
    pub(crate) fn add(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Append(id, messages) => {
                    let records = messages.iter().map(|(seq, record)| (*seq, Some(record.clone())));
                    self.messages.entry(*id).or_default().extend(records);
                }
                Effect::Settle(id, ranges) => {
                    let messages = self.messages.entry(*id).or_default();
                    for seq in ranges.iter().cloned().flatten() {
                        messages.entry(seq).or_default();
                    }
                }
                Effect::DeleteQueue(id) => {
                    self.deleted.insert(*id);
                }
                Effect::Put(key, _) | Effect::Delete(key) => {
                    self.keys.insert(key.clone());
                }
                Effect::Restart => {}
            }
        }
    }
}

/// Everything durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) queues: BTreeMap<u64, QueueState>,
    pub(crate) values: BTreeMap<Vec<u8>, Vec<u8>>,
    deleted: BTreeSet<u64>,
}

impl State {
    pub(crate) fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Append(id, messages) if !self.deleted.contains(id) => {
                    let queue = self.queues.entry(*id).or_default();
                    for (seq, record) in messages {
                        queue.next_seq = queue.next_seq.max(seq + 1);
                        if !queue.settled.remove(seq) {
                            queue.live.insert(*seq, record.clone());
                        }
                    }
                }
                Effect::Settle(id, ranges) if !self.deleted.contains(id) => {
                    if let Some(queue) = self.queues.get_mut(id) {
                        for seq in ranges.iter().cloned().flatten() {
                            if queue.live.remove(&seq).is_none() {
                                queue.settled.insert(seq);
                            }
                        }
                    } else {
                        let queue = self.queues.entry(*id).or_default();
                        queue.settled.extend(ranges.iter().cloned().flatten());
                    }
                }
                Effect::Append(..) | Effect::Settle(..) => {}
                Effect::DeleteQueue(id) => {
                    self.queues.remove(id);
                    self.deleted.insert(*id);
                }
                Effect::Put(key, value) => {
                    self.values.insert(key.clone(), value.clone());
                }
                Effect::Delete(key) => {
                    self.values.remove(key);
                }
                Effect::Restart => self.queues.values_mut().for_each(|queue| queue.settled.clear()),
            }
        }
    }

    /// Messages that are here and not there, or the other way round, by queue and number.
    pub(crate) fn differing(&self, found: &Found) -> BTreeSet<(u64, u64)> {
        let here = self.queues.iter().flat_map(|(id, queue)| queue.live.keys().map(|seq| (*id, *seq)));
        let there = found.queues.iter().flat_map(|(id, queue)| queue.live.keys().map(|seq| (*id, *seq)));
        let (here, there): (BTreeSet<_>, BTreeSet<_>) = (here.collect(), there.collect());
        here.symmetric_difference(&there).copied().collect()
    }

    /// Where there is doubt, believes what was found (but for the content of messages).
    pub(crate) fn believe(&mut self, doubt: &Doubt, found: &Found) {
        for (id, messages) in &doubt.messages {
            let found = found.queues.get(id);
            for (seq, appended) in messages {
                // A settlement that was refused is done in memory: it cannot be made up for by another.
                match (found.and_then(|queue| queue.live.get(seq)), self.queues.get_mut(id)) {
                    (Some(there), _) => {
                        let record = appended.as_ref().unwrap_or(there).clone();
                        self.queues.entry(*id).or_default().live.entry(*seq).or_insert(record);
                    }
                    (None, Some(queue)) => drop(queue.live.remove(seq)),
                    (None, None) => {}
                }
            }
        }
        for key in &doubt.keys {
            match found.values.get(key) {
                Some(value) => self.values.insert(key.clone(), value.clone()),
                None => self.values.remove(key),
            };
        }
        for id in doubt.deleted.iter().filter(|id| !found.queues.contains_key(id)) {
            self.queues.remove(id);
            self.deleted.insert(*id);
        }
    }

    /// What differs between this and what was found, in words, each queue for itself; empty if nothing does.
    pub(crate) fn differences(&self, found: &Found) -> Vec<String> {
        let mut words = Vec::new();
        if self.values != found.values {
            words.push(values_in_words(&self.values, &found.values));
        }
        for (id, queue) in &found.queues {
            let known = self.queues.contains_key(id);
            if self.deleted.contains(id) || !known && !queue.live.is_empty() {
                words.push(format!("queue {id} should not be there; it has {:?}", queue.live.keys()));
            }
        }
        for (id, queue) in &self.queues {
            words.extend(queue.difference(found.queues.get(id)).map(|what| format!("queue {id}: {what}")));
        }
        words
    }
}

impl QueueState {
    fn difference(&self, found: Option<&FoundQueue>) -> Option<String> {
        let Some(found) = found else {
            return (self.next_seq > 0).then(|| format!("missing; next sequence was {}", self.next_seq));
        };
        let lost: Vec<u64> = self.live.keys().filter(|seq| !found.live.contains_key(seq)).copied().collect();
        let extra: Vec<u64> = found.live.keys().filter(|seq| !self.live.contains_key(seq)).copied().collect();
        if !lost.is_empty() || !extra.is_empty() {
            return Some(format!("lost {lost:?}, not expected {extra:?}"));
        }
        if let Some((seq, _)) = self.live.iter().find(|(seq, record)| found.live[seq] != **record) {
            return Some(format!("message {seq} has other content"));
        }
        (found.next_seq < self.next_seq)
            .then(|| format!("next sequence is {}, but {} was used", found.next_seq, self.next_seq - 1))
    }
}

/// A queue as it was found after a restart.
#[derive(Debug, Clone, Default)]
pub(crate) struct FoundQueue {
    pub(crate) live: BTreeMap<u64, Bytes>,
    pub(crate) next_seq: u64,
}

/// Everything that was found after a restart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) queues: BTreeMap<u64, FoundQueue>,
    pub(crate) values: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn values_in_words(expected: &BTreeMap<Vec<u8>, Vec<u8>>, found: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let short = |value: Option<&Vec<u8>>| {
        value.map_or("none".into(), |v| String::from_utf8_lossy(&v[..v.len().min(8)]).into_owned())
    };
    let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let differing = keys.into_iter().filter(|key| expected.get(*key) != found.get(*key)).map(|key| {
        let key_in_words = String::from_utf8_lossy(key);
        format!("{key_in_words} is {}, not {}", short(found.get(key)), short(expected.get(key)))
    });
    differing.collect::<Vec<_>>().join(", ")
}
