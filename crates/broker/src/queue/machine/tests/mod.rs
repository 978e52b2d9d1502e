//! The machine as tables and as random histories.

mod groups;
mod history;
mod history_groups;
mod history_timed;
mod pace;
mod pages;
mod questions;
mod table;
mod time;

/// Plays a history of each seed, step by step; where one fails is told.
fn play<H>(seeds: u64, steps: usize, begin: impl Fn(u64) -> H, step: impl Fn(&mut H)) {
    for seed in 0..seeds {
        let mut history = begin(seed);
        for at in 0..steps {
            let run = std::panic::AssertUnwindSafe(|| step(&mut history));
            if let Err(cause) = std::panic::catch_unwind(run) {
                eprintln!("seed {seed}, step {at}");
                std::panic::resume_unwind(cause);
            }
        }
    }
}
