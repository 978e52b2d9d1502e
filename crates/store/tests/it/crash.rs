//! Random histories with crashes, kills, failing disks and full disks: nothing confirmed is lost, nothing comes
//! twice, nothing is invented.
//!
//! A single thread submits, so after every restart the store must hold exactly what the first `k` submitted
//! batches amount to, for some `k` that covers all that were confirmed. That is atomicity, durability, order and
//! the absence of inventions in one comparison.
//!
//! `MILLPOND_STORE_SECONDS` lets each test run that long, `MILLPOND_STORE_SEEDS` that many histories;
//! `MILLPOND_STORE_SEED` runs one history. Threads take part, so a seed repeats the steps, not the race.

use crate::harness::{
    Crashed, DEADLINE, DIR, LOOK, Listener, await_failing, close, fake_disk, open_fake, read, tiny_options,
};
use crate::history::{End, History, Life, Op, Trouble};
use crate::life::{Queue, Running, Submitted};
use crate::model::{Doubt, Effect, Found, FoundQueue, State};
use bytes::Bytes;
use millpond_store::fs::{FakeFs, Fault, FileSystem};
use millpond_store::{CommitError, Recovery, Store, StoreOptions, StoreStatus, SyncMode};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

/// What was told of a batch; nothing of one that nobody waited for.
type Outcome = Option<Result<(), CommitError>>;

/// What a store may be found to hold.
struct Expected {
    /// Holds for sure.
    base: State,
    /// Submitted on top of it, in order.
    batches: Vec<Vec<Effect>>,
    /// So many of them must be there.
    sure: usize,
    doubt: Doubt,
    /// All batches of all lives, for the message of a failure.
    trail: Vec<(u64, Vec<Effect>, Outcome)>,
}

impl Expected {
    /// Takes the longest run of batches that explains what was found.
    fn accept(&mut self, found: &Found) {
        let mut candidates = vec![self.base.clone()];
        for batch in &self.batches {
            let mut next = candidates[candidates.len() - 1].clone();
            next.apply(batch);
            candidates.push(next);
        }
        candidates.iter_mut().for_each(|state| state.believe(&self.doubt, found));
        let differences: Vec<Vec<String>> = candidates.iter().map(|state| state.differences(found)).collect();
        if let Some(k) = (self.sure..candidates.len()).rev().find(|k| differences[*k].is_empty()) {
            self.batches.truncate(k);
            match self.batches.last_mut() {
                Some(last) => last.push(Effect::Restart),
                None => self.base.apply(&[Effect::Restart]),
            }
            return;
        }
        let mut words = String::new();
        let mut best: Vec<usize> = (0..candidates.len()).collect();
        best.sort_by_key(|k| (differences[*k].len(), differences[*k].iter().map(String::len).sum::<usize>()));
        for k in best.iter().take(3) {
            words += &format!("\n  {k} batches: {}", differences[*k].join("; "));
        }
        for (queue, seq) in candidates[best[0]].differing(found).into_iter().take(3) {
            for (number, (life, effects, result)) in self.trail.iter().enumerate() {
                for what in effects.iter().filter_map(|effect| effect.concerns(queue, seq)) {
                    words += &format!(
                        "\n  queue {queue}, {seq}: {what} in life {life}, batch {number}: {result:?}"
                    );
                }
            }
        }
        panic!("found is not what {} to {} batches amount to:{words}", self.sure, self.batches.len());
    }

    fn settle_down(&mut self, found: &Found) {
        for batch in std::mem::take(&mut self.batches) {
            self.base.apply(&batch);
        }
        self.base.believe(&std::mem::take(&mut self.doubt), found);
        self.sure = 0;
    }
}

/// The data directory through all its lives.
struct Run<'a> {
    history: &'a History,
    options: StoreOptions,
    fs: FakeFs,
    /// Syncs that had failed when the store was opened last.
    failed_syncs: u64,
    expected: Expected,
    next_queue: u64,
    next_message: u64,
    /// Ids of durable queues that exist (or may: the delete was not confirmed).
    durable_queues: Vec<u64>,
}

