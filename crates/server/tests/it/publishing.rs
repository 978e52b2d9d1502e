//! Publishing, returns and confirms (contracts P1 to P6).

use millpond_amqp_codec::{FRAME_OVERHEAD_BYTES, basic, confirm, connection, encode_content, queue};
use millpond_model::properties::Properties;
use millpond_testkit::{Client, Event, TestServer};

const PERSISTENT: &[u8] = &[0x10, 0, 2];

async fn confirming(server: &TestServer) -> Client {
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q", true).await;
    client.send(1, confirm::Select::default()).await;
    client.expect("confirm.select-ok").await;
    client
}

/// Reads acks until all up to `last` are confirmed, each once.
async fn expect_acks(client: &mut Client, channel: u16, mut next: u64, last: u64) {
    let mut single = Vec::new();
    while next <= last {
        match client.event().await {
            Event::Ack { channel: found, tag, multiple } => {
                assert_eq!(found, channel);
                assert!(tag >= next && tag <= last, "ack {tag} after {next}");
                if multiple || tag == next {
                    next = tag + 1;
                } else {
                    single.push(tag);
                }
                while let Some(at) = single.iter().position(|tag| *tag == next) {
                    single.remove(at);
                    next += 1;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(single, [0; 0]);
}

#[tokio::test]
async fn every_publish_is_confirmed_once_transient_and_persistent_mixed() {
    let server = TestServer::start().await;
    let mut client = confirming(&server).await;
    let publish = basic::Publish { routing_key: b"q", ..Default::default() };
    let mut all = Vec::new();
    for i in 0..1000u32 {
        let properties: &[u8] = if i % 3 == 0 { PERSISTENT } else { &[0, 0] };
        all.extend(client.encode_publish(1, publish, properties, &i.to_be_bytes()));
    }
    client.send_bytes(&all).await;
    expect_acks(&mut client, 1, 1, 1000).await;
    client.expect_nothing(1).await;
    client.send(1, queue::Purge { queue: "q", ..Default::default() }).await;
    assert!(client.expect("queue.purge-ok").await.contains("message_count: 1000"));
}

#[tokio::test]
async fn confirms_are_counted_channel_by_channel() {
    let server = TestServer::start().await;
    let mut client = confirming(&server).await;
    client.open_channel(2).await;
    client.send(2, confirm::Select { no_wait: true }).await;
    let publish = basic::Publish { routing_key: b"q", ..Default::default() };
    let mut all = Vec::new();
    for channel in [1, 2, 1, 1, 2] {
        all.extend(client.encode_publish(channel, publish, PERSISTENT, b"x"));
    }
    client.send_bytes(&all).await;
    let mut acked = [0, 0];
    while acked != [3, 2] {
        match client.event().await {
            Event::Ack { channel, tag, .. } => acked[usize::from(channel) - 1] = tag,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_mandatory_message_without_a_queue_is_returned_before_its_ack() {
    let server = TestServer::start().await;
    let mut client = confirming(&server).await;
    let nowhere = basic::Publish { routing_key: b"nowhere", mandatory: true, ..Default::default() };
    let properties = Properties { app_id: Some("it".into()), ..Properties::default() }.encode().unwrap();
    let body = vec![5; 300_000];
    let mut all =
        client.encode_publish(1, basic::Publish { routing_key: b"q", ..nowhere }, PERSISTENT, b"kept");
    all.extend(client.encode_publish(1, nowhere, &properties, &body));
    all.extend(client.encode_publish(1, basic::Publish { mandatory: false, ..nowhere }, &[0, 0], b"dropped"));
    client.send_bytes(&all).await;
    let (mut returned, mut acked) = (false, 0);
    while acked < 3 {
        match client.event().await {
            Event::Returned { code: 312, key, content } => {
                assert_eq!(
                    (key.as_str(), &content.properties, &content.body),
                    ("nowhere", &properties, &body)
                );
                returned = true;
            }
            Event::Ack { tag, .. } => {
                assert!(returned || tag < 2, "ack {tag} before its return");
                acked = tag;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn bodies_of_any_length_come_back_whole_in_frames_that_fit() {
    let server = TestServer::start().await;
    for frame_max in [4096, 8192, 131_072] {
        let tune = connection::TuneOk { channel_max: 10, frame_max, heartbeat: 0 };
        let mut client = Client::connect_with(server.amqp(), tune).await;
        client.open_channel(1).await;
        client.declare_queue(1, "bodies", true).await;
        client.consume(1, "bodies", "c", true).await;
        let piece = frame_max as usize - FRAME_OVERHEAD_BYTES;
        for len in [0, 1, piece - 1, piece, piece + 1, 3 * piece, 40_000, 1 << 20] {
            let body: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            client.publish_to(1, "bodies", &body).await;
            match client.event().await {
                Event::Deliver { content, .. } => {
                    assert!(content.body == body, "{len} bytes, frame_max {frame_max}");
                    assert_eq!(content.body_frames, len.div_ceil(piece));
                }
                other => panic!("{other:?}"),
            }
        }
        client.close().await;
    }
}

#[tokio::test]
async fn contents_of_two_channels_may_be_mixed_frame_by_frame() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.open_channel(2).await;
    client.declare_queue(1, "q", true).await;
    let publish = basic::Publish { routing_key: b"q", ..Default::default() };
    client.send(1, publish).await;
    client.send(2, publish).await;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    encode_content(&mut one, 1, &[0, 0], &[1; 100], 58);
    encode_content(&mut two, 2, &[0, 0], &[2; 100], 58);
    let mut mixed = Vec::new();
    // The header frame of 22 bytes, then two body frames of 58.
    for range in [0..22, 22..80, 80..138] {
        mixed.extend_from_slice(&two[range.clone()]);
        mixed.extend_from_slice(&[8, 0, 0, 0, 0, 0, 0, 0xCE]);
        mixed.extend_from_slice(&one[range]);
    }
    client.send_bytes(&mixed).await;
    client.consume(1, "q", "c", true).await;
    assert_eq!(client.expect_delivery().await.2, [2; 100]);
    assert_eq!(client.expect_delivery().await.2, [1; 100]);
}

#[tokio::test]
async fn a_message_over_the_size_limit_closes_the_channel_before_its_body_is_sent() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.answers_close = false;
    client.open_channel(1).await;
    client.open_channel(2).await;
    client.send(1, basic::Publish::default()).await;
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&((1 << 20) + 1u64).to_be_bytes());
    header.extend_from_slice(&[0, 0]);
    client.send_frame(2, 1, &header).await;
    client.expect_channel_close(406).await;
    // The body is ignored.
    client.send_frame(3, 1, &[0; 1000]).await;
    client.expect_nothing(2).await;
}

#[tokio::test]
async fn bad_properties_close_the_channel_with_406() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    let cases = [
        Properties { expiration: Some("soon".into()), ..Properties::default() },
        Properties { expiration: Some("-1".into()), ..Properties::default() },
        Properties { user_id: Some("somebody".into()), ..Properties::default() },
        Properties { reply_to: Some("amq.rabbitmq.reply-to".into()), ..Properties::default() },
        Properties { headers: [("CC", "one")].into_iter().collect(), ..Properties::default() },
    ];
    for (number, properties) in cases.into_iter().enumerate() {
        let number = number as u16 + 1;
        client.open_channel(number).await;
        client.publish(number, basic::Publish::default(), &properties.encode().unwrap(), b"x").await;
        client.expect_channel_close(406).await;
    }
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_a_restart() {
    let server = TestServer::start().await;
    let mut client = confirming(&server).await;
    let publish = basic::Publish { routing_key: b"q", ..Default::default() };
    for i in 0..100u8 {
        client.publish(1, publish, PERSISTENT, &[i]).await;
    }
    expect_acks(&mut client, 1, 1, 100).await;
    drop(client);
    let server = server.restart().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.consume(1, "q", "c", true).await;
    for i in 0..100u8 {
        assert_eq!(client.expect_delivery().await.2, [i]);
    }
}
