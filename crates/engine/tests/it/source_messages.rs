//! Sources of the broker's own messages.

use crate::support::{TestEngine, durable, exchange, persistent};
use millpond_broker::{Binding, Destination};
use millpond_model::properties::Properties;
use millpond_model::table::Table;
use millpond_model::{ExchangeName, QueueName};
use serde_json::json;

fn topology(messages: &str, more: &str) -> String {
    format!(
        "queues: {{seen: {{}}}}\nbindings: [{{exchange: millpond.events, queue: seen, arguments: {{source: {{prefix: /}}}}}}]\n\
         sources:\n  own:\n    messages: {messages}\n{more}"
    )
}

#[tokio::test]
async fn messages_of_a_queue_become_events_and_leave_it_in_one_commit() {
    let it = TestEngine::new().await;
    let mut client = it.client();
    client.session.declare_queue(&durable("orders")).unwrap();
    it.apply(&topology("{queue: orders}", "")).await;
    client.publish("", "orders", "{\"n\": 1}").await;
    let seen = client.get("seen").await;
    assert_eq!((seen.routing_key.as_str(), seen.json()), ("orders", json!({"n": 1})));
    assert_eq!(seen.header("cloudEvents:source").unwrap(), "/");
    assert_eq!(seen.header("x-millpond-hops").unwrap(), "1");
    // An event stays what it is.
    let headers: Table = [
        ("cloudEvents:id", "e7"),
        ("cloudEvents:source", "/shop"),
        ("cloudEvents:type", "order.paid"),
        ("cloudEvents:time", "2026-11-22T10:00:00Z"),
        ("cloudEvents:tenant", "a"),
    ]
    .into_iter()
    .collect();
    let properties = Properties { headers, content_type: Some("text/csv".into()), ..persistent() };
    client.publish_with("", "orders", b"1;2", &properties).await;
    let seen = client.get("seen").await;
    assert_eq!((seen.routing_key.as_str(), seen.body.as_str()), ("order.paid", "1;2"));
    assert_eq!(seen.properties.content_type.as_deref(), Some("text/csv"));
    for (name, value) in
        [("id", "e7"), ("source", "/shop"), ("time", "2026-11-22T10:00:00Z"), ("tenant", "a")]
    {
        assert_eq!(seen.header(&format!("cloudEvents:{name}")).unwrap(), value);
    }
    assert_eq!(client.ready("orders"), 0);
    // Nothing is in hand when it stops, nothing is lost meanwhile.
    it.engine.stop_source("own").await.unwrap();
    client.publish("", "orders", "later").await;
    assert_eq!(client.ready("orders"), 1);
    it.engine.start_source("own").await.unwrap();
    assert_eq!(client.get("seen").await.body, "later");
}

/// The body of a message in structured mode is the whole event: its data goes on, and not the body.
#[tokio::test]
async fn an_event_in_structured_mode_gives_its_data() {
    let it = TestEngine::new().await;
    let mut client = it.client();
    client.session.declare_queue(&durable("orders")).unwrap();
    it.apply(&topology("{queue: orders}", "")).await;
    let cases = [
        (json!({"data": {"n": 1}}), Some("application/json"), "{\"n\":1}"),
        (
            json!({"data": {"n": 1}, "datacontenttype": "application/json"}),
            Some("application/json"),
            "{\"n\":1}",
        ),
        (
            json!({"data": {"n": 1}, "datacontenttype": "application/x+json"}),
            Some("application/x+json"),
            "{\"n\":1}",
        ),
        (json!({"data": "1;2", "datacontenttype": "text/csv"}), Some("text/csv"), "1;2"),
        (json!({"data": "1;2", "datacontenttype": "application/json"}), Some("application/json"), "\"1;2\""),
        (json!({"data_base64": "MTsy", "datacontenttype": "text/csv"}), Some("text/csv"), "1;2"),
        (json!({"data_base64": "MTsy"}), None, "1;2"),
        (json!({}), None, ""),
    ];
    for (mut event, content_type, body) in cases {
        let attributes = [("specversion", "1.0"), ("id", "e7"), ("source", "/shop"), ("type", "order.paid")];
        for (name, value) in attributes {
            event[name] = value.into();
        }
        let structured = Some("application/cloudevents+json; charset=utf-8".into());
        let properties = Properties { content_type: structured, ..persistent() };
        client.publish_with("", "orders", event.to_string().as_bytes(), &properties).await;
        let seen = client.get("seen").await;
        assert_eq!(seen.routing_key, "order.paid", "{event}: {}", seen.body);
        assert_eq!(
            (seen.properties.content_type.as_deref(), seen.body.as_str()),
            (content_type, body),
            "{event}"
        );
        assert_eq!(seen.header("cloudEvents:id").unwrap(), "e7");
    }
}

