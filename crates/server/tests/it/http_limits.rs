//! What HTTP connections may take: how many, how long a head, how slow.

use crate::http::{authorization, read_answer};
use millpond_server::HttpOptions;
use millpond_testkit::TestServer;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nothing takes so long unless it hangs.
const HANG: Duration = Duration::from_secs(30);
/// Shorter than anybody waits; who is quick enough is not held to it.
const SOON: Duration = Duration::from_millis(100);

async fn say(server: &TestServer, text: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.http()).await.unwrap();
    // One that was closed at once may not take it.
    let _ = socket.write_all(text.as_bytes()).await;
    socket
}

/// All that comes until the server ends the connection.
async fn rest(mut socket: TcpStream) -> String {
    let mut all = Vec::new();
    // A connection that is reset has ended too.
    let _ = tokio::time::timeout(HANG, socket.read_to_end(&mut all)).await.expect("the server ends it");
    String::from_utf8(all).unwrap()
}

const ALIVE: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// One that is answered, and stays; `None`: it is closed.
async fn staying(server: &TestServer) -> Option<TcpStream> {
    let mut socket = say(server, ALIVE).await;
    let mut answer = [0; 12];
    let read =
        tokio::time::timeout(HANG, socket.read_exact(&mut answer)).await.expect("an answer or the end");
    read.ok().map(|_| {
        assert_eq!(&answer, b"HTTP/1.1 200");
        socket
    })
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once_and_make_room_when_they_go() {
    let http = HttpOptions { connections_max: 2, ..HttpOptions::default() };
    let server = TestServer::start_with_http(http).await;
    let (first, second) = (staying(&server).await, staying(&server).await);
    assert!(first.is_some() && second.is_some());
    assert!(staying(&server).await.is_none());
    drop(first);
    let until = Instant::now() + HANG;
    while staying(&server).await.is_none() {
        assert!(Instant::now() < until, "there is no room");
        tokio::task::yield_now().await;
    }
    drop(second);
}

#[tokio::test]
async fn a_head_that_does_not_come_whole_ends_the_connection_and_so_does_idling() {
    let http = HttpOptions { header_timeout: SOON, ..HttpOptions::default() };
    let server = TestServer::start_with_http(http).await;
    for text in ["", "GET /health/live HTTP/1.1\r\nHost: loc"] {
        let answer = rest(say(&server, text).await).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    let idle = staying(&server).await.unwrap();
    assert!(rest(idle).await.ends_with('}'), "the answer comes whole, and then the end");
}

#[tokio::test]
async fn a_body_that_pauses_for_too_long_is_refused() {
    let http = HttpOptions { body_pause_max: SOON, ..HttpOptions::default() };
    let server = TestServer::start_with_http(http).await;
    let authorization = authorization();
    for path in ["POST /api/definitions", "POST /events"] {
        let request = format!(
            "{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\nContent-Length: 100\r\n\r\n{{"
        );
        let answer = read_answer(&rest(say(&server, &request).await).await);
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_or_has_too_many_lines_is_refused() {
    let server = TestServer::start().await;
    let asked = |more: String| format!("GET /health/live HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    let long = |bytes| asked(format!("Connection: close\r\nX-Long: {}\r\n", "x".repeat(bytes)));
    for (request, status) in [
        (long(40_000), 200),
        (long(1_000_000), 431),
        (asked((0..200).map(|n| format!("X-{n}: 1\r\n")).collect()), 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let start: String = request.chars().take(100).collect();
        let answer = rest(say(&server, &request).await).await;
        // Who is still sending may see nothing but the end.
        if !answer.is_empty() || status == 200 {
            assert_eq!(read_answer(&answer).status, status, "{start}: {answer}");
        }
    }
}