fn run(history: &History) {
    let mut options = tiny_options(DIR);
    options.sync = history.sync;
    options.wal_segment_size_bytes = history.wal_segment_size_bytes;
    options.queue_memory_max_bytes = history.queue_memory_max_bytes;
    options.memory_max_bytes = history.queue_memory_max_bytes * 3;
    let mut run = Run {
        history,
        options,
        fs: fake_disk(history.seed),
        failed_syncs: 0,
        expected: Expected {
            base: State::default(),
            batches: Vec::new(),
            sure: 0,
            doubt: Doubt::default(),
            trail: Vec::new(),
        },
        next_queue: 0,
        next_message: 0,
        durable_queues: Vec::new(),
    };
    let mut fault_in_open = None;
    for (number, life) in history.lives.iter().enumerate() {
        let mut running = run.open(fault_in_open, number as u64);
        running.may_be_full = life.ops.iter().any(|op| matches!(op, Op::Room(_)));
        for fault in &life.faults {
            running.fs.plan(*fault);
        }
        if running.queues.is_empty() {
            running.add_queue(running.next_queue, true);
            running.next_queue += 1;
        }
        let crashed = life.ops.iter().any(|op| running.step(op) == Err(Crashed));
        run.end(life, running, crashed, number as u64);
        fault_in_open = life.fault_in_next_open;
    }
    run.open(None, history.lives.len() as u64);
}

impl Run<'_> {
    /// Opens the store, with a fault on the way if asked for, and checks what is in it.
    fn open(&mut self, mut fault: Option<Fault>, life: u64) -> Running {
        loop {
            fault.into_iter().for_each(|fault| self.fs.plan(fault));
            self.failed_syncs = self.fs.counts().failed_syncs;
            match open_fake(&self.options, &self.fs).map(|opened| self.take_over(opened)) {
                Ok(Ok(running)) => {
                    self.fs.forget_faults();
                    return running;
                }
                Ok(Err(Crashed)) => {}
                Err(e) => {
                    assert!(self.fs.is_stopped() || self.a_sync_failed(), "the store does not open: {e}")
                }
            }
            fault = match fault {
                Some(Fault::CrashAt(nth)) => {
                    self.fs = self.fs.crash(self.history.seed ^ (nth << 8) ^ life);
                    if self.history.sync != SyncMode::Always {
                        self.expected.sure = 0;
                    }
                    (nth < 200).then_some(Fault::CrashAt(nth * 2))
                }
                // Started once more, with the power on or after it went.
                Some(Fault::FailSync(nth)) if (nth ^ self.history.seed).is_multiple_of(2) => None,
                Some(Fault::FailSync(nth)) => {
                    self.fs = self.fs.crash(self.history.seed ^ (nth << 8) ^ life);
                    None
                }
                other => panic!("opening failed, planned was {other:?}"),
            };
        }
    }

    /// Whether a sync has failed since the store was opened.
    fn a_sync_failed(&self) -> bool {
        self.fs.counts().failed_syncs > self.failed_syncs
    }

    /// Waits until a sync that has failed has left its mark: a process that is killed in between has lost what nobody
    /// else can know.
    fn wait_for_mark(&self) {
        self.fs.forget_faults();
        let deadline = Instant::now() + DEADLINE;
        while self.a_sync_failed() && !self.fs.exists(&Path::new(DIR).join("POISONED")).unwrap() {
            assert!(Instant::now() < deadline, "a failed sync leaves no mark");
            std::thread::park_timeout(LOOK);
        }
    }

    /// Reads everything that was recovered, checks it, and goes on from there.
    fn take_over(&mut self, (store, recovery): (Store, Recovery)) -> Result<Running, Crashed> {
        let mut found = Found::default();
        let mut queues = Vec::new();
        let values = match store.values(b"") {
            Ok(values) => values,
            Err(error) => {
                await_failing(&store, &self.fs, &error);
                drop(recovery);
                close(store);
                return Err(Crashed);
            }
        };
        for (key, value) in values {
            found.values.insert(key.to_vec(), value.to_vec());
        }
        let recovered = read_recovery(&self.fs, recovery, &mut found, &mut queues);
        if recovered.is_err() || self.fs.is_stopped() {
            drop(queues);
            close(store);
            return Err(Crashed);
        }
        self.expected.accept(&found);
        if self.history.sync == SyncMode::Always {
            // What it shows it must have made durable: consumers act on it.
            self.expected.settle_down(&found);
        }
        let mut state = self.expected.base.clone();
        self.expected.batches.iter().for_each(|batch| state.apply(batch));
        let fs = self.fs.clone();
        let mut running = Running::new(fs, store, state, self.next_queue, self.next_message);
        for id in &self.durable_queues {
            if !queues.iter().any(|queue: &Queue| queue.id == *id) {
                running.add_queue(*id, true);
            }
        }
        queues.into_iter().for_each(|queue| running.adopt_queue(queue));
        Ok(running)
    }

    /// Ends a life, and notes what must and what may be found in the next.
    fn end(&mut self, life: &Life, mut running: Running, crashed: bool, number: u64) {
        let seed = self.history.seed ^ (number << 32);
        let fs = self.fs.clone();
        fs.set_capacity_bytes(None);
        let image = match life.end {
            _ if crashed || fs.is_stopped() => None,
            End::Close | End::Restart => {
                running.commit_all();
                None
            }
            End::Kill => {
                self.wait_for_mark();
                Some(fs.kill())
            }
            End::Crash => Some(fs.crash(seed)),
        };
        (self.next_queue, self.next_message) = (running.next_queue, running.next_message);
        self.durable_queues =
            running.queues.iter().filter(|queue| queue.durable).map(|queue| queue.id).collect();
        let Running { store, submitted, completions, queues, open, may_be_full, .. } = running;
        drop((queues, open));
        close(store.clone());
        let poisoned = matches!(store.status(), StoreStatus::Poisoned { .. });
        let is_closed = matches!(life.end, End::Close | End::Restart);
        let closed = is_closed && !crashed && !fs.is_stopped() && !poisoned;
        let results: Vec<Outcome> = (0..submitted.len() as u64).map(|token| completions.get(token)).collect();
        check_results(&submitted, &results);
        let only_full = may_be_full && life.faults.is_empty() && !fs.is_stopped();
        assert!(!(only_full && poisoned), "a full disk has poisoned the store: {:?}", store.status());
        let killed = life.end == End::Kill && image.is_some();
        let counts = self.history.sync == SyncMode::Always || closed || killed;
        self.expected.sure = if counts { self.expected.batches.len() } else { 0 };
        for (batch, result) in submitted.into_iter().zip(&results) {
            self.expected.trail.push((number, batch.effects.clone(), result.clone()));
            if let Some(Err(CommitError::OutOfSpace { .. } | CommitError::TooLarge { .. })) = result {
                self.expected.doubt.add(&batch.effects);
                continue;
            }
            self.expected.batches.push(batch.effects);
            if counts && (matches!(result, Some(Ok(()))) || closed) {
                self.expected.sure = self.expected.batches.len();
            }
        }
        let goes_on = life.end == End::Restart && !crashed && !fs.is_stopped();
        self.fs = image.unwrap_or_else(|| if goes_on { fs.kill() } else { fs.crash(seed) });
    }
}

