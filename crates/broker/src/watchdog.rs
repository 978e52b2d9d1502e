//! Looks whether queues go on: messages ready, a consumer with credit, and no delivery for a second is a bug of the
//! broker. It is logged with what is known of it and counted, and the queue is given a push, so that users are served
//! meanwhile.
//!
//! Nothing is counted for it where messages pass. Whoever lets go of a queue's lock has handed out all that could be;
//! so a look, without waiting for the lock, asks each queue that has consumers whether anything could be handed out
//! now. What holds deliveries back by right is no suspicion, because then the machine itself would hand out nothing:
//! a pace, a delayed retry, standing by for the active consumer, a full inbox, spent credit. A look that finds a
//! suspect is not believed: the queue must be in the same state, with nothing handed out or gone, for as long as the
//! cause is given.

use crate::Broker;
use crate::core::Core;
use crate::queue::{Found, Look, QueueCell};
use millpond_model::{QueueName, VhostName};
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, Weak};

/// Queues looked at in one go; where there are more, a queue's turn comes every few looks.
const LOOKS_MAX: usize = 2048;

/// Suspects that are remembered.
const SUSPECTS_MAX: usize = 1024;

/// By how much the timer may be late.
pub(crate) const OVERDUE_MS: u64 = 1000;

/// Why a queue should have gone on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StuckCause {
    /// Ready messages and a consumer with credit, and nothing is handed out.
    Undelivered,
    /// The moment of a pace, a delayed retry or a lease has passed, and nobody did anything.
    Overdue,
    /// Messages that are to be read from disk do not come.
    Loading,
    /// A consumer's connection has read all it was given, and it is not given more.
    TapClosed,
    /// Of the consumers one is to be the active one, and none is.
    NobodyActive,
}

impl StuckCause {
    /// For how long nothing may have moved. A disk may be slow by right. Milliseconds.
    fn patience_ms(self) -> u64 {
        match self {
            Self::Loading => 30_000,
            _ => 1000,
        }
    }
}

impl fmt::Display for StuckCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Undelivered => "a consumer has credit and is given nothing",
            Self::Overdue => "the moment it waits for has passed",
            Self::Loading => "its messages are not read back from disk",
            Self::TapClosed => "a consumer has read all it was given and is not given more",
            Self::NobodyActive => "none of its consumers is the active one",
        })
    }
}

/// A queue that should have gone on and has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckQueue {
    /// Where it is.
    pub vhost: VhostName,
    /// Its name.
    pub queue: QueueName,
    /// What is known of the reason.
    pub cause: StuckCause,
    /// Messages to be delivered.
    pub ready: u64,
    /// Consumers with credit.
    pub consumers_with_credit: u64,
    /// Since when it has been seen so. Milliseconds since 1970.
    pub since_ms: u64,
}

/// What the watchdog has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StuckReport {
    /// How often a queue was stuck since the start: 0, if the broker has no bug.
    pub total: u64,
    /// Those that still are.
    pub now: Vec<StuckQueue>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watchdog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Queues whose turn has not come since the last time all were listed.
    to_see: Vec<Weak<QueueCell>>,
    suspects: Vec<Suspect>,
    total: u64,
}

#[derive(Debug)]
struct Suspect {
    cell: Weak<QueueCell>,
    suspicion: Suspicion,
}

/// What is held against a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Suspicion {
    found: Found,
    since_ms: u64,
    /// It was logged and counted.
    told: bool,
}

impl Suspicion {
    /// What follows from a further look; whether it is to be told.
    fn judge(before: Option<Self>, look: Look, now_ms: u64) -> (Option<Self>, bool) {
        let found = match look {
            // Nothing is learned from that; what moved shows the next time.
            Look::Busy => return (before, false),
            Look::Well => return (None, false),
            Look::Suspect(found) => found,
        };
        let same = |it: &Self| it.found.cause == found.cause && it.found.progress == found.progress;
        let mut now = match before.filter(same) {
            Some(before) => Self { found, ..before },
            None => Self { found, since_ms: now_ms, told: false },
        };
        let is_ripe = now_ms.saturating_sub(now.since_ms) >= found.cause.patience_ms();
        let tell = is_ripe && !now.told;
        now.told |= tell;
        (Some(now), tell)
    }
}

