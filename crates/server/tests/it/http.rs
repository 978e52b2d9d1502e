//! Requests by hand, and their answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millpond_testkit::TestServer;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request's answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub(crate) async fn send(server: &TestServer, line: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.http()).await.unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

pub(crate) async fn receive(mut socket: TcpStream) -> Answer {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    read_answer(&answer)
}

pub(crate) fn read_answer(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) fn authorization() -> String {
    authorization_of("guest:guest")
}

pub(crate) fn authorization_of(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

/// As the default user.
pub(crate) async fn ask(server: &TestServer, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let authorization = authorization();
    let mut all = vec![("Authorization", authorization.as_str())];
    all.extend(headers);
    receive(send(server, line, &all, body).await).await
}
