//! CloudEvents as messages and back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on fails"
)]

use bytes::Bytes;
use millpond_events::{CloudEvent, Origin, show_time};
use millpond_model::Message;
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

fn read(message: &Message) -> Value {
    let now = UNIX_EPOCH + Duration::from_secs(7);
    Value::Object(Origin { vhost: "/", queue: "q", seq: 3, now }.read(message))
}

fn message_of(event: &CloudEvent) -> Message {
    let message = event.to_message(1000);
    let properties = message.encode_properties().unwrap();
    Message::new(b"millpond.events", message.routing_key.as_bytes(), &properties, true, &message.body)
}

fn attributes(json: Value) -> Map<String, Value> {
    json.as_object().unwrap().clone()
}

#[test]
fn an_event_that_became_a_message_is_read_as_it_was() {
    let table = [
        json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid", "subject": "a7",
               "time": "2026-11-22T10:00:00.5Z", "datacontenttype": "application/json", "data": {"amount": 12.5}}),
        json!({"specversion": "1.0", "id": "ü", "source": "urn:x", "type": "t", "subject": "s",
               "time": "2026-11-22T10:00:00+01:00", "datacontenttype": "text/plain", "data": "plain"}),
        json!({"specversion": "1.0", "id": "2", "source": "s", "type": "t", "subject": "s",
               "time": "2026-11-22T10:00:00Z", "datacontenttype": "image/png", "data_base64": "/w=="}),
        json!({"specversion": "1.0", "id": "3", "source": "s", "type": "t", "subject": "s",
               "time": "2026-11-22T10:00:00Z", "partitionkey": "k", "sampled": true, "count": -3}),
        json!({"specversion": "1.0", "id": "4", "source": "s", "type": "t", "subject": "s",
               "time": "2026-11-22T10:00:00Z", "datacontenttype": "application/json", "data": "a text"}),
    ];
    for json in table {
        let event = CloudEvent::from_json(json.clone()).unwrap();
        assert_eq!(read(&message_of(&event)), json);
    }
}

#[test]
fn what_an_event_leaves_out_follows_from_its_message() {
    let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": [1]});
    let read = read(&message_of(&CloudEvent::from_json(event).unwrap()));
    assert_eq!(read["subject"], "t", "the routing key");
    assert_eq!(read["time"], "1970-01-01T00:16:40Z", "when it came in");
    assert_eq!(read["datacontenttype"], "application/json", "data without a type is JSON");
    assert_eq!(read["data"], json!([1]));
}

#[test]
fn binary_mode_needs_no_version_and_keeps_bytes() {
    let given = attributes(json!({"id": "1", "source": "s", "type": "t", "subject": null,
                                  "datacontenttype": "application/json"}));
    let event = CloudEvent::new(given, Bytes::from_static(b"{ \"a\" : 1 }")).unwrap();
    let message = event.to_message(0);
    assert_eq!(message.body, Bytes::from_static(b"{ \"a\" : 1 }"), "not written again");
    assert_eq!(message.routing_key, "t");
    assert_eq!(message.properties.message_id.as_deref(), Some("1"));
    assert_eq!(message.properties.delivery_mode, Some(2));
}

#[test]
fn what_is_no_event_is_refused_with_the_attribute_that_is_wrong() {
    let good = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
    CloudEvent::from_json(good.clone()).unwrap();
    let with = |name: &str, value: Value| {
        let mut event = good.clone();
        event[name] = value;
        event
    };
    let without = |name: &str| {
        let mut event = good.clone();
        event.as_object_mut().unwrap().remove(name);
        event
    };
    let long = "x".repeat(9000);
    let table = [
        (json!([]), None, "a list"),
        (json!("x"), None, "a text"),
        (without("id"), Some("id"), "missing"),
        (without("source"), Some("source"), "missing"),
        (without("type"), Some("type"), "missing"),
        (without("specversion"), Some("specversion"), "missing"),
        (with("specversion", json!("0.3")), Some("specversion"), "expected \"1.0\""),
        (with("id", json!("")), Some("id"), "not empty"),
        (with("id", json!(7)), Some("id"), "not empty"),
        (with("id", json!("a\nb")), Some("id"), "control"),
        (with("source", json!("not a uri")), Some("source"), "URI"),
        (with("type", json!("t".repeat(256))), Some("type"), "at most 255"),
        (with("time", json!("yesterday")), Some("time"), "RFC 3339"),
        (with("time", json!("2026-11-22")), Some("time"), "RFC 3339"),
        (with("time", json!("2026-11-22T10:00:00")), Some("time"), "RFC 3339"),
        (with("time", json!("2026-11-22T10:00:00+01:00[Europe/Berlin]")), Some("time"), "RFC 3339"),
        (with("subject", json!("")), Some("subject"), "not empty"),
        (with("Bad_Name", json!("x")), Some("Bad_Name"), "a to z"),
        (with("ext", json!({})), Some("ext"), "whole number"),
        (with("ext", json!(1.5)), Some("ext"), "whole number"),
        (with("ext", json!(long)), Some("ext"), "at most 8192"),
        (with("data_base64", json!("***")), Some("data_base64"), "base64"),
        (with("data_base64", json!(1)), Some("data_base64"), "a number"),
    ];
    for (event, attribute, says) in table {
        let error = CloudEvent::from_json(event.clone()).unwrap_err();
        assert_eq!(error.attribute(), attribute, "{event}");
        assert!(error.to_string().contains(says), "{event}: {error}");
    }
    let mut twice = with("data", json!(1));
    twice["data_base64"] = json!("AA==");
    assert_eq!(CloudEvent::from_json(twice).unwrap_err().attribute(), Some("data"));
}

#[test]
fn any_other_message_is_an_event_too() {
    let message = Message::published_at(1500, b"orders", b"order.new", &[0, 0], true, b"{\"a\":1}");
    let event = read(&message);
    assert_eq!(event["type"], "order.new");
    assert_eq!(event["source"], "/orders");
    assert_eq!(event["time"], "1970-01-01T00:00:01.500Z", "when the broker took it");
    assert_eq!(event["data"], json!({"a": 1}));
    assert!(event["id"].as_str().unwrap().starts_with("q/3-"), "{event}");
    assert_eq!(read(&message)["id"], event["id"], "the same whenever it is read");
}

#[test]
fn moments_are_shown_with_milliseconds_if_there_are_any() {
    let table = [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400_000, "2000-02-29T00:00:00Z"),
        (1_795_341_600_123, "2026-11-22T10:00:00.123Z"),
        (253_402_207_200_000, "9999-12-30T22:00:00Z"),
        (300_000_000_000_000, "9999-12-30T22:00:00Z"),
    ];
    for (ms, expected) in table {
        let shown = show_time(UNIX_EPOCH + Duration::from_millis(ms));
        assert!(shown.starts_with(expected), "{ms}: {shown}");
    }
}
