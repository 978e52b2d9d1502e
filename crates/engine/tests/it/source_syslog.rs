//! Sources of syslog messages: real sockets.

use crate::support::{Client, TestEngine, in_time, tls_file};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

/// An address that was free a moment ago.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn engine(syslog: &str) -> (TestEngine, Client) {
    let it = TestEngine::new().await;
    let text = format!(
        "queues: {{seen: {{}}}}\nbindings: [{{exchange: millpond.events, queue: seen}}]\nsources:\n  net:\n    syslog: {syslog}\n"
    );
    it.apply(&text).await;
    let client = it.client();
    (it, client)
}

async fn connect(address: SocketAddr) -> TcpStream {
    in_time("a listener", async {
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

async fn next(client: &mut Client) -> Value {
    client.get("seen").await.json()
}

#[tokio::test]
async fn messages_over_tcp_are_counted_or_lines_and_read_after_both_standards() {
    let address = free().await;
    let (_it, mut client) = engine(&format!("{{tcp: '{address}', max_message: 200B}}")).await;
    let mut stream = connect(address).await;
    let modern = "<165>1 2026-11-22T10:00:00.003Z mail.example.com evntslog 8710 ID47 \
                  [exampleSDID@32473 iut=\"3\" note=\"a \\\"b\\\" \\]c\"][x@1] \u{feff}An application event\nof two lines";
    let counted = format!("{} {modern}", modern.len());
    let lines =
        "<34>Oct 11 22:14:15 mymachine su[42]: 'su root' failed\n<13>just text\r\nno priority at all\n";
    // In pieces, as a network brings them.
    for piece in format!("{counted}{lines}").into_bytes().chunks(7) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
    }
    let seen = client.get("seen").await;
    assert_eq!(seen.routing_key, "millpond.syslog.message");
    assert_eq!(seen.header("cloudEvents:subject").unwrap(), "mail.example.com");
    let peer = stream.local_addr().unwrap().to_string();
    assert_eq!(
        seen.json(),
        json!({
            "facility": "local4", "severity": "notice", "level": 5, "timestamp": "2026-11-22T10:00:00.003Z",
            "hostname": "mail.example.com", "appname": "evntslog", "procid": "8710", "msgid": "ID47",
            "structured_data": {"exampleSDID@32473": {"iut": "3", "note": "a \"b\" ]c"}, "x@1": {}},
            "message": "An application event\nof two lines", "peer": peer, "transport": "tcp",
        })
    );
    let old = next(&mut client).await;
    for (name, value) in [
        ("facility", "auth"),
        ("severity", "crit"),
        ("timestamp", "Oct 11 22:14:15"),
        ("hostname", "mymachine"),
        ("appname", "su"),
        ("procid", "42"),
        ("message", "'su root' failed"),
    ] {
        assert_eq!(old[name], value, "{old}");
    }
    assert_eq!(next(&mut client).await["message"], "just text");
    let bare = next(&mut client).await;
    assert_eq!((&bare["message"], &bare["facility"]), (&json!("no priority at all"), &json!("user")));
    // Too long, counted and as a line: cut, marked, and what follows is read.
    let long = format!("<13>{}", "x".repeat(300));
    stream.write_all(format!("304 {long}{long}\n<13>after\n<13>last").as_bytes()).await.unwrap();
    for _ in 0..2 {
        let cut = next(&mut client).await;
        assert_eq!((cut["message"].as_str().unwrap().len(), &cut["truncated"]), (196, &json!(true)));
    }
    assert_eq!(next(&mut client).await["message"], "after");
    drop(stream);
    assert_eq!(next(&mut client).await["message"], "last");
}

#[tokio::test]
async fn datagrams_are_messages() {
    let address = free().await;
    let (it, mut client) = engine(&format!("{{udp: '{address}'}}")).await;
    it.until_source("net", |status| status.state == millpond_engine::SourceState::Running).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let got = in_time("a datagram", async {
        loop {
            // The first may come before anybody listens.
            let _ = socket.send_to(b"<14>1 - - - - - - hello", address).await;
            if let Some(got) = client.try_get("seen").await {
                return got;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let data = got.json();
    assert_eq!(
        (&data["message"], &data["hostname"], &data["transport"]),
        (&json!("hello"), &Value::Null, &json!("udp"))
    );
    assert_eq!(got.header("cloudEvents:subject").unwrap(), "127.0.0.1");
}

#[tokio::test]
async fn messages_come_over_tls() {
    let address = free().await;
    let (cert, key) = (tls_file("server.pem"), tls_file("server.key"));
    let tls =
        format!("{{tls: {{listen: '{address}', cert: '{}', key: '{}'}}}}", cert.display(), key.display());
    let (_it, mut client) = engine(&tls).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls_file("authority.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = connect(address).await;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"<13>sealed\n").await.unwrap();
    stream.flush().await.unwrap();
    let data = next(&mut client).await;
    assert_eq!((&data["message"], &data["transport"]), (&json!("sealed"), &json!("tls")));
}

#[tokio::test]
async fn all_messages_of_many_connections_come_once() {
    let address = free().await;
    let (it, mut client) = engine(&format!("{{tcp: '{address}'}}")).await;
    let mut writers = Vec::new();
    for sender in 0..8 {
        let mut stream = connect(address).await;
        writers.push(tokio::spawn(async move {
            for n in 0..500 {
                stream.write_all(format!("<13>{sender}-{n}\n").as_bytes()).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    it.until_source("net", |status| status.events == 4000).await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..4000 {
        assert!(seen.insert(next(&mut client).await["message"].as_str().unwrap().to_owned()));
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_waited_for() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let (it, _client) = engine(&format!("{{tcp: '{address}'}}")).await;
    let reason = format!("waiting: cannot listen on {address}: ");
    it.until_source("net", |status| status.state.to_string().starts_with(&reason)).await;
    drop(taken);
    connect(address).await;
}

#[test]
fn mistakes_are_reported_with_their_line() {
    let cases = [
        ("{}", "sources.a.syslog: found none of udp, tcp and tls, expected at least one"),
        ("{udp: here}", "sources.a.syslog.udp: found 'here', expected an address to listen on"),
        (
            "{tls: {listen: '127.0.0.1:1'}}",
            "sources.a.syslog.tls: found no 'cert', expected 'listen', and 'cert'",
        ),
        (
            "{udp: '127.0.0.1:1', max_message: 2MiB}",
            "sources.a.syslog.max_message: found '2MiB', expected at most 1MiB",
        ),
    ];
    for (syslog, wanted) in cases {
        let text = format!("sources:\n  a: {{syslog: {syslog}}}\n");
        let error = millpond_engine::check("t.yaml", &text).unwrap_err().to_string();
        assert!(error.contains(&format!("t.yaml:2: {wanted}")), "{syslog}: {error}");
    }
}
