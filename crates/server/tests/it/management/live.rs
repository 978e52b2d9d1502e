//! Answers as events.

use super::*;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What a viewer reads.
struct Events {
    socket: TcpStream,
    read: String,
}

impl Events {
    async fn of(server: &TestServer, credentials: &str, query: &str) -> Self {
        let authorization = authorization_of(credentials);
        let line = format!("GET /api/live?every_ms=500&{query}");
        let socket = send(server, &line, &[("Authorization", &authorization)], "").await;
        Self { socket, read: String::new() }
    }

    /// The next event's name and data; `None` when the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(at) = self.read.find("event: ")
                && let Some(length) = self.read[at..].find("\n\n")
            {
                let event: Vec<_> = self.read[at..at + length].lines().map(str::to_owned).collect();
                self.read.drain(..at + length);
                let name = event[0].strip_prefix("event: ").unwrap().to_owned();
                let data = event[1].strip_prefix("data: ").unwrap();
                return Some((name, serde_json::from_str(data).unwrap()));
            }
            let mut block = [0; 4096];
            let count = self.socket.read(&mut block).await.unwrap();
            if count == 0 {
                return None;
            }
            self.read.push_str(&String::from_utf8_lossy(&block[..count]));
        }
    }

    async fn data(&mut self) -> Value {
        let (name, data) = self.next().await.unwrap();
        assert_eq!(name, "data", "{data}");
        data
    }
}

#[tokio::test]
async fn what_changes_is_told_and_what_does_not_is_not() {
    let server = TestServer::start().await;
    let paths = "path=/queues/%252F/q%3Fcolumns%3Dname,messages&path=/vhosts%3Fcolumns%3Dname";
    let mut events = Events::of(&server, "guest:guest", paths).await;
    let path = "/queues/%2F/q?columns=name,messages";
    let first = events.data().await;
    assert_eq!((&first["path"], &first["status"]), (&json!(path), &json!(404)), "{first}");
    let second = events.data().await;
    assert_eq!(second, json!({"path": "/vhosts?columns=name", "status": 200, "body": [{"name": "/"}]}));
    walk(&server, &[("PUT /api/queues/%2F/q", "{}", 201, "")]).await;
    let third = events.data().await;
    assert_eq!(third, json!({"path": path, "status": 200, "body": {"name": "q", "messages": 0}}));
    walk(&server, &[("PUT /api/vhosts/other", "{}", 201, "")]).await;
    assert_eq!(events.data().await["body"], json!([{"name": "/"}, {"name": "other"}]));
}

#[tokio::test]
async fn the_stream_ends_with_the_rights_of_whoever_watches() {
    let server = TestServer::start().await;
    let user = r#"{"password": "x", "tags": "monitoring"}"#;
    walk(&server, &[("PUT /api/users/eve", user, 201, "")]).await;
    let mut events = Events::of(&server, "eve:x", "path=/whoami&path=/users").await;
    assert_eq!(events.data().await["body"]["name"], "eve");
    assert_eq!(events.data().await["status"], 401, "users are the administrator's");
    walk(&server, &[("PUT /api/users/eve", r#"{"password": "x", "tags": ""}"#, 204, "")]).await;
    let (name, data) = events.next().await.unwrap();
    assert_eq!(name, "end", "{data}");
    assert!(data["reason"].as_str().unwrap().contains("management"), "{data}");
    assert!(events.next().await.is_none());
}

const REFUSED: &[Step] = &[
    ("GET /api/live", "", 400, "one to 8"),
    ("GET /api/live?path=/definitions", "", 400, "cannot be watched"),
    ("GET /api/live?path=/queues/%252F/q/messages", "", 400, "cannot be watched"),
    ("GET /api/live?path=/live", "", 400, "cannot be watched"),
    ("GET /api/live?path=queues", "", 400, "begin with a slash"),
    ("GET /api/live?path=http://elsewhere/queues", "", 400, "begin with a slash"),
    ("GET /api/live?path=/queues&every_ms=1", "", 400, "500 to 60000"),
    ("GET /api/live?path=/a&path=/b&path=/c&path=/d&path=/e&path=/f&path=/g&path=/h&path=/i", "", 400, ""),
];

#[tokio::test]
async fn what_is_not_cheap_is_not_watched() {
    let server = TestServer::start().await;
    walk(&server, REFUSED).await;
    let nobody = receive(send(&server, "GET /api/live?path=/queues", &[], "").await).await;
    assert_eq!(nobody.status, 401);
}
