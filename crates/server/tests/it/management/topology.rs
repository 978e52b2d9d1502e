//! Exchanges, queues, bindings.

use super::*;
use serde_json::json;

const QUEUES_AND_EXCHANGES: &[Step] = &[
    ("PUT /api/queues/%2F/q1", r#"{"durable":true,"arguments":{"x-max-length":5}}"#, 201, ""),
    ("PUT /api/queues/%2F/q1", r#"{"durable":true,"arguments":{"x-max-length":5}}"#, 204, ""),
    (
        "PUT /api/queues/%2F/q1",
        r#"{"durable":false,"arguments":{"x-max-length":5}}"#,
        400,
        "inequivalent arg 'durable' for queue 'q1' in vhost '/': received 'false' but current is 'true'",
    ),
    ("PUT /api/queues/%2F/q2", r#"{"durable":"true","auto_delete":"false"}"#, 201, ""),
    ("PUT /api/queues/nov/q2", "{}", 404, "not_found"),
    ("PUT /api/queues/%2F/q2", r#"{"arguments":[]}"#, 400, "inequivalent arg 'durable'"),
    ("PUT /api/queues/%2F/q3", r#"{"durable":"x"}"#, 400, "bad_request"),
    ("PUT /api/queues/%2F/q3", "bad", 400, "not_json"),
    ("PUT /api/queues/%2F/q3", "[1]", 400, "a JSON object is expected"),
    ("PUT /api/queues/%2F/amq.q3", "{}", 401, "not_authorised"),
    ("GET /api/queues/nov", "", 404, r#"{"error":"Object Not Found","reason":"Not Found"}"#),
    ("GET /api/queues/%2F/none", "", 404, "Object Not Found"),
    ("DELETE /api/queues/%2F/none", "", 404, "Object Not Found"),
    ("GET /api/queues/%2F?columns=name,type", "", 200, r#"[{"name":"q1","type":"classic"},{"#),
    ("PUT /api/exchanges/%2F/x1", r#"{"type":"topic"}"#, 201, ""),
    ("PUT /api/exchanges/%2F/x1", r#"{"type":"topic"}"#, 204, ""),
    ("PUT /api/exchanges/%2F/x2", "{}", 201, ""),
    ("PUT /api/exchanges/%2F/x2", r#"{"type":"nope"}"#, 400, "unknown exchange type 'nope'"),
    ("PUT /api/exchanges/%2F/amq.foo", r#"{"type":"topic"}"#, 401, "not_authorised"),
    ("GET /api/exchanges/%2F/amq.default", "", 200, r#""name":"""#),
    ("DELETE /api/exchanges/%2F/amq.topic", "", 401, "not_authorised"),
    ("DELETE /api/exchanges/%2F/amq.default", "", 401, "not_authorised"),
    ("DELETE /api/exchanges/%2F/none", "", 404, "Object Not Found"),
    ("DELETE /api/exchanges/%2F/x2?if-unused=true", "", 204, ""),
    ("DELETE /api/queues/%2F/q2?if-empty=true&if-unused=true", "", 204, ""),
    ("GET /api/nope", "", 404, r#"{"error":"Object Not Found","reason":"Not Found"}"#),
    ("POST /api/queues", "{}", 405, ""),
];

#[tokio::test]
async fn queues_and_exchanges_are_declared_shown_and_deleted() {
    let server = TestServer::start().await;
    walk(&server, QUEUES_AND_EXCHANGES).await;
    let queue = get(&server, "/queues/%2F/q1").await;
    let expected = json!({
        "name": "q1", "vhost": "/", "type": "classic", "durable": true, "auto_delete": false, "exclusive": false,
        "arguments": {"x-max-length": 5}, "node": queue["node"], "state": "running", "paused": false, "messages": 0,
        "messages_ready": 0, "messages_unacknowledged": 0, "consumers": 0,
        "messages_details": {"rate": 0.0}, "messages_ready_details": {"rate": 0.0},
        "messages_unacknowledged_details": {"rate": 0.0},
        "effective_policy_definition": {}, "consumer_details": [],
    });
    assert_eq!(queue, expected);
    assert!(queue["node"].as_str().unwrap().starts_with("millpond@"));
    let exchange = get(&server, "/exchanges/%2F/x1").await;
    let expected = json!({
        "name": "x1", "vhost": "/", "type": "topic", "durable": false, "auto_delete": false, "internal": false,
        "arguments": {},
    });
    assert_eq!(exchange, expected);
    let built_in =
        ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic", "x1"];
    assert_eq!(names(&get(&server, "/exchanges").await), built_in);
    assert_eq!(names(&get(&server, "/exchanges/%2F").await), built_in);
}

const BINDINGS: &[Step] = &[
    ("PUT /api/queues/%2F/q1", "{}", 201, ""),
    ("PUT /api/exchanges/%2F/x1", r#"{"type":"topic"}"#, 201, ""),
    ("POST /api/bindings/%2F/e/x1/q/q1", r##"{"routing_key":"a.#","arguments":{}}"##, 201, ""),
    ("POST /api/bindings/%2F/e/x1/q/q1", r##"{"routing_key":"a.#"}"##, 201, ""),
    ("POST /api/bindings/%2F/e/x1/q/q1", r#"{"routing_key":"b","arguments":{"k":1}}"#, 201, ""),
    ("POST /api/bindings/%2F/e/x1/q/q1", r#"{"routing_key":"a b/c~d"}"#, 201, ""),
    ("POST /api/bindings/%2F/e/x1/e/amq.fanout", "{}", 201, ""),
    ("POST /api/bindings/%2F/e/x1/q/none", "{}", 404, "no queue 'none' in vhost '/'"),
    ("POST /api/bindings/%2F/e/none/q/q1", "{}", 404, "no exchange 'none' in vhost '/'"),
    ("POST /api/bindings/%2F/e/x1/z/q1", "{}", 404, "not_found"),
    ("GET /api/bindings/%2F/e/x1/q/q1/a.%2523", "", 200, r#""properties_key":"a.%23""#),
    ("GET /api/bindings/%2F/e/x1/q/q1/a.%23", "", 200, r#""properties_key":"a.%23""#),
    ("GET /api/bindings/%2F/e/x1/q/q1/a%2Bb%252Fc%257Ed", "", 200, r#""routing_key":"a b/c~d""#),
    ("GET /api/bindings/%2F/e/x1/q/q1/~", "", 404, "Object Not Found"),
    ("GET /api/bindings/%2F/e/x1/e/amq.fanout/~", "", 200, r#""destination_type":"exchange""#),
    ("GET /api/exchanges/%2F/amq.fanout/bindings/destination", "", 200, r#""source":"x1""#),
    ("GET /api/exchanges/%2F/amq.default/bindings/source", "", 200, r#""destination":"q1""#),
    ("DELETE /api/bindings/%2F/e/x1/q/q1/a.%2523", "", 204, ""),
    ("DELETE /api/bindings/%2F/e/x1/q/q1/a.%2523", "", 404, "Object Not Found"),
];

#[tokio::test]
async fn bindings_are_found_by_their_ends_and_properties_keys() {
    let server = TestServer::start().await;
    let between = "/api/bindings/%2F/e/x1/q/q1";
    walk(&server, BINDINGS).await;
    let location = ask(&server, &format!("POST {between}"), &[], r##"{"routing_key":"c.#"}"##).await;
    assert_eq!(location.header("location"), Some("q1/c.%2523"));
    let to_queue = get(&server, "/queues/%2F/q1/bindings").await;
    let keys: Vec<_> =
        to_queue.as_array().unwrap().iter().map(|it| it["properties_key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert_eq!(keys[0], "q1");
    let with_arguments = keys.iter().find(|key| key.starts_with("b~")).unwrap();
    let gone = ask(&server, &format!("DELETE {between}/{with_arguments}"), &[], "").await;
    assert_eq!(gone.status, 204, "{}", gone.body);
    assert_eq!(get(&server, "/bindings/%2F").await.as_array().unwrap().len(), 4);
}
