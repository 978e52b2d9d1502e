//! The ledger of effects: which actions of messages that are not done yet were done, and what came of them.
//!
//! A keyed value `ledger/RULE/QUEUE/SEQ/STEP` of the room `engine` an action: `{"key": .., "digest": .., "answer": ..}`. A
//! message is known by its place in its queue, which stays the same through restarts: ids of events may be equal. (QUEUE is a
//! hash of its name: a rule that remembers events works on several.) The value counts only while the idempotency key and what the file says of the action are the same.

use super::Held;
use crate::fingerprint::fingerprint;
use crate::plan::Place;
use crate::topology::{Rule, Trigger};
use crate::values::ROOM;
use millpond_broker::{Broker, ReadValuesError, ValueChange};
use millpond_model::QueueName;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Largest answer that is kept, as JSON. Bytes. A larger one is null for the actions behind, at once and later alike.
const ANSWER_MAX_BYTES: usize = 16 * 1024;

/// What was done for a message in an earlier life of the rule.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// By step.
    done: HashMap<Box<str>, Value>,
    /// The keys of all values, to be deleted with the ack.
    pub(super) keys: Vec<Box<[u8]>>,
}

impl Record {
    /// The answer of an action that is on record.
    pub(super) fn answer(&self, place: &Place) -> Option<Value> {
        let entry = self.done.get(&*place.step)?;
        let same = entry.get("key").and_then(Value::as_str) == Some(&place.key)
            && entry.get("digest").and_then(Value::as_u64) == Some(place.digest);
        same.then(|| entry.get("answer").cloned().unwrap_or_default())
    }
}

/// What is on record.
#[derive(Debug)]
pub(super) struct Ledger {
    broker: Broker,
    prefix: String,
    has_outside: bool,
    /// A stream tells nobody that a message comes again.
    is_of_stream: bool,
    /// Of messages that were under way when the rule started, by place in the queue.
    found: HashMap<u64, Record>,
}

impl Ledger {
    /// Reads what is on record of a rule.
    pub(super) fn open(broker: &Broker, rule: &Rule) -> Result<Self, String> {
        let (prefix, has_outside) = (prefix(rule), rule.has_outside());
        let is_of_stream = matches!(rule.on, Trigger::Stream(_));
        let found = HashMap::new();
        let mut it = Self { broker: broker.clone(), prefix, has_outside, is_of_stream, found };
        it.read(&format!("{}/", it.prefix)).map_err(|error| error.to_string())?;
        Ok(it)
    }

    fn read(&mut self, under: &str) -> Result<(), ReadValuesError> {
        for (key, value) in self.broker.values_under(ROOM, under.as_bytes())? {
            let rest = std::str::from_utf8(&key).ok().and_then(|key| key.strip_prefix(self.prefix.as_str()));
            let Some((seq, step)) = rest.and_then(|rest| rest.strip_prefix('/')?.split_once('/')) else {
                continue;
            };
            let Ok(seq) = u64::from_str_radix(seq, 16) else { continue };
            let record = self.found.entry(seq).or_default();
            // What cannot be read counts as not done: the action is done again, with the same key.
            if let Ok(entry) = serde_json::from_slice(&value) {
                record.done.insert(step.into(), entry);
            }
            record.keys.push((*key).into());
        }
        Ok(())
    }

    /// What is on record of a message.
    pub(super) fn take(&mut self, seq: u64, redelivered: bool) -> Record {
        if redelivered && self.has_outside {
            // Another version of the rule may have had it in hand meanwhile, and gone on.
            self.found.remove(&seq);
            let under = format!("{}/{seq:016x}/", self.prefix);
            if let Err(error) = self.read(&under) {
                tracing::error!(%error, "the ledger cannot be read: what is on record may be done again");
            }
        }
        let mut record = self.found.remove(&seq).unwrap_or_default();
        if !redelivered && !self.is_of_stream {
            // It comes for the first time: what is on record is of another queue of this name, which was deleted.
            record.done.clear();
        }
        record
    }
}

fn key_of(rule: &Rule, seq: u64, step: &str) -> Box<[u8]> {
    format!("{}/{seq:016x}/{step}", prefix(rule)).into_bytes().into()
}

/// The prefix of all keys.
pub(crate) const RECORDS_PREFIX: &str = "ledger/";

fn prefix(rule: &Rule) -> String {
    prefix_of(rule, &rule.queue())
}

fn prefix_of(rule: &Rule, queue: &QueueName) -> String {
    format!("{RECORDS_PREFIX}{}/{:016x}", rule.name, fingerprint(queue.as_str().as_bytes()))
}

/// What the keys begin with of all that is on record of a rule and a queue that it works on.
pub(crate) fn records_under(rule: &Rule, queue: &QueueName) -> String {
    prefix_of(rule, queue) + "/"
}

/// An answer as the actions behind it see it.
pub(super) fn bounded(answer: Value) -> Value {
    match &answer {
        Value::Null | Value::Bool(_) | Value::Number(_) => answer,
        _ if answer.to_string().len() > ANSWER_MAX_BYTES => Value::Null,
        _ => answer,
    }
}

/// The value that says that an action was done.
pub(super) fn entry(rule: &Rule, held: &Held, place: &Place, answer: &Value) -> ValueChange {
    let value = json!({"key": place.key, "digest": place.digest, "answer": answer});
    ValueChange {
        room: ROOM,
        key: key_of(rule, held.id.seq, &place.step),
        value: Some(value.to_string().into_bytes().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::check;
    use millpond_broker::{BrokerOptions, Clock};
    use millpond_store::{Store, StoreOptions};

    /// The ledger of a version is read when it begins; the one before it goes on to write there.
    #[tokio::test]
    async fn what_another_version_did_meanwhile_is_known_when_its_message_comes_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, recovery) = Store::open(StoreOptions::new(dir.path())).unwrap();
        let options = BrokerOptions {
            message_size_max_bytes: 1 << 20,
            consumers_max_per_session: 100,
            sessions_max: 100,
            inbox_max_bytes: 1 << 20,
            default_user: millpond_model::UserName::new("guest").unwrap(),
            default_password: "guest".into(),
            default_user_loopback_only: true,
            statistics_interval_ms: 5000,
            clock: Clock::system(),
            audit: Default::default(),
        };
        let broker = Broker::open(store, recovery, options).unwrap();
        let file = "queues: {q: {}}\nrules: {r: {on: {queue: q}, do: [file: {path: f}, file: {path: g}]}}";
        let topology = check("test.yaml", file).unwrap();
        let rule = topology.rule("r").unwrap();
        let done = async |seq, step| {
            crate::values::put(&broker, &key_of(rule, seq, step), Some(b"{}")).await.unwrap();
        };
        done(7, "0").await;
        done(8, "0").await;
        let mut ledger = Ledger::open(&broker, rule).unwrap();
        done(7, "1").await;
        let again = ledger.take(7, true);
        assert_eq!((again.done.len(), again.keys.len()), (2, 2));
        let other = ledger.take(8, false);
        assert_eq!((other.done.len(), other.keys.len()), (0, 1), "of a queue that is not there any more");
    }
}
