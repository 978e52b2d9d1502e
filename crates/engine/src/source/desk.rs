//! What a running source works at: its session with the broker, the clock, and the thread for expressions.

use super::thinker::Thinker;
use super::{Found, SourceError};
use crate::commit;
use crate::worker::Tools;
use millpond_broker::{
    Clock, CommitError, Deliveries, Durability, OpenSession, Publish, Session, SessionEvent, ValueChange,
};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) session: Session,
    pub(crate) thinker: Thinker,
    clock: Clock,
    events: Vec<SessionEvent>,
    /// Deliveries to consumers of the session that no look has taken yet.
    deliveries: VecDeque<Deliveries>,
    committed: VecDeque<(u64, Result<(), CommitError>)>,
    /// Why the session, or what it consumes, is no more.
    ended: Option<String>,
}

impl Desk {
    pub(super) fn open(name: &str, tools: &Tools) -> Result<Self, SourceError> {
        let request = OpenSession {
            login: tools.broker.internal_login(),
            vhost: tools.vhost.clone(),
            name: format!("source {name}").into(),
        };
        let session =
            tools.broker.open_session(request).map_err(|error| SourceError::new(error.to_string()))?;
        Ok(Self {
            session,
            thinker: Thinker::default(),
            clock: tools.broker.options().clock.clone(),
            events: Vec::new(),
            deliveries: VecDeque::new(),
            committed: VecDeque::new(),
            ended: None,
        })
    }

    /// Milliseconds since 1970, by the broker's clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Waits until the broker's clock shows `at_ms`.
    pub(crate) async fn sleep_until(&self, at_ms: u64) {
        /// How often a clock that tests turn by hand is looked at.
        const FAKE_LOOK: Duration = Duration::from_millis(2);
        loop {
            let left_ms = at_ms.saturating_sub(self.clock.now_ms());
            match (left_ms, self.clock.is_fake()) {
                (0, _) => return,
                (_, true) => tokio::time::sleep(FAKE_LOOK).await,
                (_, false) => tokio::time::sleep(Duration::from_millis(left_ms)).await,
            }
        }
    }

    /// Waits while queues that this source fills are over their limits, or the store is full.
    pub(super) async fn ready(&mut self) -> Result<(), SourceError> {
        poll_fn(|cx| self.session.poll_publish_ready(cx)).await;
        self.sort();
        self.check()
    }

    /// The next deliveries to a consumer of the session.
    pub(crate) async fn deliveries(&mut self) -> Result<Deliveries, SourceError> {
        loop {
            if let Some(deliveries) = self.try_deliveries()? {
                return Ok(deliveries);
            }
            self.wait().await;
        }
    }

    /// As [`Self::deliveries`], without waiting.
    pub(crate) fn try_deliveries(&mut self) -> Result<Option<Deliveries>, SourceError> {
        self.sort();
        self.check()?;
        Ok(self.deliveries.pop_front())
    }

    /// Hands a commit over, and tells what to wait for. May be dropped before it is ready; then nothing was taken.
    pub(super) async fn submit(
        &mut self,
        publishes: &mut Vec<Publish>,
        found: &Found,
        values: &[ValueChange],
    ) -> Result<Durability, SourceError> {
        self.ready().await?;
        let durability = commit::transact(&mut self.session, publishes, &found.settles, values).await;
        let durability = durability.map_err(|refused| SourceError::new(refused.to_string()))?;
        self.session.deliveries_written(found.settled_bytes);
        Ok(durability)
    }

    /// Waits until a commit is on the disk. The end of the session does not end this: what was handed over comes to
    /// its end first, and must be known of.
    pub(super) async fn settled(&mut self, durability: Durability) -> Result<(), SourceError> {
        let Durability::Pending(wanted) = durability else { return Ok(()) };
        loop {
            while let Some((token, result)) = self.committed.pop_front() {
                result.map_err(|error| SourceError::new(format!("a commit failed: {error}")))?;
                if token >= wanted {
                    return Ok(());
                }
            }
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        let Self { session, events, .. } = &mut *self;
        poll_fn(|cx| session.poll_events(cx, events)).await;
        self.sort();
    }

    fn check(&self) -> Result<(), SourceError> {
        self.ended.as_ref().map_or(Ok(()), |reason| Err(SourceError::new(reason.clone())))
    }

    fn sort(&mut self) {
        self.session.try_events(&mut self.events);
        for event in self.events.drain(..) {
            match event {
                SessionEvent::Deliveries(deliveries) => self.deliveries.push_back(deliveries),
                SessionEvent::Committed { token, result } => self.committed.push_back((token, result)),
                SessionEvent::ConsumerCancelled { queue, .. } => {
                    self.ended = Some(format!("queue '{queue}' was deleted"));
                }
                SessionEvent::Shutdown => self.ended = Some("the broker shuts down".to_owned()),
                SessionEvent::Closed { reason } => self.ended = Some(reason.to_string()),
                SessionEvent::Drain | SessionEvent::Reply { .. } | SessionEvent::LeasesEnded { .. } => {}
            }
        }
    }
}
