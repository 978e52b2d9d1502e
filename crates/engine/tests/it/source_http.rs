//! Sources that ask an API: a real server, which the test scripts.

use crate::support::{Client, Request, TestEngine, in_time, read_request};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

type Answer = Box<dyn FnMut(&Request, usize) -> Option<String> + Send>;

/// Answers as the test says; `None` holds the request for good. Tells of every request.
struct Api {
    url: String,
    requests: mpsc::UnboundedReceiver<Request>,
}

impl Api {
    async fn start(answer: impl FnMut(&Request, usize) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let answer: Arc<Mutex<(Answer, usize)>> = Arc::new(Mutex::new((Box::new(answer), 0)));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, sender) = (answer.clone(), sender.clone());
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut stream).await else { return };
                    let text = {
                        let (answer, count) = &mut *answer.lock();
                        *count += 1;
                        answer(&request, *count)
                    };
                    // A test that has ended looks at no more requests.
                    let _ = sender.send(request);
                    match text {
                        Some(text) => {
                            let _ = stream.write_all(text.as_bytes()).await;
                            let _ = stream.shutdown().await;
                        }
                        None => std::future::pending().await,
                    }
                });
            }
        });
        Self { url, requests }
    }

    async fn request(&mut self) -> Request {
        in_time("a request", self.requests.recv()).await.unwrap()
    }
}

fn reply(status: &str, headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"))
}

fn ok(body: &Value) -> Option<String> {
    reply("200 OK", "content-type: application/json\r\n", &body.to_string())
}

async fn engine(url: &str, http: &str, more: &str) -> (TestEngine, Client) {
    let it = TestEngine::new().await;
    let text = format!(
        "queues: {{seen: {{}}}}\nbindings: [{{exchange: millpond.events, queue: seen}}]\nsources:\n  api:\n    \
         http: {{url: '{url}{http}}}\n{more}"
    );
    it.apply(&text).await;
    let client = it.client();
    (it, client)
}

const FAST: &str = "    poll: {every: 10ms}\n";

#[tokio::test]
async fn an_answer_is_split_into_events_and_ids_seen_before_are_not_repeated() {
    let api = Api::start(|_, count| {
        let orders: Vec<_> = (0..count).map(|id| json!({"id": id, "total": id * 10})).collect();
        ok(&json!({"orders": orders}))
    })
    .await;
    let http = "/orders', items: '.body.orders[]', id: '.id'";
    let (_it, mut client) = engine(&api.url, http, &format!("{FAST}    type: order.\\(.data.id)\n")).await;
    for id in 0..5 {
        let seen = client.get("seen").await;
        assert_eq!(seen.json(), json!({"id": id, "total": id * 10}));
        assert_eq!(seen.routing_key, format!("order.{id}"));
        assert_eq!(seen.header("cloudEvents:id").unwrap(), format!("api/{id}"));
    }
}

#[tokio::test]
async fn etag_and_last_modified_are_sent_again_also_after_a_restart() {
    let mut api = Api::start(|request, count| match request.header("if-none-match") {
        Some("\"v1\"") => reply("304 Not Modified", "", ""),
        _ => reply(
            "200 OK",
            "etag: \"v1\"\r\nlast-modified: Sun, 22 Nov 2026 10:00:00 GMT\r\n",
            &format!("text {count}"),
        ),
    })
    .await;
    let (it, mut client) = engine(&api.url, "/'", FAST).await;
    assert_eq!(client.get("seen").await.body, "text 1");
    assert_eq!(api.request().await.header("if-none-match"), None);
    assert_eq!(api.request().await.header("if-none-match"), Some("\"v1\""));
    drop(client);
    let it = it.reopen().await;
    while api.requests.try_recv().is_ok() {}
    let request = api.request().await;
    assert_eq!(request.header("if-none-match"), Some("\"v1\""));
    assert_eq!(request.header("if-modified-since"), Some("Sun, 22 Nov 2026 10:00:00 GMT"));
    assert!(it.client().try_get("seen").await.is_none());
}

