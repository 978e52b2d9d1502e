//! Where messages are taken from.

use crate::error::{SOURCE, ShovelError, client, local};
use crate::spec::{AckMode, From, ShovelSpec};
use bytes::Bytes;
use millpond_amqp_client::{ChannelId, ClientOptions, Connection, Consume, Event, QueueOptions, Uri};
use millpond_broker::{
    Binding, Broker, ConsumeRequest, DeclareQueue, DeliveryId, Destination, Durability, OpenSession, Outcome,
    Session, SessionEvent,
};
use millpond_model::table::Table;
use millpond_model::{ConsumerTag, ExchangeName, QueueName, VhostName};
use std::collections::VecDeque;
use std::future::poll_fn;

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// To settle it by; ascending.
    pub(crate) tag: u64,
    pub(crate) exchange: Bytes,
    pub(crate) routing_key: Bytes,
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

/// What a shovel is called in the lists of both brokers.
pub(crate) fn name_of(vhost: &VhostName, name: &str) -> String {
    format!("Shovel {name} of {vhost}")
}

#[derive(Debug)]
pub(crate) enum Source {
    Remote(Box<RemoteSource>),
    Local(Box<LocalSource>),
}

/// A consumer at another broker.
#[derive(Debug)]
pub(crate) struct RemoteSource {
    connection: Connection,
    channel: ChannelId,
}

/// A consumer of this one.
#[derive(Debug)]
pub(crate) struct LocalSource {
    session: Session,
    events: Vec<SessionEvent>,
    /// Those that are out, the first with the tag `first`.
    out: VecDeque<Option<DeliveryId>>,
    first: u64,
}

/// A source that is connected and has its queue, and gets no messages yet.
pub(crate) enum Ready {
    Remote { source: Box<RemoteSource>, queue: String, length: u64 },
    Local { session: Box<Session> },
}

impl Ready {
    pub(crate) async fn open(
        broker: &Broker,
        vhost: &VhostName,
        name: &str,
        spec: &ShovelSpec,
        attempt: usize,
    ) -> Result<Self, ShovelError> {
        let uris = &spec.source.uris;
        if uris.is_empty() {
            return Ok(Self::Local { session: Box::new(open_session(broker, vhost, name, SOURCE)?) });
        }
        RemoteSource::open(&uris[attempt % uris.len()], &name_of(vhost, name), spec).await
    }

    /// Begins to consume; how many messages the queue had.
    pub(crate) async fn consume(self, name: &str, spec: &ShovelSpec) -> Result<(Source, u64), ShovelError> {
        match self {
            Self::Remote { mut source, queue, length } => {
                source.consume(&queue, spec).await?;
                Ok((Source::Remote(source), length))
            }
            Self::Local { mut session } => {
                let mut events = Vec::new();
                let length = consume_locally(&mut session, &mut events, name, spec).await?;
                let source = LocalSource { session: *session, events, out: VecDeque::new(), first: 1 };
                Ok((Source::Local(Box::new(source)), length))
            }
        }
    }
}

impl Source {
    /// Waits for messages; takes those that came, up to a limit.
    pub(crate) async fn next(&mut self, out: &mut Vec<Taken>, most: usize) -> Result<(), ShovelError> {
        match self {
            Self::Remote(source) => source.next(out, most).await,
            Self::Local(source) => source.next(out).await,
        }
    }

    /// Lives on without taking anything.
    pub(crate) async fn keep_alive(&mut self) -> ShovelError {
        match self {
            Self::Remote(source) => client(SOURCE)(source.connection.keep_alive().await),
            Self::Local(_) => std::future::pending().await,
        }
    }

    /// They are safe elsewhere: all up to this one.
    pub(crate) fn accept(&mut self, up_to: u64) -> Result<(), ShovelError> {
        match self {
            Self::Remote(source) => {
                source.connection.ack(source.channel, up_to, true).map_err(client(SOURCE))
            }
            Self::Local(source) => {
                source.accept(up_to);
                Ok(())
            }
        }
    }

    /// It could not be moved: back to where it was.
    pub(crate) fn give_back(&mut self, tag: u64) -> Result<(), ShovelError> {
        match self {
            Self::Remote(source) => {
                source.connection.nack(source.channel, tag, false, true).map_err(client(SOURCE))
            }
            Self::Local(source) => {
                source.give_back(tag);
                Ok(())
            }
        }
    }

    /// Sends the last acks and goes.
    pub(crate) async fn close(self) -> Result<(), ShovelError> {
        match self {
            Self::Remote(source) => source.connection.close().await.map_err(client(SOURCE)),
            // Settlements were handed to the log when they were made.
            Self::Local(_) => Ok(()),
        }
    }
}

pub(crate) fn client_options(name: &str) -> ClientOptions {
    ClientOptions { name: name.to_owned(), ..ClientOptions::default() }
}

