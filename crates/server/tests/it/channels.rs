//! Channels: their errors, their end, their number.

use millpond_amqp_codec::{access, basic, channel, confirm, connection, exchange, queue, tx};
use millpond_testkit::{Client, Event, TestServer};

#[tokio::test]
async fn a_closed_channel_ignores_all_until_close_ok_and_its_number_opens_again() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.answers_close = false;
    client.open_channel(1).await;
    client.open_channel(2).await;
    client.publish(1, basic::Publish { exchange: b"missing", ..Default::default() }, &[0, 0], b"x").await;
    client.publish_to(1, "q", b"ignored").await;
    client.send(1, queue::Declare { queue: "ignored", ..Default::default() }).await;
    client.send(1, channel::Open::default()).await;
    match client.event().await {
        Event::ChannelClosed { channel: 1, code: 404, text, method: (60, 40) } => {
            assert_eq!(text, "NOT_FOUND - no exchange 'missing' in vhost '/'");
        }
        other => panic!("{other:?}"),
    }
    client.expect_nothing(2).await;
    client.send(1, channel::CloseOk {}).await;
    client.open_channel(1).await;
    client.send(1, queue::Declare { queue: "ignored", passive: true, ..Default::default() }).await;
    assert_eq!(client.expect_channel_close(404).await, "NOT_FOUND - no queue 'ignored' in vhost '/'");
    // Both close at once.
    client.send(1, channel::Close::default()).await;
    client.expect("channel.close-ok").await;
    client.send(1, channel::CloseOk {}).await;
    client.open_channel(1).await;
    client.close().await;
}

#[tokio::test]
async fn channel_errors_have_their_codes() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    let mut owner = Client::connect(server.amqp()).await;
    owner.open_channel(1).await;
    owner.send(1, queue::Declare { queue: "mine", exclusive: true, ..Default::default() }).await;
    owner.expect("queue.declare-ok").await;
    owner.declare_queue(1, "ours", true).await;
    let cases: Vec<(u16, &str, millpond_amqp_codec::Method<'_>)> = vec![
        (404, "no queue 'none' in vhost '/'", queue::Purge { queue: "none", ..Default::default() }.into()),
        (404, "no queue 'none'", basic::Get { queue: "none", ..Default::default() }.into()),
        (404, "no queue 'none'", basic::Consume { queue: "none", ..Default::default() }.into()),
        (404, "no previously declared queue", queue::Purge::default().into()),
        (405, "'mine'", queue::Declare { queue: "mine", passive: true, ..Default::default() }.into()),
        (405, "'mine'", basic::Consume { queue: "mine", ..Default::default() }.into()),
        (403, "'amq.mine'", queue::Declare { queue: "amq.mine", ..Default::default() }.into()),
        (403, "default exchange", queue::Bind { queue: "ours", ..Default::default() }.into()),
        (403, "", exchange::Delete { exchange: "amq.direct", ..Default::default() }.into()),
        (
            406,
            "inequivalent arg 'durable' for queue 'ours' in vhost '/': received 'false' but current is 'true'",
            queue::Declare { queue: "ours", ..Default::default() }.into(),
        ),
        (406, "unknown delivery tag 5", basic::Ack { delivery_tag: 5, multiple: false }.into()),
        (406, "unknown delivery tag 5", basic::Ack { delivery_tag: 5, multiple: true }.into()),
        (406, "unknown delivery tag 0", basic::Ack { delivery_tag: 0, multiple: false }.into()),
        (406, "unknown delivery tag 1", basic::Reject { delivery_tag: 1, requeue: true }.into()),
        (406, "channel is not transactional", tx::Commit {}.into()),
        (406, "channel is not transactional", tx::Rollback {}.into()),
        (406, "", exchange::Declare { exchange: "x", kind: "sideways", ..Default::default() }.into()),
        (
            406,
            "reply consumer cannot acknowledge",
            basic::Consume { queue: "amq.rabbitmq.reply-to", ..Default::default() }.into(),
        ),
    ];
    for (number, (code, expected, method)) in cases.into_iter().enumerate() {
        let number = number as u16 + 1;
        client.open_channel(number).await;
        client.send(number, method).await;
        let text = client.expect_channel_close(code).await;
        assert!(text.contains(expected), "{method:?}: {text}");
    }
}

#[tokio::test]
async fn confirm_and_tx_do_not_mix() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.send(1, confirm::Select::default()).await;
    client.expect("confirm.select-ok").await;
    client.send(1, confirm::Select::default()).await;
    client.expect("confirm.select-ok").await;
    client.send(1, tx::Select {}).await;
    client.expect_channel_close(406).await;
    client.open_channel(2).await;
    client.send(2, tx::Select {}).await;
    client.expect("tx.select-ok").await;
    client.send(2, confirm::Select::default()).await;
    client.expect_channel_close(406).await;
}

#[tokio::test]
async fn what_succeeds_though_it_looks_wrong() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q", true).await;
    client.send(1, access::Request { realm: "/data", ..Default::default() }).await;
    assert!(client.expect("access.request-ok").await.contains("ticket: 1"));
    client.send(1, channel::Flow { active: true }).await;
    client.expect("channel.flow-ok").await;
    client.send(1, queue::Delete { queue: "none", ..Default::default() }).await;
    assert!(client.expect("queue.delete-ok").await.contains("message_count: 0"));
    client.send(1, exchange::Delete { exchange: "none", ..Default::default() }).await;
    client.expect("exchange.delete-ok").await;
    client.send(1, basic::Cancel { consumer_tag: "none", no_wait: false }).await;
    client.expect("basic.cancel-ok").await;
    client.send(1, basic::Ack { delivery_tag: 0, multiple: true }).await;
    client.send(1, basic::Recover { requeue: true }).await;
    client.expect("basic.recover-ok").await;
    // The last queue declared stands for the empty name; no-wait has no answer.
    client
        .send(1, queue::Declare { queue: "q2\r\n", durable: true, no_wait: true, ..Default::default() })
        .await;
    client.publish_to(1, "q2", b"x").await;
    client.send(1, queue::Bind { exchange: "amq.direct", ..Default::default() }).await;
    client.expect("queue.bind-ok").await;
    let by_name = basic::Publish { exchange: b"amq.direct", routing_key: b"q2", ..Default::default() };
    client.publish(1, by_name, &[0, 0], b"y").await;
    client.send(1, queue::Purge::default()).await;
    assert!(client.expect("queue.purge-ok").await.contains("message_count: 2"));
}

#[tokio::test]
async fn channels_beyond_the_maximum_close_with_530_whatever_their_numbers() {
    let server = TestServer::start().await;
    let tune = connection::TuneOk { channel_max: 2, frame_max: 131_072, heartbeat: 0 };
    let mut client = Client::connect_with(server.amqp(), tune).await;
    client.open_channel(9).await;
    client.open_channel(65_535).await;
    client.send(1, channel::Open::default()).await;
    client.expect_close(530).await;
}

#[tokio::test]
async fn many_declares_at_once_are_answered_in_order() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    let names: Vec<String> = (0..500).map(|i| format!("q{i}")).collect();
    let mut all = Vec::new();
    for name in &names {
        millpond_amqp_codec::Method::from(queue::Declare {
            queue: name,
            durable: true,
            ..Default::default()
        })
        .encode(1, &mut all);
    }
    client.send_bytes(&all).await;
    for name in &names {
        let declared = client.expect("queue.declare-ok").await;
        assert!(declared.contains(&format!("\"{name}\"")), "{declared}");
    }
}
