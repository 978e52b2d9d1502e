//! Where messages go.

use crate::error::{DESTINATION, ShovelError, client, local};
use crate::properties::Painter;
use crate::source::{Taken, client_options, local_queue, name_of, open_session, remote_queue};
use crate::spec::{AckMode, ShovelSpec, To};
use millpond_amqp_client::{ChannelId, ClientError, Connection, Event, Publish, Uri};
use millpond_broker::{Broker, CommitError, Durability, Route, Session, SessionEvent, WriteRefused};
use millpond_model::properties::RawProperties;
use millpond_model::{Message, VhostName};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Waker};

/// Unsent at most, before more is taken. Bytes.
const UNSENT_MAX_BYTES: usize = 1024 * 1024;

/// What became of publishes, by the numbers that [`Dest::put`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) number: u64,
    /// And all before it.
    pub(crate) multiple: bool,
    /// Whether it is safe there.
    pub(crate) is_safe: bool,
}

#[derive(Debug)]
pub(crate) enum Dest {
    Remote(Box<RemoteDest>),
    Local(Box<LocalDest>),
}

#[derive(Debug)]
pub(crate) struct RemoteDest {
    connection: Connection,
    channel: ChannelId,
}

#[derive(Debug)]
pub(crate) struct LocalDest {
    session: Session,
    events: Vec<SessionEvent>,
    /// The commits that are under way, and the last publish of each.
    commits: VecDeque<(u64, u64)>,
    settled: VecDeque<Settled>,
    /// Of the last publish.
    number: u64,
}

/// Exchange and key to publish a message with.
pub(crate) fn address<'t>(to: &'t To, taken: &'t Taken) -> (&'t [u8], &'t [u8]) {
    match to {
        To::Queue { name, .. } => (b"", name.as_bytes()),
        To::Exchange { name, key: Some(key) } => (name.as_bytes(), key.as_bytes()),
        To::Exchange { name, key: None } => (name.as_bytes(), &taken.routing_key),
        To::Same => (&taken.exchange, &taken.routing_key),
    }
}

fn unroutable(exchange: &[u8], key: &[u8]) -> ShovelError {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ShovelError::Unroutable { exchange: text(exchange), key: text(key) }
}

impl Dest {
    pub(crate) async fn open(
        broker: &Broker,
        vhost: &VhostName,
        name: &str,
        spec: &ShovelSpec,
        attempt: usize,
    ) -> Result<Self, ShovelError> {
        let uris = &spec.dest.uris;
        if uris.is_empty() {
            let mut session = open_session(broker, vhost, name, DESTINATION)?;
            let mut events = Vec::new();
            declare_locally(&mut session, &mut events, &spec.to).await?;
            session.set_confirming(true);
            let (commits, settled) = (VecDeque::new(), VecDeque::new());
            return Ok(Self::Local(Box::new(LocalDest { session, events, commits, settled, number: 0 })));
        }
        let dest = RemoteDest::open(&uris[attempt % uris.len()], &name_of(vhost, name), spec).await?;
        Ok(Self::Remote(Box::new(dest)))
    }

    /// Publishes; the first of them gets the number after the last one of before, and so on. An error loses nothing:
    /// what is not known to be safe stays at the source.
    pub(crate) fn put(
        &mut self,
        batch: &[Taken],
        to: &To,
        painter: &Painter,
        now_ms: u64,
    ) -> Result<(), ShovelError> {
        match self {
            Self::Remote(dest) => dest.put(batch, to, painter, now_ms),
            Self::Local(dest) => dest.put(batch, to, painter),
        }
    }

    /// Sends what was put, and waits for what became of it.
    pub(crate) async fn settled(&mut self) -> Result<Settled, ShovelError> {
        match self {
            Self::Remote(dest) => dest.settled().await,
            Self::Local(dest) => dest.settled().await,
        }
    }

    /// Whether more may be put now.
    pub(crate) fn has_room(&mut self) -> bool {
        match self {
            Self::Remote(dest) => {
                dest.connection.unsent_bytes() < UNSENT_MAX_BYTES && !dest.connection.is_blocked()
            }
            Self::Local(dest) => {
                dest.session.poll_publish_ready(&mut Context::from_waker(Waker::noop())).is_ready()
            }
        }
    }

    /// Sends what was put, when nothing is waited for.
    pub(crate) async fn close(self) -> Result<(), ShovelError> {
        match self {
            Self::Remote(dest) => dest.connection.close().await.map_err(client(DESTINATION)),
            Self::Local(_) => Ok(()),
        }
    }
}

impl RemoteDest {
    async fn open(uri: &Uri, name: &str, spec: &ShovelSpec) -> Result<Self, ShovelError> {
        let connection = Connection::open(uri, &client_options(name)).await;
        let mut connection = connection.map_err(|error| ShovelError::Connect { side: DESTINATION, error })?;
        if let To::Queue { name, arguments, predeclared } = &spec.to {
            remote_queue(&mut connection, DESTINATION, name, arguments, *predeclared).await?;
        }
        let channel = connection.open_channel().await.map_err(client(DESTINATION))?;
        if spec.ack_mode == AckMode::OnConfirm {
            connection.confirm_select(channel).await.map_err(client(DESTINATION))?;
        }
        Ok(Self { connection, channel })
    }

