//! Messages: published, shown, purged.

use super::*;
use serde_json::json;

const PUBLISH: &str = "POST /api/exchanges/%2F/amq.default/publish";

const PUBLISHED: &[Step] = &[
    ("PUT /api/queues/%2F/q1", "{}", 201, ""),
    (
        PUBLISH,
        r#"{"properties":{},"routing_key":"q1","payload":"hello","payload_encoding":"string"}"#,
        200,
        "true",
    ),
    (
        PUBLISH,
        r#"{"properties":{"delivery_mode":2,"headers":{"h":1,"t":"x"},"content_type":"text/plain","timestamp":7},
            "routing_key":"q1","payload":"aGVsbG8=","payload_encoding":"base64"}"#,
        200,
        r#"{"routed":true}"#,
    ),
    (
        PUBLISH,
        r#"{"properties":{},"routing_key":"zzz","payload":"","payload_encoding":"string"}"#,
        200,
        r#"{"routed":false}"#,
    ),
    (
        PUBLISH,
        r#"{"routing_key":"zzz"}"#,
        400,
        "[{key_missing,properties},{key_missing,payload},{key_missing,payload_encoding}]",
    ),
    (
        PUBLISH,
        r#"{"properties":{"priority":300},"routing_key":"q1","payload":"","payload_encoding":"string"}"#,
        400,
        "priority",
    ),
    (
        PUBLISH,
        r#"{"properties":{"expiration":"x"},"routing_key":"q1","payload":"","payload_encoding":"string"}"#,
        400,
        "expiration",
    ),
    (
        PUBLISH,
        r#"{"properties":{"user_id":"x"},"routing_key":"q1","payload":"","payload_encoding":"string"}"#,
        400,
        "user_id",
    ),
    (
        PUBLISH,
        r#"{"properties":{},"routing_key":"q1","payload":"*","payload_encoding":"base64"}"#,
        400,
        "Base64",
    ),
    (
        "POST /api/exchanges/%2F/none/publish",
        r#"{"properties":{},"routing_key":"q1","payload":"","payload_encoding":"string"}"#,
        400,
        "404 NOT_FOUND - no exchange 'none'",
    ),
    (
        "POST /api/queues/%2F/q1/get",
        r#"{"count":5,"requeue":true,"encoding":"auto"}"#,
        400,
        "[{key_missing,ackmode}]",
    ),
    (
        "POST /api/queues/%2F/none/get",
        r#"{"count":5,"ackmode":"ack_requeue_true","encoding":"auto"}"#,
        404,
        "",
    ),
    ("POST /api/queues/%2F/q1/get", r#"{"count":5,"ackmode":"nope","encoding":"auto"}"#, 400, "ackmode"),
];

const PURGED: &[Step] = &[
    ("DELETE /api/queues/%2F/q1?if-empty=true", "", 400, "not empty"),
    ("DELETE /api/queues/%2F/q1/contents", "", 204, ""),
    ("DELETE /api/queues/%2F/none/contents", "", 404, ""),
    ("DELETE /api/queues/%2F/q1?if-empty=true", "", 204, ""),
];

#[tokio::test]
async fn messages_are_published_shown_and_purged() {
    let server = TestServer::start().await;
    walk(&server, PUBLISHED).await;
    let take = |body| ask(&server, "POST /api/queues/%2F/q1/get", &[], body);
    let seen = take(r#"{"count":"5","ackmode":"ack_requeue_true","encoding":"auto"}"#).await.json();
    let expected = json!([
        {
            "payload_bytes": 5, "redelivered": false, "exchange": "", "routing_key": "q1", "message_count": 1,
            "properties": [], "payload": "hello", "payload_encoding": "string",
        },
        {
            "payload_bytes": 5, "redelivered": false, "exchange": "", "routing_key": "q1", "message_count": 0,
            "properties":
                {"delivery_mode": 2, "headers": {"h": 1, "t": "x"}, "content_type": "text/plain", "timestamp": 7},
            "payload": "hello", "payload_encoding": "string",
        },
    ]);
    assert_eq!(seen, expected);
    let again = take(r#"{"count":1,"ackmode":"reject_requeue_true","encoding":"base64","truncate":2}"#).await;
    let again = &again.json()[0];
    assert_eq!((&again["payload"], &again["redelivered"]), (&json!("aGU="), &json!(true)));
    assert_eq!(get(&server, "/queues/%2F/q1").await["messages_ready"], 2);
    take(r#"{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}"#).await.json();
    assert_eq!(get(&server, "/queues/%2F/q1").await["messages"], 1);
    walk(&server, PURGED).await;
}
