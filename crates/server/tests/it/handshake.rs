//! From the protocol header to connection.open (contracts C1 to C9).

use millpond_amqp_codec::{Method, PROTOCOL_HEADER, channel, connection};
use millpond_server::AmqpOptions;
use millpond_testkit::{Client, Event, TestServer};
use std::time::Duration;

#[tokio::test]
async fn what_is_not_amqp_gets_the_header_that_is_spoken_here() {
    let server = TestServer::start().await;
    let cases: [&[u8]; 5] = [
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x00\x00\x09\x02",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"HELO there",
    ];
    for bytes in cases {
        let mut client = Client::connect_raw(server.amqp()).await;
        client.send_bytes(bytes).await;
        assert_eq!(client.event().await, Event::ProtocolHeader, "{bytes:?}");
        assert_eq!(client.event().await, Event::End, "{bytes:?}");
    }
}

#[tokio::test]
async fn the_header_of_0_9_is_taken_for_0_9_1() {
    let server = TestServer::start().await;
    let mut client = Client::connect_raw(server.amqp()).await;
    client.send_bytes(b"AMQP\x01\x01\x00\x09").await;
    let start = client.expect("connection.start").await;
    // Names are printed as text, values as they are on the wire.
    for name in ["publisher_confirms", "basic.nack", "direct_reply_to", "product", "cluster_name"] {
        assert!(start.contains(name), "{name} in {start}");
    }
}

/// A client that has got as far as connection.start.
async fn started(server: &TestServer) -> Client {
    let mut client = Client::connect_raw(server.amqp()).await;
    client.send_bytes(&PROTOCOL_HEADER).await;
    client.expect("connection.start").await;
    client
}

#[tokio::test]
async fn a_login_is_taken_or_refused_as_rabbitmq_does() {
    let server = TestServer::start().await;
    let amqplain = [&b"\x05LOGINS\0\0\0\x05guest"[..], b"\x08PASSWORDS\0\0\0\x05guest"].concat();
    let good: [(&str, &[u8]); 2] = [("PLAIN", b"\0guest\0guest"), ("AMQPLAIN", &amqplain)];
    for (mechanism, response) in good {
        let mut client = started(&server).await;
        client.start_ok(mechanism, response, true).await;
        client.expect("connection.tune").await;
    }
    let bad: [(&str, &[u8], u16); 5] = [
        ("PLAIN", b"\0guest\0wrong", 403),
        ("PLAIN", b"\0nobody\0guest", 403),
        ("PLAIN", b"guest", 502),
        ("AMQPLAIN", b"\x01", 502),
        ("EXTERNAL", b"", 503),
    ];
    for (mechanism, response, code) in bad {
        let mut client = started(&server).await;
        client.start_ok(mechanism, response, true).await;
        let text = client.expect_close(code).await;
        assert!(!text.contains("nobody"), "the client is not told who exists: {text}");
    }
}

#[tokio::test]
async fn a_refused_login_without_the_capability_just_closes_the_socket() {
    let server = TestServer::start().await;
    let mut client = started(&server).await;
    client.start_ok("PLAIN", b"\0guest\0wrong", false).await;
    assert_eq!(client.event().await, Event::End);
}

#[tokio::test]
async fn tune_ok_is_held_against_the_offer() {
    let server = TestServer::start().await;
    let cases = [
        (2047, 131_072, true),
        (1, 4096, true),
        (1, 8192, true),
        (2048, 131_072, false),
        (0, 131_072, false),
        (2047, 131_073, false),
        (2047, 0, false),
        (2047, 4095, false),
    ];
    for (channel_max, frame_max, accepted) in cases {
        let mut client = started(&server).await;
        client.start_ok("PLAIN", b"\0guest\0guest", true).await;
        let tune = client.expect("connection.tune").await;
        assert!(tune.contains("channel_max: 2047, frame_max: 131072, heartbeat: 60"), "{tune}");
        client.send(0, connection::TuneOk { channel_max, frame_max, heartbeat: 0 }).await;
        client.open("/").await;
        if accepted {
            client.expect("connection.open-ok").await;
        } else {
            client.expect_close(530).await;
        }
    }
}

