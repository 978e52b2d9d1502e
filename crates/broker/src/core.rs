//! What every part of the broker shares: the store, the settings, numbers that are given once.

use crate::access::Access;
use crate::admin::Parameters;
use crate::alarm::Alarms;
use crate::audit::Audit;
use crate::dead_letter;
use crate::definition::{QUEUE_IDS, encode_queue_ids};
use crate::notice::{Listeners, Notice};
use crate::queue::end::DeleteIf;
use crate::queue::{QueueCell, Scratch, Work};
use crate::session::inbox::Inbox;
use crate::sessions::{Newcomer, Sessions};
use crate::stats::Stats;
use crate::timer::Timer;
use crate::vhost::Vhost;
use crate::watchdog::Watchdog;
use crate::{BrokerOptions, OpenSessionError, Saved, WriteRefused};
use hashbrown::HashMap;
use millpond_model::VhostName;
use millpond_store::{Batch, CommitError, OnCommit, QueueId, Store, StoreStatus};
use parking_lot::{Condvar, Mutex, RwLock};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

/// Queue ids reserved with one write.
const QUEUE_IDS_RESERVED: u64 = 4096;

/// How often a full store is looked at while publishers wait for it.
const FULL_LOOK_EVERY: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) options: BrokerOptions,
    /// Asked when a session opens, never after.
    pub(crate) vhosts: RwLock<HashMap<VhostName, Arc<Vhost>>>,
    pub(crate) sessions: Sessions,
    pub(crate) access: Access,
    pub(crate) alarms: Alarms,
    pub(crate) audit: Arc<Audit>,
    pub(crate) parameters: Parameters,
    pub(crate) listeners: Listeners,
    pub(crate) timer: Timer,
    pub(crate) watchdog: Watchdog,
    pub(crate) stats: Arc<Stats>,
    this: Weak<Self>,
    queue_ids: Mutex<QueueIds>,
    shutting_down: AtomicBool,
    draining: AtomicBool,
    full: Mutex<FullWaiters>,
    /// Nobody signals it: its wait has a limit.
    look_again: Condvar,
}

#[derive(Debug)]
struct QueueIds {
    next: u64,
    reserved: u64,
}

/// Publishers without confirms that wait for room in the store.
#[derive(Debug, Default)]
struct FullWaiters {
    wakers: Vec<Waker>,
    watched: bool,
}

impl Core {
    pub(crate) fn new(
        store: Store,
        options: BrokerOptions,
        vhosts: HashMap<VhostName, Arc<Vhost>>,
        next_queue_id: u64,
        this: Weak<Self>,
    ) -> Self {
        Self {
            timer: Timer::new(options.clock.clone(), this.clone()),
            stats: Stats::new(options.statistics_interval_ms, this.clone()),
            this,
            store,
            vhosts: RwLock::new(vhosts),
            sessions: Sessions::default(),
            access: Access::default(),
            alarms: Alarms::default(),
            audit: Audit::open(&options.audit, &options.clock),
            parameters: Parameters::default(),
            listeners: Listeners::default(),
            watchdog: Watchdog::default(),
            queue_ids: Mutex::new(QueueIds { next: next_queue_id, reserved: next_queue_id }),
            shutting_down: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            full: Mutex::default(),
            look_again: Condvar::new(),
            options,
        }
    }

    /// Tells those who listen what happened.
    #[inline]
    pub(crate) fn tell(&self, notice: impl FnOnce() -> Notice) {
        self.listeners.tell(|| self.options.clock.now_ms(), notice);
    }

    /// For those that outlive it.
    pub(crate) fn this(&self) -> Weak<Self> {
        self.this.clone()
    }

