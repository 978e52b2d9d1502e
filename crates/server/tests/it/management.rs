//! The management API, as RabbitMQ's clients ask it. What a real RabbitMQ answered to the same requests is what the
//! tables here expect, but for the texts of reasons.

use crate::http::*;
use millpond_broker::{NewPassword, Permissions, UserSpec};
use millpond_model::{UserName, VhostName};
use millpond_testkit::{Client, TestServer};
use serde_json::{Value, json};

/// Request, body, status, and a part of the answer.
type Step = (&'static str, &'static str, u16, &'static str);

async fn walk(server: &TestServer, steps: &[Step]) {
    for (line, body, status, part) in steps {
        let answer = ask(server, line, &[], body).await;
        assert_eq!(answer.status, *status, "{line} {body}: {}", answer.body);
        assert!(answer.body.contains(part), "{line} {body}: {}", answer.body);
    }
}

async fn get(server: &TestServer, path: &str) -> Value {
    let answer = ask(server, &format!("GET /api{path}"), &[], "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn queues_and_exchanges_are_declared_shown_and_deleted() {
    let server = TestServer::start().await;
    let steps: &[Step] = &[
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
    walk(&server, steps).await;
    let queue = get(&server, "/queues/%2F/q1").await;
    let expected = json!({
        "name": "q1", "vhost": "/", "type": "classic", "durable": true, "auto_delete": false, "exclusive": false,
        "arguments": {"x-max-length": 5}, "node": queue["node"], "state": "running", "messages": 0,
        "messages_ready": 0, "messages_unacknowledged": 0, "consumers": 0,
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

#[tokio::test]
async fn bindings_are_found_by_their_ends_and_properties_keys() {
    let server = TestServer::start().await;
    let between = "/api/bindings/%2F/e/x1/q/q1";
    let steps: &[Step] = &[
        ("PUT /api/queues/%2F/q1", "{}", 201, ""),
        ("PUT /api/exchanges/%2F/x1", r#"{"type":"topic"}"#, 201, ""),
        ("POST /api/bindings/%2F/e/x1/q/q1", r##"{"routing_key":"a.#","arguments":{}}"##, 201, ""),
        ("POST /api/bindings/%2F/e/x1/q/q1", r##"{"routing_key":"a.#"}"##, 201, ""),
        ("POST /api/bindings/%2F/e/x1/q/q1", r#"{"routing_key":"b","arguments":{"k":1}}"#, 201, ""),
        ("POST /api/bindings/%2F/e/x1/q/q1", r#"{"routing_key":"a b/c~d"}"#, 201, ""),
        ("POST /api/bindings/%2F/e/x1/e/amq.fanout", "{}", 201, ""),
        ("POST /api/bindings/%2F/e/x1/q/none", "{}", 404, "no queue 'none' in vhost '/'"),
        ("POST /api/bindings/%2F/e/none/q/q1", "{}", 404, "no exchange 'none' in vhost '/'"),
        ("POST /api/bindings/%2F/e/x1/z/q1", "{}", 404, "Object Not Found"),
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
    walk(&server, steps).await;
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

#[tokio::test]
async fn messages_are_published_shown_and_purged() {
    let server = TestServer::start().await;
    let publish = "POST /api/exchanges/%2F/amq.default/publish";
    let steps: &[Step] = &[
        ("PUT /api/queues/%2F/q1", "{}", 201, ""),
        (
            publish,
            r#"{"properties":{},"routing_key":"q1","payload":"hello","payload_encoding":"string"}"#,
            200,
            "true",
        ),
        (
            publish,
            r#"{"properties":{"delivery_mode":2,"headers":{"h":1,"t":"x"},"content_type":"text/plain","timestamp":7},
                "routing_key":"q1","payload":"aGVsbG8=","payload_encoding":"base64"}"#,
            200,
            r#"{"routed":true}"#,
        ),
        (
            publish,
            r#"{"properties":{},"routing_key":"zzz","payload":"","payload_encoding":"string"}"#,
            200,
            r#"{"routed":false}"#,
        ),
        (
            publish,
            r#"{"routing_key":"zzz"}"#,
            400,
            "[{key_missing,properties},{key_missing,payload},{key_missing,payload_encoding}]",
        ),
        (
            publish,
            r#"{"properties":{"priority":300},"routing_key":"q1","payload":"","payload_encoding":"string"}"#,
            400,
            "priority",
        ),
        (
            publish,
            r#"{"properties":{"expiration":"x"},"routing_key":"q1","payload":"","payload_encoding":"string"}"#,
            400,
            "expiration",
        ),
        (
            publish,
            r#"{"properties":{"user_id":"x"},"routing_key":"q1","payload":"","payload_encoding":"string"}"#,
            400,
            "user_id",
        ),
        (
            publish,
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
    walk(&server, steps).await;
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
    let steps: &[Step] = &[
        ("DELETE /api/queues/%2F/q1?if-empty=true", "", 400, "not empty"),
        ("DELETE /api/queues/%2F/q1/contents", "", 204, ""),
        ("DELETE /api/queues/%2F/none/contents", "", 404, ""),
        ("DELETE /api/queues/%2F/q1?if-empty=true", "", 204, ""),
    ];
    walk(&server, steps).await;
}

#[tokio::test]
async fn vhosts_users_permissions_limits_and_policies_are_managed() {
    let server = TestServer::start().await;
    let steps: &[Step] = &[
        ("GET /api/whoami", "", 200, r#"{"name":"guest","tags":["administrator"]}"#),
        ("PUT /api/vhosts/v1", r#"{"description":"d","default_queue_type":"quorum"}"#, 201, ""),
        ("PUT /api/vhosts/v1", "", 204, ""),
        ("PUT /api/vhosts/v1", r#"{"default_queue_type":"nope"}"#, 400, "default_queue_type 'nope'"),
        ("GET /api/vhosts/v1", "", 200, r#""default_queue_type":"quorum""#),
        ("GET /api/vhosts/none", "", 404, "Object Not Found"),
        ("GET /api/vhosts/v1/permissions", "", 200, r#""user":"guest""#),
        ("GET /api/vhosts/none/permissions", "", 404, "Object Not Found"),
        ("PUT /api/users/u1", r#"{"password":"p","tags":"management"}"#, 201, ""),
        ("PUT /api/users/u1", r#"{"password":"p","tags":["management"]}"#, 204, ""),
        ("PUT /api/users/u2", r#"{"password_hash":"","tags":""}"#, 201, ""),
        ("PUT /api/users/u3", r#"{"tags":""}"#, 201, ""),
        ("PUT /api/users/u4", r#"{"password":"x"}"#, 400, "tags_not_present"),
        ("PUT /api/users/u5", r#"{"password_hash":"zz","tags":""}"#, 400, "bad_request"),
        ("GET /api/users/none", "", 404, "Object Not Found"),
        ("GET /api/users/u2", "", 200, r#""password_hash":"""#),
        (
            "GET /api/users/without-permissions?columns=name",
            "",
            200,
            r#"[{"name":"u1"},{"name":"u2"},{"name":"u3"}]"#,
        ),
        ("PUT /api/permissions/%2F/u1", r#"{"configure":".*","write":".*","read":".*"}"#, 201, ""),
        ("PUT /api/permissions/%2F/u1", r#"{"configure":".*","write":".*","read":".*"}"#, 204, ""),
        ("PUT /api/permissions/%2F/u1", r#"{"configure":".*","write":"*","read":".*"}"#, 400, "bad_request"),
        ("PUT /api/permissions/%2F/u1", r#"{"configure":".*","write":".*"}"#, 400, "[{key_missing,read}]"),
        (
            "PUT /api/permissions/%2F/none",
            r#"{"configure":".*","write":".*","read":".*"}"#,
            404,
            "no user 'none'",
        ),
        ("GET /api/permissions/%2F/u1", "", 200, r#""configure":".*""#),
        ("GET /api/permissions/v1/u1", "", 404, ""),
        ("GET /api/permissions", "", 200, r#""vhost":"v1""#),
        ("GET /api/users/u1/permissions", "", 200, r#""vhost":"/""#),
        ("DELETE /api/permissions/v1/u1", "", 404, ""),
        (
            "PUT /api/topic-permissions/%2F/u1",
            r#"{"exchange":"amq.topic","write":"^a","read":".*"}"#,
            201,
            "",
        ),
        ("GET /api/topic-permissions/%2F/u1", "", 200, r#""exchange":"amq.topic""#),
        ("GET /api/users/u1/topic-permissions", "", 200, r#""write":"^a""#),
        ("DELETE /api/topic-permissions/%2F/u1", "", 204, ""),
        ("GET /api/topic-permissions/%2F/u1", "", 404, ""),
        (
            "PUT /api/policies/%2F/p1",
            r#"{"pattern":"^q","definition":{"max-length":10},"priority":1,"apply-to":"queues"}"#,
            201,
            "",
        ),
        ("PUT /api/policies/%2F/p1", r#"{"pattern":"^q","definition":{"max-length":10}}"#, 204, ""),
        (
            "PUT /api/policies/%2F/p2",
            r#"{"pattern":"^q","definition":{"nope":10}}"#,
            400,
            "'nope' is not a policy key",
        ),
        ("PUT /api/policies/%2F/p2", r#"{"pattern":"^q"}"#, 400, "[{key_missing,definition}]"),
        ("PUT /api/policies/none/p2", r#"{"pattern":"^q","definition":{"max-length":10}}"#, 404, ""),
        (
            "GET /api/policies/%2F/p1",
            "",
            200,
            r#"{"apply-to":"all","definition":{"max-length":10},"name":"p1","pattern":"^q","priority":0,"vhost":"/"}"#,
        ),
        ("GET /api/policies/%2F/none", "", 404, "Object Not Found"),
        ("DELETE /api/policies/%2F/none", "", 404, ""),
        (
            "PUT /api/operator-policies/%2F/o1",
            r#"{"pattern":"^q","definition":{"max-length":7},"apply-to":"queues"}"#,
            201,
            "",
        ),
        ("PUT /api/queues/%2F/q1", "{}", 201, ""),
        ("GET /api/queues/%2F/q1", "", 200, r#""effective_policy_definition":{"max-length":7}"#),
        ("GET /api/parameters", "", 200, r#""component":"operator_policy""#),
        ("DELETE /api/operator-policies/%2F/o1", "", 204, ""),
        ("GET /api/queues/%2F/q1", "", 200, r#""effective_policy_definition":{"max-length":10}"#),
        ("PUT /api/vhost-limits/v1/max-queues", r#"{"value":5}"#, 204, ""),
        ("PUT /api/vhost-limits/v1/nope", r#"{"value":5}"#, 400, "'nope'"),
        ("GET /api/vhost-limits", "", 200, r#"[{"value":{"max-queues":5},"vhost":"v1"}]"#),
        ("GET /api/parameters/vhost-limits", "", 200, r#""value":{"max-queues":5}"#),
        ("DELETE /api/vhost-limits/v1/max-queues", "", 204, ""),
        ("GET /api/vhost-limits/v1", "", 200, "[]"),
        ("PUT /api/user-limits/u1/max-channels", r#"{"value":5}"#, 204, ""),
        ("GET /api/user-limits/u1", "", 200, r#"[{"user":"u1","value":{"max-channels":5}}]"#),
        ("DELETE /api/user-limits/u1/max-channels", "", 204, ""),
        ("POST /api/users/bulk-delete", r#"{"users":["u1","none"]}"#, 400, "no user 'none'"),
        ("POST /api/users/bulk-delete", r#"{"users":["u1","u2"]}"#, 204, ""),
        ("DELETE /api/users/u3", "", 204, ""),
        ("DELETE /api/users/u3", "", 404, ""),
        ("DELETE /api/vhosts/v1", "", 204, ""),
        ("DELETE /api/vhosts/v1", "", 404, ""),
        ("DELETE /api/vhosts/%2F", "", 400, "cannot be deleted"),
    ];
    walk(&server, steps).await;
    let hash = get(&server, "/auth/hash_password/secret").await["ok"].as_str().unwrap().to_owned();
    let user = json!({"password_hash": hash, "tags": "administrator"}).to_string();
    assert_eq!(ask(&server, "PUT /api/users/hashed", &[], &user).await.status, 201);
    let known = authorization_of("hashed:secret");
    let answer = receive(send(&server, "GET /api/whoami", &[("Authorization", &known)], "").await).await;
    assert_eq!(answer.json()["name"], "hashed");
}

#[tokio::test]
async fn the_node_tells_of_itself_and_its_health() {
    let server = TestServer::start().await;
    let amqp = server.amqp().port();
    let steps: &[Step] = &[
        (
            "GET /api/overview?columns=product_name,queue_totals.messages",
            "",
            200,
            r#"{"product_name":"Millpond","queue_totals":{"messages":0}}"#,
        ),
        ("GET /api/nodes?columns=type,running", "", 200, r#"[{"running":true,"type":"disc"}]"#),
        ("GET /api/nodes/nope", "", 404, ""),
        ("GET /api/cluster-name", "", 200, r#"{"name":"millpond"}"#),
        ("PUT /api/cluster-name", r#"{"name":"x"}"#, 400, "cannot be changed"),
        ("GET /api/extensions", "", 200, "[]"),
        ("GET /api/feature-flags", "", 200, "[]"),
        ("GET /api/deprecated-features", "", 200, "[]"),
        ("GET /api/global-parameters/cluster_name", "", 200, r#""value":"millpond""#),
        ("GET /api/aliveness-test/%2F", "", 200, r#"{"status":"ok"}"#),
        ("GET /api/aliveness-test/none", "", 404, ""),
        ("GET /api/healthchecks/node", "", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/alarms", "", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/local-alarms", "", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/virtual-hosts", "", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/port-listener/1", "", 503, r#""missing":1"#),
        ("GET /api/health/checks/protocol-listener/amqp", "", 200, r#""protocol":"amqp""#),
        ("GET /api/health/checks/protocol-listener/mqtt", "", 503, r#""missing":"mqtt""#),
        ("GET /api/health/checks/certificate-expiration/1/weeks", "", 200, r#"{"status":"ok"}"#),
        ("GET /api/health/checks/certificate-expiration/1/eons", "", 400, "eons"),
        ("GET /api/health/checks/node-is-quorum-critical", "", 200, "single node cluster"),
        ("GET /api/health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/.*", "", 200, "ok"),
        ("GET /api/health/checks/is-in-service", "", 200, "ok"),
        ("GET /api/health/checks/below-node-connection-limit", "", 200, r#""current":0"#),
        ("GET /api/health/checks/nope", "", 404, "Object Not Found"),
    ];
    walk(&server, steps).await;
    assert_eq!(get(&server, &format!("/health/checks/port-listener/{amqp}")).await["port"], amqp);
    let node = get(&server, "/nodes").await[0].clone();
    assert_eq!(
        get(&server, &format!("/nodes/{}", node["name"].as_str().unwrap())).await["name"],
        node["name"]
    );
    assert!(node["mem_used"].as_u64().unwrap() > 1 << 20 && node["fd_used"].as_u64().unwrap() > 3, "{node}");
}

#[tokio::test]
async fn lists_have_pages_filters_order_and_columns() {
    let server = TestServer::start().await;
    for name in ["q2", "QBig", "q1", "other"] {
        let answer = ask(&server, &format!("PUT /api/queues/%2F/{name}"), &[], "{}").await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    let steps: &[Step] = &[
        ("PUT /api/vhosts/a", "", 201, ""),
        ("PUT /api/vhosts/z", "", 201, ""),
        ("PUT /api/queues/z/last", r#"{"durable":true}"#, 201, ""),
        (
            "GET /api/queues?page=1&page_size=2&columns=name",
            "",
            200,
            r#"{"filtered_count":5,"item_count":2,"items":[{"name":"QBig"},{"name":"other"}],"page":1,"page_count":3,"page_size":2,"total_count":5}"#,
        ),
        (
            "GET /api/queues?page=2&page_size=2&columns=name",
            "",
            200,
            r#""items":[{"name":"q1"},{"name":"q2"}]"#,
        ),
        ("GET /api/queues?page=3&page_size=2&columns=name", "", 200, r#""items":[{"name":"last"}]"#),
        ("GET /api/queues?page=9&page_size=2", "", 400, "page_out_of_range"),
        ("GET /api/queues?page=0&page_size=2", "", 400, "invalid_pagination_parameters"),
        ("GET /api/queues?page=1&page_size=501", "", 400, "invalid_pagination_parameters"),
        ("GET /api/queues?page=x", "", 400, "Pagination parameters are invalid"),
        ("GET /api/queues?page=1&name=q%5B&use_regex=true", "", 400, "bad_request"),
        (
            "GET /api/queues?page=1&name=qb&columns=name",
            "",
            200,
            r#""filtered_count":1,"item_count":1,"items":[{"name":"QBig"}]"#,
        ),
        (
            "GET /api/queues?page=1&name=%5Eq%5B0-9%5D&use_regex=true&columns=name",
            "",
            200,
            r#""filtered_count":2"#,
        ),
        (
            "GET /api/queues?page=1&name=none&columns=name",
            "",
            200,
            r#""filtered_count":0,"item_count":0,"items":[],"page":1,"page_count":1"#,
        ),
        (
            "GET /api/queues/%2F?sort=name&sort_reverse=true&columns=name",
            "",
            200,
            r#"[{"name":"q2"},{"name":"q1"},{"name":"other"},{"name":"QBig"}]"#,
        ),
        (
            "GET /api/queues/%2F?page=1&page_size=1&sort=name&sort_reverse=true&columns=name",
            "",
            200,
            r#""items":[{"name":"q2"}]"#,
        ),
        (
            "GET /api/queues/%2F?page=2&page_size=1&sort=name&columns=name",
            "",
            200,
            r#""items":[{"name":"other"}]"#,
        ),
        (
            "POST /api/exchanges/%2F/amq.default/publish",
            r#"{"properties":{},"routing_key":"q1","payload":"x","payload_encoding":"string"}"#,
            200,
            "true",
        ),
        (
            "GET /api/queues?page=1&page_size=1&sort=messages&sort_reverse=true&columns=name,messages",
            "",
            200,
            r#""items":[{"messages":1,"name":"q1"}]"#,
        ),
        ("GET /api/exchanges?page=1&page_size=1&name=x&columns=name", "", 200, r#""filtered_count":0"#),
        (
            "GET /api/exchanges/%2F?page=1&name=TOPIC&columns=name",
            "",
            200,
            r#""items":[{"name":"amq.topic"}]"#,
        ),
    ];
    walk(&server, steps).await;
}

#[tokio::test]
async fn connections_channels_and_consumers_are_shown_and_closed() {
    let server = TestServer::start().await;
    assert_eq!(get(&server, "/connections").await, json!([]));
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.open_channel(7).await;
    client.declare_queue(1, "q", true).await;
    client.consume(1, "q", "tag", false).await;
    let connections = get(&server, "/connections").await;
    let connection = &connections[0];
    assert_eq!((&connection["user"], &connection["channels"]), (&json!("guest"), &json!(2)), "{connections}");
    assert_eq!(
        (&connection["peer_host"], &connection["port"]),
        (&json!("127.0.0.1"), &json!(server.amqp().port()))
    );
    let name = connection["name"].as_str().unwrap().to_owned();
    let path = format!("/connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
    assert_eq!(get(&server, &path).await["name"], *name);
    let channels = get(&server, "/channels").await;
    assert_eq!(names(&channels), [format!("{name} (1)"), format!("{name} (7)")]);
    assert_eq!(get(&server, &format!("{path}/channels")).await, channels);
    assert_eq!(get(&server, "/vhosts/%2F/connections").await, connections);
    let consumers = get(&server, "/consumers/%2F").await;
    let consumer = &consumers[0];
    assert_eq!(consumer["queue"], json!({"name": "q", "vhost": "/"}), "{consumers}");
    assert_eq!((&consumer["consumer_tag"], &consumer["ack_required"]), (&json!("tag"), &json!(true)));
    assert_eq!(consumer["channel_details"]["connection_name"], *name);
    assert_eq!(get(&server, "/queues/%2F/q").await["consumer_details"], consumers);
    assert_eq!(get(&server, "/overview").await["object_totals"]["channels"], 2);
    let closed = ask(&server, &format!("DELETE /api{path}"), &[("X-Reason", "enough")], "").await;
    assert_eq!(closed.status, 204, "{}", closed.body);
    let told = client.expect_close(320).await;
    assert!(told.contains("enough"), "{told}");
    assert_eq!(ask(&server, "DELETE /api/connections/none", &[], "").await.status, 404);
}

async fn add(server: &TestServer, name: &str, tag: &str, permitted: bool) {
    let user = UserName::new(name).unwrap();
    let spec = UserSpec {
        name: user.clone(),
        password: NewPassword::Plain(b"p".as_slice().into()),
        tags: Some([tag].iter().filter(|tag| !tag.is_empty()).map(|tag| (*tag).into()).collect()),
    };
    server.broker().set_user(&spec).unwrap().1.await.unwrap();
    if permitted {
        let permissions = Permissions { configure: "^own".into(), write: "^own".into(), read: ".*".into() };
        let vhost = VhostName::new("/").unwrap();
        server.broker().set_permissions(&user, &vhost, permissions).unwrap().await.unwrap();
    }
}

/// Kinds of users: an administrator without permissions, a monitor, somebody who makes policies, somebody who manages,
/// and somebody without tags; the latter three with permissions in `/`.
const USERS: [&str; 5] = ["admin", "monitor", "policies", "manager", "nobody"];

type Allowed = (&'static str, &'static str, [u16; 5]);

const ALLOWED: &[Allowed] = &[
    ("GET /api/whoami", "", [200, 200, 200, 200, 401]),
    ("GET /api/overview", "", [200, 200, 200, 200, 401]),
    ("GET /api/nodes", "", [200, 200, 401, 401, 401]),
    ("GET /api/users", "", [200, 401, 401, 401, 401]),
    ("GET /api/users/manager/permissions", "", [200, 401, 401, 200, 401]),
    ("GET /api/permissions", "", [200, 401, 401, 401, 401]),
    ("GET /api/vhosts/%2F", "", [200, 200, 200, 200, 401]),
    ("GET /api/vhosts/other", "", [200, 200, 401, 401, 401]),
    ("GET /api/queues/other", "", [200, 200, 401, 401, 401]),
    ("PUT /api/vhosts/new", "", [201, 401, 401, 401, 401]),
    ("GET /api/vhosts/new/permissions?columns=user", "", [200, 401, 401, 401, 401]),
    ("PUT /api/queues/new/q", "{}", [201, 401, 401, 401, 401]),
    ("PUT /api/users/new", r#"{"tags":""}"#, [201, 401, 401, 401, 401]),
    ("PUT /api/permissions/%2F/new", r#"{"configure":"","write":"","read":""}"#, [201, 401, 401, 401, 401]),
    (
        "PUT /api/policies/%2F/p",
        r#"{"pattern":"^none","definition":{"max-length":1}}"#,
        [201, 401, 204, 401, 401],
    ),
    (
        "PUT /api/policies/other/p",
        r#"{"pattern":"^none","definition":{"max-length":1}}"#,
        [201, 401, 401, 401, 401],
    ),
    (
        "PUT /api/operator-policies/%2F/p",
        r#"{"pattern":"^none","definition":{"max-length":1}}"#,
        [201, 401, 401, 401, 401],
    ),
    ("PUT /api/vhost-limits/%2F/max-queues", r#"{"value":100}"#, [204, 401, 401, 401, 401]),
    ("PUT /api/queues/%2F/own", "{}", [401, 401, 201, 204, 401]),
    ("PUT /api/queues/%2F/theirs", "{}", [401, 401, 401, 401, 401]),
    ("POST /api/bindings/%2F/e/amq.direct/q/own", r#"{"routing_key":"k"}"#, [401, 401, 201, 201, 401]),
    (
        "POST /api/exchanges/%2F/amq.direct/publish",
        r#"{"properties":{},"routing_key":"k","payload":"","payload_encoding":"string"}"#,
        [401, 401, 401, 401, 401],
    ),
    (
        "POST /api/queues/%2F/own/get",
        r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#,
        [401, 401, 200, 200, 401],
    ),
    ("DELETE /api/queues/%2F/own/contents", "", [401, 401, 204, 204, 401]),
    ("DELETE /api/queues/%2F/own", "", [401, 401, 204, 404, 401]),
    ("GET /api/definitions", "", [200, 401, 401, 401, 401]),
    ("POST /api/definitions", "{}", [204, 401, 401, 401, 401]),
    ("GET /api/health/checks/alarms", "", [200, 200, 200, 200, 401]),
];

#[tokio::test]
async fn every_kind_of_user_may_what_its_tags_and_permissions_say() {
    let server = TestServer::start().await;
    let steps: &[Step] = &[("PUT /api/vhosts/other", "", 201, "")];
    walk(&server, steps).await;
    let tags = ["administrator", "monitoring", "policymaker", "management", ""];
    for (name, tag) in USERS.iter().zip(tags) {
        add(&server, name, tag, !matches!(tag, "administrator" | "monitoring")).await;
    }
    for (line, body, statuses) in ALLOWED {
        for (name, status) in USERS.iter().zip(statuses) {
            let authorization = authorization_of(&format!("{name}:p"));
            let answer = receive(send(&server, line, &[("Authorization", &authorization)], body).await).await;
            assert_eq!(answer.status, *status, "{name}: {line}: {}", answer.body);
            if *status == 401 {
                assert_eq!(answer.json()["error"], "not_authorised", "{name}: {line}");
            }
        }
    }
    let seen = |name: &str| {
        let authorization = authorization_of(&format!("{name}:p"));
        let server = &server;
        async move {
            let asked = send(server, "GET /api/vhosts", &[("Authorization", &authorization)], "").await;
            receive(asked).await.json()
        }
    };
    assert_eq!(names(&seen("manager").await), ["/"]);
    assert_eq!(names(&seen("monitor").await), ["/", "new", "other"]);
    let wrong = authorization_of("manager:wrong");
    let answer = receive(send(&server, "GET /api/whoami", &[("Authorization", &wrong)], "").await).await;
    assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("not_authorized")));
    assert!(answer.header("www-authenticate").is_some());
}

/// Without what differs between two brokers.
fn comparable(mut definitions: Value) -> Value {
    let users = definitions["users"].as_array_mut().unwrap();
    users.retain(|user| user["name"] != "guest");
    definitions
}

#[tokio::test]
async fn definitions_are_exported_and_imported_into_another_broker() {
    let first = TestServer::start().await;
    let steps: &[Step] = &[
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
    walk(&first, steps).await;
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
        "policies": [{"name": "ha", "vhost": "/", "pattern": "", "definition": {"ha-mode": "all"}}]}"#;
    let answer = ask(&server, "POST /api/definitions", &[], broken).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    let reason = answer.json()["reason"].as_str().unwrap().to_owned();
    let named =
        ["policies[0] (name 'ha'", "queues[1] (name 'homeless', vhost 'none')", "queues[2] (name 'odd'"];
    assert!(named.iter().all(|it| reason.contains(it)), "{reason}");
    assert_eq!(names(&get(&server, "/queues").await), ["good"]);
    let steps: &[Step] = &[
        ("POST /api/definitions", "x", 400, "not_json"),
        ("POST /api/definitions", r#"{"queues": 5}"#, 400, "queues: a list is expected"),
        ("POST /api/definitions/none", "{}", 404, "Object Not Found"),
        ("GET /api/definitions/none", "", 404, "Object Not Found"),
    ];
    walk(&server, steps).await;
}
