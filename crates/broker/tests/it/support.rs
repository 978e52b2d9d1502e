//! A broker in a temporary directory, and short words for what tests ask of it.

use millpond_broker::*;
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{Table, Value};
use millpond_model::{ConsumerTag, ExchangeName, Message, QueueName, UserName, VhostName};
use millpond_store::{Store, StoreOptions};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct TestBroker {
    /// `None` only while it is being reopened.
    broker: Option<Broker>,
    dir: tempfile::TempDir,
    options: BrokerOptions,
    tune: fn(&mut StoreOptions),
}

pub(crate) fn options() -> BrokerOptions {
    BrokerOptions {
        message_size_max_bytes: 1 << 20,
        consumers_max_per_session: 100,
        sessions_max: 100,
        inbox_max_bytes: 1 << 20,
        default_user: UserName::new("guest").unwrap(),
        default_password: "guest".into(),
        default_user_loopback_only: true,
        statistics_interval_ms: 5000,
        clock: Clock::system(),
        audit: Default::default(),
    }
}

impl TestBroker {
    pub(crate) fn new() -> Self {
        Self::with(options())
    }

    pub(crate) fn with(options: BrokerOptions) -> Self {
        Self::on_store(options, |_| ())
    }

    /// On a store that remembers little: queues page out after a few messages.
    pub(crate) fn paging(options: BrokerOptions) -> Self {
        Self::on_store(options, |store| {
            store.queue_memory_max_bytes = 1000;
            store.wal_segment_size_bytes = 16 << 10;
            store.queue_segment_size_bytes = 8 << 10;
        })
    }

    fn on_store(options: BrokerOptions, tune: fn(&mut StoreOptions)) -> Self {
        let mut this = Self { broker: None, dir: tempfile::tempdir().unwrap(), options, tune };
        this.open();
        this
    }

    /// Around a broker on a store of its own.
    pub(crate) fn of(broker: Broker) -> Self {
        Self { broker: Some(broker), dir: tempfile::tempdir().unwrap(), options: options(), tune: |_| () }
    }

    fn open(&mut self) {
        let mut store_options = StoreOptions::new(self.dir.path());
        (self.tune)(&mut store_options);
        let (store, recovery) = Store::open(store_options).unwrap();
        self.broker = Some(Broker::open(store, recovery, self.options.clone()).unwrap());
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    /// Stops (as a process that is asked to) and starts again. All sessions must have been dropped.
    pub(crate) fn reopen(&mut self) {
        self.broker.take().unwrap().shut_down();
        self.open();
    }

    /// As `reopen`; something happens while it is down.
    pub(crate) fn reopen_after(&mut self, happens: impl FnOnce()) {
        self.broker.take().unwrap().shut_down();
        happens();
        self.open();
    }

    pub(crate) fn session(&self) -> Client {
        self.open_session(self.broker().internal_login(), "/").unwrap()
    }

    /// A session of a client from outside, which counts against limits.
    pub(crate) fn client(&self, vhost: &str) -> Result<Client, OpenSessionError> {
        let login = self.broker().login("guest", b"guest", Some([127, 0, 0, 1].into())).unwrap();
        self.open_session(login, vhost)
    }

    pub(crate) fn open_session(&self, login: Login, vhost: &str) -> Result<Client, OpenSessionError> {
        let request = OpenSession { login, vhost: VhostName::new(vhost).unwrap(), name: "test".into() };
        Ok(Client { session: self.broker().open_session(request)?, events: Vec::new() })
    }
}

/// A session with its events.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) events: Vec<SessionEvent>,
}

pub(crate) struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(crate) fn waker() -> Waker {
    Arc::new(Unpark(std::thread::current())).into()
}

