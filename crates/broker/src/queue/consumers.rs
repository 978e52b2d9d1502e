//! Consumers of a queue: who comes, goes, and what becomes of what they were given.

use super::QueueCell;
use super::cell::CROWDED_BYTES;
use super::machine::{ConsumerKey, OwnerKey, Rate, Return, Terms};
use super::pump::{Work, push_range};
use super::tick::Getter;
use crate::notice::Notice;
use crate::request::QueueRef;
use crate::session::inbox::Inbox;
use millpond_model::ConsumerTag;
use millpond_model::table::Table;
use std::sync::Arc;

/// Where a consumer's deliveries go.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    pub(crate) key: ConsumerKey,
    pub(crate) owner: OwnerKey,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) cookie: u64,
    pub(crate) queue: QueueRef,
    pub(crate) shown: Shown,
}

/// What people are shown of a consumer.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) tag: ConsumerTag,
    /// 0: it has none.
    pub(crate) channel: u16,
    pub(crate) exclusive: bool,
    pub(crate) arguments: Table,
}

/// What a new consumer brings.
pub(crate) struct NewConsumer {
    pub(crate) terms: Terms,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) cookie: u64,
    pub(crate) queue: QueueRef,
    pub(crate) shown: Shown,
}

/// What is to be changed of a consumer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ConsumerChange {
    pub(crate) prefetch: Option<u32>,
    pub(crate) paused: Option<bool>,
    /// `Some(None)`: no pace.
    pub(crate) rate: Option<Option<Rate>>,
    pub(crate) lease_ms: Option<u64>,
}

/// Why a consumer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddConsumerError {
    /// The queue went meanwhile.
    Deleted,
    /// Exclusive use, here or wanted.
    ExclusiveUse,
}

impl QueueCell {
    /// A consumer comes.
    pub(crate) fn add_consumer(
        self: &Arc<Self>,
        new: NewConsumer,
        work: &mut Work<'_>,
    ) -> Result<ConsumerKey, AddConsumerError> {
        let key = {
            let mut state = self.state.lock();
            if state.deleted {
                return Err(AddConsumerError::Deleted);
            }
            let wants_it_alone =
                new.shown.exclusive && (!state.sinks.is_empty() || state.settings.single_active);
            if state.exclusive_consumer.is_some() || wants_it_alone {
                return Err(AddConsumerError::ExclusiveUse);
            }
            self.tick_now(&mut state, work);
            let key = ConsumerKey(state.next_consumer);
            state.next_consumer += 1;
            if new.shown.exclusive {
                state.exclusive_consumer = Some(key);
            }
            state.sinks.push(Sink {
                key,
                owner: new.terms.owner,
                inbox: new.inbox,
                cookie: new.cookie,
                queue: new.queue,
                shown: new.shown,
            });
            state.machine.add_consumer(key, new.terms);
            self.pump(&mut state, work);
            key
        };
        work.scratch.wake();
        Ok(key)
    }

    /// A consumer goes; what waits in its inbox is ready again (unless it is settled already). Whether the queue is
    /// to be deleted now, because it was the last one.
    pub(crate) fn remove_consumer(
        self: &Arc<Self>,
        key: ConsumerKey,
        no_ack: bool,
        work: &mut Work<'_>,
    ) -> bool {
        if let Some(stream) = &self.stream {
            stream.remove_reader(self, key, work);
            return false;
        }
        let (left, tag) = {
            let mut state = self.state.lock();
            let Ok(at) = state.sinks.binary_search_by_key(&key, |sink| sink.key) else { return false };
            self.tick(&mut state, work);
            let sink = state.sinks.remove(at);
            state.note_lessee(Getter { owner: sink.owner, inbox: &sink.inbox, queue: sink.queue });
            state.exclusive_consumer.take_if(|exclusive| *exclusive == key);
            state.machine.remove_consumer(key);
            sink.inbox.forget_stalled(self, key);
            if !no_ack {
                let mut ranges = Vec::new();
                for seq in sink.inbox.take_back(sink.cookie, sink.queue) {
                    push_range(&mut ranges, seq..seq + 1);
                }
                for range in ranges {
                    state.machine.requeue(sink.owner, range, Return::Untouched);
                }
            }
            state.care.used(work);
            self.pump(&mut state, work);
            (state.sinks.len(), sink.shown.tag)
        };
        work.scratch.wake();
        self.tell_gone(vec![tag], left, work);
        left == 0 && self.spec.auto_delete
    }

