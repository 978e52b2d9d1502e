//! Sockets: taking addresses, accepting, stopping.

use crate::amqp::{self, Peer};
use crate::engine_door::EngineDoor;
use crate::options::ServerOptions;
use crate::stop::StopSignal;
use crate::tls::{Secured, Tls};
use crate::{http, stop};
use millpond_broker::{Broker, FrontEnd};
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
    /// `AMQP`, `AMQPS`, `HTTP` or `HTTPS`.
    pub service: &'static str,
    /// What the system says.
    pub source: io::Error,
}

/// A server whose addresses are taken and which does not serve yet.
#[derive(Debug)]
pub struct Server {
    amqp: Vec<TcpListener>,
    amqps: Vec<TcpListener>,
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    prometheus: Vec<TcpListener>,
    options: ServerOptions,
    engine: Option<Arc<dyn EngineDoor>>,
    secured: Arc<Secured>,
}

impl Server {
    /// Takes all addresses of the options.
    pub async fn bind(options: ServerOptions) -> Result<Self, BindError> {
        let amqp = bind_all(&options.amqp_listen, "AMQP").await?;
        let http = bind_all(&options.http_listen, "HTTP").await?;
        let with_tls = |addresses: &[SocketAddr]| match options.tls {
            Some(_) => addresses.to_vec(),
            None => Vec::new(),
        };
        let amqps = bind_all(&with_tls(&options.amqps_listen), "AMQPS").await?;
        let https = bind_all(&with_tls(&options.https_listen), "HTTPS").await?;
        let prometheus = bind_all(&options.prometheus_listen, "Prometheus").await?;
        Ok(Self { amqp, amqps, http, https, prometheus, options, engine: None, secured: Arc::default() })
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

    /// Where AMQP with TLS will be served; nowhere without certificates.
    pub fn amqps_addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.amqps)
    }

    /// Where HTTP will be served.
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.http)
    }

    /// Where HTTP with TLS will be served; nowhere without certificates.
    pub fn https_addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.https)
    }

    /// Where metrics are served beside that.
    pub fn prometheus_addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.prometheus)
    }

    /// The management API for the process itself.
    pub fn api(&self, broker: &Broker) -> http::Api {
        http::Api::new(broker.clone(), self.facts(), &self.options.http, self.engine.clone())
    }

    fn facts(&self) -> http::Facts {
        let listening = http::Listening {
            amqp: self.amqp_addresses(),
            amqps: self.amqps_addresses(),
            http: self.http_addresses(),
            https: self.https_addresses(),
        };
        let (cluster_name, tls) = (&self.options.amqp.cluster_name, self.options.tls.clone());
        http::Facts::new(cluster_name, listening, tls, self.secured.clone())
    }

    /// Serves until stopped: then accepts no more, has the broker tell every session to close, and comes back when
    /// all connections are closed or the options' time for it is over. The store is left open.
    ///
    /// When it is to drain, no AMQP connection is accepted any more and each is closed as soon as its client has
    /// settled what it holds; HTTP goes on. It comes back when the last one is closed, or the stop comes.
    pub async fn run(self, broker: Broker, mut stop: StopSignal) {
        let (facts, tls, secured) = (self.facts(), self.options.tls, self.secured);
        let options = Arc::new(self.options.amqp);
        let slots = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
        let (accepting, accept_until) = stop::stop_pair();
        let (mut loops, mut doors_open, mut keeping) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        let oauth = self.options.oauth;
        if let Some(oauth) = oauth.clone() {
            // Dropped with the other loops.
            keeping.spawn(oauth.keep_fresh());
        }
        let shared =
            amqp::Shared { broker: broker.at(FrontEnd::Amqp), options, secured, oauth: oauth.clone() };
        let door = AmqpDoor { shared, slots, stop_timeout: self.options.stop_timeout };
        for (listener, tls) in with_tls(self.amqp, None).chain(with_tls(self.amqps, tls.as_ref())) {
            loops.spawn(door.clone().accept_loop(listener, tls, stop.clone()));
        }
        let options = &self.options.http;
        let doors =
            http::Doors::new(broker.clone(), facts, options, self.engine, accept_until.clone(), oauth);
        let metrics = doors.prometheus();
        let host = http::Host::new(doors, self.options.http);
        let metrics = host.with_only(metrics);
        for (listener, tls) in with_tls(self.http, None).chain(with_tls(self.https, tls.as_ref())) {
            doors_open.spawn(host.clone().serve(listener, tls, accept_until.clone()));
        }
        for listener in self.prometheus {
            doors_open.spawn(metrics.clone().serve(listener, None, accept_until.clone()));
        }
        stop.draining().await;
        let mut until = stop.clone();
        tokio::select! {
            // A stop without a drain goes on at once.
            biased;
            () = until.stopped() => {}
            () = drain(&broker, &mut loops) => {}
        }
        accepting.stop();
        broker.announce_shutdown();
        while loops.join_next().await.is_some() {}
        while doors_open.join_next().await.is_some() {}
    }
}

/// Comes back when the last connection is closed.
async fn drain(broker: &Broker, loops: &mut JoinSet<()>) {
    broker.announce_drain();
    while loops.join_next().await.is_some() {}
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

fn with_tls(
    listeners: Vec<TcpListener>,
    tls: Option<&Arc<Tls>>,
) -> impl Iterator<Item = (TcpListener, Option<Arc<Tls>>)> {
    listeners.into_iter().map(move |listener| (listener, tls.cloned()))
}

async fn all_closed(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// What the AMQP listeners share.
#[derive(Debug, Clone)]
struct AmqpDoor {
    shared: amqp::Shared,
    slots: Arc<Semaphore>,
    stop_timeout: Duration,
}

impl AmqpDoor {
    async fn accept_loop(self, listener: TcpListener, tls: Option<Arc<Tls>>, mut stop: StopSignal) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.draining() => break,
                Some(ended) = connections.join_next() => report_panic(ended),
                accepted = listener.accept() => match accepted {
                    Ok((socket, address)) => self.accept(&mut connections, socket, address, tls.clone()),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
        drop(listener);
        // Each ends when its client has settled what it holds, or all are told to.
        tokio::select! {
            () = all_closed(&mut connections) => {}
            () = stop.stopped() => {}
        }
        let all_closed = all_closed(&mut connections);
        if tokio::time::timeout(self.stop_timeout, all_closed).await.is_err() {
            tracing::warn!("some connections did not say goodbye in time and are cut off");
        }
    }

    fn accept(
        &self,
        connections: &mut JoinSet<()>,
        socket: TcpStream,
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
    ) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let limit = self.shared.options.connections_max;
            tracing::warn!(peer = %address, limit, "connection limit reached, closed at once");
            return;
        };
        // A batch is one write: there is nothing to be gained by waiting for more.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(peer = %address, %error, "TCP_NODELAY could not be set");
        }
        let local = socket.local_addr().unwrap_or(address);
        let (peer, shared) = (Peer { address, local, tls: None }, self.shared.clone());
        connections.spawn(async move {
            amqp::serve(socket, peer, tls, shared).await;
            drop(slot);
        });
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a defect in the server; others are not affected");
    }
}
