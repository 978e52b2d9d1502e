//! The server under test.

use millpond_broker::{Broker, BrokerOptions};
use millpond_model::UserName;
use millpond_server::{
    AmqpOptions, Api, EngineDoor, HttpOptions, Oauth, Server, ServerOptions, StopHandle, Tls, stop_pair,
};
use millpond_store::fs::FileSystem;
use millpond_store::{Recovery, Store, StoreOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A server on a store of its own in a temporary directory; dropping it ends it.
#[derive(Debug)]
pub struct TestServer {
    broker: Broker,
    store: Store,
    amqp: SocketAddr,
    http: SocketAddr,
    /// With TLS: AMQP, HTTP.
    secure: Option<(SocketAddr, SocketAddr)>,
    stop: StopHandle,
    api: Api,
    running: JoinHandle<()>,
    dir: Option<TempDir>,
}

/// What a server may have besides.
#[derive(Debug, Default)]
struct Besides {
    tls: Option<Arc<Tls>>,
    oauth: Option<Arc<Oauth>>,
    engine: Option<Arc<dyn EngineDoor>>,
    http: HttpOptions,
}

/// The store as tests want it: small, and as durable as in earnest.
fn store_options(dir: &Path) -> StoreOptions {
    StoreOptions { wal_segment_size_bytes: 4 << 20, ..StoreOptions::new(dir) }
}

fn broker_options() -> BrokerOptions {
    BrokerOptions {
        message_size_max_bytes: 1 << 20,
        consumers_max_per_session: 10_000,
        sessions_max: 10_000,
        inbox_max_bytes: 1 << 20,
        default_user: UserName::new("guest").unwrap(),
        default_password: "guest".into(),
        default_user_loopback_only: true,
        statistics_interval_ms: 100,
        clock: millpond_broker::Clock::system(),
        audit: Default::default(),
    }
}

impl TestServer {
    /// Starts one with default settings; message bodies are limited to 1 MiB.
    pub async fn start() -> Self {
        Self::start_with(AmqpOptions::default()).await
    }

    /// Starts one with these settings.
    pub async fn start_with(amqp: AmqpOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(amqp, dir).await
    }

    /// Starts one whose queues keep next to nothing in memory: all but a few messages are on disk.
    pub async fn start_paging() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            queue_memory_max_bytes: 1000,
            wal_segment_size_bytes: 16 << 10,
            queue_segment_size_bytes: 8 << 10,
            ..store_options(dir.path())
        };
        let opened = Store::open(options).unwrap();
        Self::start_on_store(AmqpOptions::default(), opened, Some(dir), Besides::default()).await
    }

    /// Starts one with default settings on this file system, which may fail.
    pub async fn start_on(fs: Arc<dyn FileSystem>) -> Self {
        let options = StoreOptions { wal_segment_size_bytes: 64 << 10, ..store_options(Path::new("/data")) };
        let opened = Store::open_on(fs, options).unwrap();
        Self::start_on_store(AmqpOptions::default(), opened, None, Besides::default()).await
    }

    async fn start_in(amqp: AmqpOptions, dir: TempDir) -> Self {
        let opened = Store::open(store_options(dir.path())).unwrap();
        Self::start_on_store(amqp, opened, Some(dir), Besides::default()).await
    }

    async fn start_on_store(
        amqp: AmqpOptions,
        opened: (Store, Recovery),
        dir: Option<TempDir>,
        besides: Besides,
    ) -> Self {
        let Besides { tls, oauth, engine, http } = besides;
        let (store, recovery) = opened;
        let broker = Broker::open(store.clone(), recovery, broker_options()).unwrap();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(ServerOptions {
            amqp_listen: vec![any_port],
            http_listen: vec![any_port],
            prometheus_listen: vec![any_port],
            amqp,
            amqps_listen: vec![any_port],
            https_listen: vec![any_port],
            tls,
            oauth,
            http,
            stop_timeout: Duration::from_secs(5),
        });
        let mut server = server.await.unwrap();
        if let Some(engine) = engine {
            server = server.with_engine(engine);
        }
        let api = server.api(&broker);
        let (amqp, http) = (server.amqp_addresses()[0], server.http_addresses()[0]);
        let secure = server.amqps_addresses().first().copied().zip(server.https_addresses().first().copied());
        let (stop, stopped) = stop_pair();
        let running = tokio::spawn(server.run(broker.clone(), stopped));
        Self { broker, store, amqp, http, secure, stop, api, running, dir }
    }

    /// Starts one that has TLS too.
    pub async fn start_secure(amqp: AmqpOptions, tls: Arc<Tls>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let opened = Store::open(store_options(dir.path())).unwrap();
        Self::start_on_store(amqp, opened, Some(dir), Besides { tls: Some(tls), ..Besides::default() }).await
    }

    /// Starts one that takes tokens.
    pub async fn start_with_tokens(oauth: Arc<Oauth>) -> Self {
        Self::start_besides(Besides { oauth: Some(oauth), ..Besides::default() }).await
    }

    /// Starts one that takes tokens and shows this engine.
    pub async fn start_with_engine(oauth: Arc<Oauth>, engine: Arc<dyn EngineDoor>) -> Self {
        let (oauth, engine) = (Some(oauth), Some(engine));
        Self::start_besides(Besides { oauth, engine, ..Besides::default() }).await
    }

    /// Starts one whose HTTP has these limits.
    pub async fn start_with_http(http: HttpOptions) -> Self {
        Self::start_besides(Besides { http, ..Besides::default() }).await
    }

    async fn start_besides(besides: Besides) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let opened = Store::open(store_options(dir.path())).unwrap();
        Self::start_on_store(AmqpOptions::default(), opened, Some(dir), besides).await
    }

    /// The management API from inside the process, as the control socket has it.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Where AMQP and HTTP are served with TLS.
    pub fn secure(&self) -> (SocketAddr, SocketAddr) {
        self.secure.unwrap()
    }

    /// Where AMQP is served.
    pub fn amqp(&self) -> SocketAddr {
        self.amqp
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The broker inside.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Begins to drain it.
    pub fn drain(&self) {
        self.stop.drain();
    }

    /// Comes back when it has ended by itself.
    pub async fn ended(&mut self) {
        (&mut self.running).await.unwrap();
    }

    /// Stops it, closes its store, and hands the directory out; not for one on a file system of its own.
    pub async fn stop(mut self) -> TempDir {
        self.stop.stop();
        (&mut self.running).await.unwrap();
        self.store.close();
        self.dir.take().unwrap()
    }

    /// Stops it and starts another one on the same store.
    pub async fn restart(self) -> Self {
        let dir = self.stop().await;
        Self::start_in(AmqpOptions::default(), dir).await
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// A name that no other test of this process uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