    /// As [`Self::remove_consumer`], by somebody else than its session: who it was.
    pub(crate) fn end_consumer(
        self: &Arc<Self>,
        key: ConsumerKey,
        work: &mut Work<'_>,
    ) -> Option<(Sink, bool)> {
        if let Some(stream) = &self.stream {
            let sink = stream.sink(key)?;
            stream.remove_reader(self, key, work);
            return Some((sink, false));
        }
        let (sink, no_ack) = {
            let state = self.state.lock();
            (state.sink(key)?.clone(), state.machine.is_no_ack(key))
        };
        let is_unused = self.remove_consumer(key, no_ack, work);
        Some((sink, is_unused))
    }

    /// Tells of consumers that went.
    fn tell_gone(&self, tags: Vec<ConsumerTag>, left: usize, work: &Work<'_>) {
        for tag in tags {
            let Some(vhost) = self.vhost() else { return };
            let (vhost, queue) = (vhost.name.clone(), self.spec.name.clone());
            work.core.tell(|| Notice::ConsumerGone { vhost, queue, tag, left });
        }
    }

    /// A session goes: its consumers, and its unsettled deliveries return. Whether the queue is to be deleted now.
    pub(crate) fn close_owner(self: &Arc<Self>, owner: OwnerKey, work: &mut Work<'_>) -> bool {
        if let Some(stream) = &self.stream {
            stream.close_owner(self, owner, work);
            return false;
        }
        let (count, gone) = {
            let mut state = self.state.lock();
            self.tick(&mut state, work);
            let mut gone = Vec::new();
            state.sinks.retain(|sink| {
                let stays = sink.owner != owner;
                if !stays {
                    gone.push(sink.shown.tag.clone());
                }
                stays
            });
            let left = state.exclusive_consumer.filter(|key| state.sink(*key).is_some());
            state.exclusive_consumer = left;
            state.machine.close_owner(owner);
            state.forget_lessee(owner);
            state.care.used(work);
            self.pump(&mut state, work);
            (state.sinks.len(), gone)
        };
        work.scratch.wake();
        let last = count == 0 && !gone.is_empty();
        self.tell_gone(gone, count, work);
        last && self.spec.auto_delete
    }

    /// Changes a consumer's prefetch.
    pub(crate) fn set_prefetch(self: &Arc<Self>, key: ConsumerKey, prefetch: u32, work: &mut Work<'_>) {
        if let Some(stream) = &self.stream {
            return stream.set_prefetch(self, key, prefetch, work);
        }
        {
            let mut state = self.state.lock();
            state.machine.set_prefetch(key, prefetch);
            self.pump(&mut state, work);
        }
        work.scratch.wake();
    }

    /// A consumer's inbox has drained.
    pub(crate) fn open_tap(self: &Arc<Self>, key: ConsumerKey, work: &mut Work<'_>) {
        if let Some(stream) = &self.stream {
            return stream.open_tap(self, key, work);
        }
        {
            let mut state = self.state.lock();
            if state.sink(key).is_some() {
                state.busy = false;
                state.machine.set_open(key, true);
                self.pump(&mut state, work);
            }
            if !state.waiters.is_empty() && (!state.busy || self.log.memory_bytes() < CROWDED_BYTES / 2) {
                work.scratch.wake_later(&mut state.waiters);
            }
        }
        work.scratch.wake();
    }
}
