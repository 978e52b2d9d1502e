//! Heartbeats both ways.

use millpond_amqp_codec::{HEARTBEAT, connection};
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
