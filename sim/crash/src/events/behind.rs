//! What came out behind the rules, held against what went in.

use super::input::Input;
use super::outside::Outside;
use super::tables::{IN_ORDER, LITE, POSTGRES, Tables, Written};
use super::topology::{DRAINED, OUT, PAIRS, PROGRAM, QUEUES, ROWS, SEVEN, SEVENTHS, SUMS};
use anyhow::{Context, Result, bail, ensure};
use futures_lite::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long nothing may come in the end although something is missing.
const SILENCE: Duration = Duration::from_secs(20);

/// How long nothing more may come when all is there: longer than any memory waits.
const REST: Duration = Duration::from_millis(1500);

/// Deliveries on their way to the one who counts.
const IN_HAND: usize = 1000;

/// The bodies in each queue, in their order.
#[derive(Debug, Default)]
pub(super) struct Behind(BTreeMap<&'static str, Vec<Value>>);

/// Events of each key of a memory: source and key of the row.
type Keys = BTreeMap<String, u64>;

/// What must come.
pub(super) struct Required<'a> {
    pub(super) input: &'a Input,
    pub(super) written: &'a Written,
    pub(super) postgres: bool,
}

impl Required<'_> {
    /// Each row's source and number, by key.
    fn rows(&self) -> BTreeMap<(&'static str, u64), u64> {
        let lite = LITE.iter().flat_map(|source| self.written.lite.iter().map(|(n, k)| ((*source, *n), *k)));
        let postgres =
            POSTGRES.iter().flat_map(|source| self.written.postgres.iter().map(|(n, k)| ((*source, *n), *k)));
        lite.chain(postgres.filter(|_| self.postgres)).collect()
    }

    fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        for ((source, _), k) in self.rows() {
            *keys.entry(format!("{source} {k}")).or_default() += 1;
        }
        keys
    }

    /// How much is awaited in each queue: messages, or what they sum up to.
    fn amounts(&self) -> BTreeMap<&'static str, u64> {
        let keys = self.keys();
        let events = keys.values().sum();
        let sevenths = keys.values().map(|count| count / SEVEN).sum();
        let out = self.input.required().count() as u64;
        let pairs = self.written.lite.len() as u64;
        [(OUT, out), (ROWS, events), (SUMS, events), (SEVENTHS, sevenths), (PAIRS, pairs)].into()
    }
}

