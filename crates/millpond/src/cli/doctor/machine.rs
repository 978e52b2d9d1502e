//! What the machine has for a broker: memory, a disk that syncs fast enough, a data directory that is its own.

use super::Finding;
use crate::alarms;
use crate::settings::Settings;
use millpond_store::{FORMAT_VERSION, SyncMode};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Memory beside that of messages: connections, definitions, the program.
const MEMORY_BESIDE: u64 = 256 << 20;
/// Writes that are timed.
const SYNCS: usize = 9;
/// Of each. Bytes.
const SYNC_BYTES: usize = 4096;
/// A disk that needs longer for one confirms some fifty publishes a second to a publisher that waits for each.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// Of the timed writes; the store looks at no file that begins so.
const PROBE: &str = "doctor.probe";

/// Whether what may be taken is there.
pub(super) fn memory(settings: &Settings) -> Finding {
    const CHECK: &str = "memory";
    let Some(machine) = alarms::machine_memory_bytes() else {
        return Finding::warn(
            CHECK,
            "it is not known how much there is",
            "set memory_high_watermark as a size",
        );
    };
    let alarm = alarms::watermark_bytes(settings.memory_high_watermark, Some(machine));
    let messages = settings.memory_max.0;
    let found = format!(
        "{} MiB, alarm above {}, messages take at most {}",
        machine >> 20,
        alarm >> 20,
        messages >> 20
    );
    match alarm {
        _ if alarm > machine => Finding::warn(
            CHECK,
            found,
            "the system ends the broker before its alarm: lower memory_high_watermark",
        ),
        _ if messages.saturating_add(MEMORY_BESIDE) > alarm => {
            Finding::warn(CHECK, found, "publishers will be held up: lower memory_max, or add memory")
        }
        _ => Finding::ok(CHECK, found),
    }
}

/// Whose the data directory is, and of which version; nothing where there is none.
pub(super) fn data(settings: &Settings) -> Vec<Finding> {
    let dir = &settings.data_dir;
    let Ok(found) = std::fs::metadata(dir) else { return Vec::new() };
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    let mut findings = Vec::new();
    if found.mode() & 0o007 != 0 {
        let shown = format!("{:o}: everybody on the machine may look into it", found.mode() & 0o777);
        findings.push(Finding::warn("permissions", shown, format!("chmod o= {}", dir.display())));
    }
    let foreign = foreign_files(dir, owner);
    findings.push(match foreign.first() {
        None if owner == user || user == 0 => Finding::ok("owner", format!("user {owner}")),
        None => Finding::warn(
            "owner",
            format!("user {owner}, this is {user}"),
            "run this as that user, or as root",
        ),
        Some(name) => Finding::fail(
            "owner",
            format!("{} files of another user than {owner}, for example {name}", foreign.len()),
            format!("chown -R {owner} {}", dir.display()),
        ),
    });
    findings.push(version(dir));
    findings
}

/// A broker that was started as root once leaves files that it cannot open as itself.
fn foreign_files(dir: &Path, owner: u32) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let foreign = entries.filter(|it| it.metadata().is_ok_and(|found| found.uid() != owner));
    foreign.map(|it| it.file_name().to_string_lossy().into_owned()).collect()
}

fn version(dir: &Path) -> Finding {
    const CHECK: &str = "format";
    let text = match std::fs::read_to_string(dir.join("VERSION")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::ok(CHECK, "none yet: nothing was stored here");
        }
        Err(error) => {
            return Finding::warn(CHECK, format!("VERSION: {error}"), "run this as the broker's user");
        }
    };
    match text.trim().parse::<u32>() {
        Ok(version) if version <= FORMAT_VERSION => Finding::ok(CHECK, format!("version {version}")),
        _ => Finding::fail(
            CHECK,
            format!("version '{}', this program knows up to {FORMAT_VERSION}", text.trim()),
            "start it with the newer Millpond that wrote it",
        ),
    }
}

/// How long a small write takes to be on the disk: a publisher's confirm waits for one. Nothing where nothing can be
/// written; that is another check's.
pub(super) fn disk_speed(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "fdatasync";
    let path = settings.data_dir.join(format!("{PROBE}.{}", std::process::id()));
    let timed = time_syncs(&path);
    // It may not have been made.
    let _ = std::fs::remove_file(&path);
    let median = timed.ok()?;
    let found = format!("{:.1} ms for 4 KiB", median.as_secs_f64() * 1000.0);
    let waits = settings.sync.0 != SyncMode::Os;
    Some(match median > SYNC_SLOW && waits {
        false => Finding::ok(CHECK, found),
        true => Finding::warn(
            CHECK,
            found,
            "confirms wait for it: a faster disk, or `sync` with an interval if a power cut may cost as much",
        ),
    })
}

fn time_syncs(path: &Path) -> io::Result<Duration> {
    let mut file = File::create_new(path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[0; SYNC_BYTES])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;
    use crate::settings::load;
    use std::os::unix::fs::PermissionsExt;

    fn settings(flags: &[(&'static str, &str)]) -> Settings {
        let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, vec![(*value).to_owned()])).collect();
        load(None, &[], &flags).unwrap()
    }

    #[test]
    fn memory_is_judged_by_what_messages_and_the_alarm_may_take() {
        let table = [
            (State::Ok, "4GiB", "1KiB"),
            (State::Warn, "200MiB", "100MiB"),
            (State::Warn, "4096GiB", "1KiB"),
        ];
        for (state, watermark, messages) in table {
            // A machine that runs tests has less than 4 TiB and more than 4 GiB.
            let found = memory(&settings(&[("memory_high_watermark", watermark), ("memory_max", messages)]));
            assert_eq!(found.state, state, "{found:?}");
        }
    }

    #[test]
    fn a_data_directory_of_a_newer_format_fails_and_none_is_left_behind_by_looking() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let settings = settings(&[("data_dir", folder.path().to_str().unwrap())]);
        assert!(data(&settings).iter().all(|it| it.state == State::Ok), "{:?}", data(&settings));
        assert!(disk_speed(&settings).is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(folder.path().join("VERSION"), "999\n").unwrap();
        let found = data(&settings);
        assert!(found.iter().any(|it| it.check == "format" && it.state == State::Fail), "{found:?}");
    }
}
