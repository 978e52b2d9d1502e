//! Definitions: out of one broker, or a RabbitMQ, into another.

use super::*;
use serde_json::json;

/// Without what differs between two brokers.
fn comparable(mut definitions: Value) -> Value {
    let users = definitions["users"].as_array_mut().unwrap();
    users.retain(|user| user["name"] != "guest");
    definitions
}

const DEFINED: &[Step] = &[
    ("PUT /api/vhosts/v1", r#"{"description":"orders","default_queue_type":"quorum"}"#, 201, ""),
    ("PUT /api/vhost-limits/v1/max-queues", r#"{"value":50}"#, 204, ""),
    ("PUT /api/users/u1", r#"{"password":"p","tags":"management,other"}"#, 201, ""),
    ("PUT /api/user-limits/u1/max-channels", r#"{"value":5}"#, 204, ""),
    ("PUT /api/permissions/v1/u1", r#"{"configure":"^a","write":"","read":".*"}"#, 201, ""),
    ("PUT /api/topic-permissions/v1/u1", r#"{"exchange":"amq.topic","write":"^a","read":".*"}"#, 201, ""),
    (
        "PUT /api/policies/v1/p1",
        r#"{"pattern":"^q","definition":{"max-length":10},"priority":3,"apply-to":"queues"}"#,
        201,
        "",
    ),
    (
        "PUT /api/operator-policies/v1/o1",
        r#"{"pattern":"^q","definition":{"expires":60000},"apply-to":"queues"}"#,
        201,
        "",
    ),
    (
        "PUT /api/queues/v1/q1",
        r#"{"durable":true,"arguments":{"x-queue-type":"classic","x-message-ttl":60000}}"#,
        201,
        "",
    ),
    (
        "PUT /api/queues/v1/s1",
        r#"{"durable":true,"arguments":{"x-queue-type":"stream","x-max-age":"7D"}}"#,
        201,
        "",
    ),
    (
        "PUT /api/exchanges/v1/x1",
        r#"{"type":"topic","durable":true,"arguments":{"alternate-exchange":"amq.fanout"}}"#,
        201,
        "",
    ),
    ("PUT /api/exchanges/v1/x2", r#"{"type":"headers","durable":true,"internal":true}"#, 201, ""),
    ("POST /api/bindings/v1/e/x1/q/q1", r##"{"routing_key":"a.#"}"##, 201, ""),
    ("POST /api/bindings/v1/e/x1/e/x2", r#"{"routing_key":"b"}"#, 201, ""),
    ("POST /api/bindings/v1/e/x2/q/s1", r#"{"arguments":{"x-match":"all","k":1}}"#, 201, ""),
];

#[tokio::test]
async fn definitions_are_exported_and_imported_into_another_broker() {
    let first = TestServer::start().await;
    walk(&first, DEFINED).await;
    let exported = get(&first, "/definitions").await;
    let second = TestServer::start().await;
    for _ in 0..2 {
        let imported = ask(&second, "POST /api/definitions", &[], &exported.to_string()).await;
        assert_eq!(imported.status, 204, "{}", imported.body);
        assert_eq!(comparable(get(&second, "/definitions").await), comparable(exported.clone()));
    }
    let second = second.restart().await;
    assert_eq!(comparable(get(&second, "/definitions").await), comparable(exported));
    let of_vhost = get(&first, "/definitions/v1").await;
    assert!(of_vhost["queues"][0].get("vhost").is_none(), "{of_vhost}");
    walk(&second, &[("PUT /api/vhosts/copy", "", 201, "")]).await;
    let imported = ask(&second, "POST /api/definitions/copy", &[], &of_vhost.to_string()).await;
    assert_eq!(imported.status, 204, "{}", imported.body);
    assert_eq!(get(&second, "/definitions/copy").await["bindings"], of_vhost["bindings"]);
    assert_eq!(get(&second, "/definitions/copy").await["policies"], of_vhost["policies"]);
}

/// As a RabbitMQ 3.10 exports them, with a password of it.
const OF_RABBITMQ: &str = r#"{
  "rabbit_version": "3.10.8", "rabbitmq_version": "3.10.8", "product_name": "RabbitMQ", "product_version": "3.10.8",
  "users": [{"name": "old", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
             "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["administrator"], "limits": {}}],
  "vhosts": [{"name": "/"}],
  "permissions": [{"user": "old", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
  "topic_permissions": [],
  "parameters": [{"value": {"max-connections": -1}, "vhost": "/", "component": "vhost-limits", "name": "limits"}],
  "global_parameters": [{"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-1"}],
  "policies": [{"vhost": "/", "name": "p1", "pattern": "^q", "apply-to": "all", "definition": {"max-length": 10}, "priority": 0}],
  "queues": [{"name": "q2", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}}],
  "exchanges": [{"name": "x1", "vhost": "/", "type": "topic", "durable": false, "auto_delete": false, "internal": false, "arguments": {}}],
  "bindings": [{"source": "x1", "vhost": "/", "destination": "q2", "destination_type": "queue", "routing_key": "", "arguments": {}}]
}"#;

#[tokio::test]
async fn definitions_of_a_rabbitmq_are_imported_with_its_passwords() {
    let server = TestServer::start().await;
    let imported = ask(&server, "POST /api/definitions", &[], OF_RABBITMQ).await;
    assert_eq!(imported.status, 204, "{}", imported.body);
    let old = authorization_of("old:test12");
    let answer = receive(send(&server, "GET /api/queues/%2F/q2", &[("Authorization", &old)], "").await).await;
    assert_eq!((answer.status, &answer.json()["policy"]), (200, &json!("p1")), "{}", answer.body);
}

#[tokio::test]
async fn what_cannot_be_imported_is_named_and_the_rest_is_there() {
    let server = TestServer::start().await;
    let broken = r#"{"queues": [
        {"name": "good", "vhost": "/", "durable": true, "arguments": {}},
        {"name": "homeless", "vhost": "none", "durable": true},
        {"name": "odd", "vhost": "/", "durable": true, "arguments": {"x-max-length": "many"}}],
        "policies": [{"name": "odd", "vhost": "/", "pattern": "", "definition": {"no-such-key": 1}}]}"#;
    let answer = ask(&server, "POST /api/definitions", &[], broken).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    let reason = answer.json()["reason"].as_str().unwrap().to_owned();
    let named =
        ["policies[0] (name 'odd'", "queues[1] (name 'homeless', vhost 'none')", "queues[2] (name 'odd'"];
    assert!(named.iter().all(|it| reason.contains(it)), "{reason}");
    assert_eq!(names(&get(&server, "/queues").await), ["good"]);
    let steps: &[Step] = &[
        ("POST /api/definitions", "x", 400, "not_json"),
        ("POST /api/definitions", r#"{"queues": 5}"#, 400, "queues: a list is expected"),
        ("POST /api/definitions/none", "{}", 404, "not_found"),
        ("GET /api/definitions/none", "", 404, "Object Not Found"),
    ];
    walk(&server, steps).await;
}

/// What a RabbitMQ with mirrors and federation exports.
const OF_A_CLUSTER: &str = r#"{
  "policies": [
    {"name": "all", "vhost": "/", "pattern": "^q", "definition": {"ha-mode": "all", "ha-sync-mode": "automatic", "message-ttl": 60000}},
    {"name": "ha", "vhost": "/", "pattern": "^h", "definition": {"ha-mode": "exactly", "ha-params": 2}},
    {"name": "fed", "vhost": "/", "pattern": "^f", "definition": {"federation-upstream-set": "all"}},
    {"name": "lazy", "vhost": "/", "pattern": "^l", "definition": {"queue-mode": "lazy"}}],
  "parameters": [
    {"vhost": "/", "component": "federation-upstream", "name": "up", "value": {"uri": "amqp://elsewhere"}},
    {"vhost": "/", "component": "operator_policy", "name": "op", "value": {"pattern": "", "apply-to": "queues", "definition": {"ha-mode": "all", "expires": 9000}}}]
}"#;

#[tokio::test]
async fn what_means_nothing_here_is_left_out_with_a_warning_and_the_rest_of_a_policy_is_taken() {
    let server = TestServer::start().await;
    let imported = ask(&server, "POST /api/definitions", &[], OF_A_CLUSTER).await;
    assert_eq!(imported.status, 200, "{}", imported.body);
    let warnings = imported.json()["warnings"].to_string();
    for named in [
        "policy 'all' in vhost '/': 'ha-mode' is left out: queues have no mirrors",
        "'ha-sync-mode' is left out",
        "'ha-params' is left out, and the policy with it",
        "'federation-upstream-set' is left out, and the policy with it, for it says nothing else: there is no federation",
        "policy 'lazy' in vhost '/': 'queue-mode' is kept: it has no effect here",
        "federation-upstream 'up' in vhost '/': it is kept and does nothing",
        "operator policy 'op' in vhost '/': 'ha-mode' is left out",
    ] {
        assert!(warnings.contains(named), "{named}: {warnings}");
    }
    let policies = get(&server, "/policies?columns=name,definition").await;
    let expected = json!([
        {"name": "all", "definition": {"message-ttl": 60000}}, {"name": "lazy", "definition": {"queue-mode": "lazy"}},
    ]);
    assert_eq!(policies, expected);
    assert_eq!(
        get(&server, "/operator-policies?columns=definition").await,
        json!([{"definition": {"expires": 9000}}])
    );
    let steps: &[Step] = &[(
        "PUT /api/policies/%2F/p",
        r#"{"pattern":"","definition":{"ha-mode":"all"}}"#,
        400,
        "'ha-mode' means nothing here: queues have no mirrors",
    )];
    walk(&server, steps).await;
}
