//! Threads that evaluate: a few for all rules, with the deep stacks that expressions need.
//!
//! An evaluation is short as a rule, takes a second if it takes all the steps it may, and in a built-in function that
//! makes or compares a huge value it may not end at all. It must hold up nobody but its own rule:
//!
//! - A batch that has had its slice of a thread's time goes behind the others that wait.
//! - While a thread has been busy with one evaluation for longer than [`STUCK_AFTER`], another takes its place, up to
//!   [`SPARES_MAX`] of them.
//! - What takes longer than [`LOST_AFTER`] is given up, the thread with it: Rust cannot end a thread. If the evaluation
//!   does end, so does the thread.
//! - A panic is the end of the evaluation, not of the thread.
//!
//! Nobody watches: who waits for a batch looks after it now and then.

use crate::jq::STACK_BYTES;
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a batch has a thread while others wait; an evaluation more at most.
const SLICE: Duration = Duration::from_millis(10);

/// An evaluation that takes longer does not count among the threads that work.
const STUCK_AFTER: Duration = Duration::from_millis(100);

/// An evaluation that takes longer is given up.
const LOST_AFTER: Duration = Duration::from_secs(20);

/// How often those who wait look after their batch.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Threads beside the usual ones while evaluations are stuck.
const SPARES_MAX: usize = 30;

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EvaluationError {
    /// It took too long.
    #[error("the evaluation did not end within {} s, or took all the memory it may, and was given up", LOST_AFTER.as_secs())]
    Lost,
    /// A mistake of ours or of the interpreter's.
    #[error("the evaluation broke off: {reason}")]
    Panicked {
        /// What it said.
        reason: String,
    },
}

/// The threads; they end when the last reference is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.work.notify_all();
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// Threads that work while none is stuck.
    usual: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<dyn Work>>,
    /// Since when each thread that works has been at what it does, by the thread's number.
    busy: Vec<(u64, Instant)>,
    threads: usize,
    idle: usize,
    next_thread: u64,
    closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("waiting", &self.waiting.len()).field("threads", &self.threads).finish()
    }
}

impl State {
    fn stuck(&self) -> usize {
        self.busy.iter().filter(|(_, since)| since.elapsed() > STUCK_AFTER).count()
    }
}

/// What a thread does.
trait Work: Send + Sync {
    /// Does it for a while; whether there is more.
    fn go_on(&self) -> bool;
}

impl Pool {
    /// Of one thread a core; they start when there is work.
    pub(crate) fn new() -> Self {
        let usual = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), usual };
        Self(Arc::new(Owner(Arc::new(shared))))
    }

    /// Works out one result an item, in their order, and gives the items back. If this is dropped, no more than the
    /// evaluation that is under way goes on.
    pub(crate) async fn each<I, O>(
        &self,
        items: Vec<I>,
        work: impl Fn(&I) -> O + Send + Sync + 'static,
    ) -> Vec<(I, Result<O, EvaluationError>)>
    where
        I: Clone + Send + Sync + 'static,
        O: Send + 'static,
    {
        let batch = Arc::new(Batch {
            items,
            work: Box::new(work),
            progress: Mutex::new(Progress { results: Vec::new(), round: 0, cancelled: false, since: None }),
            done: Notify::new(),
        });
        let guard = GiveUp(batch.clone());
        self.submit(batch.clone());
        loop {
            if tokio::time::timeout(LOOK_EVERY, batch.done.notified()).await.is_ok() {
                break;
            }
            if batch.give_up_lost() {
                self.submit(batch.clone());
            }
            self.relieve();
        }
        let results = std::mem::take(&mut batch.progress.lock().results);
        drop(guard);
        match Arc::try_unwrap(batch) {
            Ok(batch) => batch.items.into_iter().zip(results).collect(),
            // The thread that did the last of it has not let go yet.
            Err(batch) => batch.items.iter().cloned().zip(results).collect(),
        }
    }

    fn submit(&self, work: Arc<dyn Work>) {
        let shared = &self.0.0;
        let mut state = shared.state.lock();
        state.waiting.push_back(work);
        if state.idle > 0 {
            shared.work.notify_one();
        } else if state.threads < shared.usual {
            shared.start(&mut state);
        }
    }

    /// Puts threads in the place of those that are stuck.
    fn relieve(&self) {
        let shared = &self.0.0;
        let mut state = shared.state.lock();
        let wanted = (shared.usual + state.stuck()).min(shared.usual + SPARES_MAX);
        if state.waiting.is_empty() || state.idle > 0 || state.threads >= wanted {
            return;
        }
        shared.start(&mut state);
    }
}

