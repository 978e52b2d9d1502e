//! Bad input gets its code and harms nobody else.

use millpond_amqp_codec::{Method, basic, channel, connection, queue};
use millpond_testkit::{Client, Event, TestServer};

/// A frame's bytes.
fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(0xCE);
    out
}

fn method<'a>(channel: u16, method: impl Into<Method<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    method.into().encode(channel, &mut out);
    out
}

fn header(class: u16, weight: u16, size: u64, properties: &[u8]) -> Vec<u8> {
    let mut out = class.to_be_bytes().to_vec();
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(properties);
    out
}

/// What is wrong, the bytes, the code.
type Case = (&'static str, Vec<u8>, u16);

/// A header frame of the basic class for a body of three bytes.
fn good_header() -> Vec<u8> {
    frame(2, 1, &header(60, 0, 3, &[0, 0]))
}

fn bad_frames() -> Vec<Case> {
    let mut bad_end = frame(1, 1, &[0, 20, 0, 10]);
    *bad_end.last_mut().unwrap() = 0;
    vec![
        ("frame end", bad_end, 501),
        ("unknown frame type", frame(4, 1, &[]), 501),
        ("frame over frame_max", [1u8, 0, 1, 0, 2, 0, 1].to_vec(), 501),
        ("heartbeat on a channel", frame(8, 1, &[]), 505),
        ("heartbeat with a payload", frame(8, 0, &[1]), 501),
        ("method of two bytes", frame(1, 1, &[0, 20]), 501),
        ("arguments cut short", frame(1, 1, &[0, 50, 0, 10, 0, 0, 5, b'q']), 501),
        ("arguments too long", frame(1, 1, &[0, 20, 0, 20, 1, 1]), 501),
        ("a bad field table", frame(1, 1, b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\x03\x01xU"), 501),
        ("a queue name that is not UTF-8", frame(1, 1, b"\0\x32\0\x0a\0\0\x01\xff\0\0\0\0\0"), 501),
        ("unknown class", frame(1, 1, &[0, 99, 0, 10]), 540),
    ]
}

fn bad_contents() -> Vec<Case> {
    let publish = || method(1, basic::Publish { routing_key: b"q", ..Default::default() });
    let good_header = good_header();
    vec![
        ("header without a method", good_header.clone(), 505),
        ("body without a method", frame(3, 1, b"abc"), 505),
        ("content on channel 0", frame(3, 0, b"abc"), 505),
        ("content on a channel not open", frame(2, 7, &header(60, 0, 3, &[0, 0])), 505),
        ("body instead of header", [publish(), frame(3, 1, b"abc")].concat(), 505),
        ("two headers", [publish(), good_header.clone(), good_header.clone()].concat(), 505),
        ("method instead of header", [publish(), publish()].concat(), 505),
        (
            "ack instead of header",
            [publish(), method(1, basic::Ack { delivery_tag: 1, multiple: false })].concat(),
            505,
        ),
        (
            "method instead of body",
            [publish(), good_header.clone(), method(1, channel::Flow { active: true })].concat(),
            505,
        ),
        ("a body too long", [publish(), good_header, frame(3, 1, b"abcd")].concat(), 505),
        ("header of class 50", [publish(), frame(2, 1, &header(50, 0, 0, &[0, 0]))].concat(), 505),
        ("header with weight", [publish(), frame(2, 1, &header(60, 1, 0, &[0, 0]))].concat(), 505),
        ("header cut short", [publish(), frame(2, 1, &[0, 60, 0])].concat(), 501),
        (
            "properties cut short",
            [publish(), frame(2, 1, &header(60, 0, 0, &[0x80, 0, 5, b'a']))].concat(),
            501,
        ),
    ]
}

fn wrong_states() -> Vec<Case> {
    vec![
        ("second channel.open", method(1, channel::Open::default()), 504),
        ("a method on a channel not open", method(9, queue::Purge::default()), 504),
        ("publish on a channel not open", method(9, basic::Publish::default()), 504),
        ("ack on a channel not open", method(9, basic::Ack::default()), 504),
        ("channel.open on channel 0", method(0, channel::Open::default()), 504),
        ("publish on channel 0", method(0, basic::Publish::default()), 504),
        ("start-ok once more", method(0, connection::StartOk::default()), 504),
        ("a connection method on a channel", method(1, connection::Open::default()), 503),
        ("a method that only servers send", method(1, queue::DeclareOk::default()), 503),
        ("channel.flow(false)", method(1, channel::Flow { active: false }), 540),
        ("immediate", method(1, basic::Publish { immediate: true, ..Default::default() }), 540),
        ("prefetch_size", method(1, basic::Qos { prefetch_size: 1, prefetch_count: 1, global: false }), 540),
        ("recover without requeue", method(1, basic::Recover { requeue: false }), 540),
    ]
}

#[tokio::test]
async fn every_malformed_frame_closes_with_its_code_and_another_connection_is_unharmed() {
    let server = TestServer::start().await;
    let mut bystander = Client::connect(server.amqp()).await;
    bystander.open_channel(1).await;
    for (what, bytes, code) in [bad_frames(), bad_contents(), wrong_states()].concat() {
        let mut client = Client::connect(server.amqp()).await;
        client.open_channel(1).await;
        // The content that some need is there, too.
        client.send_bytes(&[bytes, good_header()].concat()).await;
        match client.event().await {
            Event::Closed { code: found, text } => assert_eq!(found, code, "{what}: {text}"),
            other => panic!("{what}: expected connection.close {code}, got {other:?}"),
        }
        assert_eq!(client.event().await, Event::End, "{what}");
        bystander.expect_nothing(1).await;
    }
}

#[tokio::test]
async fn half_a_frame_is_waited_for_and_byte_by_byte_is_as_good_as_at_once() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q", true).await;
    let publish = basic::Publish { routing_key: b"q", ..Default::default() };
    let bytes = client.encode_publish(1, publish, &[0, 0], b"hello");
    for byte in bytes {
        client.send_bytes(&[byte]).await;
    }
    client.send(1, basic::Get { queue: "q", no_ack: true, ..Default::default() }).await;
    match client.event().await {
        Event::Got { content, .. } => assert_eq!(content.body, b"hello"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn random_bytes_end_a_connection_and_nothing_else() {
    let server = TestServer::start().await;
    let mut bystander = Client::connect(server.amqp()).await;
    bystander.open_channel(1).await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let mut client = Client::connect(server.amqp()).await;
        client.open_channel(1).await;
        let mut noise = Vec::new();
        for _ in 0..64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise.extend_from_slice(&state.to_be_bytes()[..4]);
        }
        // A well-formed frame around noise, a known method with noise for arguments, plain noise.
        let bytes = match round % 3 {
            0 => frame(1, 1, &noise),
            1 => frame(1, 1, &[&[0, 50, 0, (round % 60) as u8][..], &noise].concat()),
            _ => noise,
        };
        client.send_bytes(&bytes).await;
        client.send(0, connection::Close::default()).await;
        // Whatever is answered, it ends.
        drop(client);
        bystander.expect_nothing(1).await;
    }
}

#[tokio::test]
async fn a_client_that_dies_in_the_middle_of_a_body_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let mut bystander = Client::connect(server.amqp()).await;
    bystander.open_channel(1).await;
    bystander.declare_queue(1, "q", true).await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.send_bytes(&method(1, basic::Publish { routing_key: b"q", ..Default::default() })).await;
    client.send_bytes(&frame(2, 1, &header(60, 0, 100_000, &[0, 0]))).await;
    client.send_bytes(&frame(3, 1, &[1; 1000])).await;
    drop(client);
    bystander.send(1, basic::Get { queue: "q", no_ack: true, ..Default::default() }).await;
    bystander.expect("basic.get-empty").await;
}

#[tokio::test]
async fn bodies_in_parts_are_limited_for_all_channels_of_a_connection_together() {
    let options = millpond_server::AmqpOptions { partial_bodies_max_bytes: 800_000, ..Default::default() };
    let server = TestServer::start_with(options).await;
    let mut client = Client::connect(server.amqp()).await;
    let publish = |channel| method(channel, basic::Publish { routing_key: b"q", ..Default::default() });
    // So many bytes of a body twice as long.
    let half = |channel, size: usize| {
        let head = frame(2, channel, &header(60, 0, 2 * size as u64, &[0, 0]));
        [publish(channel), head, frame(3, channel, &vec![7; size])].concat()
    };
    for channel in 1..=4 {
        client.open_channel(channel).await;
    }
    client.declare_queue(4, "q", false).await;
    client.send_bytes(&half(1, 100_000)).await;
    client.send_bytes(&half(2, 100_000)).await;
    // Room for a body is taken when its header comes, so the fourth is too much before its body has come.
    client.send_bytes(&half(3, 100_000)).await;
    client.send_bytes(&half(4, 125_000)).await;
    let text = client.expect_channel_close(406).await;
    assert_eq!(
        text,
        "PRECONDITION_FAILED - message bodies in parts of 850000 bytes on one connection are larger than the limit of 800000"
    );
    // The others go on, and what has come whole makes room.
    client.open_channel(4).await;
    client.send_bytes(&frame(3, 3, &vec![8; 100_000])).await;
    client.send_bytes(&half(4, 125_000)).await;
    for (channel, size) in [(1, 100_000), (2, 100_000), (4, 125_000)] {
        client.send_bytes(&frame(3, channel, &vec![8; size])).await;
    }
    client.send(4, basic::Consume { queue: "q", no_ack: true, ..Default::default() }).await;
    client.expect("basic.consume-ok").await;
    for size in [100_000, 100_000, 100_000, 125_000] {
        assert_eq!(client.expect_delivery().await.2.len(), 2 * size);
    }
}