/// Polls until it is ready.
pub(crate) fn block_on(mut poll: impl FnMut(&mut Context<'_>) -> Poll<()>) {
    let waker = waker();
    let mut cx = Context::from_waker(&waker);
    let started = Instant::now();
    while poll(&mut cx).is_pending() {
        assert!(started.elapsed() < PATIENCE, "nothing came");
        std::thread::park_timeout(PATIENCE);
    }
}

/// Moves or copies messages in the vhost `/`, a few at a time, until it is done and durable.
pub(crate) fn transfer(broker: &TestBroker, request: TransferRequest) -> TransferReport {
    let mut transfer = broker.broker().transfer(&VhostName::new("/").unwrap(), request).unwrap();
    let mut more = true;
    while more {
        block_on(|cx| transfer.poll_step(cx, 3).map(|it| more = it.unwrap()));
    }
    let report = transfer.report().clone();
    transfer.saved().wait().unwrap();
    report
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn exchange(name: &str) -> ExchangeName {
    ExchangeName::new(name).unwrap()
}

/// How a queue is to be declared: letters `d`urable, e`x`clusive, `a`uto-delete, `p`assive.
pub(crate) fn queue_request(name: &str, how: &str) -> DeclareQueue {
    DeclareQueue {
        name: queue(name),
        passive: how.contains('p'),
        durable: how.contains('d'),
        exclusive: how.contains('x'),
        auto_delete: how.contains('a'),
        arguments: Table::new(),
    }
}

pub(crate) fn exchange_request(name: &str, kind: &str, how: &str) -> DeclareExchange {
    DeclareExchange {
        name: exchange(name),
        kind: kind.into(),
        passive: how.contains('p'),
        durable: how.contains('d'),
        auto_delete: how.contains('a'),
        internal: how.contains('i'),
        arguments: Table::new(),
    }
}

pub(crate) fn binding(source: &str, to: &str, key: &str) -> Binding {
    Binding {
        source: exchange(source),
        destination: Destination::Queue(queue(to)),
        key: key.as_bytes().into(),
        arguments: Table::new(),
    }
}

pub(crate) fn arguments(entries: &[(&str, Value)]) -> Table {
    entries.iter().cloned().collect()
}

pub(crate) fn consume_request(name: &str, cookie: u64) -> ConsumeRequest {
    ConsumeRequest {
        queue: queue(name),
        tag: ConsumerTag::new("tag").unwrap(),
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch: 0,
        prefetch_shared: false,
        cookie,
        channel: 1,
        arguments: Table::new(),
    }
}

/// A delivery as tests look at it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) cookie: u64,
    pub(crate) id: DeliveryId,
    pub(crate) redelivered: bool,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn declare(&mut self, name: &str, how: &str) -> QueueDeclared {
        let (declared, durability) = self.session.declare_queue(&queue_request(name, how)).unwrap();
        self.wait_commit(durability);
        declared
    }

    pub(crate) fn declare_exchange(&mut self, name: &str, kind: &str, how: &str) {
        let durability = self.session.declare_exchange(&exchange_request(name, kind, how)).unwrap();
        self.wait_commit(durability);
    }

    pub(crate) fn bind(&mut self, source: &str, to: &str, key: &str) {
        let durability = self.session.bind(&binding(source, to, key)).unwrap();
        self.wait_commit(durability);
    }

    pub(crate) fn message(
        &mut self,
        exchange: &str,
        key: &str,
        body: &str,
        properties: &Properties,
    ) -> Result<Publish, PublishError> {
        let encoded = properties.encode().unwrap();
        let raw = RawProperties::parse(&encoded).unwrap();
        let route = self.session.route(exchange.as_bytes(), key.as_bytes(), &raw, body.len() as u64)?;
        let rewritten = self.session.rewrite_properties(&raw);
        let kept = rewritten.as_deref().unwrap_or(&encoded);
        let persistent = raw.is_persistent();
        let now_ms = self.session.now_ms();
        let (exchange, key) = (exchange.as_bytes(), key.as_bytes());
        Ok((Message::published_at(now_ms, exchange, key, kept, persistent, body.as_bytes()), route))
    }

    /// Publishes persistent messages with these bodies and waits until they are durable.
    pub(crate) fn publish(&mut self, exchange: &str, key: &str, bodies: &[&str]) {
        let durability = self.publish_with(exchange, key, bodies, &persistent());
        self.wait_commit(durability);
    }

    pub(crate) fn publish_with(
        &mut self,
        exchange: &str,
        key: &str,
        bodies: &[&str],
        properties: &Properties,
    ) -> Durability {
        let mut batch: Vec<_> =
            bodies.iter().map(|body| self.message(exchange, key, body, properties).unwrap()).collect();
        let durability = self.session.publish(&mut batch).unwrap();
        assert!(batch.is_empty(), "publish drains the batch");
        durability
    }

    /// What became of a commit.
    pub(crate) fn commit_result(&mut self, durability: Durability) -> Result<(), CommitError> {
        let Durability::Pending(wanted) = durability else { return Ok(()) };
        loop {
            let found = self
                .events
                .iter()
                .position(|event| matches!(event, SessionEvent::Committed { token, .. } if *token == wanted));
            if let Some(at) = found {
                let SessionEvent::Committed { result, .. } = self.events.remove(at) else { unreachable!() };
                return result;
            }
            self.wait_events();
        }
    }

    pub(crate) fn wait_commit(&mut self, durability: Durability) {
        self.commit_result(durability).unwrap();
    }

    pub(crate) fn wait_events(&mut self) {
        let Self { session, events } = self;
        block_on(|cx| session.poll_events(cx, events));
    }

    /// Waits until `count` deliveries have come, takes all that are there and says they are written.
    pub(crate) fn deliveries(&mut self, count: usize) -> Vec<Seen> {
        let mut seen = self.take_deliveries();
        while seen.len() < count {
            self.wait_events();
            seen.extend(self.take_deliveries());
        }
        seen
    }

    /// Takes what has come.
    pub(crate) fn take_deliveries(&mut self) -> Vec<Seen> {
        self.session.try_events(&mut self.events);
        let mut seen = Vec::new();
        let mut size = 0;
        self.events.retain(|event| {
            let SessionEvent::Deliveries(deliveries) = event else { return true };
            for item in &deliveries.items {
                size += item.message.size_bytes();
                seen.push(Seen {
                    cookie: deliveries.cookie,
                    id: DeliveryId { queue: deliveries.queue, seq: item.seq },
                    redelivered: item.redelivered,
                    body: String::from_utf8_lossy(item.message.body()).into_owned(),
                });
            }
            false
        });
        self.session.deliveries_written(size);
        seen
    }

    pub(crate) fn consume(&mut self, name: &str, cookie: u64) -> ConsumerId {
        self.session.consume(consume_request(name, cookie)).unwrap()
    }

    pub(crate) fn settle(&mut self, seen: &[Seen], outcome: Outcome) {
        let ids: Vec<_> = seen.iter().map(|seen| seen.id).collect();
        self.session.settle(&ids, outcome);
    }

    pub(crate) fn get(&mut self, name: &str, no_ack: bool) -> Option<Got> {
        loop {
            match self.session.get(&queue(name), no_ack) {
                Err(GetError::Loading) => block_on(|cx| self.session.poll_loaded(cx)),
                other => return other.unwrap(),
            }
        }
    }

    /// Takes and settles all ready messages; their bodies.
    pub(crate) fn drain(&mut self, name: &str) -> Vec<String> {
        std::iter::from_fn(|| self.get(name, true))
            .map(|got| String::from_utf8_lossy(got.delivery.message.body()).into_owned())
            .collect()
    }

    pub(crate) fn ready(&mut self, name: &str) -> u64 {
        self.session.declare_queue(&queue_request(name, "p")).unwrap().0.ready
    }
}

pub(crate) fn persistent() -> Properties {
    Properties { delivery_mode: Some(2), ..Properties::default() }
}

pub(crate) fn transient() -> Properties {
    Properties::default()
}

pub(crate) fn bodies(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.body.as_str()).collect()
}
