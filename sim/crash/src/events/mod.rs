//! The engine under `kill -9`: events come in from files, over HTTP and from tables; rules call somebody, remember, and
//! publish.
//!
//! Lines are appended to log files, which are rotated; events are posted with `POST /events`; rows are written to a
//! table and an outbox of SQLite and, with `--postgres`, of PostgreSQL, where others' commits overtake each other, and
//! to a table whose log is read. The tables' writers go on while the broker is dead. Meanwhile somebody stops, pauses,
//! drains and starts rules and sources.
//!
//! Held against each other in the end: every line, every row from each source, and every event that was answered with
//! 202 is behind its rule exactly once, an event that was never answered at most once, nothing is invented. Rows of a
//! key are in order where the source promises it (`order_by`). What memories counted (`debounce`, `count`, `all_of`) is
//! what came, to the event. Effects on the outside (calls, statements, programs) are there for every event, repeated
//! only under the same idempotency key, and calls and statements never twice by the same process, for what it has seen
//! done is on its record.

mod behind;
mod input;
mod outside;
mod postgres;
mod tables;
mod topology;
mod unrest;

use crate::broker::Broker;
use crate::{Arguments, PATIENCE, say};
use anyhow::{Context, Result, ensure};
use behind::{Behind, Counts, Required};
use input::Input;
use outside::Outside;
use postgres::Postgres;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tables::Tables;

/// One in so many rounds nobody disturbs rules and sources.
const UNDISTURBED_ONE_IN: u32 = 3;

/// Kills a broker whose engine is at work, again and again, and looks at what became of the events.
pub(crate) async fn run(arguments: &Arguments, seed: u64, folder: &Path) -> Result<()> {
    let postgres = match arguments.postgres {
        true => Some(Postgres::start(PATIENCE).await?),
        false => None,
    };
    say(if postgres.is_some() { "with PostgreSQL" } else { "without PostgreSQL (--postgres)" });
    let outside = Outside::start(seed).await?;
    let flags = prepare(arguments, folder, &outside, postgres.as_ref())?;
    let sources = topology::sources(postgres.is_some());
    let input = Input::new(folder)?;
    let mut tables = Tables::new(folder, postgres.as_ref()).await?;
    tables.start(postgres.as_ref(), seed).await?;
    let mut dice = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    for round in 0..arguments.rounds {
        tables.begin_life(round)?;
        let mut broker = Broker::start(&arguments.broker, folder, &flags, PATIENCE).await?;
        outside.begin_life(round);
        let load = input.start(broker.http_port(), dice.random());
        let left = dice.random_range(5..=arguments.load_ms_max);
        let first = dice.random_range(0..=left);
        tokio::time::sleep(Duration::from_millis(first)).await;
        let mut disturbing = None;
        if !dice.random_ratio(1, UNDISTURBED_ONE_IN) {
            disturbing = Some(unrest::disturb(&broker, &sources, &mut dice)?);
        }
        tokio::time::sleep(Duration::from_millis(left - first)).await;
        broker.kill().await?;
        if let Some(mut child) = disturbing {
            child.wait().await?;
        }
        load.stop().await?;
    }
    tables.begin_life(arguments.rounds)?;
    let written = tables.stop().await?;
    let mut broker = Broker::start(&arguments.broker, folder, &flags, PATIENCE).await?;
    outside.begin_life(arguments.rounds);
    unrest::settle(&broker, &sources).await?;
    let required = Required { input: &input, written: &written, postgres: postgres.is_some() };
    let behind = Behind::drain(&broker.uri(), &required).await.with_context(|| format!("seed {seed}"));
    broker.kill().await?;
    let counts =
        behind?.verify(&required, &outside, &tables, folder).with_context(|| format!("seed {seed}"))?;
    ensure!(tables.left(postgres.as_ref()).await? == 0, "rows that were published are still in the outbox");
    report(&input, &outside, &counts);
    ensure!(input.lines() > 0 && input.answered() > 0 && counts.rows > 0, "something was not tried");
    ensure!(counts.effects.0 > 0 && counts.runs.0 > 0, "no statement was done, or no program ran");
    say(&format!("{} passed, 0 failed, in {} s", arguments.rounds, started.elapsed().as_secs()));
    Ok(())
}

/// The broker's files, and its flags.
fn prepare(
    arguments: &Arguments,
    folder: &Path,
    outside: &Outside,
    postgres: Option<&Postgres>,
) -> Result<Vec<String>> {
    let url = postgres.map(Postgres::url);
    let file = folder.join("topology.yaml");
    let text = topology::topology(folder, outside.port(), url.as_deref());
    std::fs::write(&file, text).context("the topology")?;
    let program = folder.join(topology::PROGRAM);
    let script = format!(
        "#!/bin/sh\nread -r line\nprintf '%s\\t%s\\n' \"$MILLPOND_IDEMPOTENCY_KEY\" \"$line\" >> {}.log\n",
        program.display()
    );
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let mut flags = arguments.serve_flags.clone();
    flags.push(format!("--topology={}", file.display()));
    flags.push(format!("--exec-allow={}", program.display()));
    Ok(flags)
}

fn report(input: &Input, outside: &Outside, counts: &Counts) {
    let (calls, repeated) = outside.counts();
    let Counts { rows, pairs, effects, runs } = counts;
    say(&format!(
        "{} lines, {} events posted, {} of them answered, {rows} rows, {pairs} pairs; repeated after a kill: {repeated} of \
         {calls} calls, {} of {} statements, {} of {} programs",
        input.lines(),
        input.posted(),
        input.answered(),
        effects.1,
        effects.0,
        runs.1,
        runs.0,
    ));
}
