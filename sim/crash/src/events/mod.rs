//! The engine under `kill -9`: events come in from a file and over HTTP, a rule calls somebody and publishes.
//!
//! Lines are appended to log files, which are rotated; events are posted with `POST /events`. One rule takes both: it
//! calls an HTTP server (`outside`), which sometimes says no, and publishes to a queue. Held against each other in
//! the end: every line and every event that was answered with 202 is in the queue exactly once, an event that was
//! never answered at most once, nothing is invented; every event in the queue was called for, always with the same
//! idempotency key, and never twice by the same process, for what it has seen done is on its record.

mod input;
mod outside;

use crate::broker::Broker;
use crate::{Arguments, PATIENCE, say};
use anyhow::{Context, Result, bail, ensure};
use futures_lite::StreamExt;
use input::Input;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use outside::Outside;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the rule publishes.
const OUT: &str = "out";

/// How long nothing may come in the end although something is missing.
const SILENCE: Duration = Duration::from_secs(20);

fn topology(folder: &Path, port: u16) -> String {
    format!(
        r#"
queues:
  {OUT}: {{}}
sources:
  lines:
    file: {{path: {folder}/in/app.log*, format: json, from: start}}
    poll: {{long: 5s}}
    type: line
rules:
  act:
    on: {{type: [line, posted]}}
    do:
      - http: {{endpoint: "http://127.0.0.1:{port}/call", body: '.data.n | tostring', timeout: 2s}}
      - publish: {{exchange: "", routing_key: {OUT}, body: '.data.n | tostring'}}
    retry: {{max_attempts: 1000, first: 20ms, factor: 1.5, max: 200ms}}
"#,
        folder = folder.display()
    )
}

/// Kills a broker whose engine is at work, again and again, and looks at what became of the events.
pub(crate) async fn run(arguments: &Arguments, seed: u64, folder: &Path) -> Result<()> {
    let outside = Outside::start(seed).await?;
    let file = folder.join("topology.yaml");
    std::fs::write(&file, topology(folder, outside.port())).context("the topology")?;
    let mut flags = arguments.serve_flags.clone();
    flags.push(format!("--topology={}", file.display()));
    let input = Input::new(folder)?;
    let mut dice = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    for round in 0..arguments.rounds {
        let mut broker = Broker::start(&arguments.broker, folder, &flags, PATIENCE).await?;
        outside.begin_life(round);
        let load = input.start(broker.http_port(), dice.random());
        tokio::time::sleep(Duration::from_millis(dice.random_range(5..=arguments.load_ms_max))).await;
        broker.kill().await?;
        load.stop().await?;
    }
    let mut broker = Broker::start(&arguments.broker, folder, &flags, PATIENCE).await?;
    outside.begin_life(arguments.rounds);
    let seen = drain(&broker.uri(), &input).await;
    broker.kill().await?;
    verify(&seen?, &input, &outside).with_context(|| format!("seed {seed}"))?;
    let (calls, repeated) = outside.counts();
    say(&format!(
        "{} lines, {} events posted, {} of them answered; {calls} calls, {repeated} repeated after a kill; {} kills \
         in {} s",
        input.lines(),
        input.posted(),
        input.answered(),
        arguments.rounds,
        started.elapsed().as_secs()
    ));
    ensure!(input.lines() > 0 && input.answered() > 0 && calls > 0, "something was not tried");
    say(&format!("{} passed, 0 failed", arguments.rounds));
    Ok(())
}

/// Takes what the rule published until all that must come has come, and nothing more comes for a while.
async fn drain(uri: &str, input: &Input) -> Result<BTreeMap<u64, u32>> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(OUT.into(), passive, FieldTable::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(OUT.into(), "drain".into(), options, FieldTable::default()).await?;
    let mut seen = BTreeMap::new();
    let mut missing: BTreeSet<u64> = input.required().collect();
    loop {
        let patience = if missing.is_empty() { Duration::from_secs(1) } else { SILENCE };
        let Ok(next) = tokio::time::timeout(patience, consumer.next()).await else {
            ensure!(
                missing.is_empty(),
                "{} events are lost, the first is {:?}",
                missing.len(),
                missing.first()
            );
            return Ok(seen);
        };
        let Some(delivery) = next else { bail!("the broker went away while it was drained") };
        let delivery = delivery?;
        let n = std::str::from_utf8(&delivery.data).ok().and_then(|text| text.parse().ok());
        let n: u64 = n.with_context(|| format!("not one of ours: {:?}", delivery.data))?;
        *seen.entry(n).or_default() += 1;
        missing.remove(&n);
        delivery.ack(BasicAckOptions::default()).await?;
    }
}

fn verify(seen: &BTreeMap<u64, u32>, input: &Input, outside: &Outside) -> Result<()> {
    for (n, times) in seen {
        ensure!(input.is_known(*n), "event {n} was invented");
        ensure!(*times == 1, "event {n} was published {times} times");
        ensure!(outside.was_called(*n), "event {n} was published and nobody was called for it");
    }
    outside.verify()
}