impl Behind {
    /// Takes what the rules published until all that must come has come, and nothing more comes for a while.
    pub(super) async fn drain(uri: &str, required: &Required<'_>) -> Result<Self> {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
        let (sender, mut deliveries) = mpsc::channel(IN_HAND);
        for queue in QUEUES {
            let channel = connection.create_channel().await?;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
            let options = BasicConsumeOptions::default();
            let mut consumer =
                channel.basic_consume(queue.into(), queue.into(), options, FieldTable::default()).await?;
            let sender = sender.clone();
            tokio::spawn(async move {
                // The channel lives as long as its consumer.
                let _channel = channel;
                while let Some(delivery) = consumer.next().await {
                    if sender.send((queue, delivery)).await.is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut behind = Self::default();
        let mut wanted = required.amounts();
        let mut out: BTreeSet<u64> = required.input.required().collect();
        let mut begun = Instant::now();
        loop {
            let complete = out.is_empty() && wanted.iter().all(|(queue, left)| *queue == OUT || *left == 0);
            let patience = if complete { REST } else { SILENCE };
            let Ok(next) = tokio::time::timeout(patience, deliveries.recv()).await else {
                ensure!(complete, "nothing comes any more; still awaited: {wanted:?}, events {out:?}");
                return Ok(behind);
            };
            let Some((queue, delivery)) = next else { bail!("the broker went away while it was drained") };
            let delivery = delivery?;
            let body: Value = serde_json::from_slice(&delivery.data)
                .with_context(|| format!("not one of ours: {:?}", delivery.data))?;
            delivery.ack(BasicAckOptions::default()).await?;
            if let Some(left) = wanted.get_mut(queue) {
                *left = left.saturating_sub(if queue == SUMS { number(&body, "count")? } else { 1 });
            }
            if queue == OUT {
                out.remove(&body.as_u64().context("a number")?);
            }
            behind.0.entry(queue).or_default().push(body);
            if begun.elapsed() > SILENCE {
                begun = Instant::now();
                crate::say(&format!("draining; still awaited: {wanted:?}"));
            }
        }
    }

    fn of(&self, queue: &str) -> &[Value] {
        self.0.get(queue).map_or(&[], Vec::as_slice)
    }

    /// Holds everything against everything.
    pub(super) fn verify(
        &self,
        required: &Required<'_>,
        outside: &Outside,
        tables: &Tables,
        folder: &Path,
    ) -> Result<Counts> {
        self.verify_calls(required.input, outside)?;
        self.verify_rows(required)?;
        self.verify_memory(required)?;
        let effects = verify_effects(required, tables)?;
        let runs = verify_runs(required, folder)?;
        Ok(Counts { rows: self.of(ROWS).len(), pairs: self.of(PAIRS).len(), effects, runs })
    }

    fn verify_calls(&self, input: &Input, outside: &Outside) -> Result<()> {
        for queue in [OUT, DRAINED] {
            let mut seen = BTreeSet::new();
            for body in self.of(queue) {
                let n = body.as_u64().context("a number")?;
                ensure!(input.is_known(n), "{queue}: event {n} was invented");
                ensure!(seen.insert(n), "{queue}: event {n} was published twice");
                ensure!(
                    queue != OUT || outside.was_called(n),
                    "event {n} was published, nobody called for it"
                );
            }
        }
        outside.verify()
    }

    /// Every row is there once from every source, and in order where a source promises one.
    fn verify_rows(&self, required: &Required<'_>) -> Result<()> {
        let known = required.rows();
        let mut seen = BTreeSet::new();
        let mut last = BTreeMap::new();
        for body in self.of(ROWS) {
            let (source, n) = (text(body, "source")?, number(body, "n")?);
            let source = LITE.iter().chain(&POSTGRES).find(|name| **name == source);
            let source = source.with_context(|| format!("a source of that name: {body}"))?;
            let k = known.get(&(*source, n)).with_context(|| format!("row {n} of {source} was invented"))?;
            ensure!(seen.insert((*source, n)), "row {n} of {source} was published twice");
            ensure!(number(body, "k")? == *k, "row {n} of {source} has another key: {body}");
            if IN_ORDER.contains(source) {
                let id = number(body, "id")?;
                let before = last.insert((*source, *k), id).unwrap_or_default();
                ensure!(before < id, "{source}, key {k}: row {id} comes behind row {before}");
            }
        }
        ensure!(seen.len() == known.len(), "{} of {} rows are lost", known.len() - seen.len(), known.len());
        Ok(())
    }

    /// Every event was counted exactly once in every memory.
    fn verify_memory(&self, required: &Required<'_>) -> Result<()> {
        let keys = required.keys();
        let mut sums = Keys::new();
        for body in self.of(SUMS) {
            *sums.entry(text(body, "key")?.to_owned()).or_default() += number(body, "count")?;
        }
        ensure!(sums == keys, "debounce: counted {sums:?}, came {keys:?}");
        let mut sevenths = Keys::new();
        for body in self.of(SEVENTHS) {
            ensure!(number(body, "count")? == SEVEN, "count: acted on {body}");
            *sevenths.entry(text(body, "key")?.to_owned()).or_default() += 1;
        }
        for (key, count) in &keys {
            let acted = sevenths.remove(key).unwrap_or_default();
            ensure!(acted == count / SEVEN, "count: {key}: {count} events, acted {acted} times");
        }
        ensure!(sevenths.is_empty(), "count: keys were invented: {sevenths:?}");
        let mut pairs = BTreeSet::new();
        for body in self.of(PAIRS) {
            let both: Vec<u64> = serde_json::from_value(body.clone()).context("a pair")?;
            ensure!(both.len() == 2 && both[0] == both[1], "all_of: brought together {body}");
            ensure!(pairs.insert(both[0]), "all_of: {} came together twice", both[0]);
        }
        ensure!(
            pairs.len() == required.written.lite.len(),
            "all_of: {} pairs are lost",
            required.written.lite.len() - pairs.len()
        );
        Ok(())
    }
}

/// What there was to see.
pub(super) struct Counts {
    pub(super) rows: usize,
    pub(super) pairs: usize,
    /// Statements and programs: all, and those that were repeated.
    pub(super) effects: (usize, usize),
    pub(super) runs: (usize, usize),
}

/// Each statement that had to be done was, and again only by another process and with the same key.
fn verify_effects(required: &Required<'_>, tables: &Tables) -> Result<(usize, usize)> {
    let mut done: BTreeMap<String, (String, u32)> = BTreeMap::new();
    let effects = tables.effects()?;
    let all = effects.len();
    for (key, event, life) in effects {
        if let Some((before, lived)) = done.insert(event.clone(), (key.clone(), life)) {
            ensure!(before == key, "event {event}: done with key '{before}', then '{key}'");
            ensure!(lived != life, "event {event}: done twice by one process (life {life})");
        }
    }
    let expected = required.rows().keys().filter(|(_, n)| n % 4 == 0).count();
    ensure!(done.len() == expected, "{} statements for {expected} events", done.len());
    Ok((all, all - done.len()))
}

/// The programs that ran count every event once, if each key of idempotency counts once.
fn verify_runs(required: &Required<'_>, folder: &Path) -> Result<(usize, usize)> {
    let log =
        std::fs::read_to_string(folder.join(format!("{PROGRAM}.log"))).context("what programs wrote")?;
    let mut runs: BTreeMap<&str, &str> = BTreeMap::new();
    for line in log.lines() {
        let (key, told) = line.split_once('\t').context("a line of a program")?;
        if let Some(before) = runs.insert(key, told) {
            ensure!(before == told, "key {key}: run with '{before}', then with '{told}'");
        }
    }
    let mut sums = Keys::new();
    for told in runs.values() {
        let (count, key) = told.split_once(' ').context("count and key")?;
        *sums.entry(key.to_owned()).or_default() += count.parse::<u64>()?;
    }
    ensure!(sums == required.keys(), "programs counted {sums:?}, came {:?}", required.keys());
    let all = log.lines().count();
    Ok((all, all - runs.len()))
}

fn number(body: &Value, field: &str) -> Result<u64> {
    body.get(field).and_then(Value::as_u64).with_context(|| format!("no number '{field}' in {body}"))
}

fn text<'a>(body: &'a Value, field: &str) -> Result<&'a str> {
    body.get(field).and_then(Value::as_str).with_context(|| format!("no text '{field}' in {body}"))
}
