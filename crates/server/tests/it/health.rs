//! Health checks.

use millpond_testkit::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) async fn get(server: &TestServer, path: &str) -> String {
    let mut socket = TcpStream::connect(server.http()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_healthy_broker_says_ok_and_other_paths_are_not_found() {
    let server = TestServer::start().await;
    for path in ["/health", "/health/ready", "/health/live"] {
        let answer = get(&server, path).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""status":"ok""#), "{answer}");
    }
    let answer = get(&server, "/nothing").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("the management API at /api"), "{answer}");
}
