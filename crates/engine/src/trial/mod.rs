//! Tests of rules: events are given, actions are expected; nothing outside is touched and no time passes.
//!
//! - `read`: `tests:` of a topology file.
//! - `route`: which rules a message reaches, by the bindings of the file.
//! - `simulate`: a clock that is moved by the test, messages and attempts in its order.
//! - `compare`: what was expected with what came.
//!
//! What a rule makes of an event is worked out by the engine's own evaluation.

mod compare;
mod read;
mod report;
mod route;
mod simulate;

pub(crate) use read::read_trials;
pub use report::{TestError, TestReport, TestResult};

use crate::jq::with_deep_stack;
use crate::topology::{Topology, did_you_mean};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A test as the file says it.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) name: String,
    /// `FILE:LINE`.
    pub(crate) place: String,
    /// The only rule that takes part.
    pub(crate) rule: Option<String>,
    pub(crate) given: Vec<Given>,
    pub(crate) answers: Vec<Stub>,
    pub(crate) expect: Vec<Expected>,
    /// Actions that nothing expects are no failure.
    pub(crate) also_any: bool,
}

/// Something that happens in a test.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    /// An event, as JSON.
    Event(Value),
    /// The clock moves.
    After(Duration),
}

/// What the outside answers to actions of a kind.
#[derive(Debug, Clone)]
pub(crate) struct Stub {
    pub(crate) kind: String,
    /// One after the other; the last again and again.
    pub(crate) answers: Vec<Value>,
}

/// An action that has to come.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) kind: String,
    pub(crate) place: String,
    /// Members that it must have.
    pub(crate) facts: Value,
}

/// An action that came.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub(crate) kind: String,
    pub(crate) rule: String,
    pub(crate) facts: Value,
}

/// Runs the tests of a topology; `only`: the one of this name. Takes no time but that of the evaluation: the clock of
/// a test moves as the test says.
pub fn run_tests(topology: &Topology, only: Option<&str>) -> Result<TestReport, TestError> {
    let names = || topology.trials.iter().map(|trial| trial.name.as_str());
    if let Some(only) = only
        && !names().any(|name| name == only)
    {
        return Err(TestError::Missing { test: only.to_owned(), guess: did_you_mean(only, names()) });
    }
    let chosen = topology.trials.iter().filter(|trial| only.is_none_or(|only| trial.name == only));
    let results = with_deep_stack(|| {
        let run = |trial: &Trial| {
            let began = Instant::now();
            let failures = match simulate::run(topology, trial) {
                Ok(came) => compare::compare(trial, &came),
                Err(reason) => vec![reason],
            };
            TestResult {
                name: trial.name.clone(),
                place: trial.place.clone(),
                failures,
                took: began.elapsed(),
            }
        };
        chosen.map(run).collect()
    });
    Ok(TestReport { results })
}
