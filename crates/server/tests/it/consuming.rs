//! Consumers, acknowledgements, basic.get, direct reply-to (contracts A1 to A14).

use millpond_amqp_codec::{basic, channel, queue};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::TableBuf;
use millpond_testkit::{Client, Event, TestServer};

async fn with_queue(server: &TestServer) -> Client {
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q", true).await;
    client
}

#[tokio::test]
async fn deliveries_are_numbered_on_their_channel_and_acked_singly_or_in_numbers() {
    let server = TestServer::start().await;
    let mut client = with_queue(&server).await;
    client.consume(1, "q", "c", false).await;
    for i in 1..=6u8 {
        client.publish_to(1, "q", &[i]).await;
        assert_eq!(client.expect_delivery().await, (i.into(), false, vec![i]));
    }
    client.send(1, basic::Ack { delivery_tag: 4, multiple: false }).await;
    client.send(1, basic::Ack { delivery_tag: 3, multiple: true }).await;
    client.send(1, basic::Nack { delivery_tag: 5, multiple: false, requeue: false }).await;
    client.send(1, basic::Reject { delivery_tag: 6, requeue: true }).await;
    assert_eq!(client.expect_delivery().await, (7, true, vec![6]));
    client.send(1, basic::Ack { delivery_tag: 3, multiple: false }).await;
    let text = client.expect_channel_close(406).await;
    assert_eq!(text, "PRECONDITION_FAILED - unknown delivery tag 3");
    // What was not settled is back.
    client.open_channel(1).await;
    client.send(1, basic::Get { queue: "q", ..Default::default() }).await;
    match client.event().await {
        Event::Got { tag: 1, redelivered: true, left: 0, content } => assert_eq!(content.body, [6]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn prefetch_limits_later_consumers_each() {
    let server = TestServer::start().await;
    let mut client = with_queue(&server).await;
    client.send(1, basic::Qos { prefetch_count: 2, ..Default::default() }).await;
    client.expect("basic.qos-ok").await;
    for i in 1..=3u8 {
        client.publish_to(1, "q", &[i]).await;
    }
    client.consume(1, "q", "c", false).await;
    assert_eq!(client.expect_delivery().await.0, 1);
    assert_eq!(client.expect_delivery().await.0, 2);
    client.expect_nothing(1).await;
    client.send(1, basic::Ack { delivery_tag: 1, multiple: false }).await;
    assert_eq!(client.expect_delivery().await.0, 3);
}

#[tokio::test]
async fn the_end_of_a_channel_or_connection_requeues_in_order() {
    let server = TestServer::start().await;
    let mut client = with_queue(&server).await;
    for i in 1..=4u8 {
        client.publish_to(1, "q", &[i]).await;
    }
    client.consume(1, "q", "c", false).await;
    for _ in 1..=4 {
        client.expect_delivery().await;
    }
    client.send(1, basic::Ack { delivery_tag: 2, multiple: false }).await;
    client.send(1, channel::Close::default()).await;
    client.expect("channel.close-ok").await;
    client.open_channel(1).await;
    client.consume(1, "q", "c", false).await;
    for (tag, body) in [(1, 1), (2, 3), (3, 4)] {
        assert_eq!(client.expect_delivery().await, (tag, true, vec![body]));
    }
    client.close().await;
    let mut client = with_queue(&server).await;
    client.consume(1, "q", "c", true).await;
    for (tag, body) in [(1, 1), (2, 3), (3, 4)] {
        assert_eq!(client.expect_delivery().await, (tag, true, vec![body]));
    }
}

#[tokio::test]
async fn recover_brings_all_again() {
    let server = TestServer::start().await;
    let mut client = with_queue(&server).await;
    client.publish_to(1, "q", b"x").await;
    client.consume(1, "q", "c", false).await;
    assert_eq!(client.expect_delivery().await, (1, false, b"x".to_vec()));
    client.send(1, basic::Recover { requeue: true }).await;
    client.expect("basic.recover-ok").await;
    assert_eq!(client.expect_delivery().await, (2, true, b"x".to_vec()));
}

#[tokio::test]
async fn consumer_tags_are_made_up_or_unique() {
    let server = TestServer::start().await;
    let mut client = with_queue(&server).await;
    client.send(1, basic::Consume { queue: "q", ..Default::default() }).await;
    assert!(client.expect("basic.consume-ok").await.contains("amq.ctag-"));
    client.consume(1, "q", "mine", false).await;
    client.open_channel(2).await;
    client.consume(2, "q", "mine", false).await;
    client.send(1, basic::Consume { queue: "q", consumer_tag: "mine", ..Default::default() }).await;
    client.expect_close(530).await;
}

#[tokio::test]
async fn consumer_arguments_are_checked() {
    let server = TestServer::start().await;
    let mut client = with_queue(&server).await;
    client.consume(1, "q", "first", false).await;
    let mut arguments = TableBuf::new();
    arguments.push_value("x-priority", &"high".into()).unwrap();
    client.open_channel(2).await;
    client.send(2, basic::Consume { queue: "q", arguments: arguments.as_raw(), ..Default::default() }).await;
    client.expect_channel_close(406).await;
    client.open_channel(2).await;
    client.send(2, basic::Consume { queue: "q", exclusive: true, ..Default::default() }).await;
    let text = client.expect_channel_close(403).await;
    assert_eq!(text, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use");
}

#[tokio::test]
async fn a_cancelled_consumer_gets_no_more_and_what_it_has_stays_ackable() {
    let server = TestServer::start().await;
    let mut client = with_queue(&server).await;
    client.consume(1, "q", "c", false).await;
    client.publish_to(1, "q", b"one").await;
    client.expect_delivery().await;
    client.send(1, basic::Cancel { consumer_tag: "c", no_wait: false }).await;
    assert!(client.expect("basic.cancel-ok").await.contains("\"c\""));
    client.publish_to(1, "q", b"two").await;
    client.send(1, basic::Ack { delivery_tag: 1, multiple: false }).await;
    client.send(1, basic::Get { queue: "q", ..Default::default() }).await;
    match client.event().await {
        Event::Got { tag: 2, redelivered: false, left: 0, content } => assert_eq!(content.body, b"two"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_deleted_queue_cancels_its_consumers_who_asked_to_be_told() {
    let server = TestServer::start().await;
    let mut client = with_queue(&server).await;
    client.consume(1, "q", "c", false).await;
    let mut other = Client::connect(server.amqp()).await;
    other.open_channel(1).await;
    other.send(1, queue::Delete { queue: "q", ..Default::default() }).await;
    other.expect("queue.delete-ok").await;
    let cancel = client.expect("basic.cancel").await;
    assert!(cancel.contains("\"c\""), "{cancel}");
    // The tag is free again.
    client.declare_queue(1, "q", true).await;
    client.consume(1, "q", "c", false).await;
}

#[tokio::test]
async fn get_takes_one_at_a_time_and_knows_how_many_are_left() {
    let server = TestServer::start().await;
    let mut client = with_queue(&server).await;
    client.send(1, basic::Get { queue: "q", ..Default::default() }).await;
    client.expect("basic.get-empty").await;
    // Pipelined: publishes are there for a get that follows at once.
    client.publish_to(1, "q", b"one").await;
    client.publish_to(1, "q", b"two").await;
    client.send(1, basic::Get { queue: "q", ..Default::default() }).await;
    client.send(1, basic::Get { queue: "q", no_ack: true, ..Default::default() }).await;
    client.send(1, basic::Get { queue: "q", no_ack: true, ..Default::default() }).await;
    for (expected, body) in [((1, 1), b"one"), ((2, 0), b"two")] {
        match client.event().await {
            Event::Got { tag, left, content, .. } => {
                assert_eq!(((tag, left), &*content.body), (expected, &body[..]))
            }
            other => panic!("{other:?}"),
        }
    }
    client.expect("basic.get-empty").await;
    client.send(1, basic::Ack { delivery_tag: 2, multiple: false }).await;
    client.expect_channel_close(406).await;
}

#[tokio::test]
async fn direct_reply_to_brings_an_answer_without_a_queue() {
    let server = TestServer::start().await;
    let mut asker = Client::connect(server.amqp()).await;
    asker.open_channel(1).await;
    let mut answerer = with_queue(&server).await;
    answerer.consume(1, "q", "server", true).await;
    asker.consume(1, "amq.rabbitmq.reply-to", "", true).await;
    let question = Properties { reply_to: Some("amq.rabbitmq.reply-to".into()), ..Properties::default() };
    let to_queue = basic::Publish { routing_key: b"q", ..Default::default() };
    asker.publish(1, to_queue, &question.encode().unwrap(), b"?").await;
    let reply_to = match answerer.event().await {
        Event::Deliver { content, .. } => {
            RawProperties::parse(&content.properties).unwrap().reply_to().unwrap().to_vec()
        }
        other => panic!("{other:?}"),
    };
    assert!(reply_to.starts_with(b"amq.rabbitmq.reply-to."));
    let to_asker = basic::Publish { routing_key: &reply_to, mandatory: true, ..Default::default() };
    answerer.publish(1, to_asker, &[0, 0], b"!").await;
    match asker.event().await {
        Event::Deliver { consumer, content, .. } => {
            assert!(consumer.starts_with("amq.ctag-"));
            assert_eq!(content.body, b"!");
        }
        other => panic!("{other:?}"),
    }
    asker
        .send(1, basic::Consume { queue: "amq.rabbitmq.reply-to", no_ack: true, ..Default::default() })
        .await;
    asker.expect_channel_close(406).await;
}

#[tokio::test]
async fn direct_replies_go_to_the_channel_that_asked() {
    let server = TestServer::start().await;
    let mut asker = Client::connect(server.amqp()).await;
    let mut answerer = with_queue(&server).await;
    let question = Properties { reply_to: Some("amq.rabbitmq.reply-to".into()), ..Properties::default() };
    let question = question.encode().unwrap();
    let to_queue = basic::Publish { routing_key: b"q", ..Default::default() };
    for number in [1, 2] {
        asker.open_channel(number).await;
        asker.consume(number, "amq.rabbitmq.reply-to", "", true).await;
    }
    for number in [1, 2, 1] {
        asker.publish(number, to_queue, &question, b"?").await;
        asker.expect_nothing(number).await;
        answerer.send(1, basic::Get { queue: "q", no_ack: true, ..Default::default() }).await;
        let Event::Got { content, .. } = answerer.event().await else { panic!("no question") };
        let reply_to = RawProperties::parse(&content.properties).unwrap().reply_to().unwrap();
        let to_asker = basic::Publish { routing_key: reply_to, ..Default::default() };
        answerer.publish(1, to_asker, &[0, 0], b"!").await;
        assert!(matches!(asker.event().await, Event::Deliver { channel, .. } if channel == number));
    }
    // Others on the connection do not make up for a consumer of one's own, nor does one that was cancelled.
    asker.open_channel(3).await;
    asker.publish(3, to_queue, &question, b"?").await;
    asker.expect_channel_close(406).await;
    asker.open_channel(4).await;
    asker.consume(4, "amq.rabbitmq.reply-to", "c", true).await;
    asker.send(4, basic::Cancel { consumer_tag: "c", no_wait: false }).await;
    asker.expect("basic.cancel-ok").await;
    asker.publish(4, to_queue, &question, b"?").await;
    asker.expect_channel_close(406).await;
}

#[tokio::test]
async fn a_consumer_that_does_not_read_gets_all_of_it_later_and_holds_nobody_up() {
    let server = TestServer::start().await;
    let mut slow = with_queue(&server).await;
    slow.consume(1, "q", "slow", true).await;
    let mut fast = Client::connect(server.amqp()).await;
    fast.open_channel(1).await;
    let body = vec![9; 64 * 1024];
    for i in 0..400u32 {
        let body = [&i.to_be_bytes()[..], &body].concat();
        fast.publish_to(1, "q", &body).await;
    }
    fast.expect_nothing(1).await;
    for i in 0..400u32 {
        assert_eq!(slow.expect_delivery().await.2[..4], i.to_be_bytes());
    }
}
