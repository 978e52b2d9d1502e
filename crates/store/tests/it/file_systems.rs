//! What both file systems promise, and what the fake one does when things go wrong.

use millpond_store::fs::{FakeFs, Fault, File, FileSystem, OpenMode, RealFs};
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SEEDS: u64 = 200;

/// Runs a check on the real file system and on the fake one.
fn check(test: impl Fn(&dyn FileSystem, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(&RealFs, dir.path());
    let fake = FakeFs::new(1);
    fake.create_dir_all(Path::new("/data")).unwrap();
    test(&fake, Path::new("/data"));
}

fn new_file(fs: &dyn FileSystem, path: impl AsRef<Path>) -> Arc<dyn File> {
    fs.open(path.as_ref(), OpenMode::CreateNew).unwrap()
}

fn content(fs: &dyn FileSystem, path: impl AsRef<Path>) -> Vec<u8> {
    let file = fs.open(path.as_ref(), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.size_bytes().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn names(fs: &dyn FileSystem, dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs.list(dir.as_ref()).unwrap();
    entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
}

#[test]
fn writes_are_read_back_where_they_were_put() {
    check(|fs, dir| {
        let file = new_file(fs, dir.join("a"));
        file.write_at(b"hello", 3).unwrap();
        file.write_vectored_at(&[IoSlice::new(b"wo"), IoSlice::new(b""), IoSlice::new(b"rld")], 8).unwrap();
        assert_eq!(content(fs, dir.join("a")), b"\0\0\0helloworld");
        let mut buf = [9; 4];
        assert_eq!(file.read_at(&mut buf, 11).unwrap(), 2);
        assert_eq!(&buf[..2], b"ld");
        assert_eq!(file.read_at(&mut buf, 100).unwrap(), 0);
        assert_eq!(file.read_exact_at(&mut buf, 11).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.set_len(5).unwrap();
        assert_eq!(file.size_bytes().unwrap(), 5);
        file.set_len(7).unwrap();
        assert_eq!(content(fs, dir.join("a")), b"\0\0\0he\0\0");
        file.sync_data().unwrap();
        file.sync_all().unwrap();
    });
}

#[test]
fn more_slices_than_one_call_takes_are_written_in_order() {
    check(|fs, dir| {
        let parts: Vec<[u8; 2]> = (0..5000_u16).map(u16::to_be_bytes).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        new_file(fs, dir.join("a")).write_vectored_at(&slices, 0).unwrap();
        assert_eq!(content(fs, dir.join("a")), parts.concat());
    });
}

#[test]
fn allocating_lengthens_with_zeros_and_keeps_what_is_there() {
    check(|fs, dir| {
        let file = new_file(fs, dir.join("a"));
        file.write_at(b"abc", 0).unwrap();
        file.allocate(600_000).unwrap();
        let bytes = content(fs, dir.join("a"));
        assert_eq!(bytes.len(), 600_000);
        assert_eq!(&bytes[..3], b"abc");
        assert!(bytes[3..].iter().all(|byte| *byte == 0));
        file.allocate(10).unwrap();
        assert_eq!(file.size_bytes().unwrap(), 600_000);
    });
}

#[test]
fn open_modes_do_what_they_say() {
    check(|fs, dir| {
        let path = dir.join("a");
        assert_eq!(fs.open(&path, OpenMode::Read).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs.open(&path, OpenMode::Write).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!fs.exists(&path).unwrap());
        fs.open(&path, OpenMode::Create).unwrap().write_at(b"x", 0).unwrap();
        assert_eq!(fs.open(&path, OpenMode::Create).unwrap().size_bytes().unwrap(), 1);
        assert_eq!(fs.open(&path, OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(fs.open(&path, OpenMode::Read).unwrap().write_at(b"y", 0).is_err());
        fs.open(&path, OpenMode::Write).unwrap().write_at(b"z", 0).unwrap();
        assert_eq!(content(fs, &path), b"z");
        assert_eq!(fs.size_bytes(&path).unwrap(), Some(1));
    });
}

#[test]
fn directories_list_rename_and_remove() {
    check(|fs, dir| {
        fs.create_dir_all(&dir.join("q/7")).unwrap();
        fs.create_dir_all(&dir.join("q/7")).unwrap();
        let old = new_file(fs, dir.join("q/b"));
        old.write_at(b"old", 0).unwrap();
        new_file(fs, dir.join("q/a")).write_at(b"new", 0).unwrap();
        assert_eq!(names(fs, dir.join("q")), ["7", "a", "b"]);
        assert!(fs.list(&dir.join("q")).unwrap()[0].is_dir);
        fs.rename(&dir.join("q/a"), &dir.join("q/b")).unwrap();
        assert_eq!(content(fs, dir.join("q/b")), b"new");
        let mut buf = [0; 3];
        old.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"old", "an open file outlives its name");
        assert!(fs.remove_dir(&dir.join("q")).is_err());
        fs.remove_file(&dir.join("q/b")).unwrap();
        assert_eq!(fs.remove_file(&dir.join("q/b")).unwrap_err().kind(), ErrorKind::NotFound);
        fs.sync_dir(&dir.join("q")).unwrap();
        new_file(fs, dir.join("q/7/x"));
        fs.remove_dir_all(&dir.join("q")).unwrap();
        fs.remove_dir_all(&dir.join("q")).unwrap();
        assert!(names(fs, dir).is_empty());
        assert_eq!(fs.list(&dir.join("q")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_lock_is_held_once_and_released_by_dropping_it() {
    check(|fs, dir| {
        let path = dir.join("LOCK");
        let lock = fs.lock(&path).unwrap();
        assert_eq!(fs.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(lock);
        drop(fs.lock(&path).unwrap());
    });
}

/// A fake file system with a durable, empty file `a` in its root.
fn with_durable_file(seed: u64) -> (FakeFs, Arc<dyn File>) {
    let fs = FakeFs::new(seed);
    let file = new_file(&fs, "a");
    fs.sync_dir(Path::new("/")).unwrap();
    (fs, file)
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..SEEDS {
        let (fs, file) = with_durable_file(seed);
        let bytes: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
        file.write_at(&bytes, 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(content(&fs.crash(seed), "a"), bytes, "seed {seed}");
        assert!(file.read_at(&mut [0], 0).is_err(), "the old one is dead");
        assert!(fs.is_stopped());
    }
}

#[test]
fn unsynced_writes_survive_a_crash_whole_in_part_or_not_at_all() {
    let mut seen = [0; 3];
    for seed in 0..SEEDS {
        let (fs, file) = with_durable_file(seed);
        file.write_at(&[1; 8192], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&[2; 4096], 2048).unwrap();
        let bytes = content(&fs.crash(seed), "a");
        assert_eq!(bytes.len(), 8192);
        assert!(bytes[..2048].iter().chain(&bytes[6144..]).all(|byte| *byte == 1));
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn, seed {seed}");
        }
        match bytes.iter().filter(|byte| **byte == 2).count() {
            0 => seen[0] += 1,
            4096 => seen[1] += 1,
            _ => seen[2] += 1,
        }
    }
    assert!(seen.iter().all(|count| *count > 10), "none, all, some: {seen:?}");
}

#[test]
fn a_later_unsynced_write_may_survive_without_an_earlier_one() {
    let survivors = |seed| {
        let (fs, file) = with_durable_file(seed);
        file.write_at(&[1; 512], 0).unwrap();
        file.write_at(&[2; 512], 512).unwrap();
        let bytes = content(&fs.crash(seed), "a");
        (bytes.first() == Some(&1), bytes.get(512) == Some(&2))
    };
    assert!((0..SEEDS).any(|seed| survivors(seed) == (false, true)));
}

#[test]
fn names_survive_a_crash_only_when_their_directory_was_synced() {
    let mut kept = 0;
    for seed in 0..SEEDS {
        let fs = FakeFs::new(seed);
        fs.create_dir_all(Path::new("/d")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        new_file(&fs, "/d/synced").write_at(b"x", 0).unwrap();
        fs.sync_dir(Path::new("/d")).unwrap();
        new_file(&fs, "/d/young").sync_all().unwrap();
        let left = names(&fs.crash(seed), "/d");
        assert!(left.contains(&"synced".to_owned()));
        kept += left.len() - 1;
    }
    assert!(kept > 20 && kept < SEEDS as usize - 20, "{kept} of {SEEDS} kept");
}

#[test]
fn a_rename_survives_a_crash_as_a_whole_or_not_at_all() {
    for seed in 0..SEEDS {
        let (fs, file) = with_durable_file(seed);
        file.write_at(b"1", 0).unwrap();
        file.sync_data().unwrap();
        fs.rename(Path::new("a"), Path::new("b")).unwrap();
        let left = names(&fs.crash(seed), "/");
        assert!(left == ["a"] || left == ["b"], "{left:?}");
        fs_after_sync(seed);
    }

    fn fs_after_sync(seed: u64) {
        let (fs, _) = with_durable_file(seed);
        fs.rename(Path::new("a"), Path::new("b")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        assert_eq!(names(&fs.crash(seed), "/"), ["b"]);
    }
}

#[test]
fn a_kill_keeps_every_write_but_a_crash_after_it_does_not() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let (fs, file) = with_durable_file(seed);
        file.write_at(b"unsynced", 0).unwrap();
        let killed = fs.kill();
        assert!(file.write_at(b"late", 0).is_err(), "the dead process writes no more");
        assert_eq!(content(&killed, "a"), b"unsynced");
        lost += u64::from(content(&killed.crash(seed), "a") != b"unsynced");
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn locks_die_with_the_process() {
    let fs = FakeFs::new(1);
    let _lock = fs.lock(Path::new("LOCK")).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    let killed = fs.kill();
    killed.lock(Path::new("LOCK")).unwrap();
    killed.crash(1).lock(Path::new("LOCK")).unwrap();
}

#[test]
fn planned_writes_fail_once() {
    let (fs, file) = with_durable_file(1);
    fs.plan(Fault::FailWrite(2));
    file.write_at(b"1", 0).unwrap();
    assert_eq!(file.write_at(b"2", 1).unwrap_err().raw_os_error(), Some(5));
    file.write_at(b"3", 2).unwrap();
    assert_eq!(content(&fs, "a"), b"1\x003");
    fs.plan(Fault::ShortWrite(1));
    file.write_at(&[7; 100], 0).unwrap_err();
    let sevens = content(&fs, "a").iter().take_while(|byte| **byte == 7).count();
    assert!(sevens < 100);
    assert_eq!(fs.counts().writes, 4);
}

#[test]
fn no_later_sync_makes_up_for_one_that_failed() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let (fs, file) = with_durable_file(seed);
        file.write_at(&[1; 4096], 0).unwrap();
        fs.plan(Fault::FailSync(1));
        file.sync_data().unwrap_err();
        assert_eq!(content(&fs, "a"), [1; 4096], "readers still see it");
        file.write_at(&[2; 512], 4096).unwrap();
        file.sync_data().unwrap();
        let bytes = content(&fs.crash(seed), "a");
        assert_eq!(bytes[4096..], [2; 512]);
        lost += u64::from(bytes[..4096] != [1; 4096]);
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn a_planned_crash_stops_everything_at_that_operation() {
    for nth in 1..=6 {
        let fs = FakeFs::new(nth);
        fs.plan(Fault::CrashAt(nth));
        let run = || -> std::io::Result<()> {
            fs.create_dir_all(Path::new("/d"))?; // 1
            let file = fs.open(Path::new("/d/a"), OpenMode::CreateNew)?; // 2
            file.write_at(b"x", 0)?; // 3
            file.sync_data()?; // 4
            fs.sync_dir(Path::new("/d"))?; // 5
            fs.sync_dir(Path::new("/")) // 6
        };
        assert!(run().unwrap_err().to_string().contains("crashed"));
        assert_eq!(fs.counts().ops, nth);
        assert!(fs.is_stopped());
        assert!(fs.list(Path::new("/")).is_err());
        fs.crash(nth).list(Path::new("/")).unwrap();
    }
}

#[test]
fn a_full_disk_takes_what_fits_and_recovers_when_there_is_room() {
    let (fs, file) = with_durable_file(1);
    fs.set_capacity_bytes(Some(3 * 4096));
    file.write_at(&[1; 4096], 0).unwrap();
    assert_eq!(file.allocate(5 * 4096).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(fs.used_bytes(), 3 * 4096);
    assert_eq!(fs.free_bytes(Path::new("/")).unwrap(), Some(0));
    file.write_at(&[2; 4096], 4096).unwrap();
    let other = new_file(&fs, "b");
    assert_eq!(other.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    other.set_len(1 << 20).unwrap();
    fs.remove_file(Path::new("a")).unwrap();
    assert_eq!(fs.used_bytes(), 3 * 4096, "an open file keeps its space");
    drop(file);
    assert_eq!(fs.used_bytes(), 0);
    other.write_at(b"x", 0).unwrap();
    fs.set_capacity_bytes(None);
    other.allocate(2 << 20).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_crash() {
    let image = |seed| {
        let (fs, file) = with_durable_file(1);
        for n in 0..20_u8 {
            file.write_at(&[n; 1000], u64::from(n) * 700).unwrap();
            new_file(&fs, PathBuf::from(format!("f{n}")));
        }
        let fs = fs.crash(seed);
        (content(&fs, "a"), names(&fs, "/"))
    };
    assert_eq!(image(5), image(5));
    assert_ne!(image(5), image(6));
}