/// Makes sure that a queue is there; how many messages it has.
pub(crate) async fn remote_queue(
    connection: &mut Connection,
    side: &'static str,
    name: &str,
    arguments: &Table,
    predeclared: bool,
) -> Result<u64, ShovelError> {
    // On a channel of its own: asking for a queue that is missing costs the channel.
    let channel = connection.open_channel().await.map_err(client(side))?;
    let passive = QueueOptions { passive: true, ..QueueOptions::default() };
    let error = match connection.declare_queue(channel, name, &passive).await {
        Ok(declared) => {
            connection.close_channel(channel).await.map_err(client(side))?;
            return Ok(declared.messages.into());
        }
        Err(error) => error,
    };
    let is_missing = matches!(&error, millpond_amqp_client::ClientError::ChannelClosed { code: 404, .. });
    if predeclared || !is_missing {
        return Err(client(side)(error));
    }
    let channel = connection.open_channel().await.map_err(client(side))?;
    let durable = QueueOptions { durable: true, arguments: arguments.clone(), ..QueueOptions::default() };
    connection.declare_queue(channel, name, &durable).await.map_err(client(side))?;
    connection.close_channel(channel).await.map_err(client(side))?;
    Ok(0)
}

impl RemoteSource {
    async fn open(uri: &Uri, name: &str, spec: &ShovelSpec) -> Result<Ready, ShovelError> {
        let connection = Connection::open(uri, &client_options(name)).await;
        let mut connection = connection.map_err(|error| ShovelError::Connect { side: SOURCE, error })?;
        let (queue, length) = match &spec.from {
            From::Queue { name, arguments, predeclared } => {
                let length = remote_queue(&mut connection, SOURCE, name, arguments, *predeclared).await?;
                (name.clone(), length)
            }
            From::Exchange { name, key } => {
                let channel = connection.open_channel().await.map_err(client(SOURCE))?;
                let own = QueueOptions { exclusive: true, ..QueueOptions::default() };
                let declared = connection.declare_queue(channel, "", &own).await.map_err(client(SOURCE))?;
                let bound = connection.bind_queue(channel, &declared.name, name, key, &Table::new()).await;
                bound.map_err(client(SOURCE))?;
                (declared.name, 0)
            }
        };
        let channel = connection.open_channel().await.map_err(client(SOURCE))?;
        Ok(Ready::Remote { source: Box::new(Self { connection, channel }), queue, length })
    }

    async fn consume(&mut self, queue: &str, spec: &ShovelSpec) -> Result<(), ShovelError> {
        let Self { connection, channel } = self;
        connection.qos(*channel, spec.prefetch).await.map_err(client(SOURCE))?;
        let consume = Consume {
            no_ack: spec.ack_mode == AckMode::NoAck,
            arguments: spec.consumer_arguments.clone(),
            ..Consume::default()
        };
        connection.consume(*channel, queue, &consume).await.map_err(client(SOURCE))?;
        Ok(())
    }

    async fn next(&mut self, out: &mut Vec<Taken>, most: usize) -> Result<(), ShovelError> {
        while out.is_empty() {
            let event = self.connection.next().await.map_err(client(SOURCE))?;
            take(event, out)?;
        }
        while out.len() < most
            && let Some(event) = self.connection.try_next()
        {
            take(event, out)?;
        }
        Ok(())
    }
}

fn take(event: Event, out: &mut Vec<Taken>) -> Result<(), ShovelError> {
    match event {
        Event::Delivery(it) => out.push(Taken {
            tag: it.delivery_tag,
            exchange: it.exchange,
            routing_key: it.routing_key,
            properties: it.properties,
            body: it.body,
        }),
        Event::ConsumerCancelled { .. } => return Err(ShovelError::Cancelled),
        Event::ChannelClosed { code, text, .. } => {
            return Err(client(SOURCE)(millpond_amqp_client::ClientError::ChannelClosed { code, text }));
        }
        _ => {}
    }
    Ok(())
}

// ---- this broker

pub(crate) fn open_session(
    broker: &Broker,
    vhost: &VhostName,
    name: &str,
    side: &'static str,
) -> Result<Session, ShovelError> {
    let request = OpenSession {
        login: broker.internal_login(),
        vhost: vhost.clone(),
        name: format!("shovel {name}").into(),
    };
    broker.open_session(request).map_err(|error| local(side)(&error))
}

