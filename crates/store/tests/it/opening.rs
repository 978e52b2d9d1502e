//! Who may open a data directory, and what is made durable before anything is confirmed.

use crate::harness::{DIR, close, commit, message, open_fake, read_all, tiny_options};
use millpond_store::fs::{FakeFs, FileSystem, OpenMode};
use millpond_store::{OpenError, QueueId, Store};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn a_directory_is_opened_once_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(tiny_options(dir.path())).unwrap();
    let Err(e) = Store::open(tiny_options(dir.path())) else { panic!("it was opened twice") };
    assert!(matches!(e, OpenError::Locked { .. }), "{e:?}");
    assert!(e.to_string().contains("in use by another process"), "{e}");
    close(store);
    let (store, _) = Store::open(tiny_options(dir.path())).unwrap();
    close(store);
}

#[test]
fn a_data_directory_that_is_made_is_its_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("new/data");
    let (store, _) = Store::open(tiny_options(&data)).unwrap();
    for made in [dir.path().join("new"), data.clone(), data.join("queues"), data.join("wal")] {
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o7777, 0o700, "{}", made.display());
    }
    close(store);
}

#[test]
fn what_is_committed_on_a_real_disk_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let options = tiny_options(dir.path().join("new/data"));
    for life in 0..3_u64 {
        let (store, recovery) = Store::open(options.clone()).unwrap();
        let log = recovery
            .queues
            .first()
            .map_or_else(|| store.create_queue(QueueId(1), true), |queue| queue.log.clone());
        let next = recovery.queues.first().map_or(0, |queue| queue.next_seq);
        assert_eq!(next, life * 500);
        let there = read_all(&log, 0..next);
        assert_eq!(there.len() as u64, life * 500);
        assert!(there.iter().all(|(seq, record)| record.ends_with(format!(" {seq}").as_bytes())));
        for first in (next..next + 500).step_by(50) {
            let mut batch = store.begin();
            log.append(&mut batch, &mut (first..first + 50).map(|n| message(true, format!("n {n}"))));
            commit(&store, batch).unwrap();
        }
        close(store);
    }
}

#[test]
fn a_new_data_directory_survives_a_power_loss_with_its_first_batch() {
    for seed in 0..40 {
        let fs = FakeFs::new(seed);
        fs.create_dir_all(Path::new("/var/lib")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        fs.sync_dir(Path::new("/var")).unwrap();
        let options = tiny_options("/var/lib/millpond/data");
        let (store, _) = open_fake(&options, &fs).unwrap();
        let mut batch = store.begin();
        batch.put(b"key", b"value");
        commit(&store, batch).unwrap();
        let (after, _) = open_fake(&options, &fs.crash(seed)).unwrap();
        assert_eq!(after.values(b"").unwrap().len(), 1, "seed {seed}");
        close(after);
        close(store);
    }
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let fs = crate::harness::fake_disk(1);
    let (store, _) = open_fake(&tiny_options(DIR), &fs).unwrap();
    close(store);
    let version = fs.open(Path::new("/data/VERSION"), OpenMode::Write).unwrap();
    version.set_len(0).unwrap();
    version.write_at(b"7\n", 0).unwrap();
    let Err(e) = open_fake(&tiny_options(DIR), &fs) else { panic!("it was opened") };
    assert!(matches!(e, OpenError::NewerFormat { known: 1, .. }), "{e:?}");
    assert!(e.to_string().contains("/data has data format 7, this millpond writes 1"), "{e}");
}
