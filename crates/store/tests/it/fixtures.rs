//! Data directories written by earlier versions are read by this one.
//!
//! `fixtures/v1` was written by the first version; `fixtures/v1-damaged` holds a file to be put over it, in which
//! one bit of the log is changed, and `fixtures/v1-damaged.message` what is said of it. They are never written again; a new format gets fixtures of its own:
//! `MILLPOND_WRITE_FIXTURES=1 cargo test --release -p millpond-store --test it write_the_fixtures` writes those of this
//! version to `<target>/tmp/fixtures`, from where they are copied by hand once the format is final.

use crate::harness::{close, commit, message, read_all};
use millpond_store::{OpenError, QueueId, QueueLog, Store, StoreOptions, SyncMode};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Written tiny, so that a few messages fill segments of every kind.
fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        dir: dir.to_owned(),
        sync: SyncMode::Always,
        wal_segment_size_bytes: 4 << 10,
        wal_segments_max: 3,
        queue_segment_size_bytes: 4 << 10,
        queue_memory_max_bytes: 1 << 10,
        memory_max_bytes: 64 << 10,
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn body(queue: u64, seq: u64) -> String {
    format!("queue {queue} message {seq} {}", "0123456789".repeat((seq % 11) as usize))
}

/// What the fixtures hold: live messages and next sequence number by queue.
fn queues() -> BTreeMap<u64, (Vec<u64>, u64)> {
    let paged = (40..150).filter(|seq| seq % 7 != 0).collect();
    let transient_left_out = (0..8).filter(|seq| seq % 2 == 0).collect();
    BTreeMap::from([
        (1, (paged, 150)),            // a backlog, in segment files with holes
        (2, (transient_left_out, 8)), // young, in the log
        (4, (vec![], 30)),            // drained: only its next sequence number is left
    ])
}

fn values() -> Vec<(&'static str, &'static str)> {
    vec![("q/orders", "changed"), ("x/amq.direct", ""), ("z", "last")]
}

fn append(store: &Store, log: &QueueLog, queue: u64, seqs: Range<u64>, persistent: impl Fn(u64) -> bool) {
    for first in seqs.clone().step_by(5) {
        let mut batch = store.begin();
        let some = first..seqs.end.min(first + 5);
        let given =
            log.append(&mut batch, &mut some.clone().map(|seq| message(persistent(seq), body(queue, seq))));
        assert_eq!(given, some);
        commit(store, batch).unwrap();
    }
}

fn settle(store: &Store, log: &QueueLog, seqs: &[Range<u64>]) {
    let mut batch = store.begin();
    log.settle(&mut batch, seqs);
    commit(store, batch).unwrap();
}

fn put(store: &Store, key: &str, value: &str) {
    let mut batch = store.begin();
    batch.put(key.as_bytes(), value.as_bytes());
    commit(store, batch).unwrap();
}

fn write(dir: &Path) {
    let (store, _) = Store::open(options(dir)).unwrap();
    put(&store, "q/orders", "first");
    put(&store, "q/gone", "deleted later");
    put(&store, "x/amq.direct", "");
    let logs: Vec<QueueLog> = (0..5).map(|id| store.create_queue(QueueId(id), true)).collect();
    append(&store, &logs[4], 4, 0..30, |_| true);
    append(&store, &logs[1], 1, 0..100, |_| true);
    settle(&store, &logs[4], &[0..30]);
    append(&store, &logs[3], 3, 0..40, |_| true);
    append(&store, &logs[1], 1, 100..150, |_| true);
    settle(&store, &logs[1], &[0..40]);
    let sevenths: Vec<Range<u64>> = (40..150).filter(|seq| seq % 7 == 0).map(|seq| seq..seq + 1).collect();
    settle(&store, &logs[1], &sevenths);
    let mut batch = store.begin();
    logs[3].delete(&mut batch);
    batch.put(b"q/orders", b"changed");
    batch.delete(b"q/gone");
    commit(&store, batch).unwrap();
    append(&store, &logs[2], 2, 0..8, |seq| seq % 2 == 0);
    put(&store, "z", "last");
    close(store);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else if entry.file_name() != "LOCK" {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Opens a copy of a data directory and compares everything in it.
fn check(dir: &Path) {
    let copied = tempfile::tempdir().unwrap();
    copy(dir, copied.path());
    let (store, recovery) = Store::open(options(copied.path())).unwrap();
    let mut expected = queues();
    for queue in recovery.queues {
        let id = queue.id.0;
        let (live, next_seq) = expected.remove(&id).unwrap_or_else(|| panic!("queue {id} is not expected"));
        assert_eq!(queue.next_seq, next_seq, "queue {id}");
        assert_eq!(queue.live.into_iter().flatten().collect::<Vec<_>>(), live, "queue {id}");
        let read = read_all(&queue.log, 0..next_seq);
        assert_eq!(read.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), live, "queue {id}");
        for (seq, record) in read {
            assert_eq!(record, message(true, body(id, seq)).record(), "queue {id}, message {seq}");
        }
    }
    assert!(expected.is_empty(), "missing: {expected:?}");
    let found = store.values(b"").unwrap();
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(key, value)| (str::from_utf8(key).unwrap(), str::from_utf8(value).unwrap()))
        .collect();
    assert_eq!(found, values());
    close(store);
}

#[test]
fn the_first_format_is_read_exactly() {
    check(&fixture("v1"));
}

#[test]
fn what_is_written_now_is_read_like_the_fixture() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    check(dir.path());
}

#[test]
fn a_damaged_directory_of_the_first_format_is_refused_with_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture("v1"), dir.path());
    copy(&fixture("v1-damaged"), dir.path());
    let Err(e) = Store::open(options(dir.path())) else { panic!("it was opened") };
    assert!(matches!(e, OpenError::Damaged { .. }), "{e:?}");
    let expected = fs::read_to_string(fixture("v1-damaged.message")).unwrap();
    assert_eq!(e.to_string().replace(dir.path().to_str().unwrap(), "DIR"), expected.trim_end());
}

/// For a new format only: `MILLPOND_WRITE_FIXTURES=1` writes it; otherwise there is nothing to show.
#[test]
fn write_the_fixtures() {
    if std::env::var_os("MILLPOND_WRITE_FIXTURES").is_none() {
        return;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures");
    let _ = fs::remove_dir_all(&target);
    let clean = target.join("new");
    let work = tempfile::tempdir().unwrap();
    write(work.path());
    copy(work.path(), &clean);
    let message = damage(work.path(), &target.join("new-damaged"));
    fs::write(target.join("new-damaged.message"), message + "\n").unwrap();
    println!("written to {}", target.display());
}

/// Finds a bit in the middle of the oldest segment of the log that matters, and puts the changed file in `out`;
/// returns what opening says.
fn damage(dir: &Path, out: &Path) -> String {
    let mut segments: Vec<_> =
        fs::read_dir(dir.join("wal")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    segments.sort();
    for segment in segments {
        let path = dir.join("wal").join(&segment);
        let bytes = fs::read(&path).unwrap();
        for at in (bytes.len() / 4..bytes.len()).step_by(10) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            fs::write(&path, &changed).unwrap();
            let copied = tempfile::tempdir().unwrap();
            copy(dir, copied.path());
            if let Err(e) = Store::open(options(copied.path())) {
                fs::create_dir_all(out.join("wal")).unwrap();
                fs::write(out.join("wal").join(segment), changed).unwrap();
                return e.to_string().replace(copied.path().to_str().unwrap(), "DIR");
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
    panic!("no bit of the log matters");
}
