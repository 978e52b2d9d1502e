//! An engine with its broker in a temporary directory, a client, and a small HTTP server.

use millpond_broker::{
    Broker, BrokerOptions, DeclareExchange, DeclareQueue, Durability, GetError, OpenSession, Session,
    SessionEvent,
};
use millpond_engine::{Engine, EngineOptions};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::Table;
use millpond_model::{ExchangeName, Message, QueueName, UserName, VhostName};
use millpond_store::{Store, StoreOptions};
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a state is looked at that nobody tells of.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

pub(crate) struct TestEngine {
    pub(crate) engine: Engine,
    pub(crate) broker: Broker,
    dir: tempfile::TempDir,
}

fn open_broker(dir: &std::path::Path, clock: millpond_broker::Clock) -> Broker {
    let options = BrokerOptions {
        message_size_max_bytes: 1 << 20,
        consumers_max_per_session: 100,
        sessions_max: 100,
        inbox_max_bytes: 1 << 20,
        default_user: UserName::new("guest").unwrap(),
        default_password: "guest".into(),
        default_user_loopback_only: true,
        statistics_interval_ms: 5000,
        clock,
        audit: Default::default(),
    };
    let (store, recovery) = Store::open(StoreOptions::new(dir)).unwrap();
    Broker::open(store, recovery, options).unwrap()
}

/// An engine on what is in a directory.
pub(crate) async fn open_engine(dir: tempfile::TempDir, clock: millpond_broker::Clock) -> TestEngine {
    TestEngine::open(dir, clock).await
}

impl TestEngine {
    /// Breaks off what the engine does, wherever its tasks stand, as a kill would; what the store has taken is kept.
    pub(crate) fn break_off(self, runtime: tokio::runtime::Runtime) -> tempfile::TempDir {
        let Self { engine, broker, dir } = self;
        runtime.shutdown_timeout(PATIENCE);
        broker.shut_down();
        drop((engine, broker));
        dir
    }

    pub(crate) async fn new() -> Self {
        Self::with_clock(millpond_broker::Clock::system()).await
    }

    pub(crate) async fn with_clock(clock: millpond_broker::Clock) -> Self {
        Self::open(tempfile::tempdir().unwrap(), clock).await
    }

    async fn open(dir: tempfile::TempDir, clock: millpond_broker::Clock) -> Self {
        let broker = open_broker(dir.path(), clock);
        let options = EngineOptions::new(dir.path());
        let engine = Engine::start(broker.clone(), options).await.unwrap();
        Self { engine, broker, dir }
    }

    /// Whose rules may run these programs.
    pub(crate) async fn allowing(programs: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let broker = open_broker(dir.path(), millpond_broker::Clock::system());
        let exec_allow = programs.iter().map(PathBuf::from).collect();
        let options = EngineOptions { exec_allow, ..EngineOptions::new(dir.path()) };
        let engine = Engine::start(broker.clone(), options).await.unwrap();
        Self { engine, broker, dir }
    }

    /// With this topology.
    pub(crate) async fn with(topology: &str) -> Self {
        let it = Self::new().await;
        it.apply(topology).await;
        it
    }

    pub(crate) async fn apply(&self, topology: &str) -> String {
        self.engine.apply("test.yaml", topology).await.unwrap().to_string()
    }

    /// Stops, as a process that is asked to, and starts again.
    pub(crate) async fn reopen(self) -> Self {
        let clock = self.broker.options().clock.clone();
        self.reopen_at(clock).await
    }

    /// As [`Self::reopen`], at another time.
    pub(crate) async fn reopen_at(self, clock: millpond_broker::Clock) -> Self {
        let Self { engine, broker, dir } = self;
        engine.shut_down().await;
        broker.shut_down();
        drop((engine, broker));
        Self::open(dir, clock).await
    }

    /// The state of a source, as it is shown.
    pub(crate) fn source_state(&self, name: &str) -> String {
        self.engine.sources().into_iter().find(|it| it.name == name).unwrap().state.to_string()
    }