#[tokio::test]
async fn the_api_s_cursor_goes_into_the_url_and_pages_follow_at_once() {
    let mut api = Api::start(|request, _| {
        let line = request.head.lines().next().unwrap().to_owned();
        let after: u64 = line.split("after=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let items: Vec<_> = (after + 1..=(after + 2).min(5)).collect();
        ok(&json!({"items": items, "last": items.last().copied().unwrap_or(after), "more": after + 2 < 5}))
    })
    .await;
    let http =
        "/events?after=\\(.cursor // 0)', items: '.body.items[]', cursor: '.body.last', more: '.body.more'";
    let (it, mut client) = engine(&api.url, http, "    poll: {every: 1h}\n").await;
    for item in 1..=5 {
        assert_eq!(client.get("seen").await.json(), json!(item));
    }
    for after in [0, 2, 4] {
        assert!(api.request().await.head.starts_with(&format!("GET /events?after={after} ")));
    }
    drop(client);
    let it = it.reopen().await;
    assert!(api.request().await.head.starts_with("GET /events?after=5 "));
    it.until_source("api", |status| status.state == millpond_engine::SourceState::Running).await;
}

#[tokio::test]
async fn long_polling_publishes_the_moment_the_api_answers() {
    let (sender, receiver) = mpsc::unbounded_channel::<u64>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut receiver = receiver;
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(request) = read_request(&mut stream).await else { continue };
            assert!(request.head.starts_with("GET /wait?for=30 "), "{}", request.head);
            let Some(number) = receiver.recv().await else { return };
            let _ = stream.write_all(ok(&json!({"n": number})).unwrap().as_bytes()).await;
        }
    });
    let (_it, mut client) = engine(&url, "/wait?for=\\(.wait)'", "    poll: {long: 30s}\n").await;
    for number in 0..5 {
        sender.send(number).unwrap();
        assert_eq!(client.get("seen").await.json(), json!({"n": number}));
    }
}

#[tokio::test]
async fn redirects_are_followed_to_a_limit_and_secrets_stay_with_their_host() {
    let mut there = Api::start(|request, _| {
        assert_eq!(request.header("authorization"), None);
        ok(&json!("there"))
    })
    .await;
    let target = there.url.clone();
    let mut here = Api::start(move |request, _| match request.head.split(' ').nth(1).unwrap() {
        "/near" => reply("302 Found", "location: /step\r\n", ""),
        "/step" => reply("307 Temporary Redirect", &format!("location: {target}/far\r\n"), ""),
        _ => reply("302 Found", "location: /circle\r\n", ""),
    })
    .await;
    let headers = ", headers: {authorization: 'Bearer ${env:CARGO_PKG_NAME}'}";
    let (it, mut client) = engine(&here.url, &format!("/near'{headers}"), FAST).await;
    assert_eq!(client.get("seen").await.json(), json!("there"));
    assert_eq!(here.request().await.header("authorization"), Some("Bearer millpond-engine"));
    assert_eq!(here.request().await.header("authorization"), Some("Bearer millpond-engine"));
    there.request().await;
    drop((it, client));
    let (it, _client) = engine(&here.url, "/circle', redirects: 3", FAST).await;
    it.until_source("api", |status| status.state.to_string().ends_with("redirected more than 3 times")).await;
}

