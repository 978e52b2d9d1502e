//! Many threads commit at once; the power goes; each thread finds a run of its own batches.

use crate::harness::{Completions, DIR, close, fake_disk, open_fake, read_all, tiny_options};
use bytes::Bytes;
use millpond_model::Message;
use millpond_store::fs::{FakeFs, Fault};
use millpond_store::{CommitError, QueueId, QueueLog, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

const THREADS: u64 = 4;
const BATCHES: u64 = 150;
/// The queue that all threads append to; each has one of its own besides, by its number.
const SHARED: u64 = 100;

fn body(thread: u64, batch: u64, n: u64) -> String {
    format!("{thread} {batch} {n} {:width$}", "", width = (batch * 37 + n * 11) as usize % 300)
}

/// Commits batches to the thread's queue, the shared queue and a value; settles the thread's messages ten
/// batches later; returns how many batches were confirmed without a gap.
fn work(store: &Store, thread: u64, own: &QueueLog, shared: &QueueLog) -> u64 {
    let completions = Arc::new(Completions::default());
    let mut given = Vec::new();
    for number in 0..BATCHES {
        let messages: Vec<Message> =
            (0..3).map(|n| Message::new(b"", b"", b"", true, body(thread, number, n).as_bytes())).collect();
        let mut batch = store.begin();
        given.push(own.append(&mut batch, &mut messages.iter().cloned()));
        shared.append(&mut batch, &mut messages.iter().take(1).cloned());
        batch.put(format!("thread {thread}").as_bytes(), number.to_string().as_bytes());
        if number >= 10 {
            own.settle(&mut batch, &[given[number as usize - 10].clone()]);
        }
        store.commit(batch, Some((completions.clone(), number)));
        if number % 7 == thread && completions.wait(number).is_err() {
            break;
        }
    }
    (0..given.len() as u64).take_while(|number| completions.wait(*number).is_ok()).count() as u64
}

fn run(fs: &FakeFs) -> Vec<u64> {
    let (store, _) = open_fake(&tiny_options(DIR), fs).unwrap();
    let shared = store.create_queue(QueueId(SHARED), true);
    fs.plan(Fault::CrashAt(40 + fs.counts().ops * 13 % 400));
    let confirmed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let own = store.create_queue(QueueId(thread), true);
                let (store, shared) = (&store, &shared);
                scope.spawn(move || work(store, thread, &own, shared))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    close(store);
    confirmed
}

fn bodies(log: &QueueLog, next_seq: u64) -> Vec<String> {
    let body = |(_, record): (u64, Bytes)| {
        String::from_utf8(Message::from_record(record).unwrap().body().to_vec()).unwrap()
    };
    read_all(log, 0..next_seq).into_iter().map(body).collect()
}

#[test]
fn each_thread_finds_a_run_of_its_batches_after_a_crash() {
    for seed in 0..12 {
        let fs = fake_disk(seed);
        // So that each seed crashes elsewhere.
        (0..seed * 3).for_each(|_| drop(millpond_store::fs::FileSystem::sync_dir(&fs, DIR.as_ref())));
        let confirmed = run(&fs);
        let (store, recovery) = open_fake(&tiny_options(DIR), &fs.crash(seed)).unwrap();
        let queues: BTreeMap<u64, Vec<String>> =
            recovery.queues.iter().map(|queue| (queue.id.0, bodies(&queue.log, queue.next_seq))).collect();
        let none = Vec::new();
        for thread in 0..THREADS {
            let value = store.values(format!("thread {thread}").as_bytes()).unwrap();
            let there = value
                .first()
                .map_or(0, |(_, value)| str::from_utf8(value).unwrap().parse::<u64>().unwrap() + 1);
            assert!(there >= confirmed[thread as usize], "seed {seed}: thread {thread} lost batches");
            let left = there.saturating_sub(10)..there;
            let expected: Vec<String> =
                left.flat_map(|batch| (0..3).map(move |n| body(thread, batch, n))).collect();
            assert_eq!(queues.get(&thread).unwrap_or(&none), &expected, "seed {seed}, thread {thread}");
            let start = format!("{thread} ");
            let shared: Vec<&String> =
                queues.get(&SHARED).into_iter().flatten().filter(|body| body.starts_with(&start)).collect();
            let expected: Vec<String> = (0..there).map(|batch| body(thread, batch, 0)).collect();
            assert_eq!(shared, expected.iter().collect::<Vec<_>>(), "seed {seed}, thread {thread}");
        }
        close(store);
    }
}

#[test]
fn a_commit_after_close_fails_and_close_may_be_called_twice() {
    let fs = fake_disk(1);
    let (store, _) = open_fake(&tiny_options(DIR), &fs).unwrap();
    close(store.clone());
    close(store.clone());
    let mut batch = store.begin();
    batch.put(b"key", b"value");
    let result = crate::harness::commit(&store, batch);
    assert!(matches!(result, Err(CommitError::Closed)), "{result:?}");
}
