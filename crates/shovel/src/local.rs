//! The work of a shovel with both sides here: taken and published in one commit, so exactly once.

use crate::dest::{declare_locally, route};
use crate::error::{DESTINATION, SOURCE, ShovelError, local};
use crate::run::{End, Job};
use crate::source::{Taken, consume_locally, open_session};
use crate::spec::AckMode;
use millpond_broker::{
    CommitError, Deliveries, DeliveryId, Durability, Outcome, Publish, Session, SessionEvent, WriteRefused,
};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;
use tokio::sync::watch;

/// How long to wait while the store takes no writes, or a queue refuses.
const REFUSED_WAIT: Duration = Duration::from_millis(200);

struct Mover<'j> {
    job: &'j Job,
    session: Session,
    events: Vec<SessionEvent>,
    deliveries: VecDeque<Deliveries>,
    /// Commits under way, and how many messages each moves.
    commits: VecDeque<(u64, u64)>,
    /// Messages in them.
    pending: u64,
    ended: Option<ShovelError>,
}

pub(crate) async fn run(job: &Job, stop: &mut watch::Receiver<bool>) -> Result<End, ShovelError> {
    let mut session = open_session(&job.broker, &job.vhost, &job.name, SOURCE)?;
    let mut events = Vec::new();
    declare_locally(&mut session, &mut events, &job.spec.to).await?;
    let length = consume_locally(&mut session, &mut events, &job.name, &job.spec).await?;
    session.set_confirming(true);
    job.opened(length);
    let (deliveries, commits) = (VecDeque::new(), VecDeque::new());
    let mut mover = Mover { job, session, events, deliveries, commits, pending: 0, ended: None };
    mover.work(stop).await
}

impl Mover<'_> {
    async fn work(&mut self, stop: &mut watch::Receiver<bool>) -> Result<End, ShovelError> {
        loop {
            self.sort()?;
            let left = self.job.status.remaining().map(|left| left.saturating_sub(self.pending));
            if left == Some(0) {
                if self.pending == 0 {
                    return Ok(End::Done);
                }
            } else if let Some(deliveries) = self.deliveries.pop_front() {
                self.take(deliveries, left).await?;
                continue;
            } else if let Some(error) = self.ended.take() {
                return Err(error);
            }
            if *stop.borrow() && self.pending == 0 {
                return Ok(End::Stopped);
            }
            let Self { session, events, .. } = self;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop), if self.pending == 0 => {}
                () = poll_fn(|cx| session.poll_events(cx, events)) => {}
            }
        }
    }

    fn sort(&mut self) -> Result<(), ShovelError> {
        self.session.try_events(&mut self.events);
        for event in self.events.drain(..) {
            match event {
                SessionEvent::Deliveries(deliveries) => self.deliveries.push_back(deliveries),
                SessionEvent::Committed { token, result } => {
                    result.map_err(|error| local(DESTINATION)(&error))?;
                    while self.commits.front().is_some_and(|(first, _)| *first <= token)
                        && let Some((_, count)) = self.commits.pop_front()
                    {
                        self.pending -= count;
                        self.job.status.moved(count);
                    }
                    self.job.status.set_pending(self.pending);
                }
                SessionEvent::ConsumerCancelled { .. } => self.ended = Some(ShovelError::Cancelled),
                SessionEvent::Shutdown => self.ended = Some(local(SOURCE)(&"the broker shuts down")),
                SessionEvent::Closed { reason } => self.ended = Some(local(SOURCE)(&reason)),
                SessionEvent::LeasesEnded { .. } | SessionEvent::Reply { .. } | SessionEvent::Drain => {}
            }
        }
        Ok(())
    }

    /// Moves what came, or as much of it as is wanted.
    async fn take(&mut self, deliveries: Deliveries, left: Option<u64>) -> Result<(), ShovelError> {
        let job = self.job;
        let size_bytes = deliveries.items.iter().map(|item| item.message.size_bytes()).sum();
        let most = left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let (mut publishes, mut ids) = (Vec::new(), Vec::new());
        let mut trouble = None;
        for item in deliveries.items.iter().take(most) {
            let record = item.message.record();
            let taken = Taken {
                tag: 0,
                exchange: record.slice_ref(item.message.exchange()),
                routing_key: record.slice_ref(item.message.routing_key()),
                properties: record.slice_ref(item.message.properties()),
                body: item.message.body_bytes(),
            };
            match route(&mut self.session, &taken, &job.spec.to, &job.painter) {
                Ok(publish) => publishes.push(publish),
                // Those before it go their way; it and those behind it are ready again when this session ends.
                Err(error) => {
                    trouble = Some(error);
                    break;
                }
            }
            ids.push(DeliveryId { queue: deliveries.queue, seq: item.seq });
        }
        self.commit(&mut publishes, &ids).await?;
        self.session.deliveries_written(size_bytes);
        trouble.map_or(Ok(()), Err)
    }

    async fn commit(&mut self, publishes: &mut Vec<Publish>, ids: &[DeliveryId]) -> Result<(), ShovelError> {
        if publishes.is_empty() {
            return Ok(());
        }
        // With no-ack they were settled when they were handed out.
        let is_settled = self.job.spec.ack_mode == AckMode::NoAck;
        let may_refuse = publishes.iter().any(|(_, route)| route.may_refuse());
        let settles: Vec<_> = match is_settled || may_refuse {
            true => Vec::new(),
            false => ids.iter().map(|id| (*id, Outcome::Accept)).collect(),
        };
        let durability = loop {
            let session = &mut self.session;
            poll_fn(|cx| session.poll_publish_ready(cx)).await;
            let submitted = match may_refuse {
                true => session.publish(publishes),
                false => session.transact(publishes, &settles, &[]),
            };
            match submitted {
                Ok(durability) => break durability,
                // Nothing of it was taken.
                Err(WriteRefused::Store(CommitError::OutOfSpace { .. }) | WriteRefused::Alarm { .. }) => {
                    tokio::time::sleep(REFUSED_WAIT).await;
                }
                Err(refused) => return Err(local(DESTINATION)(&refused)),
            }
        };
        let mut count = ids.len() as u64;
        if may_refuse && !is_settled {
            count -= self.settle_but_refused(ids).await;
        }
        match durability {
            Durability::Now => self.job.status.moved(count),
            Durability::Pending(token) => {
                self.commits.push_back((token, count));
                self.pending += count;
            }
        }
        self.job.status.set_pending(self.pending);
        Ok(())
    }

    /// A queue that may refuse is asked first; the settlement goes to the log behind what it took. How many it
    /// refused.
    async fn settle_but_refused(&mut self, ids: &[DeliveryId]) -> u64 {
        let refused = self.session.take_refused();
        let is_refused = |at: usize| refused.contains(&(at as u32));
        let (mut back, mut done) = (Vec::new(), Vec::new());
        for (at, id) in ids.iter().enumerate() {
            if is_refused(at) { &mut back } else { &mut done }.push(*id);
        }
        self.session.settle(&done, Outcome::Accept);
        if !back.is_empty() {
            self.session.settle(&back, Outcome::Requeue);
            tokio::time::sleep(REFUSED_WAIT).await;
        }
        back.len() as u64
    }
}