#[tokio::test]
async fn an_api_that_is_busy_or_wrong_is_asked_again() {
    let api = Api::start(|_, count| match count {
        1 => reply("429 Too Many Requests", "retry-after: 0\r\n", "slow down"),
        2 => reply("503 Service Unavailable", "retry-after: 0\r\n", ""),
        3 => reply("200 OK", "", &"x".repeat(2000)),
        4 => reply("200 OK", "content-type: application/json\r\n", "{\"list\": 5}"),
        _ => ok(&json!({"list": ["at last"]})),
    })
    .await;
    let (it, mut client) =
        engine(&api.url, "/', items: '.body.list[]', max_body: 1000B", "    poll: {every: 10ms}\n").await;
    assert_eq!(client.get("seen").await.json(), json!("at last"));
    it.until_source("api", |status| status.errors == 4).await;
    let api = Api::start(|_, _| reply("500 Internal Server Error", "", "broken \u{1b}here")).await;
    let url = format!("{}/'", api.url);
    let (it, _client) = engine("", &url, FAST).await;
    let wanted = format!("waiting: GET {}/: status 500: broken \\u{{1b}}here", api.url);
    it.until_source("api", |status| status.state.to_string() == wanted).await;
}

/// Whoever lists more than is remembered, or lists an old one for long, must not see it again and again.
#[tokio::test]
async fn what_an_answer_still_shows_is_remembered() {
    let mut api = Api::start(|_, count| {
        let news = (0..4).map(|n| json!({"id": format!("{count}-{n}")}));
        let old = (0..20).map(|n| json!({"id": n}));
        ok(&json!({"all": old.chain(news).collect::<Vec<_>>()}))
    })
    .await;
    let (it, mut client) = engine(&api.url, "/', items: '.body.all[]', id: '.id', remember: 10", FAST).await;
    for _ in 0..6 {
        api.request().await;
    }
    it.until_source("api", |status| status.events >= 40).await;
    it.engine.stop_source("api").await.unwrap();
    let mut seen = std::collections::HashSet::new();
    while let Some(event) = client.try_get("seen").await {
        let id = event.header("cloudEvents:id").unwrap();
        assert!(seen.insert(id.clone()), "{id} came twice");
    }
}

/// Asking the same again gives the same: there is no next page without a step.
#[tokio::test]
async fn pages_that_lead_nowhere_are_not_asked_for_without_a_pause() {
    let mut api = Api::start(|_, _| ok(&json!({"items": [{"id": 1}], "more": true}))).await;
    let http = "/', items: '.body.items[]', id: .id, more: .body.more";
    let (it, mut client) = engine(&api.url, http, "    poll: {every: 1h}\n").await;
    client.get("seen").await;
    // The page that has nothing new was the last.
    api.request().await;
    api.request().await;
    it.engine.stop_source("api").await.unwrap();
    assert!(api.requests.try_recv().is_err());
}

#[tokio::test]
async fn an_answer_that_stays_the_same_is_one_event() {
    let api = Api::start(|_, count| ok(&json!({"state": if count < 6 { "open" } else { "closed" }}))).await;
    let (it, mut client) = engine(&api.url, "/state'", FAST).await;
    assert_eq!(client.get("seen").await.json(), json!({"state": "open"}));
    assert_eq!(client.get("seen").await.json(), json!({"state": "closed"}));
    it.until_source("api", |status| status.events == 2).await;
}

#[test]
fn mistakes_are_reported_with_their_line() {
    let cases = [
        ("{}", "sources.a.http: found no 'url', expected 'url', an http or https URL"),
        ("{url: ftp://x}", "sources.a.http.url: found 'ftp://x', expected an http or https URL"),
        ("{url: 'http://x', id: .id}", "sources.a.http: found 'id' without 'items'"),
        ("{url: 'http://x', items: '.['}", "sources.a.http.items: jq '.['"),
        (
            "{url: 'http://x', redirects: 99}",
            "sources.a.http.redirects: found the number 99, expected a whole number",
        ),
        ("{url: 'http://x', headers: {'a b': c}}", "sources.a.http.headers: found 'a b', expected the name"),
    ];
    for (http, wanted) in cases {
        let error =
            millpond_engine::check("t.yaml", &format!("sources:\n  a: {{http: {http}}}\n")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&format!("t.yaml:2: {wanted}")), "{http}: {error}");
    }
}