    fn put(&mut self, batch: &[Taken], to: &To, painter: &Painter, now_ms: u64) -> Result<(), ShovelError> {
        for taken in batch {
            let (exchange, routing_key) = address(to, taken);
            let properties = painter.paint(&taken.properties, now_ms);
            let publish = Publish {
                exchange,
                routing_key,
                mandatory: true,
                properties: &properties,
                body: &taken.body,
            };
            self.connection.publish(self.channel, &publish).map_err(client(DESTINATION))?;
        }
        Ok(())
    }

    async fn settled(&mut self) -> Result<Settled, ShovelError> {
        loop {
            match self.connection.next().await.map_err(client(DESTINATION))? {
                Event::Confirm(it) => {
                    return Ok(Settled { number: it.tag, multiple: it.multiple, is_safe: it.is_ack });
                }
                // Before its ack, which says that nothing is left to be done with it: so no ack of it is looked at.
                Event::Returned(it) => return Err(unroutable(&it.exchange, &it.routing_key)),
                Event::ChannelClosed { code, text, .. } => {
                    return Err(client(DESTINATION)(ClientError::ChannelClosed { code, text }));
                }
                _ => {}
            }
        }
    }
}

pub(crate) async fn declare_locally(
    session: &mut Session,
    events: &mut Vec<SessionEvent>,
    to: &To,
) -> Result<(), ShovelError> {
    let To::Queue { name, arguments, predeclared } = to else { return Ok(()) };
    local_queue(session, events, DESTINATION, (name, arguments, *predeclared)).await.map(drop)
}

/// A message for this broker and where it goes; an error if that is nowhere.
pub(crate) fn route(
    session: &mut Session,
    taken: &Taken,
    to: &To,
    painter: &Painter,
) -> Result<(Message, Route), ShovelError> {
    let now_ms = session.now_ms();
    let (exchange, key) = address(to, taken);
    let properties = painter.paint(&taken.properties, now_ms);
    let raw = RawProperties::parse(&properties).map_err(|error| local(DESTINATION)(&error))?;
    let route = session
        .route(exchange, key, &raw, taken.body.len() as u64)
        .map_err(|error| local(DESTINATION)(&error))?;
    if route.is_unroutable() {
        return Err(unroutable(exchange, key));
    }
    let rewritten = session.rewrite_properties(&raw);
    let kept = rewritten.as_deref().unwrap_or(&properties);
    let message = Message::published_at(now_ms, exchange, key, kept, raw.is_persistent(), &taken.body);
    Ok((message, route))
}

impl LocalDest {
    fn put(&mut self, batch: &[Taken], to: &To, painter: &Painter) -> Result<(), ShovelError> {
        let mut publishes = Vec::with_capacity(batch.len());
        for taken in batch {
            publishes.push(route(&mut self.session, taken, to, painter)?);
        }
        let before = self.number;
        self.number += batch.len() as u64;
        match self.session.publish(&mut publishes) {
            Ok(durability) => {
                let refused = self.session.take_refused();
                let refused = refused.into_iter().map(|at| Settled {
                    number: before + 1 + u64::from(at),
                    multiple: false,
                    is_safe: false,
                });
                self.settled.extend(refused);
                match durability {
                    Durability::Now => self.safe_up_to(self.number),
                    Durability::Pending(token) => self.commits.push_back((token, self.number)),
                }
                Ok(())
            }
            // It may have room again, or an alarm may end: nothing of it was taken.
            Err(WriteRefused::Store(CommitError::OutOfSpace { .. }) | WriteRefused::Alarm { .. }) => {
                let all = (before + 1..=self.number).map(|number| Settled {
                    number,
                    multiple: false,
                    is_safe: false,
                });
                self.settled.extend(all);
                Ok(())
            }
            Err(refused) => Err(local(DESTINATION)(&refused)),
        }
    }

    fn safe_up_to(&mut self, number: u64) {
        match self.commits.back_mut() {
            // Behind a commit that is under way, it ends with that.
            Some((_, last)) => *last = number,
            None => self.settled.push_back(Settled { number, multiple: true, is_safe: true }),
        }
    }

    async fn settled(&mut self) -> Result<Settled, ShovelError> {
        loop {
            if let Some(settled) = self.settled.pop_front() {
                return Ok(settled);
            }
            let Self { session, events, .. } = self;
            poll_fn(|cx| session.poll_events(cx, events)).await;
            for event in self.events.drain(..) {
                match event {
                    SessionEvent::Committed { token, result } => {
                        result.map_err(|error| local(DESTINATION)(&error))?;
                        while self.commits.front().is_some_and(|(first, _)| *first <= token)
                            && let Some((_, number)) = self.commits.pop_front()
                        {
                            self.settled.push_back(Settled { number, multiple: true, is_safe: true });
                        }
                    }
                    SessionEvent::Shutdown => return Err(local(DESTINATION)(&"the broker shuts down")),
                    SessionEvent::Closed { reason } => return Err(local(DESTINATION)(&reason)),
                    _ => {}
                }
            }
        }
    }
}
