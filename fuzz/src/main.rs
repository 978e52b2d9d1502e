//! `millpond-fuzz TARGET --seconds N`: see `fuzz/README.md`.

use clap::Parser;
use millpond_fuzz::run::{Budget, Finding, check, fuzz, silence_panics};
use millpond_fuzz::{TARGETS, Target, corpus, target};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs a fuzz target on mutations of its corpus; ends with 1 when an input fails and keeps that input.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which target; none lists them.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS.iter().map(|target| target.name)))]
    target: Option<String>,
    /// How long to run, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where to start from; the default is the target's folder in fuzz/corpus.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Which stream of mutations; the default is another each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Run this one input only, and let it panic in the open.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(target) = arguments.target.as_deref().and_then(target) else {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        let _ = writeln!(io::stdout(), "{}", names.join("\n"));
        return ExitCode::SUCCESS;
    };
    match run(&arguments, target) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: {error}", target.name);
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments, target: Target) -> io::Result<ExitCode> {
    let mut err = io::stderr();
    if let Some(path) = &arguments.input {
        let verdict = check(target.run, &std::fs::read(path)?);
        return Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let dir = arguments.corpus.clone().unwrap_or_else(|| corpus::corpus_dir(target.name));
    let mut inputs = corpus::load(&dir)?;
    inputs.extend(corpus::load(&corpus::regressions_dir(target.name))?);
    let inputs: Vec<_> = inputs.into_iter().map(|(_, bytes)| bytes).collect();
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64)
    });
    writeln!(err, "{}: {} inputs to start from, seed {seed}", target.name, inputs.len())?;
    silence_panics();
    let outcome = fuzz(target, inputs, seed, Budget::Time(Duration::from_secs(arguments.seconds)));
    let Some(Finding { input, message }) = outcome.finding else {
        writeln!(err, "{}: {} inputs, nothing found", target.name, outcome.inputs)?;
        return Ok(ExitCode::SUCCESS);
    };
    let path = corpus::save(&corpus::regressions_dir(target.name), &input)?;
    writeln!(err, "{}: input {} of {} bytes fails: {message}", target.name, outcome.inputs, input.len())?;
    writeln!(err, "kept as {0}; again: millpond-fuzz {1} --input {0}", path.display(), target.name)?;
    Ok(ExitCode::FAILURE)
}
