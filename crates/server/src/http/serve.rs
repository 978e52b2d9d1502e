//! Connections of HTTP: how many, how slow, with TLS or without.

use super::Doors;
use crate::options::HttpOptions;
use crate::stop::StopSignal;
use crate::tls::{Service, Tls, Wire};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tower_service::Service as _;

const NOT_FOUND: &str = "not found: health checks are at /health, /health/ready and /health/live, events at /events, the console at /, the management API at /api, metrics at /metrics\n";

/// After a failed accept (no descriptors left, mostly): time for others to close some.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Longest head of a request, more or less (up to twice that passes if it comes at once). A token has up to 32 KiB. Bytes.
const HEAD_MAX_BYTES: usize = 64 * 1024;

/// What was sent and is not taken for so long ends the connection, in the kernel.
const UNACKED_MAX: Duration = Duration::from_secs(60);

/// What the listeners of HTTP share.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    router: Router,
    options: Arc<HttpOptions>,
    slots: Arc<Semaphore>,
}

/// A request's connection has TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encrypted;

impl Host {
    pub(crate) fn new(doors: Doors, options: HttpOptions) -> Self {
        let router = Router::new()
            .merge(doors.health)
            .merge(doors.events)
            .merge(doors.management)
            .merge(doors.metrics)
            .merge(doors.console)
            .fallback(|| async { (StatusCode::NOT_FOUND, NOT_FOUND) });
        let slots = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
        Self { router, options: Arc::new(options), slots }
    }

    /// Another that serves this and nothing else; they share their limits.
    pub(crate) fn with_only(&self, router: Router) -> Self {
        let router =
            router.fallback(|| async { (StatusCode::NOT_FOUND, "not found: metrics are at /metrics\n") });
        Self { router, ..self.clone() }
    }

    /// Answers until stopped. Connections that idle, or wait for events, do not hold the stop up: they are dropped.
    pub(crate) async fn serve(self, listener: TcpListener, tls: Option<Arc<Tls>>, mut stop: StopSignal) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.stopped() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => self.accept(&mut connections, socket, peer, tls.clone()),
                    Err(error) => {
                        tracing::warn!(%error, "an HTTP connection could not be accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
    }

    fn accept(
        &self,
        connections: &mut JoinSet<()>,
        socket: TcpStream,
        peer: SocketAddr,
        tls: Option<Arc<Tls>>,
    ) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let limit = self.options.connections_max;
            tracing::warn!(%peer, limit, "limit of HTTP connections reached, closed at once");
            return;
        };
        let timeout_ms = u32::try_from(UNACKED_MAX.as_millis()).unwrap_or(u32::MAX);
        let prepared = socket
            .set_nodelay(true)
            .and_then(|()| Ok(rustix::net::sockopt::set_tcp_user_timeout(&socket, timeout_ms)?));
        if let Err(error) = prepared {
            tracing::debug!(%peer, %error, "a socket option could not be set");
        }
        let host = self.clone();
        connections.spawn(async move {
            host.talk(socket, peer, tls).await;
            drop(slot);
        });
    }

    async fn talk(self, socket: TcpStream, peer: SocketAddr, tls: Option<Arc<Tls>>) {
        let is_encrypted = tls.is_some();
        let wire = match tls {
            None => Wire::Plain(socket),
            Some(tls) => match tls.accept(Service::Http, socket, self.options.header_timeout).await {
                Ok((wire, _)) => wire,
                Err(error) => return tracing::info!(%peer, %error, "no TLS with an HTTP client"),
            },
        };
        let (router, pause) = (self.router, self.options.body_pause_max);
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(|body| Body::new(Patient::new(body, pause)));
            request.extensions_mut().insert(ConnectInfo(peer));
            if is_encrypted {
                request.extensions_mut().insert(Encrypted);
            }
            router.clone().call(request)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.header_timeout)
            .max_buf_size(HEAD_MAX_BYTES)
            .serve_connection(TokioIo::new(wire), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "an HTTP connection ended");
        }
    }
}

/// A body that must not pause for long: who sends a byte a minute would keep a connection for ever.
struct Patient {
    body: Incoming,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

/// See [`Patient`].
#[derive(Debug, thiserror::Error)]
#[error("nothing came of the request's body for {0:?}")]
struct TooSlow(Duration);

impl Patient {
    fn new(body: Incoming, pause: Duration) -> Self {
        Self { body, pause, timer: None }
    }
}

impl HttpBody for Patient {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let pause = this.pause;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        std::task::ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(TooSlow(pause).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
