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
mod transaction;
mod unacked;

use crate::options::AmqpOptions;
use millpond_broker::Broker;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Who is at the two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// The client's.
    pub(crate) address: SocketAddr,
    /// Ours.
    pub(crate) local: SocketAddr,
}

/// Serves one connection to its end.
pub(crate) async fn serve(mut socket: TcpStream, peer: Peer, broker: Broker, options: Arc<AmqpOptions>) {
    // Its state is not needed any more afterwards, and idle connections are many.
    let handshake = Box::pin(handshake::run(&mut socket, peer, &broker, &options));
    let Some(opened) = handshake.await else { return };
    connection::run(socket, opened, broker, options).await;
}
