//! A full disk: what grows the store is refused, settlements go through, and it resumes by itself.

use crate::harness::{DIR, close, commit, fake_disk, message, open_fake, read_all, tiny_options};
use millpond_store::{CommitError, QueueId, StoreStatus};
use std::time::{Duration, Instant};

#[test]
fn a_full_disk_refuses_messages_takes_settlements_and_resumes_when_there_is_room() {
    let fs = fake_disk(1);
    let mut options = tiny_options(DIR);
    options.wal_segment_size_bytes = 64 << 10;
    options.queue_memory_max_bytes = 1 << 20;
    options.memory_max_bytes = 1 << 20;
    let (store, _) = open_fake(&options, &fs).unwrap();
    let log = store.create_queue(QueueId(1), true);
    let append = |n: u64| {
        let mut batch = store.begin();
        let seqs = log.append(&mut batch, &mut std::iter::once(message(true, format!("{n:01000}"))));
        (seqs.start, commit(&store, batch))
    };
    let mut confirmed = Vec::new();
    fs.set_capacity_bytes(Some(fs.used_bytes() + (100 << 10)));
    let refusal = loop {
        match append(confirmed.len() as u64) {
            (seq, Ok(())) => confirmed.push(seq),
            (_, Err(e)) => break e,
        }
        assert!(confirmed.len() < 1000, "so much does not fit");
    };
    assert!(matches!(refusal, CommitError::OutOfSpace { .. }), "{refusal}");
    assert!(refusal.to_string().contains("no space left in /data"), "{refusal}");
    assert!(matches!(store.status(), StoreStatus::Full));
    for seq in confirmed.drain(..20) {
        let mut batch = store.begin();
        log.settle(&mut batch, &[seq..seq + 1]);
        batch.delete(b"some key");
        commit(&store, batch).unwrap();
    }
    fs.set_capacity_bytes(None);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut n = 5000;
    loop {
        match append(n) {
            (seq, Ok(())) => break confirmed.push(seq),
            (_, Err(CommitError::OutOfSpace { .. })) => n += 1,
            (_, Err(e)) => panic!("{e}"),
        }
        assert!(Instant::now() < deadline, "it does not resume");
        std::thread::yield_now();
    }
    let (store, recovery) = {
        let image = fs.crash(1);
        drop(log);
        close(store);
        open_fake(&options, &image).unwrap()
    };
    let queue = &recovery.queues[0];
    let there: Vec<u64> = read_all(&queue.log, 0..queue.next_seq).into_iter().map(|(seq, _)| seq).collect();
    for seq in &confirmed {
        assert!(there.contains(seq), "{seq} was confirmed and is not among {there:?}");
    }
    assert!((0..20).all(|seq| !there.contains(&seq)), "settled ones are back: {there:?}");
    close(store);
}
