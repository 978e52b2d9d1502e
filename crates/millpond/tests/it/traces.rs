//! Traces, as a collector gets them.

use super::binary::{Broker, BrokerOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

/// A request as it came: its head, its body.
struct Got {
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn has(&self, wanted: &[u8]) -> bool {
        self.body.windows(wanted.len()).any(|part| part == wanted)
    }
}

/// Listens for ever; what comes in goes into the channel.
fn collector() -> (String, mpsc::Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || while receive(&socket).is_some_and(|got| sender.send(got).is_ok()) {});
        }
    });
    (address, receiver)
}

fn receive(socket: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.lines().find_map(|it| it.to_lowercase().strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut writer = socket;
    writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    Some(Got { head, body })
}

#[test]
fn requests_and_commands_are_spans_and_a_callers_trace_goes_on() {
    let (address, got) = collector();
    let settings =
        ["--otel-endpoint", &address, "--otel-service-name", "harbour", "--otel-headers", "x-key=7"];
    let mut broker = Broker::start(BrokerOptions { settings: &settings, ..BrokerOptions::default() });
    let mut socket = TcpStream::connect(broker.http_address()).unwrap();
    let caller = "traceparent: 00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01";
    write!(socket, "GET /api/overview HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{caller}\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(broker.ask(&["queues", "list"]).0, 0);
    // The stop sends what waits.
    broker.terminate();
    assert!(broker.wait().success());
    let got: Vec<Got> = got.try_iter().collect();
    assert!(!got.is_empty(), "{}", broker.log());
    for one in &got {
        assert!(one.head.starts_with("POST /v1/traces "), "{}", one.head);
        assert!(one.head.to_lowercase().contains("content-type: application/x-protobuf"), "{}", one.head);
        assert!(one.head.to_lowercase().contains("x-key: 7"), "{}", one.head);
        assert!(one.has(b"service.name") && one.has(b"harbour"));
    }
    let trace: Vec<u8> = (1..=16).collect();
    let parent: Vec<u8> = (0x11..=0x18).collect();
    let request = got.iter().find(|it| it.has(b"GET /api/overview")).expect("the request is a span");
    assert!(request.has(&trace) && request.has(&parent));
    assert!(got.iter().any(|it| it.has(b"control admin")));
    assert!(!broker.log().contains("traceparent"), "traces are not for the log: {}", broker.log());
}

#[test]
fn a_collector_that_is_away_holds_nobody_up() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let settings = ["--otel-endpoint", &address];
    let mut broker = Broker::start(BrokerOptions { settings: &settings, ..BrokerOptions::default() });
    assert_eq!(broker.ask(&["queues", "list"]).0, 0);
    broker.terminate();
    assert!(broker.wait().success());
    assert!(broker.log().contains("traces cannot be sent"), "{}", broker.log());
}
