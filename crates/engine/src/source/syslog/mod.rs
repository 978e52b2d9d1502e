//! `syslog`: messages that others send over UDP, TCP or TLS. See docs/guide/source-syslog.md.
//!
//! There is nothing to ask again, so there is no cursor. Connections wait while the source does not look; datagrams
//! are the system's to drop.

mod frame;
mod parse;

use super::{
    Desk, Found, Item, Kind, LOOK_BYTES_MAX, LOOK_ITEMS_MAX, Opening, Poll, Polling, Source, SourceError,
    Work,
};
use crate::topology::read::text;
use crate::topology::{Fields, Node, Report};
use frame::{Frame, Frames};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Messages that were read and not published yet. Beyond, nothing is read.
const WAITING_MAX: usize = LOOK_ITEMS_MAX;

/// Connections of one source.
const CONNECTIONS_MAX: usize = 1000;

/// How long the beginning of TLS may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// After an error of accepting, such as no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest message unless the file says otherwise. Bytes.
const MESSAGE_DEFAULT_BYTES: u64 = 64 * 1024;

/// Longest message that may be asked for. Bytes.
const MESSAGE_MAX_BYTES: u64 = 1024 * 1024;

/// Longest datagram. Bytes.
const DATAGRAM_MAX_BYTES: usize = 65_536;

#[derive(Debug)]
struct Syslog {
    udp: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
    tls: Option<Tls>,
    message_max_bytes: usize,
}

#[derive(Debug)]
struct Tls {
    listen: SocketAddr,
    /// PEM; relative to the data directory.
    cert: String,
    key: String,
}

/// Reads `syslog:`.
pub(super) fn read(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    let fields = Fields::read(node, path, &["udp", "tcp", "tls", "max_message"], report);
    let address = |key: &str, report: &mut Report| {
        fields.get(key).and_then(|node| read_address(node, &fields.path_of(key), report))
    };
    let (udp, tcp) = (address("udp", report), address("tcp", report));
    let tls = fields.get("tls").and_then(|node| read_tls(node, &fields.path_of("tls"), report));
    if !["udp", "tcp", "tls"].iter().any(|key| fields.has(key)) {
        report.add(node.line, path, "found none of udp, tcp and tls, expected at least one");
    }
    let max = fields.size("max_message", MESSAGE_DEFAULT_BYTES, 64, report);
    if max > MESSAGE_MAX_BYTES
        && let Some(node) = fields.get("max_message")
    {
        report.expected(node, &fields.path_of("max_message"), "at most 1MiB");
    }
    Some(Arc::new(Syslog { udp, tcp, tls, message_max_bytes: max.min(MESSAGE_MAX_BYTES) as usize }))
}

fn read_address(node: &Node, path: &str, report: &mut Report) -> Option<SocketAddr> {
    let expected = "an address to listen on, such as 127.0.0.1:5514 or '[::]:514'";
    let found = text(node, path, expected, report)?;
    let address = found.parse().ok();
    if address.is_none() {
        report.expected(node, path, expected);
    }
    address
}

fn read_tls(node: &Node, path: &str, report: &mut Report) -> Option<Tls> {
    let fields = Fields::read(node, path, &["listen", "cert", "key"], report);
    for key in ["listen", "cert", "key"] {
        fields.required(key, "'listen', and 'cert' and 'key', files in PEM", report);
    }
    let listen = read_address(fields.get("listen")?, &fields.path_of("listen"), report);
    let cert = fields.text("cert", "the path of a file with certificates", report);
    let key = fields.text("key", "the path of a file with a private key", report);
    Some(Tls { listen: listen?, cert: cert?.to_owned(), key: key?.to_owned() })
}

impl Kind for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn polling(&self) -> Polling {
        Polling { default: Poll::Long(Duration::from_secs(30)), every: false, long: false }
    }

    fn event_type(&self) -> String {
        "millpond.syslog.message".to_owned()
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let mut tasks = JoinSet::new();
        let max = self.message_max_bytes;
        if let Some(address) = self.udp {
            let socket = std::net::UdpSocket::bind(address).map_err(|error| cannot(address, &error))?;
            socket.set_nonblocking(true).map_err(|error| cannot(address, &error))?;
            let socket = UdpSocket::from_std(socket).map_err(|error| cannot(address, &error))?;
            tasks.spawn(datagrams(socket, sender.clone(), max));
        }
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        if let Some(address) = self.tcp {
            let listener = listen(address)?;
            tasks.spawn(accept(listener, None, sender.clone(), connections.clone(), max));
        }
        if let Some(tls) = &self.tls {
            let acceptor = acceptor(tls, &opening.tools.data_dir)?;
            let listener = listen(tls.listen)?;
            tasks.spawn(accept(listener, Some(acceptor), sender, connections, max));
        }
        let run = rand::random::<u64>();
        Ok(Box::new(Listening { receiver, _tasks: tasks, run, count: 0 }))
    }
}

