//! Shovels between two whole servers in this process, with a wire between them that can be cut.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "this is test code")]

mod definitions;
mod moves;
mod wire;

use millpond_amqp_client::{ChannelId, ClientOptions, Connection, Event, Publish, QueueOptions};
use millpond_broker::{Broker, Parameter};
use millpond_model::VhostName;
use millpond_shovel::COMPONENT;
use millpond_testkit::TestServer;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// Nothing takes so long unless it hangs.
const HANG: Duration = Duration::from_secs(30);

pub(crate) fn vhost() -> VhostName {
    VhostName::new("/").unwrap()
}

pub(crate) fn uri(address: SocketAddr) -> String {
    format!("amqp://guest:guest@{address}/")
}

/// A client that publishes with confirms and gets.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) channel: ChannelId,
}

impl Client {
    pub(crate) async fn connect(server: &TestServer) -> Self {
        let uri = uri(server.amqp()).parse().unwrap();
        let mut connection = Connection::open(&uri, &ClientOptions::default()).await.unwrap();
        let channel = connection.open_channel().await.unwrap();
        connection.confirm_select(channel).await.unwrap();
        Self { connection, channel }
    }

    pub(crate) async fn declare(&mut self, queue: &str) {
        let durable = QueueOptions { durable: true, ..QueueOptions::default() };
        self.connection.declare_queue(self.channel, queue, &durable).await.unwrap();
    }

    /// Publishes these numbers, persistent, and waits for the confirms.
    pub(crate) async fn publish(&mut self, queue: &str, numbers: std::ops::Range<u32>, properties: &[u8]) {
        let mut last = 0;
        for number in numbers {
            let body = number.to_be_bytes();
            let publish =
                Publish { routing_key: queue.as_bytes(), properties, body: &body, ..Publish::default() };
            last = self.connection.publish(self.channel, &publish).unwrap();
        }
        if last == 0 {
            return;
        }
        loop {
            match self.connection.next().await.unwrap() {
                Event::Confirm(confirm) if confirm.tag == last => return,
                Event::Confirm(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes what is in a queue: numbers and properties.
    pub(crate) async fn take_all(&mut self, queue: &str) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(got) = self.connection.get(self.channel, queue, true).await.unwrap() {
            let number = u32::from_be_bytes(*got.delivery.body.first_chunk().unwrap());
            all.push((number, got.delivery.properties.to_vec()));
        }
        all
    }
}

pub(crate) fn set(broker: &Broker, name: &str, value: Value) -> Result<(), String> {
    let parameter = Parameter { vhost: Some(vhost()), component: COMPONENT.into(), name: name.into(), value };
    let (_, saved) = broker.set_parameter(parameter).map_err(|error| error.to_string())?;
    saved.wait().map_err(|error| error.to_string())
}

pub(crate) fn state(broker: &Broker, name: &str) -> Option<Value> {
    broker.parameter_states(COMPONENT).into_iter().map(|it| it.1).find(|it| it["name"] == *name)
}

pub(crate) fn ready(server: &TestServer, queue: &str) -> u64 {
    let queues = server.broker().list_queues(&vhost()).unwrap();
    queues.iter().find(|it| it.name.as_str() == queue).map_or(0, |it| it.ready + it.unacked)
}

/// Waits for something that is to come.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(HANG, wait).await.unwrap_or_else(|_| panic!("not so: {what}"));
}