impl Shared {
    fn start(self: &Arc<Self>, state: &mut State) {
        let number = state.next_thread;
        let shared = self.clone();
        let thread = std::thread::Builder::new().name("millpond-rules".into()).stack_size(STACK_BYTES);
        match thread.spawn(move || shared.run(number)) {
            Ok(_) => {
                state.next_thread += 1;
                state.threads += 1;
            }
            // Who waits for the work asks again.
            Err(error) => tracing::error!(%error, "no thread for the rules"),
        }
    }

    fn run(&self, number: u64) {
        let mut state = self.state.lock();
        loop {
            // The spares go when those they stood in for are back.
            if state.closed || state.threads > self.usual + state.stuck() {
                break;
            }
            let Some(work) = state.waiting.pop_front() else {
                state.idle += 1;
                self.work.wait(&mut state);
                state.idle -= 1;
                continue;
            };
            state.busy.push((number, Instant::now()));
            drop(state);
            let more = work.go_on();
            state = self.state.lock();
            state.busy.retain(|(busy, _)| *busy != number);
            if more {
                state.waiting.push_back(work);
            }
        }
        state.threads -= 1;
        // It may have been told of work that another must do now.
        self.work.notify_one();
    }
}

type OnItem<I, O> = Box<dyn Fn(&I) -> O + Send + Sync>;

struct Batch<I, O> {
    items: Vec<I>,
    work: OnItem<I, O>,
    progress: Mutex<Progress<O>>,
    done: Notify,
}

struct Progress<O> {
    results: Vec<Result<O, EvaluationError>>,
    /// Grows when an evaluation is given up: what that thread brings later is not wanted.
    round: u32,
    /// Nobody waits any more.
    cancelled: bool,
    /// When the evaluation under way began.
    since: Option<Instant>,
}

impl<I, O> Batch<I, O> {
    /// Gives the evaluation under way up if it has taken too long; whether the rest is to be submitted again.
    fn give_up_lost(&self) -> bool {
        let mut progress = self.progress.lock();
        if progress.since.is_none_or(|since| since.elapsed() <= LOST_AFTER) {
            return false;
        }
        progress.round += 1;
        progress.since = None;
        progress.results.push(Err(EvaluationError::Lost));
        true
    }
}

impl<I: Send + Sync, O: Send> Work for Batch<I, O> {
    fn go_on(&self) -> bool {
        let begun = Instant::now();
        let mut progress = self.progress.lock();
        let round = progress.round;
        while let Some(item) = self.items.get(progress.results.len()) {
            if progress.cancelled {
                return false;
            }
            let now = Instant::now();
            if now.duration_since(begun) > SLICE {
                return true;
            }
            progress.since = Some(now);
            drop(progress);
            let result = catch_unwind(AssertUnwindSafe(|| (self.work)(item)));
            progress = self.progress.lock();
            if progress.round != round {
                return false;
            }
            progress.since = None;
            progress.results.push(result.map_err(|panic| panicked(&*panic)));
        }
        self.done.notify_one();
        false
    }
}

fn panicked(panic: &(dyn Any + Send)) -> EvaluationError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    EvaluationError::Panicked { reason: text.unwrap_or("it panicked").to_owned() }
}

/// Ends a batch when nobody waits for it any more.
struct GiveUp<I, O>(Arc<Batch<I, O>>);

impl<I, O> Drop for GiveUp<I, O> {
    fn drop(&mut self) {
        self.0.progress.lock().cancelled = true;
    }
}
