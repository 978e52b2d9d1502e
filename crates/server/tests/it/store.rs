//! What clients see of a store that is slow, full or broken.

use millpond_amqp_codec::{basic, channel, confirm, queue};
use millpond_store::fs::{FakeFs, Fault};
use millpond_testkit::{Client, Event, TestServer};
use std::sync::Arc;

/// delivery_mode 2.
const PERSISTENT: &[u8] = &[0x10, 0, 2];

async fn with_channel(server: &TestServer) -> Client {
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client
}

async fn confirming(server: &TestServer) -> Client {
    let mut client = with_channel(server).await;
    client.send(1, confirm::Select::default()).await;
    client.expect("confirm.select-ok").await;
    client
}

async fn publish_persistent(client: &mut Client, queue: &str, body: &[u8]) {
    let publish = basic::Publish { routing_key: queue.as_bytes(), ..Default::default() };
    client.publish(1, publish, PERSISTENT, body).await;
}

/// Takes answers until all publishes up to `last` have one; how many were acked.
async fn answers(client: &mut Client, last: u64) -> u64 {
    let (mut next, mut acked) = (1, 0);
    while next <= last {
        let (tag, multiple, ack) = match client.event().await {
            Event::Ack { tag, multiple, .. } => (tag, multiple, true),
            Event::Nack { tag, multiple, .. } => (tag, multiple, false),
            other => panic!("{other:?}"),
        };
        assert!(tag == next || (multiple && tag > next), "{tag} after {next}");
        acked += if ack { tag + 1 - next } else { 0 };
        next = tag + 1;
    }
    acked
}

#[tokio::test]
async fn gets_wait_for_the_disk_and_are_answered_in_order() {
    let server = TestServer::start_paging().await;
    let mut client = confirming(&server).await;
    client.declare_queue(1, "q", true).await;
    for i in 0..300u16 {
        publish_persistent(&mut client, "q", &[&i.to_be_bytes()[..], &[0; 100]].concat()).await;
    }
    assert_eq!(answers(&mut client, 300).await, 300);
    // All at once, with another question behind each.
    for _ in 0..=300 {
        client.send(1, basic::Get { queue: "q", no_ack: true, ..Default::default() }).await;
        client.send(1, channel::Flow { active: true }).await;
    }
    for i in 0..300u16 {
        match client.event().await {
            Event::Got { content, left, redelivered: false, .. } => {
                assert_eq!((&content.body[..2], left), (&i.to_be_bytes()[..], 299 - u32::from(i)));
            }
            other => panic!("{i}: {other:?}"),
        }
        client.expect("channel.flow-ok").await;
    }
    client.expect("basic.get-empty").await;
}

#[tokio::test]
async fn a_channel_that_closes_while_its_get_waits_for_the_disk_closes() {
    let server = TestServer::start_paging().await;
    let mut client = confirming(&server).await;
    client.declare_queue(1, "q", true).await;
    for _ in 0..100 {
        publish_persistent(&mut client, "q", &[0; 100]).await;
    }
    assert_eq!(answers(&mut client, 100).await, 100);
    for number in 2..10 {
        client.open_channel(number).await;
        client.send(number, basic::Get { queue: "q", ..Default::default() }).await;
        client.send(number, channel::Close::default()).await;
        assert!(matches!(client.event().await, Event::Got { .. }));
        client.expect("channel.close-ok").await;
    }
    client.send(1, queue::Purge { queue: "q", ..Default::default() }).await;
    assert!(client.expect("queue.purge-ok").await.contains("message_count: 100"));
}