fn cannot(address: SocketAddr, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::new(format!("cannot listen on {address}: {error}"))
}

fn listen(address: SocketAddr) -> Result<TcpListener, SourceError> {
    let listener = std::net::TcpListener::bind(address).map_err(|error| cannot(address, &error))?;
    listener.set_nonblocking(true).map_err(|error| cannot(address, &error))?;
    TcpListener::from_std(listener).map_err(|error| cannot(address, &error))
}

fn acceptor(tls: &Tls, data_dir: &Path) -> Result<TlsAcceptor, SourceError> {
    let unusable = |path: &PathBuf, error: &dyn std::fmt::Display| {
        SourceError::new(format!("'{}' cannot be used for TLS: {error}", path.display()))
    };
    let (cert, key) = (data_dir.join(&tls.cert), data_dir.join(&tls.key));
    let certificates: Vec<_> = CertificateDer::pem_file_iter(&cert)
        .map_err(|error| unusable(&cert, &error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&cert, &error))?;
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|error| unusable(&key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&cert, &error))?
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|error| unusable(&cert, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A message with where it came from.
struct Came {
    frame: Frame,
    peer: SocketAddr,
    transport: &'static str,
}

async fn datagrams(socket: UdpSocket, sender: mpsc::Sender<Came>, max_bytes: usize) {
    let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
    loop {
        // An error is of an earlier datagram that went out, and none goes out.
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let cut = len > max_bytes;
        let frame = Frame { bytes: buffer[..len.min(max_bytes)].to_vec(), cut };
        if sender.send(Came { frame, peer, transport: "udp" }).await.is_err() {
            return;
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    sender: mpsc::Sender<Came>,
    connections: Arc<Semaphore>,
    max_bytes: usize,
) {
    // They end with this task.
    let mut open = JoinSet::new();
    loop {
        // Beyond the limit the system's own list of connections fills.
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        while open.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a syslog listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, sender) = (tls.clone(), sender.clone());
        open.spawn(async move {
            let _permit = permit;
            connection(stream, peer, tls, sender, max_bytes).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    sender: mpsc::Sender<Came>,
    max_bytes: usize,
) {
    let Some(tls) = tls else { return messages(stream, peer, "tcp", sender, max_bytes).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => messages(stream, peer, "tls", sender, max_bytes).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a syslog client ended the handshake"),
        Err(_) => tracing::debug!(%peer, "a syslog client did not finish the handshake"),
    }
}

async fn messages(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    transport: &'static str,
    sender: mpsc::Sender<Came>,
    max_bytes: usize,
) {
    let mut frames = Frames::new(stream, max_bytes);
    // A client that goes without a word is as good as one that says so.
    while let Ok(Some(frame)) = frames.next().await {
        if sender.send(Came { frame, peer, transport }).await.is_err() {
            return;
        }
    }
}

struct Listening {
    receiver: mpsc::Receiver<Came>,
    _tasks: JoinSet<()>,
    /// Tells apart the messages of one run from those of others.
    run: u64,
    count: u64,
}

impl Listening {
    async fn find(&mut self, wait: Duration) -> Result<Found, SourceError> {
        let Ok(first) = tokio::time::timeout(wait, self.receiver.recv()).await else {
            return Ok(Found::default());
        };
        let mut found = Found::default();
        let mut next = first;
        let mut bytes = 0;
        while let Some(came) = next {
            bytes += came.frame.bytes.len();
            found.items.push(self.item(&came));
            let full = found.items.len() >= LOOK_ITEMS_MAX || bytes >= LOOK_BYTES_MAX;
            next = if full { None } else { self.receiver.try_recv().ok() };
        }
        if found.items.is_empty() {
            return Err(SourceError::new("the listeners have ended"));
        }
        Ok(found)
    }

    fn item(&mut self, came: &Came) -> Item {
        self.count += 1;
        let data = parse::data(&came.frame.bytes, &came.peer.to_string(), came.transport, came.frame.cut);
        let host = data.get("hostname").and_then(Value::as_str);
        let subject = host.map_or_else(|| came.peer.ip().to_string(), str::to_owned);
        let id = format!("{:x}-{}", self.run, self.count);
        Item { subject: Some(subject), ..Item::json(id, data) }
    }
}

impl Source for Listening {
    fn look<'a>(
        &'a mut self,
        _desk: &'a mut Desk,
        _cursor: Option<&'a Value>,
        wait: Duration,
    ) -> Work<'a, Found> {
        Box::pin(self.find(wait))
    }
}
