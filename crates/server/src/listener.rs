//! Sockets: taking addresses, accepting, stopping.

use crate::amqp::{self, Peer};
use crate::engine_door::EngineDoor;
use crate::options::{AmqpOptions, ServerOptions};
use crate::stop::StopSignal;
use crate::{http, stop};
use millpond_broker::Broker;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// After a failed accept (no descriptors left, mostly): time for others to close some.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {service}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// `AMQP` or `HTTP`.
    pub service: &'static str,
    /// What the system says.
    pub source: io::Error,
}

/// A server whose addresses are taken and which does not serve yet.
#[derive(Debug)]
pub struct Server {
    amqp: Vec<TcpListener>,
    http: Vec<TcpListener>,
    options: ServerOptions,
    engine: Option<Arc<dyn EngineDoor>>,
}

impl Server {
    /// Takes all addresses of the options.
    pub async fn bind(options: ServerOptions) -> Result<Self, BindError> {
        let amqp = bind_all(&options.amqp_listen, "AMQP").await?;
        let http = bind_all(&options.http_listen, "HTTP").await?;
        Ok(Self { amqp, http, options, engine: None })
    }

    /// Serves this engine over HTTP, too; without one its paths say that there is none.
    pub fn with_engine(mut self, engine: Arc<dyn EngineDoor>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Where AMQP will be served; a port 0 of the options has become a real one.
    pub fn amqp_addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.amqp)
    }

    /// Where HTTP will be served.
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.http)
    }

    /// The management API for the process itself.
    pub fn api(&self, broker: &Broker) -> http::Api {
        http::Api::new(broker.clone(), self.facts(), &self.options.http, self.engine.clone())
    }

    fn facts(&self) -> http::Facts {
        http::Facts::new(&self.options.amqp.cluster_name, self.amqp_addresses(), self.http_addresses())
    }

    /// Serves until stopped: then accepts no more, has the broker tell every session to close, and comes back when
    /// all connections are closed or the options' time for it is over. The store is left open.
    pub async fn run(self, broker: Broker, mut stop: StopSignal) {
        let facts = self.facts();
        let options = Arc::new(self.options.amqp);
        let slots = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
        let (accepting, accept_until) = stop::stop_pair();
        let mut loops = JoinSet::new();
        for listener in self.amqp {
            let (broker, options, slots) = (broker.clone(), options.clone(), slots.clone());
            let stop_timeout = self.options.stop_timeout;
            loops.spawn(accept_loop(listener, broker, options, slots, accept_until.clone(), stop_timeout));
        }
        let options = &self.options.http;
        let doors = http::Doors::new(broker.clone(), facts, options, self.engine, accept_until.clone());
        for listener in self.http {
            loops.spawn(http::serve(listener, doors.clone(), accept_until.clone()));
        }
        stop.stopped().await;
        accepting.stop();
        broker.announce_shutdown();
        while loops.join_next().await.is_some() {}
    }
}

async fn bind_all(addresses: &[SocketAddr], service: &'static str) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing_ipv6(address, &error) && addresses.len() > 1 => {
                tracing::warn!(%address, service, "not listening there: this machine has no IPv6 loopback");
            }
            Err(source) => return Err(BindError { address, service, source }),
        }
    }
    Ok(listeners)
}

/// The default addresses name `::1`, which containers often lack.
fn is_missing_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    address.is_ipv6()
        && address.ip().is_loopback()
        && (error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT))
}

fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

async fn accept_loop(
    listener: TcpListener,
    broker: Broker,
    options: Arc<AmqpOptions>,
    slots: Arc<Semaphore>,
    mut stop: StopSignal,
    stop_timeout: Duration,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.stopped() => break,
            Some(ended) = connections.join_next() => report_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((socket, address)) => accept(&mut connections, socket, address, &broker, &options, &slots),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listener);
    let all_closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(stop_timeout, all_closed).await.is_err() {
        tracing::warn!("some connections did not say goodbye in time and are cut off");
    }
}

fn accept(
    connections: &mut JoinSet<()>,
    socket: TcpStream,
    address: SocketAddr,
    broker: &Broker,
    options: &Arc<AmqpOptions>,
    slots: &Arc<Semaphore>,
) {
    let Ok(slot) = slots.clone().try_acquire_owned() else {
        tracing::warn!(peer = %address, limit = options.connections_max, "connection limit reached, closed at once");
        return;
    };
    // A batch is one write: there is nothing to be gained by waiting for more.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(peer = %address, %error, "TCP_NODELAY could not be set");
    }
    let local = socket.local_addr().unwrap_or(address);
    let (broker, options) = (broker.clone(), options.clone());
    connections.spawn(async move {
        amqp::serve(socket, Peer { address, local }, broker, options).await;
        drop(slot);
    });
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a defect in the server; others are not affected");
    }
}
