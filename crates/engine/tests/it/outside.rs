//! Actions on the outside: HTTP, files, retries, parking.

use crate::support::*;

fn hook(url: &str, more: &str) -> String {
    format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
rules:
  hook:
    on: {{queue: in}}
    when: .data.order != null
    do:
      - http:
          endpoint: {url}/orders/\(.data.order | @uri)
          headers: {{x-amount: '\(.data.amount)', x-plain: 7}}
          body: '{{order: .data.order}}'
      - publish: {{exchange: "", routing_key: out}}
{more}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_sends_http_and_then_publishes() {
    let mut server = Server::start(&["204 No Content"]).await;
    let it = TestEngine::with(&hook(&server.url, "")).await;
    let mut client = it.client();
    let properties =
        millpond_model::properties::Properties { message_id: Some("m 1".into()), ..persistent() };
    client.publish_with("", "in", br#"{"order": "a/7", "amount": 3}"#, &properties).await;
    let request = server.request().await;
    assert!(request.head.starts_with("POST /orders/a%2F7 HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("idempotency-key"), Some("m%201/hook/0"));
    assert_eq!(request.header("x-amount"), Some("3"));
    assert_eq!(request.header("x-plain"), Some("7"));
    assert_eq!(request.body, r#"{"order":"a/7"}"#);
    assert_eq!(client.get("out").await.body, r#"{"order": "a/7", "amount": 3}"#);
    it.until("hook", |counts| counts == (1, 1, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_request_is_tried_again_with_the_same_key_while_others_flow() {
    let mut server = Server::start(&["500 No", "503 No", "200 OK"]).await;
    let retry = "    retry: {max_attempts: 4, first: 20ms, jitter: 0}";
    let it = TestEngine::with(&hook(&server.url, retry)).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"order": "1"}"#).await;
    let first = server.request().await;
    // This one needs no server: it is skipped while the other waits.
    client.publish("", "in", r#"{"other": 1}"#).await;
    it.until("hook", |(seen, ..)| seen == 2).await;
    let second = server.request().await;
    let third = server.request().await;
    assert_eq!(first.header("idempotency-key"), second.header("idempotency-key"));
    assert_eq!(second.header("idempotency-key"), third.header("idempotency-key"));
    assert_eq!(client.get("out").await.body, r#"{"order": "1"}"#);
    it.until("hook", |counts| counts == (2, 1, 2, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_succeeds_ends_in_the_parking_queue() {
    let server = Server::start(&["418 I'm a teapot"]).await;
    let retry = "    retry: {max_attempts: 3, first: 1ms}";
    let it = TestEngine::with(&hook(&server.url, retry)).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"order": "1", "amount": 2}"#).await;
    let parked = client.get("hook.failed").await;
    assert_eq!(parked.body, r#"{"order": "1", "amount": 2}"#);
    assert_eq!(parked.header("x-millpond-attempts").as_deref(), Some("3"));
    let error = parked.header("x-millpond-error").unwrap();
    let url = &server.url;
    assert_eq!(error, format!("test.yaml:8: POST {url}/orders/1: the answer is 418, expected 200-299: said"),);
    assert_eq!(it.counts("hook"), (1, 0, 2, 1));
    assert_eq!(client.ready("out"), 0, "nothing is published of an event that failed");
    let it = {
        drop(client);
        it.reopen().await
    };
    assert_eq!(it.client().ready("in"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_an_error_that_says_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let it = TestEngine::with(&hook(&url, "    retry: {max_attempts: 1}")).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"order": "1", "amount": 2}"#).await;
    let error = client.get("hook.failed").await.header("x-millpond-error").unwrap();
    assert!(error.contains("no connection: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_in_time_is_an_error() {
    // Accepts and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let topology =
        hook(&url, "    retry: {max_attempts: 1}").replace("body:", "timeout: 50ms\n          body:");
    let it = TestEngine::with(&topology).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"order": "1", "amount": 2}"#).await;
    let error = client.get("hook.failed").await.header("x-millpond-error").unwrap();
    assert!(error.ends_with("no answer within 50 ms"), "{error}");
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_not_followed() {
    let mut server = Server::start(&["302 Found\r\nlocation: /elsewhere"]).await;
    let it = TestEngine::with(&hook(&server.url, "    retry: {max_attempts: 1}")).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"order": "1", "amount": 2}"#).await;
    let error = client.get("hook.failed").await.header("x-millpond-error").unwrap();
    assert!(error.contains("the answer is 302"), "{error}");
    server.request().await;
    assert!(server.requests.try_recv().is_err());
}

const AUDIT: &str = r#"
queues: {in: {}, out: {}}
rules:
  audit:
    on: {queue: in}
    do:
      - file: {path: 'audit/\(.data.day).log', line: '"\(.data.n) \(.data.text)"', max_size: 64B, keep: 2}
      - publish: {exchange: "", routing_key: out}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn lines_stand_in_the_order_of_the_messages_and_files_rotate() {
    let it = TestEngine::with(&AUDIT.replace("64B", "1MiB")).await;
    let mut client = it.client();
    for n in 0..300 {
        client.publish("", "in", &format!(r#"{{"day": "mon", "n": {n}, "text": "a\nb"}}"#)).await;
    }
    it.until("audit", |(_, acted, ..)| acted == 300).await;
    let text = std::fs::read_to_string(it.file("audit/mon.log")).unwrap();
    let expected: String = (0..300).map(|n| format!("{n} a\\nb\n")).collect();
    assert_eq!(text, expected);

    it.apply(AUDIT).await;
    for n in 0..30 {
        client.publish("", "in", &format!(r#"{{"day": "tue", "n": {n}, "text": "12345678"}}"#)).await;
    }
    it.until("audit", |(_, acted, ..)| acted == 330).await;
    let mut names: Vec<_> = std::fs::read_dir(it.file("audit"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["mon.log", "tue.log", "tue.log.1", "tue.log.2"]);
    for name in ["tue.log", "tue.log.1", "tue.log.2"] {
        let text = std::fs::read_to_string(it.file("audit").join(name)).unwrap();
        assert!(text.len() <= 64 && text.ends_with('\n'), "{name}: {text:?}");
    }
    assert!(std::fs::read_to_string(it.file("audit/tue.log")).unwrap().ends_with("29 12345678\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_last_line_is_ended_before_the_next_one() {
    let it = TestEngine::with(AUDIT).await;
    std::fs::create_dir_all(it.file("audit")).unwrap();
    std::fs::write(it.file("audit/mon.log"), "torn by a cra").unwrap();
    it.client().publish("", "in", r#"{"day": "mon", "n": 1, "text": "x"}"#).await;
    it.until("audit", |(_, acted, ..)| acted == 1).await;
    assert_eq!(std::fs::read_to_string(it.file("audit/mon.log")).unwrap(), "torn by a cra\n1 x\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_cannot_lead_a_file_out_of_its_folder() {
    let topology = AUDIT.replace(r"audit/\(.data.day).log", r"\(.data.day)");
    let it = TestEngine::with(&topology).await;
    let mut client = it.client();
    for (day, expected) in [
        ("../store", "leads out of its folder with '..'"),
        ("a/../../b", "leads out of its folder with '..'"),
        ("/etc/motd", "is absolute, and only its own beginning in the file may say so"),
        ("", "is not the path of a file"),
    ] {
        client.publish("", "in", &format!(r#"{{"day": "{day}", "n": 1, "text": "x"}}"#)).await;
        let error = client.get("audit.failed").await.header("x-millpond-error").unwrap();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_on_with_the_action_that_failed() {
    let mut server = Server::start(&["500 No", "200 OK"]).await;
    let topology = format!(
        r#"
queues: {{in: {{}}}}
rules:
  both:
    on: {{queue: in}}
    do:
      - file: {{path: audit.log, line: .data}}
      - http: {{method: PUT, endpoint: "{}/x"}}
    retry: {{first: 1ms}}
"#,
        server.url
    );
    let it = TestEngine::with(&topology).await;
    it.client().publish("", "in", "one").await;
    server.request().await;
    let request = server.request().await;
    assert_eq!(request.header("content-type"), Some("application/cloudevents+json"));
    let event: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!((&event["data"], &event["specversion"]), (&"one".into(), &"1.0".into()));
    assert!(event.get("amqp").is_none());
    it.until("both", |counts| counts == (1, 1, 1, 0)).await;
    assert_eq!(std::fs::read_to_string(it.file("audit.log")).unwrap(), "one\n");
}
