//! Somebody who stops, pauses, drains and starts rules and sources, so that a kill comes in the middle of that too.

use crate::PATIENCE;
use crate::broker::Broker;
use anyhow::{Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use std::process::Stdio;
use std::time::Instant;
use tokio::process::Child;

/// Rules that may rest: what they have not taken waits in their queues.
const RULES: [&str; 5] = ["act", "rows", "sums", "sevenths", "pairs"];

/// The rule that is drained: it misses what comes meanwhile.
const DRAINED: &str = "drained";

/// A command on its way; the kill may come first.
pub(super) fn disturb(broker: &Broker, sources: &[&str], dice: &mut StdRng) -> Result<Child> {
    let mut pick = |from: &[&'static str]| from[dice.random_range(0..from.len())];
    let verb = pick(&["rules", "rules", "rules", "drained", "sources"]);
    let arguments = match verb {
        "rules" => ["rules", pick(&["stop", "pause", "start", "resume"]), pick(&RULES)],
        "drained" => ["rules", pick(&["drain", "start"]), DRAINED],
        _ => {
            let what = pick(&["stop", "start"]);
            ["sources", what, sources[dice.random_range(0..sources.len())]]
        }
    };
    let mut command = broker.command(&arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?)
}

/// Everything runs again, once the broker answers: it listens for commands a little later than for clients.
pub(super) async fn settle(broker: &Broker, sources: &[&str]) -> Result<()> {
    let begun = Instant::now();
    while let Err(error) = broker.ask(&["rules", "list"]).await {
        ensure!(begun.elapsed() < PATIENCE, "no answer to commands: {error}");
    }
    for rule in RULES.iter().chain([&DRAINED]) {
        broker.ask(&["rules", "start", rule]).await?;
    }
    for source in sources {
        broker.ask(&["sources", "start", source]).await?;
    }
    Ok(())
}