    /// Waits until sources are so.
    pub(crate) async fn until_source(
        &self,
        name: &str,
        what: impl Fn(&millpond_engine::SourceStatus) -> bool,
    ) {
        in_time("the source's count", async {
            while !self.engine.sources().iter().any(|it| it.name == name && what(it)) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
        .await;
    }

    pub(crate) fn data_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("files").join(name)
    }

    pub(crate) fn client(&self) -> Client {
        let request = OpenSession {
            login: self.broker.internal_login(),
            vhost: VhostName::new("/").unwrap(),
            name: "test".into(),
        };
        Client { session: self.broker.open_session(request).unwrap(), events: Vec::new() }
    }

    /// The counts of a rule: seen, acted, retried, failed.
    pub(crate) fn counts(&self, rule: &str) -> (u64, u64, u64, u64) {
        let status = self.engine.rules().into_iter().find(|it| it.name == rule).unwrap();
        (status.seen, status.acted, status.retried, status.failed)
    }

    pub(crate) fn state(&self, rule: &str) -> String {
        self.engine.rules().into_iter().find(|it| it.name == rule).unwrap().state.to_string()
    }

    /// Waits until the counts of a rule are such.
    pub(crate) async fn until(&self, rule: &str, what: impl Fn((u64, u64, u64, u64)) -> bool) {
        in_time("the rule's count", async {
            while !what(self.counts(rule)) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
        .await;
    }
}

pub(crate) struct Client {
    pub(crate) session: Session,
    events: Vec<SessionEvent>,
}

/// A message as tests look at it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) body: String,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) properties: Properties,
}

impl Seen {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = self.properties.headers.get(name)?;
        value.as_str().map(str::to_owned).or_else(|| Some(value.as_i64()?.to_string()))
    }
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn passive(name: &str) -> DeclareQueue {
    DeclareQueue {
        name: queue(name),
        passive: true,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
    }
}

pub(crate) fn durable(name: &str) -> DeclareQueue {
    DeclareQueue { passive: false, ..passive(name) }
}

pub(crate) fn exchange(name: &str, kind: &str) -> DeclareExchange {
    DeclareExchange {
        name: ExchangeName::new(name).unwrap(),
        kind: kind.into(),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    }
}

pub(crate) fn persistent() -> Properties {
    Properties { delivery_mode: Some(2), ..Properties::default() }
}

impl Client {
    /// Publishes and waits until it is durable.
    pub(crate) async fn publish(&mut self, exchange: &str, key: &str, body: &str) {
        self.publish_with(exchange, key, body.as_bytes(), &persistent()).await;
    }

    pub(crate) async fn publish_with(
        &mut self,
        exchange: &str,
        key: &str,
        body: &[u8],
        properties: &Properties,
    ) {
        let encoded = properties.encode().unwrap();
        let raw = RawProperties::parse(&encoded).unwrap();
        let route = self.session.route(exchange.as_bytes(), key.as_bytes(), &raw, body.len() as u64).unwrap();
        let persistent = raw.is_persistent();
        let message = Message::new(exchange.as_bytes(), key.as_bytes(), &encoded, persistent, body);
        let durability = self.session.publish(&mut vec![(message, route)]).unwrap();
        self.wait(durability).await;
    }

    pub(crate) async fn wait(&mut self, durability: Durability) {
        let Durability::Pending(wanted) = durability else { return };
        let Self { session, events } = self;
        in_time("the commit", async {
            loop {
                poll_fn(|cx| session.poll_events(cx, events)).await;
                for event in events.drain(..) {
                    if let SessionEvent::Committed { token, result } = event {
                        result.unwrap();
                        if token == wanted {
                            return;
                        }
                    }
                }
            }
        })
        .await;
    }

    /// Takes a message if there is one, and a queue.
    pub(crate) async fn try_get(&mut self, name: &str) -> Option<Seen> {
        loop {
            match self.session.get(&queue(name), true) {
                Err(GetError::Queue(_)) => return None,
                Err(GetError::Loading) => poll_fn(|cx| self.session.poll_loaded(cx)).await,
                other => {
                    let got = other.unwrap()?;
                    let message = got.delivery.message;
                    let raw = RawProperties::parse(message.properties()).unwrap();
                    return Some(Seen {
                        body: String::from_utf8_lossy(message.body()).into_owned(),
                        exchange: String::from_utf8_lossy(message.exchange()).into_owned(),
                        routing_key: String::from_utf8_lossy(message.routing_key()).into_owned(),
                        properties: raw.into(),
                    });
                }
            }
        }
    }

    /// Waits for a message and takes it.
    pub(crate) async fn get(&mut self, name: &str) -> Seen {
        in_time(&format!("a message of {name}"), async {
            loop {
                match self.try_get(name).await {
                    Some(seen) => return seen,
                    None => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        })
        .await
    }

    /// Ready messages of a queue.
    pub(crate) fn ready(&mut self, name: &str) -> u64 {
        self.session.declare_queue(&passive(name)).unwrap().0.ready
    }

    pub(crate) fn has_queue(&mut self, name: &str) -> bool {
        self.session.declare_queue(&passive(name)).is_ok()
    }
}

/// A request that the server got.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Answers each request with the next status of its list, the last one again and again.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
}

impl Server {
    pub(crate) async fn start(statuses: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let mut script = Script { statuses: statuses.iter(), status: "200 OK", requests: sender };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                script.answer(stream).await;
            }
        });
        Self { url, requests }
    }