/// Bytes that are encoded are what they are only together with their encoding.
#[tokio::test]
async fn the_encoding_of_a_body_stays() {
    let it = TestEngine::new().await;
    let mut client = it.client();
    client.session.declare_queue(&durable("orders")).unwrap();
    it.apply(&topology("{queue: orders}", "")).await;
    let properties = Properties {
        content_type: Some("application/json".into()),
        content_encoding: Some("gzip".into()),
        ..persistent()
    };
    client.publish_with("", "orders", b"\x1f\x8b...", &properties).await;
    let seen = client.get("seen").await;
    assert_eq!(seen.properties.content_type.as_deref(), Some("application/json"));
    assert_eq!(seen.properties.content_encoding.as_deref(), Some("gzip"));
}

#[tokio::test]
async fn a_loop_ends() {
    let it = TestEngine::new().await;
    let mut client = it.client();
    client.session.declare_queue(&durable("loop")).unwrap();
    it.apply("bindings: [{exchange: millpond.events, queue: loop}]\nqueues: {loop: {}}\nsources:\n  own: {messages: {queue: loop}}")
        .await;
    client.publish("", "loop", "round").await;
    it.until_source("own", |status| status.events == 64).await;
    assert_eq!(client.ready("loop"), 0);
}

#[tokio::test]
async fn a_source_of_an_exchange_has_a_queue_that_comes_and_goes_with_it() {
    let it = TestEngine::new().await;
    let mut client = it.client();
    client.session.declare_exchange(&exchange("orders", "topic")).unwrap();
    it.apply(&topology("{exchange: orders, key: 'a.*'}", "    type: message.\\(.type)\n")).await;
    let bound = |key: &str| Binding {
        source: ExchangeName::new("orders").unwrap(),
        destination: Destination::Queue(QueueName::new("source.own").unwrap()),
        key: key.as_bytes().into(),
        arguments: Table::new(),
    };
    it.until_source("own", |_| it.client().session.has_binding(&bound("a.*"))).await;
    client.publish("orders", "a.1", "one").await;
    assert_eq!(client.get("seen").await.routing_key, "message.a.1");
    it.apply(&topology("{exchange: orders, key: 'b.*'}", "")).await;
    it.until_source("own", |_| it.client().session.has_binding(&bound("b.*"))).await;
    client.publish("orders", "a.2", "not bound any more").await;
    client.publish("orders", "b.2", "two").await;
    assert_eq!(client.get("seen").await.body, "two");
    it.apply("queues: {seen: {}}").await;
    assert!(!client.has_queue("source.own"));
}

#[tokio::test]
async fn a_stream_is_read_from_where_it_was_left() {
    let it = TestEngine::new().await;
    let mut client = it.client();
    let arguments: Table = [("x-queue-type", "stream")].into_iter().collect();
    let stream = millpond_broker::DeclareQueue { arguments, ..durable("log") };
    client.session.declare_queue(&stream).unwrap();
    for n in 0..3 {
        client.publish("", "log", &n.to_string()).await;
    }
    it.apply(&topology("{stream: log, from: first}", "")).await;
    for n in 0..3 {
        assert_eq!(client.get("seen").await.json(), json!(n));
    }
    drop(client);
    let it = it.reopen().await;
    let mut client = it.client();
    client.publish("", "log", "3").await;
    assert_eq!(client.get("seen").await.json(), json!(3));
    it.until_source("own", |status| status.events == 1).await;
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_waited_for() {
    let it = TestEngine::new().await;
    it.apply(&topology("{queue: later}", "")).await;
    it.until_source("own", |status| status.state.to_string().contains("later")).await;
    let mut client = it.client();
    client.session.declare_queue(&durable("later")).unwrap();
    client.publish("", "later", "1").await;
    assert_eq!(client.get("seen").await.json(), json!(1));
}

#[test]
fn mistakes_are_reported_with_their_line() {
    let cases = [
        ("{}", "found 0 of queue, exchange and stream, expected one of them"),
        ("{queue: a, stream: b}", "found 2 of queue, exchange and stream, expected one of them"),
        ("{queue: a, key: b}", "found 'key' beside 'queue', expected it beside 'exchange' only"),
        ("{exchange: ''}", "found the default exchange, expected another: use 'queue'"),
        ("{stream: a, from: 3x}", "found '3x', expected first, last, next, an offset, or an age such as 1h"),
    ];
    for (messages, wanted) in cases {
        let text = format!("sources:\n  a: {{messages: {messages}}}\n");
        let error = millpond_engine::check("t.yaml", &text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{messages}: {error}");
    }
}
