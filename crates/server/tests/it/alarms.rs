//! connection.blocked (contract C11).

use millpond_amqp_codec::{PROTOCOL_HEADER, basic, confirm, connection};
use millpond_broker::{ResourceLimits, Resources};
use millpond_testkit::{Client, Event, TestServer};

async fn ready(server: &TestServer) -> Client {
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client
}

/// Measures so that the alarms named are set.
fn alarm(server: &TestServer, memory: bool, disk: bool, refuse_after_ms: Option<u64>) {
    let limits = ResourceLimits { memory_max_bytes: 10, disk_free_min_bytes: 10, refuse_after_ms };
    let measured = Resources {
        memory_bytes: Some(if memory { 11 } else { 10 }),
        disk_free_bytes: Some(if disk { 9 } else { 10 }),
    };
    server.broker().check_resources(measured, &limits);
}

#[tokio::test]
async fn a_publisher_is_told_once_and_waits_while_consumers_go_on() {
    let server = TestServer::start().await;
    let mut publisher = ready(&server).await;
    let mut consumer = ready(&server).await;
    publisher.declare_queue(1, "q", false).await;
    consumer.consume(1, "q", "c", true).await;
    alarm(&server, true, false, None);
    // Who does not publish hears nothing.
    publisher.expect_nothing(1).await;
    publisher.publish_to(1, "q", b"taken").await;
    let blocked = publisher.expect("connection.blocked").await;
    assert!(blocked.contains("low on memory"), "{blocked}");
    assert_eq!(consumer.expect_delivery().await.2, b"taken");
    publisher.publish_to(1, "q", b"waits").await;
    alarm(&server, true, true, None);
    alarm(&server, false, true, None);
    consumer.expect_nothing(1).await;
    alarm(&server, false, false, None);
    publisher.expect("connection.unblocked").await;
    assert_eq!(consumer.expect_delivery().await.2, b"waits");
    publisher.publish_to(1, "q", b"free").await;
    publisher.expect_nothing(1).await;
    assert_eq!(consumer.expect_delivery().await.2, b"free");
}

#[tokio::test]
async fn a_publisher_without_the_capability_waits_in_silence() {
    let server = TestServer::start().await;
    let mut publisher = Client::connect_raw(server.amqp()).await;
    publisher.send_bytes(&PROTOCOL_HEADER).await;
    publisher.expect("connection.start").await;
    publisher.start_ok("PLAIN", b"\0guest\0guest", false).await;
    publisher.expect("connection.tune").await;
    publisher.send(0, connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 }).await;
    publisher.open("/").await;
    publisher.expect("connection.open-ok").await;
    publisher.open_channel(1).await;
    publisher.declare_queue(1, "q", false).await;
    alarm(&server, true, false, None);
    publisher.publish_to(1, "q", b"m").await;
    alarm(&server, false, false, None);
    publisher.expect_nothing(1).await;
}

#[tokio::test]
async fn an_old_alarm_nacks_who_asked_for_confirms_and_holds_back_who_did_not() {
    let server = TestServer::start().await;
    let mut confirmed = ready(&server).await;
    let mut plain = ready(&server).await;
    plain.declare_queue(1, "q", false).await;
    confirmed.send(1, confirm::Select { no_wait: false }).await;
    confirmed.expect("confirm.select-ok").await;
    alarm(&server, true, false, Some(0));
    confirmed.publish_to(1, "q", b"refused").await;
    assert!(matches!(confirmed.event().await, Event::Nack { tag: 1, .. }));
    confirmed.expect("connection.blocked").await;
    plain.publish_to(1, "q", b"held").await;
    plain.expect("connection.blocked").await;
    // The one with confirms is heard, and so can settle and consume.
    confirmed.send(1, basic::Get { queue: "q", no_ack: true, ..Default::default() }).await;
    confirmed.expect("basic.get-empty").await;
    alarm(&server, false, false, Some(0));
    confirmed.expect("connection.unblocked").await;
    plain.expect("connection.unblocked").await;
    plain.expect_nothing(1).await;
    confirmed.publish_to(1, "q", b"taken").await;
    assert!(matches!(confirmed.event().await, Event::Ack { tag: 2, .. }));
}
