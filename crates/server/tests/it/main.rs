//! The AMQP front end as clients meet it: a whole server in this process, frames by hand.

mod channels;
mod consuming;
mod framing;
mod handshake;
mod health;
mod heartbeats;
mod publishing;
mod transactions;