fn read_recovery(
    fs: &FakeFs,
    recovery: Recovery,
    found: &mut Found,
    queues: &mut Vec<Queue>,
) -> Result<(), Crashed> {
    let mut result = Ok(());
    for queue in recovery.queues {
        let (id, next_seq) = (queue.id.0, queue.next_seq);
        assert!(queue.live.iter().all(|range| range.start < range.end && range.end <= next_seq));
        assert!(queue.live.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", queue.live);
        let listener = Listener::on(&queue.log);
        let mut live = Vec::new();
        for range in &queue.live {
            match read(&queue.log, &listener, range.clone(), 1500, &|| fs.is_stopped()) {
                Ok(read) => {
                    assert_eq!(read.len() as u64, range.end - range.start, "queue {id}: {range:?} has gaps");
                    live.extend(read);
                }
                Err(Crashed) => result = Err(Crashed),
            }
        }
        if result.is_ok() {
            let all = read(&queue.log, &listener, 0..next_seq, 5000, &|| fs.is_stopped());
            match all {
                Ok(all) => assert!(all == live, "queue {id}: more is to be had than is live"),
                Err(Crashed) => result = Err(Crashed),
            }
        }
        found.queues.insert(id, FoundQueue { live: live.iter().cloned().collect(), next_seq });
        let live: BTreeMap<u64, Bytes> = live.into_iter().collect();
        let gone = (0..next_seq).filter(|seq| !live.contains_key(seq)).collect();
        queues.push(Queue { id, durable: true, log: queue.log, listener, live, next_seq, gone });
    }
    result
}

/// After the first failure nothing is confirmed; every batch is completed.
fn check_results(submitted: &[Submitted], results: &[Outcome]) {
    let mut poisoned = false;
    for (token, (batch, result)) in submitted.iter().zip(results).enumerate() {
        match result {
            None => assert!(batch.quiet, "batch {token} was never completed"),
            Some(Ok(())) => assert!(!poisoned, "batch {token} was confirmed after a failure"),
            Some(Err(CommitError::OutOfSpace { .. } | CommitError::TooLarge { .. })) => {}
            Some(Err(CommitError::Poisoned { .. } | CommitError::Closed)) => poisoned = true,
        }
    }
}

thread_local! {
    /// Whether panics of this thread are expected and not worth printing.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What a panic said, if the history ends in one.
fn failure(history: &History) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| run(history)));
    QUIET.set(false);
    let panic = result.err()?;
    let words = panic.downcast_ref::<String>().cloned();
    Some(words.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
}

