//! The console's files, or the page that is there without them.

use millpond_testkit::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Head and body of an answer.
async fn get(server: &TestServer, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(server.http()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap().to_lowercase(), body)
}

/// The first script of the page; none if the binary was built without the console.
async fn script(server: &TestServer) -> Option<String> {
    let (_, page) = get(server, "/", "").await;
    let page = String::from_utf8(page).unwrap();
    let from = page.find("/assets/")?;
    page[from..].split('"').next().map(str::to_owned)
}

#[tokio::test]
async fn the_page_is_there_without_a_login_and_may_load_nothing_from_elsewhere() {
    let server = TestServer::start().await;
    let (head, body) = get(&server, "/", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/html"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self';"), "{head}");
    assert!(head.contains("connect-src 'self'; base-uri"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("Millpond"));
}

#[tokio::test]
async fn assets_are_compressed_and_kept_for_ever() {
    let server = TestServer::start().await;
    let Some(script) = script(&server).await else { return };
    let (plain, text) = get(&server, &script, "").await;
    assert!(plain.contains("content-type: text/javascript"), "{plain}");
    assert!(plain.contains("immutable") && !plain.contains("content-encoding"), "{plain}");
    for (accepted, encoding) in
        [("gzip, deflate, br", "br"), ("gzip, deflate", "gzip"), ("gzip, br;q=0", "gzip")]
    {
        let (head, body) = get(&server, &script, &format!("Accept-Encoding: {accepted}\r\n")).await;
        assert!(head.contains(&format!("content-encoding: {encoding}\r\n")), "{accepted}: {head}");
        assert!(body.len() < text.len(), "{encoding}: {} of {}", body.len(), text.len());
    }
}

#[tokio::test]
async fn a_file_that_is_known_is_not_sent_again() {
    let server = TestServer::start().await;
    if script(&server).await.is_none() {
        return;
    }
    let (head, _) = get(&server, "/", "").await;
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert!(head.contains("cache-control: no-cache"), "{head}");
    let (head, body) = get(&server, "/", &format!("If-None-Match: {etag}\r\n")).await;
    assert!(head.starts_with("http/1.1 304"), "{head}");
    assert!(body.is_empty());
}

#[tokio::test]
async fn files_that_are_not_there_are_not_found() {
    let server = TestServer::start().await;
    for path in
        ["/assets/nothing.js", "/assets/../../.gitignore", "/assets/..%2F..%2F.gitignore", "/www/index.html"]
    {
        let (head, _) = get(&server, path, "").await;
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
    }
}

#[tokio::test]
async fn scripts_that_fetch_rabbitmqadmin_are_led_to_it() {
    let server = TestServer::start().await;
    let (head, body) = get(&server, "/cli", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("text/html"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("/cli/rabbitmqadmin"));
    let (head, body) = get(&server, "/cli/rabbitmqadmin", "").await;
    assert!(head.starts_with("http/1.1 302"), "{head}");
    assert!(head.contains("location: https://raw.githubusercontent.com/rabbitmq/"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("rabbitmqadmin is RabbitMQ's"));
}
