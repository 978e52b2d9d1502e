//! Events over HTTP.

use crate::http::*;
use millpond_broker::{Binding, DeclareExchange, DeclareQueue, Destination, OpenSession, Session};
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::Table;
use millpond_model::{ExchangeName, QueueName, VhostName};
use millpond_testkit::TestServer;
use serde_json::{Value, json};

const STRUCTURED: (&str, &str) = ("Content-Type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("Content-Type", "application/cloudevents-batch+json");

const BUS: &str = "millpond.events";

fn session(server: &TestServer) -> Session {
    let login = server.broker().internal_login();
    let vhost = VhostName::new("/").unwrap();
    server.broker().open_session(OpenSession { login, vhost, name: "test".into() }).unwrap()
}

/// A server with a bus, as the engine declares it.
async fn with_bus() -> TestServer {
    let server = TestServer::start().await;
    let request = DeclareExchange {
        name: ExchangeName::new(BUS).unwrap(),
        kind: "x-events".into(),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    };
    session(&server).declare_exchange(&request).unwrap();
    server
}

fn durable(name: &str) -> DeclareQueue {
    DeclareQueue {
        name: QueueName::new(name).unwrap(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
    }
}

fn event(id: &str, kind: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/test", "type": kind, "data": {"n": 1}})
}

fn ids(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn events_are_published_in_all_three_modes_and_taken_with_receipts() {
    let server = with_bus().await;
    let created = ask(&server, "PUT /events/orders", &[], r#"{"type": {"prefix": "order."}}"#).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let again = ask(&server, "PUT /events/orders", &[], r#"{"type": {"prefix": "order."}}"#).await;
    assert_eq!(again.status, 200, "{}", again.body);

    let one = ask(&server, "POST /events", &[STRUCTURED], &event("1", "order.new").to_string()).await;
    assert_eq!((one.status, one.json()), (202, json!({"accepted": 1})), "{}", one.body);
    let list = json!([event("2", "order.paid"), event("x", "other")]).to_string();
    let two = ask(&server, "POST /events", &[BATCH], &list).await;
    assert_eq!((two.status, two.json()), (202, json!({"accepted": 2})));
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-id", "3"),
        ("ce-source", "/t%C3%A9st"),
        ("ce-type", "order.shipped"),
        ("ce-tenant", "a"),
        ("Content-Type", "text/plain"),
    ];
    let binary = ask(&server, "POST /events", &attributes, "parcel").await;
    assert_eq!(binary.status, 202, "{}", binary.body);

    let answer = ask(&server, "GET /events/orders?max=10&wait=30s", &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some(BATCH.1));
    let taken = answer.json();
    assert_eq!(ids(&taken), ["1", "2", "3"]);
    assert_eq!(taken[0]["data"], json!({"n": 1}));
    assert_eq!((&taken[2]["data"], &taken[2]["source"]), (&json!("parcel"), &json!("/tést")));
    assert_eq!(taken[2]["tenant"], "a");

    let receipts = json!({"receipts": [taken[0]["receipt"], taken[1]["receipt"], "nonsense"]}).to_string();
    let acked = ask(&server, "POST /events/orders/ack", &[], &receipts).await;
    assert_eq!(acked.json(), json!({"settled": 2, "unknown": ["nonsense"]}));
    let nacked = json!({"receipts": [taken[2]["receipt"]]}).to_string();
    assert_eq!(ask(&server, "POST /events/orders/nack", &[], &nacked).await.json()["settled"], 1);
    let again = ask(&server, "GET /events/orders?max=10", &[], "").await.json();
    assert_eq!((ids(&again), &again[0]["redelivered"]), (vec!["3"], &json!(true)));

    let gone = ask(&server, "DELETE /events/orders", &[], "").await;
    assert_eq!(gone.status, 204);
    assert_eq!(ask(&server, "GET /events/orders", &[], "").await.status, 404);
}

#[tokio::test]
async fn a_request_that_waits_is_answered_by_the_event_that_comes() {
    let server = with_bus().await;
    ask(&server, "PUT /events/q", &[], "").await;
    let authorization = authorization();
    let headers = [("Authorization", authorization.as_str())];
    let first = send(&server, "GET /events/q?wait=60s", &headers, "").await;
    let second = send(&server, "GET /events/q?wait=60s", &headers, "").await;
    for id in ["a", "b"] {
        ask(&server, "POST /events", &[STRUCTURED], &event(id, "t").to_string()).await;
    }
    let (first, second) = (receive(first).await.json(), receive(second).await.json());
    let mut both = [ids(&first), ids(&second)].concat();
    both.sort_unstable();
    assert_eq!(both, ["a", "b"], "each event once");
    let empty = ask(&server, "GET /events/q?wait=50ms", &[], "").await;
    assert_eq!((empty.status, empty.json()), (200, json!([])));
}

#[tokio::test]
async fn an_event_whose_lease_ends_is_the_queues_again() {
    let server = with_bus().await;
    ask(&server, "PUT /events/q", &[], "{}").await;
    ask(&server, "POST /events", &[STRUCTURED], &event("a", "t").to_string()).await;
    let taken = ask(&server, "GET /events/q?lease=1s", &[], "").await.json();
    assert_eq!(ids(&taken), ["a"]);
    let again = ask(&server, "GET /events/q?wait=60s", &[], "").await.json();
    assert_eq!((ids(&again), &again[0]["redelivered"]), (vec!["a"], &json!(true)));
    let late = json!({"receipts": [taken[0]["receipt"]]}).to_string();
    let settled = ask(&server, "POST /events/q/ack", &[], &late).await.json();
    assert_eq!(
        settled,
        json!({"settled": 0, "unknown": [taken[0]["receipt"]]}),
        "a receipt of an earlier delivery"
    );
    let receipts = json!({"receipts": [again[0]["receipt"]]}).to_string();
    assert_eq!(ask(&server, "POST /events/q/ack", &[], &receipts).await.json()["settled"], 1);
}

#[tokio::test]
async fn what_others_publish_to_the_bus_is_taken_over_http() {
    let server = with_bus().await;
    ask(&server, "PUT /events/q", &[], "").await;
    let mut session = session(&server);
    let none = RawProperties::from_checked(&[0, 0]);
    let route = session.route(BUS.as_bytes(), b"from.amqp", &none, 5).unwrap();
    let message = Message::new(BUS.as_bytes(), b"from.amqp", &[0, 0], false, b"plain");
    session.publish(&mut vec![(message, route)]).unwrap();
    let taken = ask(&server, "GET /events/q?wait=60s", &[], "").await.json();
    assert_eq!((&taken[0]["type"], &taken[0]["data"]), (&json!("from.amqp"), &json!("plain")));
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_reason() {
    let server = with_bus().await;
    ask(&server, "PUT /events/q", &[], "").await;
    let mut bad_time = event("1", "t");
    bad_time["time"] = json!("yesterday");
    let batch = json!([event("1", "t"), {"specversion": "1.0", "id": "2", "type": "t"}]).to_string();
    let good = event("1", "t").to_string();
    /// Request, headers, body; status, and what the answer says.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);
    let table: &[Case<'_>] = &[
        ("POST /events", &[STRUCTURED], "{", 400, "not JSON"),
        ("POST /events", &[STRUCTURED], &bad_time.to_string(), 400, r#""attribute":"time""#),
        ("POST /events", &[BATCH], &batch, 400, r#""index":1"#),
        ("POST /events", &[BATCH], "{}", 400, "no list"),
        ("POST /events", &[("Content-Type", "application/cloudevents+avro")], "x", 415, "binary mode"),
        ("POST /events", &[("Content-Type", "text/plain")], "x", 400, r#""attribute":"specversion""#),
        ("POST /events?exchange=nowhere", &[STRUCTURED], &good, 404, "no exchange 'nowhere'"),
        ("POST /events?vhost=nowhere", &[STRUCTURED], &good, 404, "nowhere"),
        ("POST /events?exchnge=x", &[STRUCTURED], &good, 400, "'exchnge' is not known"),
        ("GET /events/missing", &[], "", 404, "no queue 'missing'"),
        ("GET /events/q?wait=soon", &[], "", 400, "wait=soon"),
        ("GET /events/q?max=0", &[], "", 400, "max=0"),
        ("GET /events/q?lease=1ms", &[], "", 400, "lease=1ms"),
        ("POST /events/q/ack", &[], "[]", 400, "receipts"),
        ("PUT /events/q2", &[], r#"{"type": {"infix": "x"}}"#, 400, "infix"),
        ("GET /events/q2", &[], "", 404, "no queue 'q2'"),
        ("DELETE /events/missing", &[], "", 404, "no queue 'missing'"),
        ("PUT /events/q3?exchange=missing", &[], "", 404, "missing"),
    ];
    let huge = "x".repeat((16 << 20) + 1);
    let more: &[Case<'_>] = &[
        ("POST /events", &[STRUCTURED], &huge, 413, r#""error":"payload_too_large""#),
        ("GET /events/%FF", &[], "", 400, r#""error":"bad_request""#),
    ];
    for (line, headers, body, status, says) in table.iter().chain(more) {
        let answer = ask(&server, line, headers, body).await;
        let body = &body[..body.len().min(100)];
        assert_eq!(answer.status, *status, "{line} {body}: {}", answer.body);
        assert!(answer.body.contains(says), "{line} {body}: {}", answer.body);
    }
    let empty = ask(&server, "GET /events/q", &[], "").await.json();
    assert_eq!(empty, json!([]), "nothing of what was refused came through");
}

#[tokio::test]
async fn nobody_comes_in_without_the_password() {
    let server = with_bus().await;
    let wrong = authorization_of("guest:wrong");
    for headers in [&[][..], &[("Authorization", wrong.as_str())], &[("Authorization", "Bearer x")]] {
        for line in
            ["POST /events", "GET /events/q", "PUT /events/q", "POST /events/q/ack", "DELETE /events/q"]
        {
            let answer = receive(send(&server, line, headers, "").await).await;
            assert_eq!(answer.status, 401, "{line}: {}", answer.body);
            assert!(answer.header("www-authenticate").is_some());
        }
    }
}

#[tokio::test]
async fn a_queue_that_is_full_asks_the_publisher_to_come_again() {
    let server = with_bus().await;
    let mut arguments = Table::new();
    arguments.push("x-max-length", 1);
    arguments.push("x-overflow", "reject-publish");
    let queue = DeclareQueue { arguments, ..durable("small") };
    let mut session = session(&server);
    session.declare_queue(&queue).unwrap();
    let binding = Binding {
        source: ExchangeName::new(BUS).unwrap(),
        destination: Destination::Queue(queue.name),
        key: Box::default(),
        arguments: Table::new(),
    };
    session.bind(&binding).unwrap();
    ask(&server, "POST /events", &[STRUCTURED], &event("1", "t").to_string()).await;
    let answer = ask(&server, "POST /events", &[STRUCTURED], &event("2", "t").to_string()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{}", answer.body);
}

#[tokio::test]
async fn who_asks_for_the_head_alone_takes_nothing() {
    let server = with_bus().await;
    ask(&server, "PUT /events/q", &[], "").await;
    ask(&server, "POST /events", &[STRUCTURED], &event("a", "t").to_string()).await;
    let head = ask(&server, "HEAD /events/q", &[], "").await;
    assert_eq!(head.status, 405, "{}", head.head);
    let taken = ask(&server, "GET /events/q", &[], "").await.json();
    assert_eq!((ids(&taken), &taken[0]["redelivered"]), (vec!["a"], &Value::Null));
}

#[tokio::test]
async fn receipts_of_a_queue_that_went_are_unknown() {
    let server = with_bus().await;
    ask(&server, "PUT /events/q", &[], "").await;
    let authorization = authorization();
    let headers = [("Authorization", authorization.as_str())];
    let waiting = send(&server, "GET /events/q?wait=300s", &headers, "").await;
    let mut session = session(&server);
    while session.declare_queue(&DeclareQueue { passive: true, ..durable("q") }).unwrap().0.consumers == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&server, "DELETE /events/q", &[], "").await.status, 204);
    assert_eq!(receive(waiting).await.status, 404);
    let acked = ask(&server, "POST /events/q/ack", &[], r#"{"receipts": ["r"]}"#).await;
    assert_eq!((acked.status, acked.json()), (200, json!({"settled": 0, "unknown": ["r"]})));
}

#[tokio::test]
async fn more_requests_than_may_wait_are_asked_to_come_again() {
    const WAITING_MAX: usize = 1000;
    let server = with_bus().await;
    ask(&server, "PUT /events/q", &[], "").await;
    let authorization = authorization();
    let headers = [("Authorization", authorization.as_str())];
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..=WAITING_MAX {
        waiting.spawn(receive(send(&server, "GET /events/q?wait=300s", &headers, "").await));
    }
    let first = tokio::time::timeout(std::time::Duration::from_secs(60), waiting.join_next());
    let answer = first.await.expect("one of them is refused").unwrap().unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{}", answer.body);
}

/// HTTP binding, 3.1.3.2: what is in double quotes is unescaped first, for senders of earlier versions.
#[tokio::test]
async fn headers_in_double_quotes_are_read() {
    let server = with_bus().await;
    ask(&server, "PUT /events/q", &[], "").await;
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-id", r#""a \"b\" c\\""#),
        ("ce-source", "/test"),
        ("ce-type", "t"),
        ("ce-subject", r#"Euro "%E2%82%AC \%F0%9F%98%80""#),
    ];
    let answer = ask(&server, "POST /events", &attributes, "x").await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let taken = ask(&server, "GET /events/q?wait=60s", &[], "").await.json();
    assert_eq!((&taken[0]["id"], &taken[0]["subject"]), (&json!(r#"a "b" c\"#), &json!("Euro € 😀")));
}
