//! Measures the store alone: `store_rate [messages] [batch] [body bytes] [backlog|flow]`.
//!
//! `flow` settles each batch right after; `backlog` fills, then fetches and settles everything.
#![allow(clippy::print_stdout)]

use bytes::Bytes;
use millpond_model::{Message, MessageBatch};
use millpond_store::{CommitError, Fetch, OnCommit, OnQueue, QueueId, Store, StoreOptions};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Done(AtomicU64);

impl OnCommit for Done {
    fn committed(&self, token: u64, result: Result<(), CommitError>) {
        result.expect("a commit");
        self.0.fetch_max(token, SeqCst);
    }
}

#[derive(Default)]
struct Loaded(Mutex<bool>, Condvar);

impl OnQueue for Loaded {
    fn loaded(&self) {
        *self.0.lock().expect("not poisoned") = true;
        self.1.notify_one();
    }
    fn relieved(&self) {}
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let _ = stat;
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("tasks") {
        let path = task.expect("a task").path().join("schedstat");
        total += std::fs::read_to_string(path)
            .ok()
            .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Duration::from_nanos(total)
}

fn rss_mb() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4 / 1024
}

fn report(what: &str, messages: u64, since: Instant, cpu_before: Duration) {
    let took = since.elapsed();
    println!(
        "{what:>8}: {:>8.0} msg/s, {:>5.0} ns CPU a message, {} MB resident",
        messages as f64 / took.as_secs_f64(),
        (cpu() - cpu_before).as_nanos() as f64 / messages as f64,
        rss_mb()
    );
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (messages, batch_len, body_bytes) = (number(0, 2_000_000), number(1, 100), number(2, 100));
    let backlog = args.get(3).is_some_and(|mode| mode == "backlog");
    let dir = std::env::var("STORE_RATE_DIR").unwrap_or_else(|_| "store-rate-data".into());
    let opened = Instant::now();
    let (store, recovery) = Store::open(StoreOptions::new(&dir)).expect("a store");
    println!("opened in {:?}, {} queues, {} MB", opened.elapsed(), recovery.queues.len(), rss_mb());
    let queue = match recovery.queues.into_iter().next() {
        Some(queue) => queue.log,
        None => store.create_queue(QueueId(1), true),
    };
    let loaded = Arc::new(Loaded::default());
    queue.on_change(loaded.clone());
    let done = Arc::new(Done::default());
    let body = Bytes::from(vec![b'x'; body_bytes as usize]);
    let (begun, cpu_before) = (Instant::now(), cpu());
    let (mut assembler, mut list): (MessageBatch, Vec<Message>) = (MessageBatch::default(), Vec::new());
    let mut first = None;
    let mut end = 0;
    for token in 1..=messages / batch_len {
        for _ in 0..batch_len {
            assembler.start(b"", b"bench", b"\x10\x00\x02", true, body.len());
            assembler.push_body(&body);
            assembler.end();
        }
        assembler.finish_into(&mut list);
        let mut batch = store.begin();
        let seqs = queue.append(&mut batch, &mut list.drain(..));
        first.get_or_insert(seqs.start);
        end = seqs.end;
        store.commit(batch, Some((done.clone(), token)));
        if !backlog {
            let mut settle = store.begin();
            queue.settle(&mut settle, std::slice::from_ref(&seqs));
            store.commit(settle, None);
        }
        while token - done.0.load(SeqCst) > 64 || queue.is_over() {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    while done.0.load(SeqCst) < messages / batch_len {
        std::thread::sleep(Duration::from_micros(50));
    }
    report(if backlog { "fill" } else { "flow" }, messages, begun, cpu_before);
    if args.get(4).is_some_and(|then| then == "stop") {
        std::process::abort();
    }
    if backlog {
        drain(&store, &queue, &loaded, first.unwrap_or(0)..end);
    }
    pingpong(&store, &queue);
}

fn drain(store: &Store, queue: &millpond_store::QueueLog, loaded: &Loaded, seqs: std::ops::Range<u64>) {
    let (begun, cpu_before) = (Instant::now(), cpu());
    let mut next = seqs.start;
    let mut out = Vec::new();
    while next < seqs.end {
        *loaded.0.lock().expect("not poisoned") = false;
        let fetched = queue.fetch(next..seqs.end.min(next + 1000), 1 << 20, &mut out);
        if let Some((last, _)) = out.last() {
            let mut batch = store.begin();
            queue.settle(&mut batch, &[next..last + 1]);
            store.commit(batch, None);
            next = last + 1;
            out.clear();
        } else if fetched == Fetch::Loading {
            let mut flag = loaded.0.lock().expect("not poisoned");
            while !*flag {
                flag = loaded.1.wait(flag).expect("not poisoned");
            }
        } else {
            println!("nothing at {next}");
            break;
        }
    }
    report("drain", seqs.end - seqs.start, begun, cpu_before);
}

#[derive(Default)]
struct One(Mutex<u64>, Condvar);

impl OnCommit for One {
    fn committed(&self, token: u64, result: Result<(), CommitError>) {
        result.expect("a commit");
        *self.0.lock().expect("not poisoned") = token;
        self.1.notify_one();
    }
}

fn pingpong(store: &Store, queue: &millpond_store::QueueLog) {
    let one = Arc::new(One::default());
    let (begun, cpu_before) = (Instant::now(), cpu());
    for token in 1..=4000 {
        let message = Message::new(b"", b"bench", b"\x10\x00\x02", true, &[0; 100]);
        let mut batch = store.begin();
        let seqs = queue.append(&mut batch, &mut std::iter::once(message));
        store.commit(batch, Some((one.clone(), token)));
        let mut at = one.0.lock().expect("not poisoned");
        while *at < token {
            at = one.1.wait(at).expect("not poisoned");
        }
        drop(at);
        let mut batch = store.begin();
        queue.settle(&mut batch, std::slice::from_ref(&seqs));
        store.commit(batch, None);
    }
    report("single", 4000, begun, cpu_before);
}
