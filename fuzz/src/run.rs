//! Running a target on many inputs, until time is up or one fails.

use crate::Target;
use crate::mutate::{Random, mutate};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An input that takes longer is a finding: nothing here may loop on what a stranger sends.
const HANG: Duration = Duration::from_secs(20);

/// Mutated inputs kept beside the corpus to mutate further.
const POOL_MAX: usize = 512;

/// One in so many mutated inputs is kept.
const KEEP_ONE_IN: usize = 64;

/// Attempts to make a failing input smaller.
const SHRINK_MAX: usize = 4000;

/// How long to run.
#[derive(Debug, Clone, Copy)]
pub enum Budget {
    /// Wall-clock time.
    Time(Duration),
    /// A number of inputs, the same everywhere.
    Inputs(u64),
}

/// A failing input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Made as small as it got.
    pub input: Vec<u8>,
    /// What it panicked with, or that it took too long.
    pub message: String,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Inputs tried.
    pub inputs: u64,
    /// The first that failed.
    pub finding: Option<Finding>,
}

/// Runs one input; the panic's message if it fails.
pub fn check(target: impl Fn(&[u8]), input: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| target(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without text").to_owned()
    })
}

/// Runs the corpus, then mutations of it. A seed, a corpus and a number of inputs determine the run.
///
/// Panics of the target print as usual; [`silence_panics`] stops that.
pub fn fuzz(target: Target, corpus: Vec<Vec<u8>>, seed: u64, budget: Budget) -> Outcome {
    let watch = Watch::default();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(target.run, corpus, seed, budget, &watch));
        let mut seen = (0, Instant::now());
        while !worker.is_finished() {
            std::thread::park_timeout(Duration::from_millis(20));
            let tried = watch.tried.load(Ordering::Relaxed);
            if tried != seen.0 {
                seen = (tried, Instant::now());
            } else if seen.1.elapsed() > HANG {
                watch.report_hang(target.name);
            }
        }
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Stops the default printing of panics: a shrinking input makes thousands.
pub fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// What the watching thread sees of the working one.
#[derive(Default)]
struct Watch {
    tried: AtomicU64,
    current: Mutex<Vec<u8>>,
}

impl Watch {
    fn begin(&self, input: &[u8]) {
        let mut current = self.current.lock();
        current.clear();
        current.extend_from_slice(input);
        self.tried.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread that hangs cannot be stopped: says what it hangs on and ends the process.
    #[allow(
        clippy::disallowed_methods,
        reason = "there is no store to close, and no way to return past a hang"
    )]
    fn report_hang(&self, target: &str) -> ! {
        use std::io::Write;
        let current = self.current.lock();
        let path = crate::corpus::save(&crate::corpus::regressions_dir(target), &current);
        let _ = writeln!(std::io::stderr(), "{target}: an input ran over {HANG:?}; kept as {path:?}");
        std::process::exit(1);
    }
}

fn work(target: fn(&[u8]), corpus: Vec<Vec<u8>>, seed: u64, budget: Budget, watch: &Watch) -> Outcome {
    let start = Instant::now();
    let mut random = Random::new(seed);
    let mut inputs = 0u64;
    let mut try_one = |input: &[u8]| {
        watch.begin(input);
        inputs += 1;
        check(target, input).err().map(|message| shrink(target, input.to_vec(), message))
    };
    let mut finding = corpus.iter().find_map(|input| try_one(input));
    let mut pool = if corpus.is_empty() { vec![Vec::new()] } else { corpus };
    let kept_from = pool.len();
    let mut rounds = 0u64;
    let mut input = Vec::new();
    while finding.is_none() {
        let over = match budget {
            // Asking the clock costs more than many an input.
            Budget::Time(limit) => rounds.is_multiple_of(256) && start.elapsed() >= limit,
            Budget::Inputs(limit) => rounds >= limit,
        };
        if over {
            break;
        }
        rounds += 1;
        input.clone_from(&pool[random.below(pool.len())]);
        let other = random.below(pool.len());
        mutate(&mut random, &mut input, &pool[other]);
        finding = try_one(&input);
        if random.below(KEEP_ONE_IN) == 0 {
            if pool.len() < kept_from + POOL_MAX {
                pool.push(input.clone());
            } else {
                let slot = kept_from + random.below(POOL_MAX);
                pool[slot].clone_from(&input);
            }
        }
    }
    Outcome { inputs, finding }
}

/// Takes pieces out of a failing input, large ones first, as long as it still fails.
fn shrink(target: fn(&[u8]), mut input: Vec<u8>, mut message: String) -> Finding {
    let mut attempts = 0;
    let mut piece = input.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < input.len() && attempts < SHRINK_MAX {
            attempts += 1;
            let mut smaller = input.clone();
            smaller.drain(at..input.len().min(at + piece));
            match check(target, &smaller) {
                Err(text) => (input, message) = (smaller, text),
                Ok(()) => at += piece,
            }
        }
        piece /= 2;
    }
    Finding { input, message }
}
