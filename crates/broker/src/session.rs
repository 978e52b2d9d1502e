//! A front-end connection as the broker sees it.

pub(crate) mod access;
mod audit;
mod channel_state;
mod consume;
mod definitions;
mod foresight;
pub(crate) mod inbox;
mod publish;
mod queues;
mod read_stream;
mod routes;
mod uncommitted;

pub use channel_state::{ChannelInfo, ChannelMode, ChannelState};

use crate::Login;
use crate::access::{AccessRefused, Right, Thing};
use crate::admin::ClientFacts;
use crate::core::Core;
use crate::error::ChannelLimit;
use crate::event::SessionEvent;
use crate::queue::QueueCell;
use crate::queue::machine::{ConsumerKey, OwnerKey};
use crate::request::{Durability, QueueRef};
use crate::stats::{Count, Kind, Meter};
use crate::vhost::Vhost;
use hashbrown::HashMap;
use inbox::Inbox;
use millpond_model::{ExchangeName, QueueName};
use millpond_store::Batch;
use publish::Groups;
use queues::QueueTable;
use routes::RouteCache;
use std::sync::Arc;
use std::task::{Context, Poll};
use uncommitted::{Holder, Uncommitted};

/// One connection's (or rule's) view of the broker; used by one task, `&mut`. Dropping it closes it: consumers go,
/// unsettled deliveries are requeued, exclusive queues are deleted.
#[derive(Debug)]
pub struct Session {
    pub(crate) core: Arc<Core>,
    vhost: Arc<Vhost>,
    pub(crate) owner: OwnerKey,
    login: Login,
    inbox: Arc<Inbox>,
    queues: QueueTable,
    consumers: HashMap<u64, Consumer>,
    next_consumer: u64,
    /// Declared by this session for itself.
    exclusive: Vec<QueueName>,
    replies: Vec<ReplyInbox>,
    /// Which of `replies` the channel in hand has.
    reply_channel: Option<u64>,
    routes: RouteCache,
    /// The exchange that was routed by last, and the generation of the topology then.
    exchange_meter: Option<(u64, ExchangeName, Arc<Meter>)>,
    groups: Groups,
    next_token: u64,
    /// The message routed last waits somewhere, and keeps its BCC until it goes on.
    keeps_bcc: bool,
    confirming: bool,
    /// What is published and not known to be durable.
    uncommitted: Uncommitted,
    /// What this session published to that was over its limits.
    over: Vec<Holder>,
    /// Places in the last publish of messages that a queue refused.
    refused: Vec<u32>,
    /// Places in the last publish of messages that were to take back others and found none.
    missed: Vec<u32>,
    /// One of the queues this session published to whose consumers are behind.
    crowded: Option<Arc<QueueCell>>,
    /// The queue whose get waits for the disk, and its number of loads then.
    loading: Option<(Arc<QueueCell>, u32)>,
}

#[derive(Debug)]
struct Consumer {
    cell: Arc<QueueCell>,
    key: ConsumerKey,
    no_ack: bool,
}

#[derive(Debug)]
struct ReplyInbox {
    cookie: u64,
    name: QueueName,
}

impl Session {
    pub(crate) fn new(core: Arc<Core>, vhost: Arc<Vhost>, key: u64, login: Login, inbox: Arc<Inbox>) -> Self {
        Self {
            core,
            vhost,
            owner: OwnerKey(key),
            login,
            inbox,
            queues: QueueTable::default(),
            consumers: HashMap::new(),
            next_consumer: 0,
            exclusive: Vec::new(),
            replies: Vec::new(),
            reply_channel: None,
            routes: RouteCache::default(),
            exchange_meter: None,
            groups: Groups::default(),
            next_token: 0,
            keeps_bcc: false,
            confirming: false,
            uncommitted: Uncommitted::default(),
            refused: Vec::new(),
            missed: Vec::new(),
            over: Vec::new(),
            crowded: None,
            loading: None,
        }
    }

    /// What the front end knows of the client, for whoever lists connections.
    pub fn describe_client(&self, client: ClientFacts) {
        self.core.sessions.describe_client(self.owner.0, client);
    }

    /// Takes events out of the inbox into `out` (appended); `Pending` and a wake-up later when there is none.
    pub fn poll_events(&mut self, cx: &mut Context<'_>, out: &mut Vec<SessionEvent>) -> Poll<()> {
        let before = out.len();
        let poll = self.inbox.poll(cx, out);
        self.note_commits(&out[before..]);
        poll
    }

    /// As `poll_events`, without waiting: whether anything came.
    pub fn try_events(&mut self, out: &mut Vec<SessionEvent>) -> bool {
        let before = out.len();
        let any = self.inbox.take(out);
        self.note_commits(&out[before..]);
        any
    }

