//! Queue logs read as streams: by many, at their own places, while the head is trimmed and the power goes.

use crate::harness::{Completions, DIR, Listener, close, commit, fake_disk, open_fake, tiny_options};
use millpond_model::Message;
use millpond_store::{QueueId, QueueLog, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

const QUEUE: QueueId = QueueId(7);

/// The message of a number: published at ten times the number.
fn message(n: u64) -> Message {
    let body = format!("{n}{}", "-".repeat((n * 7 % 131) as usize));
    Message::published_at(10 * n + 1, b"", b"k", b"\0\0", true, body.as_bytes())
}

/// Reads all from `from` on in small pieces, waiting for loads.
fn read_all(log: &QueueLog, from: u64, random: &mut StdRng) -> BTreeMap<u64, Vec<u8>> {
    let listener = Listener::on(log);
    let mut found = BTreeMap::new();
    let mut at = from;
    loop {
        let loads = listener.loads();
        let mut out = Vec::new();
        let (count_max, bytes_max) = (random.random_range(1..200), random.random_range(1..5_000));
        let read = log.read(at, count_max, bytes_max, &mut out);
        assert!(out.len() <= count_max && read.next >= at);
        for (seq, message) in out {
            assert!((at..read.next).contains(&seq), "{seq} is not of {at}..{}", read.next);
            assert!(found.insert(seq, message.body().to_vec()).is_none());
        }
        at = read.next;
        if read.loading {
            listener.wait_loaded(loads, &|| false).expect("no crash is planned");
        } else if at >= log.bounds().1 {
            return found;
        }
    }
}

/// What a log should hold: `first..next`, each its own message.
fn check(log: &QueueLog, from: u64, random: &mut StdRng) {
    let (first, next) = log.bounds();
    let found = read_all(log, from, random);
    let wanted = first.max(from)..next;
    assert!(found.keys().copied().eq(wanted.clone()), "{:?} is not {wanted:?}", found.keys());
    for (seq, body) in found {
        assert_eq!(body, message(seq).body(), "message {seq}");
    }
}

fn append(store: &Store, log: &QueueLog, count: u64, wait: bool) {
    let next = log.bounds().1;
    let mut batch = store.begin();
    let seqs = log.append(&mut batch, &mut (next..next + count).map(message));
    assert_eq!(seqs, next..next + count);
    if wait {
        commit(store, batch).unwrap();
    } else {
        store.commit(batch, Some((Arc::new(Completions::default()), 0)));
    }
}

fn trim(store: &Store, log: &QueueLog, random: &mut StdRng) {
    let (first, next) = log.bounds();
    let mut batch = store.begin();
    if random.random_bool(0.5) {
        let size = random.random_range(0..40_000);
        let first = log.trim_to_size(&mut batch, size);
        assert_eq!(first, log.bounds().0);
        // A block at most is more than was asked for.
        assert!(log.live_bytes() <= size + 4_096, "{} are left of {size}", log.live_bytes());
    } else {
        let at = random.random_range(first..=next);
        let (now_first, oldest) = log.trim_older(&mut batch, 10 * at + 1);
        assert!((first..=at).contains(&now_first), "{at} was to stay, {now_first} is first");
        assert_eq!(oldest.is_none(), now_first == next);
    }
    commit(store, batch).unwrap();
}

#[test]
fn readers_find_what_was_not_trimmed_wherever_it_lies_also_after_crashes() {
    for seed in 0..30 {
        let mut random = StdRng::seed_from_u64(seed);
        let random = &mut random;
        let mut fs = fake_disk(seed);
        let options = tiny_options(DIR);
        let (mut confirmed, mut trimmed) = (0, 0);
        for life in 0..4 {
            let (store, recovery) = open_fake(&options, &fs).unwrap();
            let log = match recovery.queues.into_iter().find(|queue| queue.id == QUEUE) {
                Some(queue) => queue.log,
                None => store.create_queue(QUEUE, true),
            };
            if life % 2 == 1 {
                log.set_segment_size(4 << 10);
            }
            let (first, next) = log.bounds();
            assert_eq!((first, next), (trimmed, confirmed), "seed {seed}");
            check(&log, 0, random);
            for _ in 0..random.random_range(5..40) {
                match random.random_range(0..8) {
                    0..=3 => append(&store, &log, random.random_range(1..60), random.random_bool(0.2)),
                    4 => trim(&store, &log, random),
                    _ => {
                        let from = random.random_range(0..log.bounds().1 + 2);
                        check(&log, from, random);
                    }
                }
            }
            append(&store, &log, 1, true);
            (trimmed, confirmed) = log.bounds();
            fs = match life % 3 {
                0 => fs.kill(),
                1 => fs.crash(seed),
                _ => {
                    close(store.clone());
                    fs.kill()
                }
            };
            close(store);
        }
    }
}

#[test]
fn a_place_is_found_by_time_in_files_and_in_memory_and_after_a_restart() {
    let mut fs = fake_disk(1);
    let options = tiny_options(DIR);
    for life in 0..2 {
        let (store, recovery) = open_fake(&options, &fs).unwrap();
        let log = match recovery.queues.into_iter().next() {
            Some(queue) => queue.log,
            None => store.create_queue(QUEUE, true),
        };
        if life == 0 {
            (0..50).for_each(|_| append(&store, &log, 20, true));
        }
        for n in (0..1000).step_by(37) {
            let found = log.find_time(10 * n + 1);
            assert!(found <= n && found + 40 > n, "{found} was found for {n}");
        }
        assert_eq!(log.find_time(0), 0);
        assert!((960..=1000).contains(&log.find_time(u64::MAX)));
        fs = fs.kill();
        close(store);
    }
}

#[test]
fn what_many_readers_read_back_does_not_stay_in_the_memory_of_the_log() {
    let fs = fake_disk(1);
    let options = tiny_options(DIR);
    let (store, _) = open_fake(&options, &fs).unwrap();
    let log = store.create_queue(QUEUE, true);
    (0..200).for_each(|_| append(&store, &log, 20, true));
    Listener::on(&log).wait_relieved(&log);
    let mut random = StdRng::seed_from_u64(1);
    (0..20).for_each(|at| check(&log, at * 150, &mut random));
    assert!(log.memory_bytes() <= 2 * options.queue_memory_max_bytes, "{}", log.memory_bytes());
    let mut batch = store.begin();
    log.delete(&mut batch);
    commit(&store, batch).unwrap();
    assert!(read_all(&log, 0, &mut random).is_empty());
    close(store);
}

#[test]
fn the_last_block_goes_by_age_too_when_nothing_comes_behind_it() {
    let fs = fake_disk(1);
    let (store, _) = open_fake(&tiny_options(DIR), &fs).unwrap();
    let log = store.create_queue(QUEUE, true);
    append(&store, &log, 20, true);
    // So much for another queue that the log's window leaves these messages behind: they go to a segment file.
    let other = store.create_queue(QueueId(8), true);
    (0..60).for_each(|_| append(&store, &other, 20, true));
    let listener = Listener::on(&log);
    let trim = |time_ms: u64| {
        let mut batch = store.begin();
        let (first, _) = log.trim_older(&mut batch, time_ms);
        commit(&store, batch).unwrap();
        first
    };
    let last_ms = 10 * 19 + 1;
    let end_is_read = || {
        let loads = listener.loads();
        if log.read(19, 1, usize::MAX, &mut Vec::new()).loading {
            listener.wait_loaded(loads, &|| false).expect("no crash is planned");
        }
    };
    end_is_read();
    assert!(trim(last_ms) < 20, "the last one is as old as may be, no older");
    end_is_read();
    assert_eq!(trim(last_ms + 1), 20);
    assert_eq!((log.bounds(), log.first_time_ms()), ((20, 20), None));
    append(&store, &log, 2, true);
    assert_eq!(log.bounds(), (20, 22));
    drop((log, other));
    close(store);
}
