//! Schedules and delayed messages.

use super::*;
use millpond_broker::{Missed, ScheduleSpec};
use millpond_model::properties::Properties;
use millpond_model::{ExchangeName, VhostName};
use serde_json::json;

#[tokio::test]
async fn schedules_are_shown_paused_and_removed() {
    let server = TestServer::start().await;
    let spec = ScheduleSpec {
        name: "nightly".into(),
        cron: "0 3 * * *".into(),
        zone: "UTC".into(),
        exchange: ExchangeName::new("").unwrap(),
        routing_key: b"q".as_slice().into(),
        properties: Properties::default(),
        body: b"go".as_slice().into(),
        missed: Missed::Once,
    };
    server.broker().set_schedule(&VhostName::new("/").unwrap(), spec).unwrap().1.await.unwrap();
    assert_eq!(names(&get(&server, "/schedules").await), ["nightly"]);
    let shown = get(&server, "/schedules/%2F/nightly").await;
    assert_eq!((&shown["state"], &shown["payload"]), (&json!("running"), &json!("go")));
    assert_eq!(shown["next"].as_array().unwrap().len(), 5);
    walk(
        &server,
        &[
            ("PUT /api/schedules/%2F/nightly/pause", "", 204, ""),
            ("GET /api/schedules/%2F", "", 200, "paused"),
            ("PUT /api/schedules/%2F/nightly/resume", "", 204, ""),
            ("GET /api/schedules/%2F", "", 200, "running"),
            ("PUT /api/schedules/%2F/daily/pause", "", 404, ""),
            ("DELETE /api/schedules/%2F/nightly", "", 204, ""),
            ("GET /api/schedules/%2F/nightly", "", 404, ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn schedules_are_set_and_run_by_whoever_may_publish_their_messages() {
    let server = TestServer::start().await;
    let path = "PUT /api/schedules/%2F/daily";
    let body = r#"{"cron":"0 3 * * *","zone":"Europe/Berlin","routing_key":"q","payload":"aGk=","payload_encoding":"base64","properties":{"type":"report"}}"#;
    let steps: &[Step] = &[
        ("PUT /api/queues/%2F/q", "{}", 201, ""),
        (path, body, 201, ""),
        (path, body, 204, ""),
        ("GET /api/schedules/%2F/daily", "", 200, r#""zone":"Europe/Berlin""#),
        ("POST /api/schedules/%2F/daily/run", "", 200, r#""routed":true"#),
        (
            "POST /api/queues/%2F/q/get",
            r#"{"count":2,"ackmode":"ack_requeue_false","encoding":"auto"}"#,
            200,
            r#""payload":"hi""#,
        ),
        (path, r#"{"cron":"0 3 * * *","routing_key":"nobody"}"#, 204, ""),
        ("POST /api/schedules/%2F/daily/run", "", 200, r#""routed":false"#),
        ("POST /api/schedules/%2F/none/run", "", 404, ""),
        (path, "{}", 400, "key_missing,cron"),
        (path, r#"{"cron":"0 3 30 2 *"}"#, 400, "bad_request"),
        (path, r#"{"cron":"@daily","zone":"Atlantis"}"#, 400, "Atlantis"),
        (path, r#"{"cron":"@daily","missed":"some"}"#, 400, "skip, once or all"),
        (path, r#"{"cron":"@daily","key":"q"}"#, 400, "'key' is not known"),
        (path, r#"{"cron":"@daily","exchange":"none"}"#, 404, "none"),
        (path, r#"{"cron":"@daily","exchange":"amq.rabbitmq.trace"}"#, 401, "internal"),
        (path, r#"{"cron":"@daily","properties":{"user_id":"somebody"}}"#, 400, "user_id"),
        (path, r#"{"cron":"@daily","properties":{"expiration":"soon"}}"#, 400, "expiration"),
        ("GET /api/delayed", "", 200, "[]"),
        ("GET /api/federation-links/%2F", "", 200, "[]"),
        ("GET /api/federation-links/none", "", 404, ""),
    ];
    walk(&server, steps).await;
}

#[tokio::test]
async fn delayed_messages_are_shown_and_taken_back() {
    let server = TestServer::start().await;
    let publish = "POST /api/exchanges/%2F/later/publish";
    let message = r#"{"properties":{"message_id":"m","headers":{"x-delay":600000}},"routing_key":"k","payload":"p","payload_encoding":"string"}"#;
    walk(
        &server,
        &[
            (
                "PUT /api/exchanges/%2F/later",
                r#"{"type":"x-delayed-message","arguments":{"x-delayed-type":"fanout"}}"#,
                201,
                "",
            ),
            (publish, message, 200, ""),
            (publish, message, 200, ""),
        ],
    )
    .await;
    let exchanges = get(&server, "/delayed/%2F").await;
    assert_eq!((&exchanges[0]["name"], &exchanges[0]["waiting"]), (&json!("later"), &json!(2)));
    let waiting = get(&server, "/delayed/%2F/later").await;
    assert_eq!((&waiting[0]["message_id"], &waiting[0]["routing_key"]), (&json!("m"), &json!("k")));
    let one = format!("DELETE /api/delayed/%2F/later/{}", waiting[0]["id"]);
    assert_eq!(ask(&server, &one, &[], "").await.status, 204);
    assert_eq!(ask(&server, &one, &[], "").await.status, 404);
    let named = ask(&server, "DELETE /api/delayed/%2F/later?message_id=m", &[], "").await;
    assert_eq!(named.json(), json!({"cancelled": 1}));
    walk(&server, &[("DELETE /api/delayed/%2F/later", "", 400, "message_id")]).await;
}
