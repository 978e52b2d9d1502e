//! tx.* (contracts P5 and P7).

use millpond_amqp_codec::{basic, queue, tx};
use millpond_testkit::{Client, Event, TestServer};

async fn transactional(server: &TestServer) -> Client {
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q", true).await;
    client.send(1, tx::Select {}).await;
    client.expect("tx.select-ok").await;
    client
}

async fn ready(client: &mut Client, channel: u16) -> String {
    client.send(channel, queue::Declare { queue: "q", passive: true, ..Default::default() }).await;
    client.expect("queue.declare-ok").await
}

#[tokio::test]
async fn publishes_are_seen_after_the_commit_and_not_before() {
    let server = TestServer::start().await;
    let mut client = transactional(&server).await;
    client.publish_to(1, "q", b"one").await;
    client.publish_to(1, "q", b"two").await;
    assert!(ready(&mut client, 1).await.contains("message_count: 0"));
    client.send(1, tx::Commit {}).await;
    client.expect("tx.commit-ok").await;
    assert!(ready(&mut client, 1).await.contains("message_count: 2"));
    client.publish_to(1, "q", b"three").await;
    client.send(1, tx::Rollback {}).await;
    client.expect("tx.rollback-ok").await;
    client.send(1, tx::Commit {}).await;
    client.expect("tx.commit-ok").await;
    assert!(ready(&mut client, 1).await.contains("message_count: 2"));
}

#[tokio::test]
async fn a_rollback_returns_acked_tags_to_unacked() {
    let server = TestServer::start().await;
    let mut client = transactional(&server).await;
    client.publish_to(1, "q", b"one").await;
    client.publish_to(1, "q", b"two").await;
    client.send(1, tx::Commit {}).await;
    client.expect("tx.commit-ok").await;
    client.consume(1, "q", "c", false).await;
    client.expect_delivery().await;
    client.expect_delivery().await;
    client.send(1, basic::Ack { delivery_tag: 2, multiple: true }).await;
    client.send(1, tx::Rollback {}).await;
    client.expect("tx.rollback-ok").await;
    client.send(1, basic::Ack { delivery_tag: 1, multiple: false }).await;
    client.send(1, basic::Nack { delivery_tag: 2, multiple: false, requeue: true }).await;
    client.send(1, tx::Commit {}).await;
    // The requeued one may come before or after the answer.
    let (mut committed, mut again) = (false, None);
    while !committed || again.is_none() {
        match client.event().await {
            Event::Method { name: "tx.commit-ok", .. } => committed = true,
            Event::Deliver { tag, redelivered, content, .. } => {
                again = Some((tag, redelivered, content.body))
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(again, Some((3, true, b"two".to_vec())));
}

#[tokio::test]
async fn a_transaction_that_is_not_committed_is_undone_with_its_channel() {
    let server = TestServer::start().await;
    let mut client = transactional(&server).await;
    client.publish_to(1, "q", b"kept").await;
    client.send(1, tx::Commit {}).await;
    client.expect("tx.commit-ok").await;
    client.consume(1, "q", "c", false).await;
    client.expect_delivery().await;
    client.send(1, basic::Ack { delivery_tag: 1, multiple: false }).await;
    client.publish_to(1, "q", b"lost").await;
    client.close().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.consume(1, "q", "c", true).await;
    assert_eq!(client.expect_delivery().await, (1, true, b"kept".to_vec()));
    client.expect_nothing(1).await;
}

#[tokio::test]
async fn returns_come_before_commit_ok() {
    let server = TestServer::start().await;
    let mut client = transactional(&server).await;
    let nowhere = basic::Publish { routing_key: b"nowhere", mandatory: true, ..Default::default() };
    client.publish(1, nowhere, &[0, 0], b"x").await;
    client.expect_nothing(1).await;
    client.send(1, tx::Commit {}).await;
    assert!(matches!(client.event().await, Event::Returned { code: 312, .. }));
    client.expect("tx.commit-ok").await;
}
