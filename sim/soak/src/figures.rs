//! What the broker's process takes of the machine, over time, and whether that is flat.

use anyhow::{Result, bail, ensure};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Windows of a life that are compared: the first after the warm-up with each later one.
const WINDOWS: usize = 5;

/// One of a sample's figures.
type Figure = fn(&Sample) -> u64;

/// One look at the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Since the whole began.
    pub(crate) at: Duration,
    /// Since this process of the broker began.
    pub(crate) age: Duration,
    /// Which process.
    pub(crate) epoch: u32,
    pub(crate) resident_kib: u64,
    pub(crate) threads: u64,
    pub(crate) files: u64,
    /// Space that the data directory takes.
    pub(crate) disk_kib: u64,
}

/// Looks at a process and its data directory.
pub(crate) fn look(pid: u32, data_dir: &Path, epoch: u32, at: Duration, age: Duration) -> Option<Sample> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Sample {
        at,
        age,
        epoch,
        resident_kib: field("VmRSS:")?,
        threads: field("Threads:")?,
        files: std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
        disk_kib: size_kib(data_dir),
    })
}

/// Blocks that a directory takes, with what is in it.
fn size_kib(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    // A file may go between the two.
    let sizes = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { size_kib(&entry.path()) } else { metadata.blocks() / 2 })
    });
    sizes.sum()
}

/// By how much a later window may be above the first one: a part of it, and so much more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) part: f64,
    pub(crate) resident_kib: u64,
    pub(crate) disk_kib: u64,
    pub(crate) files: u64,
    pub(crate) threads: u64,
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// Compares windows of one process's life, what it took in its first `warm_up` left out; the words for the summary.
pub(crate) fn verify(samples: &[Sample], warm_up: Duration, tolerance: Tolerance) -> Result<String> {
    let warm: Vec<&Sample> = samples.iter().filter(|sample| sample.age >= warm_up).collect();
    ensure!(warm.len() >= 3 * WINDOWS, "only {} samples after the warm-up", warm.len());
    let windows: Vec<&[&Sample]> = warm.chunks(warm.len().div_ceil(WINDOWS)).collect();
    let kinds: [(&str, Figure, u64); 4] = [
        ("resident KiB", |it| it.resident_kib, tolerance.resident_kib),
        ("data directory KiB", |it| it.disk_kib, tolerance.disk_kib),
        ("open files", |it| it.files, tolerance.files),
        ("threads", |it| it.threads, tolerance.threads),
    ];
    let mut words = Vec::new();
    for (what, of, more) in kinds {
        let medians: Vec<u64> =
            windows.iter().map(|window| median(window.iter().map(|sample| of(sample)).collect())).collect();
        let limit = (medians[0] as f64 * (1.0 + tolerance.part)) as u64 + more;
        if let Some(over) = medians.iter().find(|median| **median > limit) {
            bail!(
                "{what} grow: medians of {WINDOWS} windows {medians:?}; {over} is over the limit of {limit}"
            );
        }
        words.push(format!("{what} {} -> {}", medians[0], medians[medians.len() - 1]));
    }
    Ok(words.join(", "))
}

/// A line for each `step`, with the medians of what was seen in it.
pub(crate) fn table(samples: &[Sample], step: Duration) -> String {
    let mut text = String::from("       at  process  resident MiB  threads  files  data MiB\n");
    let row_of = |sample: &Sample| (sample.at.as_secs() / step.as_secs().max(1), sample.epoch);
    for row in samples.chunk_by(|a, b| row_of(a) == row_of(b)) {
        let of = |value: Figure| median(row.iter().map(value).collect());
        let at = row[0].at.as_secs();
        let _ = writeln!(
            text,
            "{:>5}:{:02}  {:>8}  {:>12.1}  {:>7}  {:>5}  {:>8.1}",
            at / 60,
            at % 60,
            row[0].epoch,
            of(|it| it.resident_kib) as f64 / 1024.0,
            of(|it| it.threads),
            of(|it| it.files),
            of(|it| it.disk_kib) as f64 / 1024.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Sample, Tolerance, verify};
    use std::time::Duration;

    #[test]
    fn what_grows_is_found_and_what_wavers_is_not() {
        let tolerance = Tolerance { part: 0.1, resident_kib: 10, disk_kib: 10, files: 2, threads: 2 };
        let check = |resident: fn(u64) -> u64, files: fn(u64) -> u64, error: &str| {
            let samples: Vec<Sample> = (0..120)
                .map(|n| Sample {
                    at: Duration::from_secs(n),
                    age: Duration::from_secs(n),
                    epoch: 1,
                    resident_kib: resident(n),
                    threads: 7,
                    files: files(n),
                    disk_kib: 100,
                })
                .collect();
            let verdict = verify(&samples, Duration::from_secs(20), tolerance);
            let text = verdict.err().map(|it| it.to_string()).unwrap_or_default();
            assert!(
                text.starts_with(error) && text.is_empty() == error.is_empty(),
                "'{text}', not '{error}'"
            );
        };
        check(|_| 1000, |_| 10, "");
        check(|n| 1000 + n % 7 * 10, |n| 10 + n % 3, "");
        // Growth in the warm-up is none.
        check(|n| 100 * n.min(20), |_| 10, "");
        check(|n| 1000 + 3 * n, |_| 10, "resident KiB grow");
        check(|_| 1000, |n| 10 + n / 10, "open files grow");
    }
}