    /// Runs `f` with a batch; what it put there is committed without anybody being told.
    pub(crate) fn work<R>(&self, f: impl FnOnce(&mut Work<'_>) -> R) -> R {
        let (result, batch) = self.with_batch(f);
        if !batch.is_empty() {
            self.store.commit(batch, None);
        }
        result
    }

    /// Runs `f` with a batch that the caller commits right after.
    pub(crate) fn with_batch<R>(&self, f: impl FnOnce(&mut Work<'_>) -> R) -> (R, Batch) {
        Scratch::with(|scratch| {
            let mut batch = self.store.begin();
            let mut work = Work { core: self, batch: &mut batch, scratch };
            let result = f(&mut work);
            if !work.scratch.dead.is_empty() {
                dead_letter::carry_out(&mut work);
            }
            // Most have woken theirs. Who looked after a queue by the way (a get, a move) may have handed out too.
            work.scratch.wake();
            (result, batch)
        })
    }

    /// Numbers for the logs of a queue, in a row, never given before, not even by an earlier process.
    pub(crate) fn next_queue_ids(&self, count: u16) -> QueueId {
        let mut ids = self.queue_ids.lock();
        if ids.next + u64::from(count) > ids.reserved {
            ids.reserved = ids.next + QUEUE_IDS_RESERVED;
            // Submitted before any batch that names such an id can be: the log keeps the order.
            let mut batch = self.store.begin();
            batch.put(QUEUE_IDS, &encode_queue_ids(ids.reserved));
            self.store.commit(batch, None);
        }
        ids.next += u64::from(count);
        QueueId(ids.next - u64::from(count))
    }

    /// Refuses what the store must keep while it cannot.
    pub(crate) fn check_writable(&self) -> Result<(), WriteRefused> {
        match self.store.status() {
            StoreStatus::Writable => Ok(()),
            StoreStatus::Full => {
                Err(WriteRefused::Store(CommitError::OutOfSpace { dir: "the data directory".into() }))
            }
            StoreStatus::Poisoned { cause } => Err(WriteRefused::Store(CommitError::Poisoned { cause })),
        }
    }

    // ---- queues that go by themselves

    /// Deletes a queue if the conditions hold and it is still there.
    pub(crate) fn delete_queue_if(&self, cell: &Arc<QueueCell>, when: DeleteIf) {
        let Some(vhost) = cell.vhost() else { return };
        let mut router = vhost.write();
        let is_there = router.queue(cell.spec().name.as_str()).is_some_and(|it| Arc::ptr_eq(&it.0, cell));
        if !is_there {
            return;
        }
        self.work(|work| {
            if let Ok((_, consumers)) = cell.delete(when, work) {
                vhost.remove_queue(&mut router, cell, consumers, work);
                work.scratch.wake();
            }
        });
    }

    /// Deletes a queue that nobody has used for as long as its `x-expires` says (T3).
    pub(crate) fn delete_expired(&self, cell: &Arc<QueueCell>) {
        let expired_ms = Some(self.options.clock.now_ms());
        self.delete_queue_if(cell, DeleteIf { expired_ms, ..DeleteIf::default() });
    }

    // ---- sessions

    /// Takes a session in, if there is room for it; its key.
    pub(crate) fn add_session(&self, new: &Newcomer<'_>) -> Result<u64, OpenSessionError> {
        if self.shutting_down.load(Ordering::Acquire) {
            return Err(OpenSessionError::ShuttingDown);
        }
        self.sessions.add(new)
    }

    /// Those of clients are told.
    pub(crate) fn announce_drain(&self) {
        if self.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        for inbox in self.sessions.inboxes_of_clients() {
            inbox.drain();
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// No new sessions; the open ones are told.
    pub(crate) fn announce_shutdown(&self) {
        if self.shutting_down.swap(true, Ordering::AcqRel) {
            return;
        }
        for inbox in self.sessions.inboxes(None) {
            inbox.shut_down();
        }
    }

    // ---- a full store

    /// Wakes `waker` when the store is not full any more. The store does not tell, so a thread looks, as long as
    /// anybody waits.
    pub(crate) fn wait_for_room(self: &Arc<Self>, waker: &Waker) {
        let mut full = self.full.lock();
        if !full.wakers.iter().any(|known| known.will_wake(waker)) {
            full.wakers.push(waker.clone());
        }
        if full.watched {
            return;
        }
        full.watched = true;
        let core = Arc::downgrade(self);
        let started = std::thread::Builder::new()
            .name("millpond-room".into())
            .spawn(move || while core.upgrade().is_some_and(|core| core.look_for_room()) {});
        if let Err(error) = started {
            full.watched = false;
            tracing::error!(%error, "no thread to watch the full store: its publishers wait until they are closed");
        }
    }

    /// Whether there is still something to look for.
    fn look_for_room(&self) -> bool {
        let mut full = self.full.lock();
        let _ = self.look_again.wait_for(&mut full, FULL_LOOK_EVERY);
        if matches!(self.store.status(), StoreStatus::Full) {
            return true;
        }
        full.watched = false;
        let wakers = std::mem::take(&mut full.wakers);
        drop(full);
        wakers.into_iter().for_each(Waker::wake);
        false
    }

    /// The vhost of that name.
    pub(crate) fn vhost(&self, name: &VhostName) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// Commits a batch of definitions; for whoever waits for it.
    pub(crate) fn save(&self, batch: Batch) -> Saved {
        if batch.is_empty() {
            return Saved::already();
        }
        let (saved, told) = Saved::new();
        self.store.commit(batch, Some((told, 0)));
        saved
    }

    /// Commits a batch for a session.
    pub(crate) fn commit_for(&self, batch: Batch, inbox: &Arc<Inbox>, token: u64) {
        let told: Arc<dyn OnCommit> = inbox.clone();
        self.store.commit(batch, Some((told, token)));
    }
}
