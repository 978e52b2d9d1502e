//! Torn tails are cut; damage where the log was durable stops the start and names the place.

use crate::harness::{DIR, close, commit, fake_disk, message, open_fake, read_all, tiny_options};
use millpond_store::fs::{FakeFs, FileSystem, OpenMode};
use millpond_store::{OpenError, QueueId, RepairReport, Store, StoreOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BATCHES: u64 = 12;

fn options() -> StoreOptions {
    let mut options = tiny_options(DIR);
    options.wal_segment_size_bytes = 16 << 10;
    options
}

/// A disk with confirmed batches in the first segment of the log: message `n` in queue 1, value `n`.
fn filled() -> FakeFs {
    let fs = fake_disk(1);
    let (store, _) = open_fake(&options(), &fs).unwrap();
    let log = store.create_queue(QueueId(1), true);
    for n in 0..BATCHES {
        let mut batch = store.begin();
        log.append(&mut batch, &mut std::iter::once(message(true, format!("message {n}"))));
        batch.put(b"last", n.to_string().as_bytes());
        commit(&store, batch).unwrap();
    }
    fs.kill()
}

fn first_segment(fs: &FakeFs) -> PathBuf {
    let wal = Path::new(DIR).join("wal");
    wal.join(&fs.list(&wal).unwrap()[0].name)
}

fn bytes_of(fs: &FakeFs, path: &Path) -> Vec<u8> {
    let file = fs.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.size_bytes().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn overwrite(fs: &FakeFs, path: &Path, at: u64, bytes: &[u8]) {
    let file = fs.open(path, OpenMode::Write).unwrap();
    file.write_at(bytes, at).unwrap();
    file.sync_all().unwrap();
}

/// How many batches are there; that they are there whole and in order is checked.
fn batches_in(store: &Store, recovery: &millpond_store::Recovery) -> u64 {
    let messages: Vec<_> =
        recovery.queues.iter().flat_map(|queue| read_all(&queue.log, 0..queue.next_seq)).collect();
    for (n, (seq, record)) in messages.iter().enumerate() {
        assert_eq!(*seq, n as u64);
        assert!(record.ends_with(format!("message {n}").as_bytes()));
    }
    let last = store.values(b"last").unwrap();
    let expected = messages.len().checked_sub(1).map(|n| n.to_string());
    assert_eq!(last.first().map(|(_, value)| value.to_vec()), expected.map(String::into_bytes));
    messages.len() as u64
}

#[test]
fn a_flipped_bit_is_refused_or_cuts_the_last_batch_but_never_changes_anything() {
    let clean = filled();
    let path = first_segment(&clean);
    let end = bytes_of(&clean, &path).iter().rposition(|byte| *byte != 0).unwrap();
    let (mut refused, mut cut) = (0, 0);
    for at in 0..=end as u64 {
        let fs = clean.kill();
        let byte = bytes_of(&fs, &path)[at as usize];
        overwrite(&fs, &path, at, &[byte ^ 1 << (at % 8)]);
        match open_fake(&options(), &fs) {
            Err(OpenError::Damaged { file, position_bytes, .. }) => {
                assert_eq!(file, path);
                assert!(position_bytes <= at, "damage at {at} is said to be at {position_bytes}");
                assert!(at - position_bytes < 200, "damage at {at} is said to be at {position_bytes}");
                refused += 1;
            }
            Err(e) => panic!("byte {at}: {e}"),
            Ok((store, recovery)) => {
                let left = batches_in(&store, &recovery);
                assert!(left >= BATCHES - 1, "byte {at}: {left} batches are left");
                cut += 1;
                close(store);
            }
        }
    }
    assert!(refused > cut * 5, "{refused} refused, {cut} cut");
}

fn repair(fs: &FakeFs) -> RepairReport {
    Store::repair_on(Arc::new(fs.clone()), Path::new(DIR)).unwrap()
}

#[test]
fn a_repair_cuts_the_log_at_the_damage_and_keeps_what_lies_before() {
    let clean = filled();
    let path = first_segment(&clean);
    let end = bytes_of(&clean, &path).iter().rposition(|byte| *byte != 0).unwrap();
    assert!(repair(&clean.kill()).is_clean());
    let clean = filled();
    let mut left_before = 0;
    for at in (0..=end as u64).step_by(7) {
        let fs = clean.kill();
        let byte = bytes_of(&fs, &path)[at as usize];
        overwrite(&fs, &path, at, &[byte ^ 0x40]);
        let Err(OpenError::Damaged { position_bytes, .. }) = open_fake(&options(), &fs) else { continue };
        let report = repair(&fs);
        let (file, position, _) = report.cut.clone().unwrap();
        assert_eq!((file, position), (path.clone(), position_bytes));
        let fs = fs.crash(at);
        let (store, recovery) = open_fake(&options(), &fs).unwrap_or_else(|e| panic!("byte {at}: {e}"));
        let left = batches_in(&store, &recovery);
        assert!((left_before..BATCHES).contains(&left), "byte {at}: {left} after {left_before}");
        left_before = left;
        close(store);
        assert!(repair(&fs).is_clean());
    }
    assert!(left_before > BATCHES / 2);
}

#[test]
fn a_repair_drops_the_messages_of_a_damaged_block_and_no_others() {
    let fs = fake_disk(1);
    let (store, _) = open_fake(&tiny_options(DIR), &fs).unwrap();
    let log = store.create_queue(QueueId(1), true);
    for n in 0..400 {
        let mut batch = store.begin();
        log.append(&mut batch, &mut std::iter::once(message(true, format!("{n:0100}"))));
        commit(&store, batch).unwrap();
    }
    drop(log);
    close(store);
    let dir = Path::new(DIR).join("queues/0000000000000001");
    let file = dir.join(&fs.list(&dir).unwrap()[0].name);
    let size = fs.size_bytes(&file).unwrap().unwrap();
    let byte = bytes_of(&fs, &file)[size as usize / 2];
    overwrite(&fs, &file, size / 2, &[!byte]);
    let report = repair(&fs);
    let dropped: u64 = report.dropped.iter().map(|(_, messages)| messages).sum();
    assert!((1..100).contains(&dropped), "{report}");
    assert!(report.dropped[0].0.starts_with(file.to_str().unwrap()), "{report}");
    let (store, recovery) = open_fake(&tiny_options(DIR), &fs).unwrap();
    let [queue] = recovery.queues.as_slice() else { panic!("{:?}", recovery.queues) };
    let read = read_all(&queue.log, 0..queue.next_seq);
    assert_eq!(read.len() as u64, 400 - dropped);
    for (seq, record) in read {
        assert!(record.ends_with(format!("{seq:0100}").as_bytes()));
    }
    drop(recovery);
    close(store);
    assert!(repair(&fs).is_clean());
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_there() {
    let clean = filled();
    let path = first_segment(&clean);
    let bytes = bytes_of(&clean, &path);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut counts = Vec::new();
    for at in 0..=end {
        let fs = clean.kill();
        overwrite(&fs, &path, at as u64, &vec![0; end - at]);
        let (store, recovery) = open_fake(&options(), &fs).unwrap_or_else(|e| panic!("torn at {at}: {e}"));
        counts.push(batches_in(&store, &recovery));
        close(store);
    }
    assert!(counts.is_sorted());
    assert_eq!((counts[0], counts[end]), (0, BATCHES));
}

#[test]
fn a_log_with_a_segment_missing_in_the_middle_is_refused() {
    let fs = fake_disk(1);
    let mut options = tiny_options(DIR);
    options.wal_segment_size_bytes = 4 << 10;
    options.wal_segments_max = 64;
    let (store, _) = open_fake(&options, &fs).unwrap();
    let log = store.create_queue(QueueId(1), true);
    for _ in 0..30 {
        let mut batch = store.begin();
        log.append(&mut batch, &mut std::iter::once(message(true, [7; 500])));
        commit(&store, batch).unwrap();
    }
    let fs = fs.kill();
    let wal = Path::new(DIR).join("wal");
    let segments = fs.list(&wal).unwrap();
    assert!(segments.len() > 4, "{segments:?}");
    fs.remove_file(&wal.join(&segments[1].name)).unwrap();
    match open_fake(&options, &fs) {
        Err(e @ OpenError::Damaged { .. }) => assert!(e.to_string().contains("missing"), "{e}"),
        other => panic!("{other:?}"),
    }
}