/// Leaves out lives, then halves, quarters... of steps, as long as the history still fails (threads make some
/// failures a matter of luck, so each try gets a few runs).
fn shrink(mut history: History) -> History {
    let fails = |history: &History| (0..3).any(|_| failure(history).is_some());
    let mut number = 0;
    while number < history.lives.len() {
        let mut less = history.clone();
        less.lives.remove(number);
        if fails(&less) { history = less } else { number += 1 }
    }
    for number in 0..history.lives.len() {
        let mut piece = history.lives[number].ops.len() / 2;
        while piece > 0 {
            let mut at = 0;
            while at < history.lives[number].ops.len() {
                let mut less = history.clone();
                let ops = &mut less.lives[number].ops;
                ops.drain(at..ops.len().min(at + piece));
                if fails(&less) { history = less } else { at += piece }
            }
            piece /= 2;
        }
    }
    history
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

fn check(sync: SyncMode, trouble: Trouble, histories: u64) {
    let seconds = number_from_env("MILLPOND_STORE_SECONDS").map(Duration::from_secs);
    let histories = number_from_env("MILLPOND_STORE_SEEDS").unwrap_or(histories);
    let one = number_from_env("MILLPOND_STORE_SEED");
    let first = match (one, seconds) {
        (Some(seed), _) => seed,
        // A long run should not begin where the last one did.
        (None, Some(_)) => rand::random::<u32>().into(),
        (None, None) => 0,
    };
    let start = Instant::now();
    let mut seed = first;
    loop {
        let history = History::random(seed, sync, trouble);
        if let Some(words) = failure(&history) {
            // A race is hard to find again: what was seen is told before anything else is tried.
            eprintln!("MILLPOND_STORE_SEED={seed} ({sync:?}, {trouble:?}): {words}");
            let small = shrink(history);
            let again = failure(&small).unwrap_or("nothing this time".to_owned());
            panic!("MILLPOND_STORE_SEED={seed} ({sync:?}, {trouble:?}): {words}\n{small}which says: {again}");
        }
        seed += 1;
        let done = match (one, seconds) {
            (Some(_), _) => true,
            (None, Some(seconds)) => start.elapsed() > seconds,
            (None, None) => seed - first >= histories,
        };
        if done {
            break;
        }
    }
    println!("{} histories", seed - first);
}

#[test]
fn nothing_confirmed_is_lost_and_nothing_invented_when_the_power_goes() {
    check(SyncMode::Always, Trouble::Crash, 1000);
}

#[test]
fn without_syncs_a_kill_loses_nothing_and_a_crash_loses_only_the_end() {
    check(SyncMode::Os, Trouble::Crash, 200);
}

#[test]
fn with_syncs_at_an_interval_the_same_holds() {
    check(SyncMode::Interval(Duration::from_millis(3)), Trouble::Crash, 100);
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_confirmed_and_nothing_confirmed_is_lost() {
    check(SyncMode::Always, Trouble::Errors, 500);
}

#[test]
fn a_full_disk_refuses_what_grows_and_loses_nothing() {
    check(SyncMode::Always, Trouble::Full, 150);
}
