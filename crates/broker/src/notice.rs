//! What happens in the broker, for whoever listens: queues that come and go, consumers that leave, alarms.
//!
//! A listener has room for a limited number of notices; what comes beyond is counted and not told. Without listeners
//! a happening costs one relaxed load.

use crate::Broker;
use millpond_model::{ConsumerTag, QueueName, VhostName};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

/// Notices that wait for one listener.
const NOTICES_MAX: usize = 10_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A queue was declared that was not there.
    QueueCreated {
        /// Where.
        vhost: VhostName,
        /// Its name.
        queue: QueueName,
        /// Whether it survives a restart.
        durable: bool,
        /// Whether it is its connection's own.
        exclusive: bool,
    },
    /// A queue went: deleted, expired, or with its last consumer or its connection.
    QueueDeleted {
        /// Where.
        vhost: VhostName,
        /// Its name.
        queue: QueueName,
    },
    /// A consumer of a queue was cancelled by its client, or went with its session.
    ConsumerGone {
        /// Where.
        vhost: VhostName,
        /// Of which queue.
        queue: QueueName,
        /// The consumer's tag.
        tag: ConsumerTag,
        /// Consumers that the queue still has.
        left: usize,
    },
    /// An alarm was set.
    AlarmSet {
        /// `memory` or `disk`.
        resource: &'static str,
    },
    /// An alarm is over.
    AlarmCleared {
        /// `memory` or `disk`.
        resource: &'static str,
    },
}

/// A notice with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noticed {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub notice: Notice,
}

/// Those who listen.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    any: AtomicBool,
    list: Mutex<Vec<Weak<Feed>>>,
}

#[derive(Debug, Default)]
struct Feed(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    notices: VecDeque<Noticed>,
    missed: u64,
    waker: Option<Waker>,
}

impl Listeners {
    /// Tells what `notice` gives, if anybody listens.
    #[inline]
    pub(crate) fn tell(&self, at_ms: impl FnOnce() -> u64, notice: impl FnOnce() -> Notice) {
        if self.any.load(Ordering::Relaxed) {
            self.tell_all(&Noticed { at_ms: at_ms(), notice: notice() });
        }
    }

    #[cold]
    fn tell_all(&self, noticed: &Noticed) {
        let mut list = self.list.lock();
        list.retain(|feed| {
            let Some(feed) = feed.upgrade() else { return false };
            let mut waiting = feed.0.lock();
            match waiting.notices.len() < NOTICES_MAX {
                true => waiting.notices.push_back(noticed.clone()),
                false => waiting.missed += 1,
            }
            if let Some(waker) = waiting.waker.take() {
                waker.wake();
            }
            true
        });
        self.any.store(!list.is_empty(), Ordering::Relaxed);
    }
}

/// A listener; it ends when this is dropped.
#[derive(Debug)]
pub struct Notices(Arc<Feed>);

impl Notices {
    /// Ready when something happened since the last time: appended to `out`, in order; and how many notices there was
    /// no room for.
    pub fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<Noticed>) -> Poll<u64> {
        let mut waiting = self.0.0.lock();
        if waiting.notices.is_empty() && waiting.missed == 0 {
            waiting.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        out.extend(waiting.notices.drain(..));
        Poll::Ready(std::mem::take(&mut waiting.missed))
    }
}

impl Broker {
    /// Listens to what happens from now on, in all vhosts.
    pub fn notices(&self) -> Notices {
        let feed = Arc::new(Feed::default());
        let listeners = &self.core.listeners;
        let mut list = listeners.list.lock();
        list.push(Arc::downgrade(&feed));
        listeners.any.store(true, Ordering::Relaxed);
        Notices(feed)
    }
}