impl State {
    /// Looks at all suspects, and at the next of the others; those that are to be told.
    fn look(&mut self, core: &Core) -> Vec<Arc<QueueCell>> {
        let now_ms = core.options.clock.now_ms();
        let mut ripe = Vec::new();
        self.suspects.retain_mut(|suspect| {
            let Some(cell) = suspect.cell.upgrade() else { return false };
            let (now, tell) = Suspicion::judge(Some(suspect.suspicion), cell.look_at(now_ms), now_ms);
            let Some(now) = now else {
                if suspect.suspicion.told {
                    tracing::info!(queue = %cell.spec().name, "a queue that was stuck goes on");
                }
                return false;
            };
            suspect.suspicion = now;
            if tell {
                ripe.push(cell);
            }
            true
        });
        if self.to_see.is_empty() {
            self.to_see = all_queues(core);
        }
        let rest = self.to_see.len().saturating_sub(LOOKS_MAX);
        let seen = self.to_see.split_off(rest);
        self.to_see.shrink_to(rest);
        for cell in seen.iter().filter_map(Weak::upgrade) {
            let (suspicion, _) = Suspicion::judge(None, cell.look_at(now_ms), now_ms);
            let Some(suspicion) = suspicion.filter(|_| self.suspects.len() < SUSPECTS_MAX) else { continue };
            let cell = Arc::downgrade(&cell);
            if !self.suspects.iter().any(|known| known.cell.ptr_eq(&cell)) {
                self.suspects.push(Suspect { cell, suspicion });
            }
        }
        self.total += ripe.len() as u64;
        ripe
    }

    fn told(&self) -> impl Iterator<Item = StuckQueue> {
        self.suspects.iter().filter(|suspect| suspect.suspicion.told).filter_map(Suspect::describe)
    }
}

impl Suspect {
    fn describe(&self) -> Option<StuckQueue> {
        let cell = self.cell.upgrade()?;
        let Suspicion { found, since_ms, .. } = self.suspicion;
        Some(StuckQueue {
            vhost: cell.vhost()?.name.clone(),
            queue: cell.spec().name.clone(),
            cause: found.cause,
            ready: found.ready,
            consumers_with_credit: found.able,
            since_ms,
        })
    }
}

fn all_queues(core: &Core) -> Vec<Weak<QueueCell>> {
    let vhosts: Vec<_> = core.vhosts.read().values().cloned().collect();
    let mut all = Vec::new();
    for vhost in vhosts {
        all.extend(vhost.read().queues().map(|queue| Arc::downgrade(&queue.0)));
    }
    all
}

impl Broker {
    /// Looks for queues that should go on and do not: logs and counts them, and gives them a push. To be called every
    /// second; it waits for nobody and costs some 100 ns a queue.
    pub fn look_for_stuck_queues(&self) {
        let ripe = {
            let mut state = self.core.watchdog.0.lock();
            let ripe = state.look(&self.core);
            for cell in &ripe {
                let whose = |known: &&Suspect| std::ptr::eq(known.cell.as_ptr(), Arc::as_ptr(cell));
                if let Some(stuck) = state.suspects.iter().find(whose).and_then(Suspect::describe) {
                    tracing::error!(
                        vhost = %stuck.vhost, queue = %stuck.queue, cause = %stuck.cause, ready = stuck.ready,
                        consumers_with_credit = stuck.consumers_with_credit, since_ms = stuck.since_ms,
                        "a queue is stuck, which is a bug: it is given a push; please report this line"
                    );
                }
            }
            ripe
        };
        for cell in ripe {
            self.core.work(|work| cell.push_on(work));
        }
    }

    /// What [`Self::look_for_stuck_queues`] has found so far.
    pub fn stuck_queues(&self) -> StuckReport {
        let state = self.core.watchdog.0.lock();
        StuckReport { total: state.total, now: state.told().collect() }
    }
}

#[cfg(test)]
mod tests;
