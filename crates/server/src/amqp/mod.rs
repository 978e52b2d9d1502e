//! AMQP 0-9-1.
//!
//! One task a connection. [`handshake`] agrees on limits and logs in; [`connection`] moves bytes between socket and
//! [`core`], which knows the protocol and no socket; [`farewell`] ends it.

mod alarm;
mod channel;
mod confirm;
mod connection;
mod consume;
mod consumers;
mod core;
mod define;
mod deliver;
mod drain;
mod farewell;
mod give_back;
mod handshake;
mod held;
mod missed;
mod outbox;
mod partial;
mod pool;
mod publish;
mod reply;
mod sasl;
mod tally;
mod transaction;
mod unacked;

use crate::oauth::Oauth;
use crate::options::AmqpOptions;
use crate::tls::{HandshakeError, Secured, Service, Tls, TlsFacts, Wire};
use millpond_broker::Broker;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Who is at the two ends of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The client's.
    pub(crate) address: SocketAddr,
    /// Ours.
    pub(crate) local: SocketAddr,
    /// What it agreed on, if it has TLS.
    pub(crate) tls: Option<Arc<TlsFacts>>,
}

impl Peer {
    /// What the connection is called: `127.0.0.1:4711 -> 127.0.0.1:5672`.
    fn name(&self) -> Box<str> {
        format!("{} -> {}", self.address, self.local).into()
    }
}

/// What all connections share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) options: Arc<AmqpOptions>,
    pub(crate) secured: Arc<Secured>,
    pub(crate) oauth: Option<Arc<Oauth>>,
}

/// Serves one connection to its end.
pub(crate) async fn serve(socket: TcpStream, mut peer: Peer, tls: Option<Arc<Tls>>, shared: Shared) {
    let Shared { broker, options, secured, oauth } = shared;
    let (mut wire, _entry) = match tls {
        None => (Wire::Plain(socket), None),
        // Its state is not needed any more afterwards, and idle connections are many.
        Some(tls) => match Box::pin(tls.accept(Service::Amqp, socket, options.handshake_timeout)).await {
            Ok((wire, facts)) => {
                let facts = Arc::new(facts);
                peer.tls = Some(facts.clone());
                (wire, Some(secured.enter(&peer.name(), facts)))
            }
            Err(error) => return say(&peer, &error),
        },
    };
    // As above.
    let handshake = Box::pin(handshake::run(&mut wire, peer, &broker, (&options, oauth.as_deref())));
    let Some(opened) = handshake.await else { return };
    connection::run(wire, opened, broker, (options, oauth)).await;
}

fn say(peer: &Peer, error: &HandshakeError) {
    tracing::warn!(peer = %peer.address, %error, "no TLS with a client");
}
