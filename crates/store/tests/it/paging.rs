//! Backlogs far over the memory limit: on disk, bounded in memory, read back whole and in order.

use crate::harness::{
    DIR, Listener, close, commit, fake_disk, message, open_fake, read, read_all, tiny_options,
};
use millpond_store::{Fetch, QueueId, QueueLog, Store};
use std::ops::Range;

const MESSAGES: u64 = 5_000;

fn body(n: u64) -> String {
    format!("{n}{}", "-".repeat((n % 97) as usize))
}

/// Appends messages `numbers` in batches of ten; every tenth message is transient.
fn fill(store: &Store, log: &QueueLog, numbers: Range<u64>) {
    let listener = Listener::on(log);
    for first in numbers.clone().step_by(10) {
        let mut batch = store.begin();
        let some = first..numbers.end.min(first + 10);
        log.append(&mut batch, &mut some.map(|n| message(n % 10 != 9, body(n))));
        if first % 1000 == 0 {
            commit(store, batch).unwrap();
        } else {
            store.commit(batch, None);
        }
        if log.is_over() {
            listener.wait_relieved(log);
        }
    }
    commit(store, {
        let mut batch = store.begin();
        batch.put(b"filled", b"");
        batch
    })
    .unwrap();
}

fn bodies(messages: &[(u64, bytes::Bytes)]) -> Vec<(u64, String)> {
    let body = |record: &bytes::Bytes| {
        let message = millpond_model::Message::from_record(record.clone()).unwrap();
        String::from_utf8(message.body().to_vec()).unwrap()
    };
    messages.iter().map(|(seq, record)| (*seq, body(record))).collect()
}

fn expected(numbers: Range<u64>, transient: bool) -> Vec<(u64, String)> {
    numbers.filter(|n| transient || n % 10 != 9).map(|n| (n, body(n))).collect()
}

#[test]
fn a_backlog_over_the_memory_limit_is_read_back_in_order() {
    let fs = fake_disk(1);
    let options = tiny_options(DIR);
    let (store, _) = open_fake(&options, &fs).unwrap();
    let log = store.create_queue(QueueId(1), true);
    fill(&store, &log, 0..MESSAGES);
    Listener::on(&log).wait_relieved(&log);
    assert!(log.memory_bytes() <= 2 * options.queue_memory_max_bytes, "{}", log.memory_bytes());
    assert_eq!(bodies(&read_all(&log, 0..MESSAGES)), expected(0..MESSAGES, true));
    assert_eq!(bodies(&read_all(&log, 2500..2600)), expected(2500..2600, true));
    assert_eq!(bodies(&read_all(&log, 0..30)), expected(0..30, true));
    close(store);
}

#[test]
fn messages_far_apart_that_are_wanted_together_come_to_be_in_memory_together() {
    let fs = fake_disk(1);
    let (store, _) = open_fake(&tiny_options(DIR), &fs).unwrap();
    let log = store.create_queue(QueueId(1), true);
    let listener = Listener::on(&log);
    for _ in 0..50 {
        let mut batch = store.begin();
        log.append(&mut batch, &mut std::iter::once(message(true, "-".repeat(20_000))));
        commit(&store, batch).unwrap();
    }
    listener.wait_relieved(&log);
    let mut rounds = 0;
    while [40, 20, 2].into_iter().fold(0, |missing, seq| {
        let loads = listener.loads();
        let mut out = Vec::new();
        let fetch = log.peek(seq..seq + 1, 1, &mut out);
        if fetch == Fetch::Loading {
            listener.wait_loaded(loads, &|| false).unwrap();
        }
        missing + usize::from(out.is_empty())
    }) > 0
    {
        rounds += 1;
        assert!(rounds < 10, "each is forgotten when another is read");
    }
    close(store);
}

#[test]
fn a_backlog_survives_kills_and_crashes_without_its_transient_messages() {
    let mut fs = fake_disk(1);
    let options = tiny_options(DIR);
    let (store, _) = open_fake(&options, &fs).unwrap();
    let log = store.create_queue(QueueId(1), true);
    fill(&store, &log, 0..MESSAGES);
    for seed in 0..4 {
        fs = if seed == 0 { fs.kill() } else { fs.crash(seed) };
        let (store, recovery) = open_fake(&options, &fs).unwrap();
        let [queue] = recovery.queues.as_slice() else { panic!("{:?}", recovery.queues) };
        assert_eq!(queue.next_seq, MESSAGES);
        assert_eq!(queue.live.iter().map(|range| range.end - range.start).sum::<u64>(), MESSAGES / 10 * 9);
        Listener::on(&queue.log).wait_relieved(&queue.log);
        assert_eq!(bodies(&read_all(&queue.log, 0..MESSAGES)), expected(0..MESSAGES, false));
        close(store);
    }
    close(store);
}

#[test]
fn a_queue_that_is_not_durable_pages_out_and_is_gone_after_a_restart() {
    let fs = fake_disk(1);
    let options = tiny_options(DIR);
    let (store, _) = open_fake(&options, &fs).unwrap();
    let log = store.create_queue(QueueId(1), false);
    fill(&store, &log, 0..MESSAGES);
    Listener::on(&log).wait_relieved(&log);
    assert!(log.memory_bytes() <= 2 * options.queue_memory_max_bytes, "{}", log.memory_bytes());
    assert_eq!(bodies(&read_all(&log, 0..MESSAGES)), expected(0..MESSAGES, true));
    close(store);
    let (store, recovery) = open_fake(&options, &fs).unwrap();
    assert!(recovery.queues.is_empty(), "{:?}", recovery.queues);
    close(store);
}

#[test]
fn a_consumer_that_keeps_behind_its_publisher_gets_everything_once() {
    let fs = fake_disk(1);
    let (store, _) = open_fake(&tiny_options(DIR), &fs).unwrap();
    let log = store.create_queue(QueueId(1), true);
    let listener = Listener::on(&log);
    let mut got = Vec::new();
    for step in 0..50 {
        fill(&store, &log, step * 100..step * 100 + 100);
        let listener = Listener::on(&log);
        let upto = step * 50;
        let some = read(&log, &listener, got.len() as u64..upto, 700, &|| false).unwrap();
        let mut batch = store.begin();
        if let (Some((first, _)), Some((last, _))) = (some.first(), some.last()) {
            log.settle(&mut batch, &[*first..last + 1]);
        }
        store.commit(batch, None);
        got.extend(some);
    }
    log.on_change(listener);
    got.extend(read_all(&log, got.len() as u64..5000));
    assert_eq!(bodies(&got), expected(0..5000, true));
    close(store);
}

#[test]
fn all_queues_together_stay_within_their_memory() {
    let fs = fake_disk(1);
    let mut options = tiny_options(DIR);
    options.queue_memory_max_bytes = 1 << 20;
    options.memory_max_bytes = 64 << 10;
    let (store, _) = open_fake(&options, &fs).unwrap();
    let logs: Vec<QueueLog> = (0..5).map(|id| store.create_queue(QueueId(id), true)).collect();
    logs.iter().for_each(|log| fill(&store, log, 0..1000));
    for log in &logs {
        assert_eq!(bodies(&read_all(log, 0..1000)), expected(0..1000, true));
    }
    close(store);
}