#[tokio::test]
async fn an_unknown_vhost_closes_with_530() {
    let server = TestServer::start().await;
    let mut client = started(&server).await;
    client.start_ok("PLAIN", b"\0guest\0guest", true).await;
    client.expect("connection.tune").await;
    client.send(0, connection::TuneOk { channel_max: 1, frame_max: 4096, heartbeat: 0 }).await;
    client.open("nowhere").await;
    let text = client.expect_close(530).await;
    assert!(text.contains("nowhere"), "{text}");
}

#[tokio::test]
async fn a_client_may_say_everything_at_once() {
    let server = TestServer::start().await;
    let mut client = Client::connect_raw(server.amqp()).await;
    let mut all = PROTOCOL_HEADER.to_vec();
    let methods: [(u16, Method<'_>); 4] = [
        (
            0,
            connection::StartOk {
                mechanism: "PLAIN",
                response: b"\0guest\0guest",
                locale: "en_US",
                ..Default::default()
            }
            .into(),
        ),
        (0, connection::TuneOk { channel_max: 10, frame_max: 8192, heartbeat: 0 }.into()),
        (0, connection::Open { virtual_host: "/", ..Default::default() }.into()),
        (3, channel::Open::default().into()),
    ];
    for (number, method) in methods {
        method.encode(number, &mut all);
    }
    client.send_bytes(&all).await;
    for name in ["connection.start", "connection.tune", "connection.open-ok", "channel.open-ok"] {
        client.expect(name).await;
    }
}

#[tokio::test]
async fn a_wrong_turn_in_the_handshake_closes_with_its_code() {
    let server = TestServer::start().await;
    let mut client = started(&server).await;
    client.send(0, connection::Open { virtual_host: "/", ..Default::default() }).await;
    client.expect_close(504).await;
    let mut client = started(&server).await;
    client.send(1, channel::Open::default()).await;
    client.expect_close(504).await;
    let mut client = started(&server).await;
    client.send_frame(3, 0, b"body").await;
    client.expect_close(505).await;
    let mut client = started(&server).await;
    // A payload over 8192 before tune-ok; its head is enough.
    client.send_bytes(&[1, 0, 0, 0, 0, 0x20, 1]).await;
    client.expect_close(501).await;
}

#[tokio::test]
async fn who_does_not_get_to_open_in_time_is_closed() {
    let options = AmqpOptions { handshake_timeout: Duration::from_millis(200), ..AmqpOptions::default() };
    let server = TestServer::start_with(options).await;
    let mut silent = Client::connect_raw(server.amqp()).await;
    let mut half = Client::connect_raw(server.amqp()).await;
    half.send_bytes(b"AMQP").await;
    let mut cut = Client::connect_raw(server.amqp()).await;
    cut.send_bytes(&PROTOCOL_HEADER).await;
    cut.send_bytes(&[1, 0, 0, 0, 0]).await;
    assert_eq!(silent.event().await, Event::End);
    assert_eq!(half.event().await, Event::End);
    cut.expect("connection.start").await;
    assert_eq!(cut.event().await, Event::End);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_a_place_is_free_again_afterwards() {
    let server = TestServer::start_with(AmqpOptions { connections_max: 1, ..AmqpOptions::default() }).await;
    let first = Client::connect(server.amqp()).await;
    let mut second = Client::connect_raw(server.amqp()).await;
    assert_eq!(second.event().await, Event::End);
    first.close().await;
    // The place is given back right after the socket's end is seen.
    loop {
        let mut third = Client::connect_raw(server.amqp()).await;
        third.send_bytes(&PROTOCOL_HEADER).await;
        if third.event().await != Event::End {
            break;
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    let (_dir, ()) = tokio::join!(server.stop(), async {
        let text = client.expect_close(320).await;
        assert!(text.starts_with("CONNECTION_FORCED - "), "{text}");
    });
}

#[tokio::test]
async fn update_secret_checks_the_password_again() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.send(0, connection::UpdateSecret { new_secret: b"guest", reason: "" }).await;
    client.expect("connection.update-secret-ok").await;
    client.send(0, connection::UpdateSecret { new_secret: b"wrong", reason: "" }).await;
    client.expect_close(530).await;
}