#[tokio::test]
async fn a_full_store_nacks_who_asked_for_confirms_holds_others_and_goes_on_when_there_is_room() {
    let fs = FakeFs::new(5);
    let server = TestServer::start_on(Arc::new(fs.clone())).await;
    let mut confirmed = confirming(&server).await;
    confirmed.declare_queue(1, "q", true).await;
    confirmed.declare_queue(1, "other", true).await;
    fs.set_capacity_bytes(Some(fs.used_bytes() + (300 << 10)));
    let body = [1; 1000];
    for _ in 0..2000 {
        publish_persistent(&mut confirmed, "q", &body).await;
    }
    let acked = answers(&mut confirmed, 2000).await;
    assert!(acked < 2000, "the store never fills up");
    // Who asked for no confirms waits, and is not answered before.
    let mut held = with_channel(&server).await;
    publish_persistent(&mut held, "other", b"held").await;
    held.send(1, channel::Flow { active: true }).await;
    // Consuming goes on; what was acked is there exactly once, what was nacked is not.
    let mut consumer = with_channel(&server).await;
    consumer.consume(1, "q", "c", false).await;
    for n in 1..=acked {
        assert_eq!(consumer.expect_delivery().await.0, n);
    }
    consumer.expect_nothing(1).await;
    consumer.send(1, queue::Declare { queue: "other", passive: true, ..Default::default() }).await;
    assert!(consumer.expect("queue.declare-ok").await.contains("message_count: 0"));
    fs.set_capacity_bytes(None);
    held.expect("channel.flow-ok").await;
    held.send(1, basic::Get { queue: "other", no_ack: true, ..Default::default() }).await;
    match held.event().await {
        Event::Got { content, .. } => assert_eq!(content.body, b"held"),
        other => panic!("{other:?}"),
    }
    consumer.send(1, basic::Ack { delivery_tag: 0, multiple: true }).await;
    consumer.expect_nothing(1).await;
    confirmed.close().await;
}

#[tokio::test]
async fn a_poisoned_store_nacks_and_closes_who_asked_for_no_confirms() {
    let fs = FakeFs::new(6);
    let server = TestServer::start_on(Arc::new(fs.clone())).await;
    let mut confirmed = confirming(&server).await;
    confirmed.declare_queue(1, "q", true).await;
    confirmed.declare_queue(1, "light", false).await;
    fs.plan(Fault::FailSync(1));
    // The first fails at the disk, the second at the door.
    publish_persistent(&mut confirmed, "q", b"x").await;
    assert_eq!(answers(&mut confirmed, 1).await, 0);
    publish_persistent(&mut confirmed, "q", b"y").await;
    assert!(matches!(confirmed.event().await, Event::Nack { tag: 2, .. }));
    // Nothing of it is in the queue, and what needs no disk works.
    confirmed.send(1, basic::Get { queue: "q", ..Default::default() }).await;
    confirmed.expect("basic.get-empty").await;
    confirmed.publish_to(1, "light", b"z").await;
    assert!(matches!(confirmed.event().await, Event::Ack { tag: 3, .. }));
    let mut plain = with_channel(&server).await;
    publish_persistent(&mut plain, "q", b"x").await;
    let text = plain.expect_close(541).await;
    assert!(text.starts_with("INTERNAL_ERROR - publishes are lost"), "{text}");
}

#[tokio::test]
async fn a_declare_whose_commit_fails_is_not_answered_with_ok() {
    let fs = FakeFs::new(7);
    let server = TestServer::start_on(Arc::new(fs.clone())).await;
    let mut bystander = with_channel(&server).await;
    bystander.declare_queue(1, "light", false).await;
    let mut client = with_channel(&server).await;
    client.declare_queue(1, "before", true).await;
    fs.plan(Fault::FailSync(1));
    // What is answered before it leaves; what comes behind it does not.
    client.send(1, queue::Declare { queue: "light", ..Default::default() }).await;
    client.send(1, queue::Declare { queue: "after", durable: true, ..Default::default() }).await;
    client.send(1, channel::Flow { active: true }).await;
    client.expect("queue.declare-ok").await;
    let text = client.expect_close(541).await;
    assert!(text.starts_with("INTERNAL_ERROR - not durable"), "{text}");
    bystander.publish_to(1, "light", b"x").await;
    bystander.consume(1, "light", "c", true).await;
    assert_eq!(bystander.expect_delivery().await.2, b"x");
}