    /// With TLS; says 200 to everything. See `tests/tls/make` for its certificate.
    pub(crate) async fn start_tls() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let mut script = Script { statuses: [].iter(), status: "200 OK", requests: sender };
        let acceptor = tls();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not trust this server ends the handshake.
                if let Ok(stream) = acceptor.accept(stream).await {
                    script.answer(stream).await;
                }
            }
        });
        Self { url, requests }
    }

    pub(crate) async fn request(&mut self) -> Request {
        in_time("a request", self.requests.recv()).await.unwrap()
    }
}

/// What a server answers.
struct Script {
    statuses: std::slice::Iter<'static, &'static str>,
    status: &'static str,
    requests: mpsc::UnboundedSender<Request>,
}

impl Script {
    /// Reads one request and answers it, then closes.
    async fn answer(&mut self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Some((request, bytes)) = read_whole(&mut stream).await else { return };
        self.status = self.statuses.next().unwrap_or(&self.status);
        // A test that has ended looks at no more requests.
        let _ = self.requests.send(request);
        let status = self.status;
        if let Some((status, said)) = status.split_once(" Json ") {
            let length = said.len();
            let head = format!("HTTP/1.1 {status} Json\r\ncontent-length: {length}\r\nconnection: close");
            let _ = stream.write_all(format!("{head}\r\n\r\n{said}").as_bytes()).await;
            let _ = stream.shutdown().await;
            return;
        }
        // Some servers answer with what they were sent.
        let said = if status.ends_with("Echo") { String::from_utf8_lossy(&bytes) } else { "said".into() };
        let length = said.len();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{said}");
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

/// One request; `None` if the client went before it was whole.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    read_whole(stream).await.map(|(request, _)| request)
}

async fn read_whole(stream: &mut (impl AsyncRead + Unpin)) -> Option<(Request, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut block = [0; 4096];
        let read = stream.read(&mut block).await.unwrap_or(0);
        bytes.extend_from_slice(&block[..read]);
        if let Some(request) = whole(&bytes) {
            return Some((request, bytes));
        }
        if read == 0 {
            return None;
        }
    }
}

/// A file of `tests/tls`.
pub(crate) fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn tls() -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = CertificateDer::from_pem_file(tls_file("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn whole(bytes: &[u8]) -> Option<Request> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let request = Request { head: head.to_owned(), body: body.to_owned() };
    let length = request.header("content-length").map_or(0, |value| value.parse().unwrap());
    (body.len() >= length).then_some(request)
}