/// Makes sure that a queue is there; how many messages it has. `events` may hold more than the end of the commit.
pub(crate) async fn local_queue(
    session: &mut Session,
    events: &mut Vec<SessionEvent>,
    side: &'static str,
    (name, arguments, predeclared): (&str, &Table, bool),
) -> Result<u64, ShovelError> {
    let name = QueueName::new(name).map_err(|error| local(side)(&error))?;
    let mut declare = DeclareQueue {
        name,
        passive: true,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: arguments.clone(),
    };
    let missing = match session.declare_queue(&declare) {
        Ok((declared, _)) => return Ok(declared.ready),
        Err(error) => error,
    };
    if predeclared {
        return Err(local(side)(&missing));
    }
    declare.passive = false;
    let (declared, durability) = session.declare_queue(&declare).map_err(|error| local(side)(&error))?;
    if let Durability::Pending(wanted) = durability {
        loop {
            poll_fn(|cx| session.poll_events(cx, events)).await;
            let ended = events.iter().find_map(|event| match event {
                SessionEvent::Committed { token, result } if *token == wanted => Some(result.clone()),
                _ => None,
            });
            if let Some(result) = ended {
                result.map_err(|error| local(side)(&error))?;
                break;
            }
        }
    }
    Ok(declared.ready)
}

/// Starts a consumer of this broker; how many messages its queue has.
pub(crate) async fn consume_locally(
    session: &mut Session,
    events: &mut Vec<SessionEvent>,
    name: &str,
    spec: &ShovelSpec,
) -> Result<u64, ShovelError> {
    let refuse = |error: &dyn std::fmt::Display| local(SOURCE)(error);
    let (queue, length) = match &spec.from {
        From::Queue { name, arguments, predeclared } => {
            let length = local_queue(session, events, SOURCE, (name, arguments, *predeclared)).await?;
            (QueueName::new(name).map_err(|error| refuse(&error))?, length)
        }
        From::Exchange { name, key } => {
            let declare = DeclareQueue {
                name: QueueName::new("").map_err(|error| refuse(&error))?,
                passive: false,
                durable: false,
                exclusive: true,
                auto_delete: false,
                arguments: Table::new(),
            };
            let (declared, _) = session.declare_queue(&declare).map_err(|error| refuse(&error))?;
            let binding = Binding {
                source: ExchangeName::new(name).map_err(|error| refuse(&error))?,
                destination: Destination::Queue(declared.name.clone()),
                key: key.as_bytes().into(),
                arguments: Table::new(),
            };
            session.bind(&binding).map_err(|error| refuse(&error))?;
            (declared.name, 0)
        }
    };
    let request = ConsumeRequest {
        queue,
        tag: ConsumerTag::new(&name.chars().take(60).collect::<String>()).map_err(|error| refuse(&error))?,
        no_ack: spec.ack_mode == AckMode::NoAck,
        channel: 1,
        exclusive: false,
        priority: spec.consumer_arguments.get("x-priority").and_then(|it| it.as_i64()).unwrap_or(0),
        prefetch: spec.prefetch.into(),
        prefetch_shared: false,
        cookie: 0,
        arguments: spec.consumer_arguments.clone(),
    };
    session.consume(request).map_err(|error| refuse(&error))?;
    Ok(length)
}

impl LocalSource {
    async fn next(&mut self, out: &mut Vec<Taken>) -> Result<(), ShovelError> {
        loop {
            let Self { session, events, .. } = self;
            if events.is_empty() {
                poll_fn(|cx| session.poll_events(cx, events)).await;
            }
            let mut size_bytes = 0;
            for event in self.events.drain(..) {
                match event {
                    SessionEvent::Deliveries(deliveries) => {
                        for item in deliveries.items {
                            size_bytes += item.message.size_bytes();
                            let id = DeliveryId { queue: deliveries.queue, seq: item.seq };
                            self.out.push_back(Some(id));
                            let record = item.message.record();
                            out.push(Taken {
                                tag: self.first + self.out.len() as u64 - 1,
                                exchange: record.slice_ref(item.message.exchange()),
                                routing_key: record.slice_ref(item.message.routing_key()),
                                properties: record.slice_ref(item.message.properties()),
                                body: item.message.body_bytes(),
                            });
                        }
                    }
                    SessionEvent::ConsumerCancelled { .. } => return Err(ShovelError::Cancelled),
                    SessionEvent::Shutdown => return Err(local(SOURCE)(&"the broker shuts down")),
                    SessionEvent::Closed { reason } => return Err(local(SOURCE)(&reason)),
                    SessionEvent::Committed { result, .. } => {
                        result.map_err(|error| local(SOURCE)(&error))?;
                    }
                    SessionEvent::LeasesEnded { .. } | SessionEvent::Reply { .. } | SessionEvent::Drain => {}
                }
            }
            self.session.deliveries_written(size_bytes);
            if !out.is_empty() {
                return Ok(());
            }
        }
    }

    fn accept(&mut self, up_to: u64) {
        let mut ids = Vec::new();
        while self.first <= up_to
            && let Some(id) = self.out.pop_front()
        {
            ids.extend(id);
            self.first += 1;
        }
        self.session.settle(&ids, Outcome::Accept);
    }

    fn give_back(&mut self, tag: u64) {
        let at = tag.checked_sub(self.first).and_then(|at| self.out.get_mut(at as usize));
        if let Some(id) = at.and_then(Option::take) {
            self.session.settle(&[id], Outcome::Requeue);
        }
    }
}