    /// Told by the front end how many bytes of deliveries taken by `poll_events` have left for the socket (or were
    /// dropped): the sum of their `Message::size_bytes`, nothing added. The inbox limit counts a delivery from the
    /// moment it is assigned until here.
    pub fn deliveries_written(&mut self, bytes: usize) {
        let drained = self.inbox.written(bytes);
        if !drained.is_empty() {
            self.core.work(|work| drained.iter().for_each(|it| it.cell.open_tap(it.consumer, work)));
        }
    }

    /// Looks for ends of commits: messages of a failed one are taken out of their queues again, for their publisher
    /// is told that they were not taken.
    fn note_commits(&mut self, events: &[SessionEvent]) {
        for event in events {
            if let SessionEvent::Committed { token, result } = event {
                let failed = self.uncommitted.committed(*token, result.is_ok());
                if !failed.is_empty() {
                    self.core.work(|work| {
                        failed.into_iter().for_each(|(holder, seqs)| holder.retract(seqs, work));
                    });
                }
            }
        }
    }

    /// Commits a batch if anything in it must be kept.
    fn commit(&mut self, batch: Batch) -> Durability {
        if batch.is_empty() {
            self.uncommitted.forget_applied();
            return Durability::Now;
        }
        self.next_token += 1;
        self.uncommitted.submitted(self.next_token);
        self.core.commit_for(batch, &self.inbox, self.next_token);
        Durability::Pending(self.next_token)
    }

    /// Whether its user may do this with a thing of its vhost.
    fn may(&self, right: Right, thing: Thing<'_>) -> Result<(), AccessRefused> {
        let checked = self.core.access.check(&self.login, &self.vhost.name, right, thing);
        checked.inspect_err(|refused| self.note_refused(right, thing, refused))
    }

    /// Of an in-process client, which alarms do not hold back.
    fn is_inside(&self) -> bool {
        self.login.is_inside()
    }

    /// Who it is of.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Goes on with another login of the same user: a token in place of one that ends. What was looked up with the
    /// rights of before is looked up again.
    pub fn go_on_as(&mut self, login: Login) {
        self.login = login;
        self.routes = RouteCache::default();
    }

    /// Goes on for another request of the same user, perhaps from elsewhere: for the audit log.
    pub fn act_for(&mut self, login: &Login) {
        self.login.actor = login.actor.clone();
    }

    /// Whether its vhost went while it was being opened.
    pub(crate) fn is_in_deleted_vhost(&self) -> bool {
        self.vhost.is_deleted()
    }

    /// Counts a channel against its user's limit (`max-channels`); [`Self::channel_closed`] when it goes. The channels
    /// of a session that ends are forgotten with it.
    pub fn channel_opened(&mut self, number: u16) -> Result<Arc<ChannelState>, ChannelLimit> {
        let limit = |limit| ChannelLimit { user: self.login.user.clone(), limit };
        let stats = &self.core.stats;
        let state = Arc::new(ChannelState::new(stats.meter(Kind::Channel, &self.vhost.name)));
        self.core.sessions.open_channel(self.owner.0, number, &state).map_err(limit)?;
        stats.churn.add_shared(Count::ChannelCreated, 1);
        Ok(state)
    }

    /// A channel that was counted is gone.
    pub fn channel_closed(&mut self, number: u16) {
        if self.core.sessions.close_channel(self.owner.0, number) {
            self.core.stats.churn.add_shared(Count::ChannelClosed, 1);
        }
    }

    /// Where its connection's bytes are counted.
    pub fn traffic(&self) -> Arc<Meter> {
        self.core.sessions.traffic(self.owner.0).unwrap_or_else(|| {
            // A client inside the process is not listed.
            self.core.stats.meter(Kind::Connection, &self.vhost.name)
        })
    }

    /// The number under which this session's deliveries name a queue.
    fn queue_ref(&mut self, cell: &Arc<QueueCell>) -> QueueRef {
        self.queues.number(cell)
    }

    fn close(&mut self) {
        if let Some(channels) = self.core.sessions.remove(self.owner.0) {
            let churn = &self.core.stats.churn;
            churn.add_shared(Count::ConnectionClosed, 1);
            churn.add_shared(Count::ChannelClosed, channels as u64);
        }
        self.core.alarms.forget(self.owner.0);
        self.inbox.close();
        for reply in self.replies.drain(..) {
            self.vhost.replies.close(&reply.name);
        }
        self.consumers.clear();
        for name in std::mem::take(&mut self.exclusive) {
            self.delete_own(&name);
        }
        let cells = self.queues.take();
        if cells.is_empty() {
            return;
        }
        let owner = self.owner;
        let unused: Vec<_> =
            self.core.work(|work| cells.into_iter().filter(|cell| cell.close_owner(owner, work)).collect());
        for cell in unused {
            self.delete_unused(&cell);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}
