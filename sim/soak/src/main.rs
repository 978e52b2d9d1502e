//! Hours of mixed load and unrest on a real broker: nothing that was confirmed is lost, no queue is stuck, and what
//! the process takes of the machine stays flat.
//!
//! In the first sixth the broker is ended and started again a few times, by asking and by kill -9. Then one process
//! works on to the end, and its memory, threads, open files and data directory are compared window by window with the
//! first one after a warm-up. At the end it is killed under load, started again, and drained: what was confirmed must
//! have come. Beside the counted load (`lanes.rs`: one queue for each feature) there is unrest (`unrest.rs`).

mod broker;
mod consumer;
mod figures;
mod lanes;
mod ledger;
mod publisher;
mod unrest;
mod world;

use anyhow::{Context, Result, bail, ensure};
use broker::{Broker, Place};
use clap::Parser;
use consumer::{Consumer, Reader};
use figures::{Sample, Tolerance};
use lanes::{Habit, LANES, Publish};
use ledger::Ledger;
use publisher::Publisher;
use rand::Rng;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use unrest::Unrest;
use world::{Phase, World};

/// How long the queues may take to be drained at the end.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long clients go on before the broker is ended, in which their errors are excused already.
const NOTICE: Duration = Duration::from_millis(50);

#[derive(Debug, Parser)]
#[command(about = "Mixed load and unrest on a broker: nothing lost, nothing stuck, memory flat")]
struct Arguments {
    /// How long, draining left out.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Messages a second, all publishers together.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// The binary.
    #[arg(long, default_value = "target/release/millpond")]
    broker: PathBuf,
    /// Decides what happens by chance; printed at the start.
    #[arg(long)]
    seed: Option<u64>,
    /// More flags for `serve`, such as `--sync=os`.
    #[arg(long = "serve-flag")]
    serve_flags: Vec<String>,
    /// By which part a later window's median may be above the first one's. Default: 0.15 for ten minutes and more,
    /// 0.5 for less, when the warm-up is short.
    #[arg(long)]
    tolerance: Option<f64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| rand::rng().random());
    say(&format!("seed {seed}, {} minutes at {} messages/s", arguments.minutes, arguments.rate));
    let mut samples = Vec::new();
    let verdict = run(&arguments, seed, &mut samples).await;
    let step = if arguments.minutes < 5.0 { 10 } else { 60 };
    say(&format!("by the {step} seconds:\n{}", figures::table(&samples, Duration::from_secs(step))));
    match verdict {
        Ok(summary) => {
            say(&format!("{summary}; passed"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("FAILED with seed {seed}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// All of it in a directory of its own, which is kept if anything fails.
async fn run(arguments: &Arguments, seed: u64, samples: &mut Vec<Sample>) -> Result<String> {
    ensure!(arguments.minutes > 0.5, "half a minute is too short to see anything");
    let folder = tempfile::tempdir().context("a data directory")?;
    let verdict = soak(arguments, seed, folder.path(), samples).await;
    if verdict.is_err() {
        say(&format!("the data directory and the log are kept: {}", folder.keep().display()));
    }
    verdict
}

async fn soak(arguments: &Arguments, seed: u64, folder: &Path, samples: &mut Vec<Sample>) -> Result<String> {
    let place = Place::new(&arguments.broker, folder, &arguments.serve_flags).await?;
    let names: Vec<&'static str> = LANES.iter().map(|lane| lane.name).collect();
    let publishers = LANES.iter().filter(|lane| lane.publish != Publish::No).count();
    let world = World::new(place, Ledger::new(&names), arguments.rate / publishers as f64, seed);
    let clients = start_clients(&world);
    let mut soak = Soak { world, began: Instant::now(), epoch: 0, restarts: [0, 0], samples };
    let outcome = soak.go_through(Duration::from_secs_f64(arguments.minutes * 60.0)).await;
    soak.world.phase.send_replace(Phase::Over);
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    let (flat_epoch, total) = outcome?;
    let flat: Vec<Sample> = soak.samples.iter().copied().filter(|it| it.epoch == flat_epoch).collect();
    let is_long = arguments.minutes >= 10.0;
    let part = arguments.tolerance.unwrap_or(if is_long { 0.15 } else { 0.5 });
    let tolerance = Tolerance { part, resident_kib: 16 << 10, disk_kib: 64 << 10, files: 32, threads: 4 };
    let warm_up = total / if is_long { 6 } else { 3 };
    let flat = figures::verify(&flat, warm_up, tolerance)?;
    soak.world.ledger.verify_all()?;
    let sums = soak.world.ledger.sums();
    Ok(format!(
        "{} sent, {} confirmed, {} done, {} redelivered, 0 lost, 0 stuck; {} connections; {} restarts, {} kills; {flat}",
        sums.sent,
        sums.confirmed,
        sums.done,
        sums.redelivered,
        soak.world.connections.load(Ordering::Relaxed),
        soak.restarts[0],
        soak.restarts[1],
    ))
}

fn start_clients(world: &Arc<World>) -> Vec<tokio::task::JoinHandle<()>> {
    let mut clients = Vec::new();
    for (index, lane) in LANES.iter().enumerate() {
        if lane.publish != Publish::No {
            clients.push(world.keep(Publisher::new(index)));
        }
        match lane.habit {
            Habit::Nobody => {}
            Habit::Read => clients.push(world.keep(Reader::new(index))),
            _ => clients.extend((0..lane.consumers).map(|_| world.keep(Consumer(Some(index))))),
        }
    }
    clients.extend((0..2).map(|_| world.keep(Consumer(None))));
    let restless =
        [Unrest::Connections, Unrest::Connections, Unrest::Queues, Unrest::Losses, Unrest::Policies];
    clients.extend(restless.map(|unrest| world.keep(unrest)));
    clients
}

/// The whole of it.
struct Soak<'s> {
    world: Arc<World>,
    began: Instant,
    epoch: u32,
    /// By asking, and by kill -9.
    restarts: [u32; 2],
    samples: &'s mut Vec<Sample>,
}

impl Soak<'_> {
    /// Restarts, the long life, the end; which process had the long life, and how long it was.
    async fn go_through(&mut self, total: Duration) -> Result<(u32, Duration)> {
        let restless = total / 6;
        let restarts = (total.as_secs() / 600).clamp(2, 6) as u32;
        for turn in 0..restarts {
            let broker = self.start(Phase::Up).await?;
            self.watch(&broker, restless / restarts).await?;
            // The first is a kill: there is most to lose before anything was checkpointed.
            self.end(broker, turn % 2 == 0).await?;
        }
        let broker = self.start(Phase::Up).await?;
        let (flat_epoch, long) = (self.epoch, total.saturating_sub(self.began.elapsed()));
        self.watch(&broker, long).await?;
        self.end(broker, true).await?;
        let broker = self.start(Phase::Drain).await?;
        self.drain().await?;
        self.world.phase.send_replace(Phase::Over);
        broker.end(false).await?;
        Ok((flat_epoch, long))
    }

    async fn start(&mut self, phase: fn(u32) -> Phase) -> Result<Broker> {
        let broker = Broker::start(&self.world.place).await?;
        let (connection, channel) = self.world.connect().await.context("a broker that listens lets us in")?;
        lanes::declare(&channel).await.context("what was declared is as it was")?;
        connection.close(200, "done".into()).await?;
        self.epoch += 1;
        self.world.phase.send_replace(phase(self.epoch));
        Ok(broker)
    }

    async fn end(&mut self, broker: Broker, kill: bool) -> Result<()> {
        self.look_for_faults().await?;
        self.restarts[usize::from(kill)] += 1;
        self.world.phase.send_replace(Phase::Ending(self.epoch));
        tokio::time::sleep(NOTICE).await;
        broker.end(kill).await?;
        self.world.phase.send_replace(Phase::Down);
        let delayed = LANES.iter().enumerate().filter(|(_, lane)| kill && lane.publish == Publish::Delayed);
        delayed.for_each(|(lane, _)| self.world.ledger.undone(lane));
        Ok(())
    }

    /// Measures, and looks for faults, for so long.
    async fn watch(&mut self, broker: &Broker, length: Duration) -> Result<()> {
        let started = Instant::now();
        let every = (length / 500).clamp(Duration::from_millis(200), Duration::from_secs(5));
        let mut looks = 0u32;
        while started.elapsed() < length {
            tokio::time::sleep(every).await;
            let (at, age) = (self.began.elapsed(), started.elapsed());
            let data_dir = self.world.place.data_dir();
            let Some(sample) = figures::look(broker.pid(), &data_dir, self.epoch, at, age) else {
                bail!("the broker is gone; see {}", self.world.place.log().display());
            };
            self.samples.push(sample);
            looks += 1;
            if looks.is_multiple_of(10) {
                self.look_for_faults().await?;
            }
            if looks.is_multiple_of(100) {
                let sums = self.world.ledger.sums();
                say(&format!(
                    "{} s: {} confirmed, {} done, {} open, {} MiB resident",
                    at.as_secs(),
                    sums.confirmed,
                    sums.done,
                    sums.owed,
                    sample.resident_kib / 1024
                ));
            }
        }
        Ok(())
    }

    async fn look_for_faults(&self) -> Result<()> {
        self.world.ledger.verify_so_far()?;
        match self.world.place.stuck().await? {
            None => Ok(()),
            Some(report) => bail!("the watchdog: {report}; see {}", self.world.place.log().display()),
        }
    }

    /// Consumes until all that was promised has come.
    async fn drain(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.world.ledger.sums().owed > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.look_for_faults().await?;
        }
        Ok(())
    }
}

/// A line for the person who runs it.
#[expect(clippy::print_stdout, reason = "a tool's output is its purpose")]
fn say(line: &str) {
    println!("soak: {line}");
}
