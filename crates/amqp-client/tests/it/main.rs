//! The client against a whole server in this process, and against peers that misbehave.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is test code")]

use millpond_amqp_client::{
    ClientError, ClientOptions, ConnectError, Connection, Consume, Event, ExchangeOptions, Publish,
    QueueOptions, Uri,
};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::Table;
use millpond_testkit::TestServer;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn uri(address: SocketAddr) -> Uri {
    format!("amqp://guest:guest@{address}/").parse().unwrap()
}

async fn connect(server: &TestServer) -> Connection {
    Connection::open(&uri(server.amqp()), &ClientOptions::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_with_confirms_is_consumed_with_batch_acks() {
    let server = TestServer::start().await;
    let mut client = connect(&server).await;
    let channel = client.open_channel().await.unwrap();
    let durable = QueueOptions { durable: true, ..QueueOptions::default() };
    let declared = client.declare_queue(channel, "orders", &durable).await.unwrap();
    assert_eq!((declared.name.as_str(), declared.messages), ("orders", 0));
    client.declare_exchange(channel, "shop", "topic", &ExchangeOptions::default()).await.unwrap();
    client.bind_queue(channel, "orders", "shop", "a.*", &Table::new()).await.unwrap();
    client.confirm_select(channel).await.unwrap();

    let properties = Properties {
        delivery_mode: Some(2),
        headers: [("n", 7)].into_iter().collect(),
        timestamp: Some(1_700_000_000),
        ..Properties::default()
    };
    let properties = properties.encode().unwrap();
    let large = vec![7; 300_000];
    let mut last = 0;
    for number in 0..500u32 {
        let body = if number == 250 { &large[..] } else { &number.to_be_bytes() };
        let publish = Publish {
            exchange: b"shop",
            routing_key: b"a.b",
            properties: &properties,
            body,
            ..Default::default()
        };
        last = client.publish(channel, &publish).unwrap();
    }
    assert_eq!(last, 500);
    let mut confirmed = 0;
    while confirmed < last {
        match client.next().await.unwrap() {
            Event::Confirm(confirm) => {
                assert!(confirm.is_ack);
                assert!(confirm.multiple || confirm.tag == confirmed + 1);
                confirmed = confirm.tag;
            }
            other => panic!("{other:?}"),
        }
    }

    client.qos(channel, 200).await.unwrap();
    let tag = client.consume(channel, "orders", &Consume::default()).await.unwrap();
    for number in 0..500u32 {
        let Event::Delivery(delivery) = client.next().await.unwrap() else { panic!("no delivery") };
        match number {
            250 => assert_eq!(delivery.body, large),
            _ => assert_eq!(*delivery.body, number.to_be_bytes()),
        }
        assert_eq!((&*delivery.exchange, &*delivery.routing_key), (&b"shop"[..], &b"a.b"[..]));
        assert_eq!(delivery.properties, properties);
        assert_eq!(RawProperties::parse(&delivery.properties).unwrap().timestamp(), Some(1_700_000_000));
        if number % 100 == 99 {
            client.ack(channel, delivery.delivery_tag, true).unwrap();
        }
    }
    client.cancel(channel, &tag).await.unwrap();
    assert!(client.get(channel, "orders", false).await.unwrap().is_none());
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn get_nack_purge_and_delete_do_what_they_say() {
    let server = TestServer::start().await;
    let mut client = connect(&server).await;
    let channel = client.open_channel().await.unwrap();
    client.declare_queue(channel, "q", &QueueOptions::default()).await.unwrap();
    for body in ["a", "b", "c"] {
        let publish = Publish { routing_key: b"q", body: body.as_bytes(), ..Default::default() };
        assert_eq!(client.publish(channel, &publish).unwrap(), 0, "this channel does not confirm");
    }
    let got = client.get(channel, "q", false).await.unwrap().unwrap();
    assert_eq!((&*got.delivery.body, got.left, got.delivery.redelivered), (&b"a"[..], 2, false));
    client.nack(channel, got.delivery.delivery_tag, false, true).unwrap();
    let again = client.get(channel, "q", false).await.unwrap().unwrap();
    assert_eq!((&*again.delivery.body, again.delivery.redelivered), (&b"a"[..], true));
    client.ack(channel, again.delivery.delivery_tag, false).unwrap();
    assert_eq!(client.purge_queue(channel, "q").await.unwrap(), 2);
    assert_eq!(client.delete_queue(channel, "q").await.unwrap(), 0);
    client.close_channel(channel).await.unwrap();
    let error = client.get(channel, "q", false).await.unwrap_err();
    assert!(error.is_channel_only(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_costs_the_channel_and_not_the_connection() {
    let server = TestServer::start().await;
    let mut client = connect(&server).await;
    let channel = client.open_channel().await.unwrap();
    let passive = QueueOptions { passive: true, ..QueueOptions::default() };
    let error = client.declare_queue(channel, "missing", &passive).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::ChannelClosed { code: 404, text } if text.contains("missing")),
        "{error}"
    );
    assert!(matches!(client.ack(channel, 1, false), Err(ClientError::NoChannel { .. })));
    let channel = client.open_channel().await.unwrap();
    assert_eq!(channel.number(), 1, "its number is free again");
    // Without a call that waits, it is told as an event.
    client.publish(channel, &Publish { exchange: b"missing", ..Default::default() }).unwrap();
    let Event::ChannelClosed { code: 404, .. } = client.next().await.unwrap() else { panic!("not closed") };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandatory_message_without_a_queue_comes_back() {
    let server = TestServer::start().await;
    let mut client = connect(&server).await;
    let channel = client.open_channel().await.unwrap();
    client.confirm_select(channel).await.unwrap();
    let publish = Publish { routing_key: b"nobody", mandatory: true, body: b"x", ..Default::default() };
    client.publish(channel, &publish).unwrap();
    let Event::Returned(returned) = client.next().await.unwrap() else { panic!("not returned") };
    assert_eq!((returned.code, &*returned.routing_key, &*returned.body), (312, &b"nobody"[..], &b"x"[..]));
    assert!(matches!(client.next().await.unwrap(), Event::Confirm(confirm) if confirm.is_ack));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_cancels_its_consumer() {
    let server = TestServer::start().await;
    let mut client = connect(&server).await;
    let channel = client.open_channel().await.unwrap();
    client.declare_queue(channel, "q", &QueueOptions::default()).await.unwrap();
    let tag = client.consume(channel, "q", &Consume::default()).await.unwrap();
    client.delete_queue(channel, "q").await.unwrap();
    let wanted = Event::ConsumerCancelled { channel, consumer_tag: tag };
    assert_eq!(client.next().await.unwrap(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_told_why_without_the_password() {
    let server = TestServer::start().await;
    let wrong: Uri = format!("amqp://guest:hunter2@{}/", server.amqp()).parse().unwrap();
    let error = Connection::open(&wrong, &ClientOptions::default()).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Login { .. }), "{error}");
    assert!(!error.to_string().contains("hunter2"));
    let elsewhere: Uri = format!("amqp://guest:guest@{}/nowhere", server.amqp()).parse().unwrap();
    let error = Connection::open(&elsewhere, &ClientOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_goodbye_and_the_connection_is_over() {
    let server = TestServer::start().await;
    let mut client = connect(&server).await;
    drop(server.stop().await);
    let error = client.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Closed { code: 320, .. }), "{error}");
    assert!(matches!(client.flush().await, Err(ClientError::Over)));
}

/// A peer that does one thing with what comes.
async fn peer(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 8];
        socket.read_exact(&mut greeting).await.unwrap();
        socket.write_all(answer).await.unwrap();
        // Until the client goes.
        let _ = socket.read(&mut greeting).await;
    });
    address
}

#[tokio::test]
async fn peers_that_speak_something_else_are_named() {
    let address = peer(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = Connection::open(&uri(address), &ClientOptions::default()).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Foreign { answer, .. } if answer.starts_with("HTTP")), "{error}");
    let address = peer(b"").await;
    let options = ClientOptions { connect_timeout: Duration::from_millis(50), ..ClientOptions::default() };
    let error = Connection::open(&uri(address), &options).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Connection::open(&uri(unused), &ClientOptions::default()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_an_idle_connection_and_find_a_dead_one() {
    let server = TestServer::start().await;
    let beating: Uri = format!("amqp://guest:guest@{}/?heartbeat=1", server.amqp()).parse().unwrap();
    let mut client = Connection::open(&beating, &ClientOptions::default()).await.unwrap();
    assert_eq!(client.limits().heartbeat, Duration::from_secs(1));
    // Three times the heartbeat: without ours the server would have closed it, without its own we would have.
    let idle = tokio::time::timeout(Duration::from_secs(3), client.next()).await;
    assert!(idle.is_err(), "{idle:?}");
    client.open_channel().await.unwrap();
    client.close().await.unwrap();
}
