//! Kills a real broker with -9 under load, restarts it on the same directory, and holds what came out against what
//! went in.
//!
//! Producers (stock client, confirms) publish numbered messages: single ones to one queue, fan-outs to three,
//! transactions over two, and some into a queue from which a rule publishes them to two others. Consumers ack, some
//! messages they requeue. The ledger (`ledger.rs`) outlives every round and knows the promises: a confirmed message comes
//! at least once (lost = 0), a second coming is flagged `redelivered`, a transaction is there in whole or not at all,
//! nothing is invented, a producer's order holds, by priority where a queue has priorities. A rule's ack and publishes
//! are one commit: each message is behind the rule exactly once, in both queues. So is a death: what is rejected or
//! expires is in its queue or in the one for dead messages, never in both and never in neither. What waits for its time
//! comes once; what a queue takes once by its id is there once, although its publisher repeats ids after each kill; what
//! was acked where that is remembered is in the queue or among those remembered; a stream keeps every confirmed message
//! in order, at an offset that never changes.
//!
//! `--engine` does the same to the engine (`events`).

mod broker;
mod events;
mod ledger;
mod load;
mod stream;

use anyhow::{Context, Result, ensure};
use broker::Broker;
use clap::Parser;
use ledger::{KEPT, Ledger, QUEUES};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a broker may take to listen again, and a queue to be drained at the end.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(about = "Kill a broker with -9 under load and look for lost messages")]
struct Arguments {
    /// How many times to kill it.
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// The binary.
    #[arg(long, default_value = "target/release/millpond")]
    broker: PathBuf,
    /// Decides moments and mixes; printed at the start.
    #[arg(long)]
    seed: Option<u64>,
    /// Longest time under load before a kill.
    #[arg(long, default_value_t = 700)]
    load_ms_max: u64,
    /// Load the engine instead of the queues: events, a rule, calls to the outside.
    #[arg(long)]
    engine: bool,
    /// With `--engine`: events from a PostgreSQL server too, which is started for the purpose.
    #[arg(long, requires = "engine")]
    postgres: bool,
    /// More flags for `serve`, such as `--sync=os`.
    #[arg(long = "serve-flag")]
    serve_flags: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| rand::rng().random());
    say(&format!("seed {seed}, {} rounds", arguments.rounds));
    let folder = tempfile::tempdir().context("a data directory")?;
    let ledger = Arc::new(Ledger::default());
    let verdict = match arguments.engine {
        true => events::run(&arguments, seed, folder.path()).await,
        false => run(&arguments, seed, folder.path(), &ledger).await,
    };
    if verdict.is_err() {
        let kept = folder.keep();
        say(&format!("the data directory is kept: {}", kept.display()));
    }
    verdict
}

async fn run(arguments: &Arguments, seed: u64, folder: &std::path::Path, ledger: &Arc<Ledger>) -> Result<()> {
    let topology = folder.join("topology.yaml");
    std::fs::write(&topology, load::TOPOLOGY).context("the rule's file")?;
    let mut flags = arguments.serve_flags.clone();
    flags.push(format!("--topology={}", topology.display()));
    let mut dice = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    for round in 0..arguments.rounds {
        let mut broker = Broker::start(&arguments.broker, folder, &flags, PATIENCE).await?;
        let load = load::start(&broker.uri(), round, dice.random(), ledger).await?;
        tokio::time::sleep(Duration::from_millis(dice.random_range(5..=arguments.load_ms_max))).await;
        broker.kill().await?;
        load.wait().await;
        ledger.end_round();
        ledger.verify_so_far().with_context(|| format!("round {round}, seed {seed}"))?;
    }
    let mut broker = Broker::start(&arguments.broker, folder, &flags, PATIENCE).await?;
    // Who is let in finds all of the broker at work.
    load::declare(&broker.uri()).await?;
    broker.replay(QUEUES[KEPT], QUEUES[KEPT + 1]).await.context("what was acked comes again")?;
    load::drain(&broker.uri(), ledger, PATIENCE).await?;
    broker.kill().await?;
    let report = ledger.verify_all().with_context(|| format!("after the last round, seed {seed}"))?;
    ensure!(report.confirmed > 0, "nothing was confirmed: the load did not reach the broker");
    ensure!(report.dead > 0, "no message died: dead-lettering was not tried");
    ensure!(report.special.iter().all(|count| *count > 0), "something was not tried: {report}");
    say(&format!("{report}; {} kills in {} s", arguments.rounds, started.elapsed().as_secs()));
    say(&format!("{} passed, 0 failed", arguments.rounds));
    Ok(())
}

/// A line for the person who runs it.
#[expect(clippy::print_stdout, reason = "a tool's output is its purpose")]
fn say(line: &str) {
    println!("crash: {line}");
}
