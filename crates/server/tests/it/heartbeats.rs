//! Heartbeats both ways.

use millpond_amqp_codec::{HEARTBEAT, basic, connection};
use millpond_testkit::{Client, Event, TestServer};

fn every_second() -> connection::TuneOk {
    connection::TuneOk { channel_max: 10, frame_max: 8192, heartbeat: 1 }
}

#[tokio::test]
async fn an_idle_connection_hears_from_the_server_and_stays_while_the_client_beats() {
    let server = TestServer::start().await;
    let mut client = Client::connect_with(server.amqp(), every_second()).await;
    for _ in 0..8 {
        assert_eq!(client.next().await, Event::Heartbeat);
        client.send_bytes(&HEARTBEAT).await;
    }
    client.open_channel(1).await;
}

#[tokio::test]
async fn a_silent_client_is_dropped() {
    let server = TestServer::start().await;
    let mut client = Client::connect_with(server.amqp(), every_second()).await;
    let mut heartbeats = 0;
    loop {
        match client.next().await {
            Event::Heartbeat => heartbeats += 1,
            Event::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(heartbeats >= 2, "{heartbeats}");
}

#[tokio::test]
async fn a_client_that_neither_reads_nor_beats_is_dropped_though_its_output_is_full() {
    let server = TestServer::start().await;
    let mut other = Client::connect(server.amqp()).await;
    other.open_channel(1).await;
    other.declare_queue(1, "held", false).await;
    let mut dead = Client::connect_with(server.amqp(), every_second()).await;
    dead.open_channel(1).await;
    dead.send(1, basic::Consume { queue: "held", ..Default::default() }).await;
    dead.expect("basic.consume-ok").await;
    other.publish_to(1, "held", b"one").await;
    dead.expect_delivery().await;
    // Each comes back, to nobody who reads: more than the output and the system's buffers hold.
    let publish = basic::Publish { routing_key: b"nowhere", mandatory: true, ..Default::default() };
    let bytes = dead.encode_publish(1, publish, &[0, 0], &vec![0; 1 << 20]);
    let flood = async {
        for _ in 0..64 {
            dead.send_bytes(&bytes).await;
        }
        std::future::pending::<()>().await;
    };
    other.send(1, basic::Consume { queue: "held", ..Default::default() }).await;
    other.expect("basic.consume-ok").await;
    tokio::select! {
        () = flood => {}
        (_, redelivered, body) = other.expect_delivery() => assert_eq!((redelivered, &*body), (true, &b"one"[..])),
    }
}

/// Of 100 kB each.
const PUBLISHES: usize = 130;

#[tokio::test]
async fn a_client_that_does_not_read_and_beats_is_kept() {
    let server = TestServer::start().await;
    let mut client = Client::connect_with(server.amqp(), every_second()).await;
    client.open_channel(1).await;
    let publish = basic::Publish { routing_key: b"nowhere", mandatory: true, ..Default::default() };
    let bytes = client.encode_publish(1, publish, &[0, 0], &vec![0; 100_000]);
    // Enough to fill the output, and little enough to be sent to somebody who has stopped reading.
    for _ in 0..PUBLISHES {
        client.send_bytes(&bytes).await;
    }
    let mut second = tokio::time::interval(std::time::Duration::from_millis(500));
    for _ in 0..10 {
        second.tick().await;
        client.send_bytes(&HEARTBEAT).await;
    }
    let mut returned = 0;
    while returned < PUBLISHES {
        match client.next().await {
            Event::Returned { .. } => returned += 1,
            Event::Heartbeat => {}
            other => panic!("{other:?} after {returned}"),
        }
    }
}
