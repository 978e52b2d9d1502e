//! How far something long has come, drawn on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// What takes less long needs no bar.
const SILENT: Duration = Duration::from_millis(500);
/// Of the bar itself. Characters.
const WIDTH: u64 = 24;

/// A line on standard error that is drawn over; nothing where that is no terminal. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Bar {
    since: Instant,
    is_drawn: bool,
    is_terminal: bool,
}

impl Bar {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { since: Instant::now(), is_drawn: false, is_terminal }
    }

    /// So much is done.
    pub(super) fn draw(&mut self, done: u64, total: u64) {
        let elapsed = self.since.elapsed();
        if self.is_terminal && elapsed >= SILENT {
            self.is_drawn = true;
            // Whoever reads our errors may have gone away.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(done, total, elapsed));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.is_drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// `[######------] 50 % 1200 of 2400, 600/s`; without a total no bar.
fn line(done: u64, total: u64, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    if total == 0 {
        return format!("{done}, {rate:.0}/s");
    }
    let share = |of: u64| (u128::from(done.min(total)) * u128::from(of) / u128::from(total)) as usize;
    let (filled, percent) = (share(WIDTH), share(100));
    let (full, empty) = ("#".repeat(filled), "-".repeat(WIDTH as usize - filled));
    format!("[{full}{empty}] {percent:3} % {done} of {total}, {rate:.0}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_it_has_come() {
        let second = Duration::from_secs(1);
        let table = [
            (0, 10, "[------------------------]   0 % 0 of 10, 0/s"),
            (5, 10, "[############------------]  50 % 5 of 10, 5/s"),
            (12, 10, "[########################] 100 % 12 of 10, 12/s"),
            (7, 0, "7, 7/s"),
        ];
        for (done, total, wanted) in table {
            assert_eq!(line(done, total, second), wanted);
        }
    }
}
