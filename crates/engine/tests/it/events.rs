//! Messages as CloudEvents: what a rule sees of what was published.

use crate::support::*;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value as Header};
use serde_json::{Value, json};

/// A rule that shows its event.
const MIRROR: &str = r##"
exchanges: {things: {type: topic}}
queues: {seen: {}}
rules:
  mirror:
    on: {exchange: things, key: "#"}
    do:
      - publish: {exchange: "", routing_key: seen, body: .}
"##;

async fn mirrored(it: &TestEngine, body: &[u8], properties: &Properties) -> Value {
    let mut client = it.client();
    client.publish_with("things", "thing.made", body, properties).await;
    client.get("seen").await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_message_gets_defaults() {
    let it = TestEngine::with(MIRROR).await;
    let mut event = mirrored(&it, br#"{"a": 1}"#, &persistent()).await;
    let id = event["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("rule.mirror/0-") && id.len() == 30, "{id}");
    let time = event["time"].as_str().unwrap().to_owned();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    let object = event.as_object_mut().unwrap();
    object.remove("id");
    object.remove("time");
    let expected = json!({
        "specversion": "1.0", "source": "/things", "type": "thing.made", "subject": "thing.made",
        "data": {"a": 1},
        "amqp": {
            "exchange": "things", "routing_key": "thing.made", "queue": "rule.mirror", "redelivered": false,
            "headers": {}, "properties": {"delivery_mode": 2},
        },
    });
    assert_eq!(event, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_and_headers_are_shown_and_name_the_event() {
    let it = TestEngine::with(MIRROR).await;
    let mut inner = Table::new();
    inner.push("deep", Header::Timestamp(7));
    let headers: Table = [
        ("colour", Header::from("blue")),
        ("n", Header::U8(7)),
        ("list", Header::Array(vec![Header::Bool(true), Header::Void])),
        ("inner", Header::Table(inner)),
        ("price", Header::Decimal { scale: 2, value: 1250 }),
        ("bytes", Header::Bytes([0, 1, 2, 255].as_slice().into())),
    ]
    .into_iter()
    .collect();
    let properties = Properties {
        content_type: Some("text/plain".into()),
        headers,
        message_id: Some("m1".into()),
        type_: Some("thing".into()),
        timestamp: Some(1_000_000_000),
        correlation_id: Some("c".into()),
        priority: Some(3),
        ..persistent()
    };
    let event = mirrored(&it, b"5", &properties).await;
    let expected = json!({
        "specversion": "1.0", "id": "m1", "source": "/things", "type": "thing", "subject": "thing.made",
        "time": "2001-09-09T01:46:40Z", "datacontenttype": "text/plain", "data": "5",
        "amqp": {
            "exchange": "things", "routing_key": "thing.made", "queue": "rule.mirror", "redelivered": false,
            "headers": {"colour": "blue", "n": 7, "list": [true, null], "inner": {"deep": 7}, "price": 12.5,
                        "bytes": "AAEC/w=="},
            "properties": {"content_type": "text/plain", "message_id": "m1", "type": "thing", "delivery_mode": 2,
                           "timestamp": 1_000_000_000, "correlation_id": "c", "priority": 3},
        },
    });
    assert_eq!(event, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_events_are_taken_in_both_content_modes() {
    let it = TestEngine::with(MIRROR).await;
    let headers: Table = [
        ("cloudEvents:id", Header::from("e1")),
        ("cloudEvents:source", Header::from("/shop")),
        ("cloudEvents_type", Header::from("order.placed")),
        ("cloudEvents:tries", Header::I32(3)),
        ("cloudEvents:specversion", Header::from("1.0")),
    ]
    .into_iter()
    .collect();
    let binary = Properties { headers, content_type: Some("application/json".into()), ..persistent() };
    let event = mirrored(&it, b"[1]", &binary).await;
    assert_eq!(
        (&event["id"], &event["source"], &event["type"]),
        (&json!("e1"), &json!("/shop"), &json!("order.placed"))
    );
    assert_eq!((&event["tries"], &event["data"]), (&json!(3), &json!([1])));
    assert_eq!(event["datacontenttype"], "application/json");

    let structured = Properties {
        content_type: Some("application/cloudevents+json; charset=utf-8".into()),
        message_id: Some("m1".into()),
        ..persistent()
    };
    let body = br#"{"specversion": "1.0", "id": "e2", "source": "/shop", "type": "t", "data": {"b": 2}}"#;
    let event = mirrored(&it, body, &structured).await;
    assert_eq!((&event["id"], &event["data"], &event["type"]), (&json!("e2"), &json!({"b": 2}), &json!("t")));
    assert_eq!(event["amqp"]["properties"]["message_id"], "m1");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_become_data_by_their_content_type() {
    let it = TestEngine::with(MIRROR).await;
    /// Content type, content encoding, body, and what becomes of it.
    type Case = (Option<&'static str>, Option<&'static str>, &'static [u8], Value);
    let cases: [Case; 14] = [
        (None, None, b"{\"a\":1}", json!({"data": {"a": 1}})),
        (None, None, b"plain", json!({"data": "plain"})),
        (None, None, b"\xff\x00", json!({"data_base64": "/wA="})),
        (None, None, b"", json!({})),
        (Some("application/json"), None, b"7", json!({"data": 7})),
        (Some("application/json"), Some("utf-8"), b"7", json!({"data": 7})),
        (Some("application/json"), None, b"{broken", json!({"data": "{broken"})),
        (Some("application/json"), Some("gzip"), b"abc", json!({"data_base64": "YWJj"})),
        (Some("Application/Vnd.Shop+JSON; v=1"), None, b"[]", json!({"data": []})),
        (Some("text/plain; charset=utf-8"), None, b"7", json!({"data": "7"})),
        (Some("text/plain"), None, b"\xff", json!({"data_base64": "/w=="})),
        (Some("application/xml"), None, b"<a/>", json!({"data": "<a/>"})),
        (Some("application/octet-stream"), None, b"abcd", json!({"data_base64": "YWJjZA=="})),
        (Some("application/json"), None, &[b'['; 200], json!({"data": "[".repeat(200)})),
    ];
    for (content_type, encoding, body, expected) in cases {
        let properties = Properties {
            content_type: content_type.map(Into::into),
            content_encoding: encoding.map(Into::into),
            ..persistent()
        };
        let event = mirrored(&it, body, &properties).await;
        let data: serde_json::Map<_, _> = ["data", "data_base64"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), event.get(key)?.clone())))
            .collect();
        assert_eq!(
            Value::Object(data),
            expected,
            "{content_type:?} {encoding:?} {:?}",
            String::from_utf8_lossy(body)
        );
    }
}
