//! The node, its health, and who is connected.

use super::*;
use millpond_testkit::Client;
use serde_json::json;

const NODE: &[Step] = &[
    (
        "GET /api/overview?columns=product_name,queue_totals.messages",
        "",
        200,
        r#"{"product_name":"Millpond","queue_totals":{"messages":0}}"#,
    ),
    ("GET /api/nodes?columns=type,running", "", 200, r#"[{"running":true,"type":"disc"}]"#),
    ("GET /api/nodes/nope", "", 404, ""),
    ("GET /api/cluster-name", "", 200, r#"{"name":"millpond"}"#),
    ("PUT /api/cluster-name", r#"{"name":""}"#, 400, "cluster_name"),
    ("GET /api/extensions", "", 200, "[]"),
    ("GET /api/feature-flags", "", 200, "quorum_queue"),
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

#[tokio::test]
async fn the_node_tells_of_itself_and_its_health() {
    let server = TestServer::start().await;
    let amqp = server.amqp().port();
    walk(&server, NODE).await;
    assert_eq!(get(&server, &format!("/health/checks/port-listener/{amqp}")).await["port"], amqp);
    let node = get(&server, "/nodes").await[0].clone();
    assert_eq!(
        get(&server, &format!("/nodes/{}", node["name"].as_str().unwrap())).await["name"],
        node["name"]
    );
    assert!(node["mem_used"].as_u64().unwrap() > 1 << 20 && node["fd_used"].as_u64().unwrap() > 3, "{node}");
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
    // What is counted goes on between two looks.
    assert_eq!(names(&get(&server, &format!("{path}/channels")).await), names(&channels));
    assert_eq!(names(&get(&server, "/vhosts/%2F/connections").await), [&name]);
    let consumers = get(&server, "/consumers/%2F").await;
    let consumer = &consumers[0];
    assert_eq!(consumer["queue"], json!({"name": "q", "vhost": "/"}), "{consumers}");
    assert_eq!((&consumer["consumer_tag"], &consumer["ack_required"]), (&json!("tag"), &json!(true)));
    let details = &consumer["channel_details"];
    assert_eq!((&details["connection_name"], &details["number"]), (&json!(name), &json!(1)));
    assert_eq!(details["name"], channels[0]["name"]);
    assert_eq!((&consumer["rate_promised"], &consumer["lease_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(get(&server, "/queues/%2F/q").await["consumer_details"], consumers);
    assert_eq!(get(&server, "/overview").await["object_totals"]["channels"], 2);
    let closed = ask(&server, &format!("DELETE /api{path}"), &[("X-Reason", "enough")], "").await;
    assert_eq!(closed.status, 204, "{}", closed.body);
    let told = client.expect_close(320).await;
    assert!(told.contains("enough"), "{told}");
    assert_eq!(ask(&server, "DELETE /api/connections/none", &[], "").await.status, 404);
}

#[tokio::test]
async fn metrics_are_told_to_anybody_and_name_no_queue() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "secret", true).await;
    client.publish_to(1, "secret", b"x").await;
    client.consume(1, "secret", "tag", false).await;
    client.expect_delivery().await;
    let answer = receive(send(&server, "GET /metrics", &[], "").await).await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "rabbitmq_queues 1",
        "rabbitmq_queue_messages 1",
        "rabbitmq_queue_messages_ready 0",
        "rabbitmq_queue_messages_unacked 1",
        "rabbitmq_connections 1",
        "rabbitmq_channels 1",
        "rabbitmq_consumers 1",
        "# TYPE rabbitmq_queues gauge",
        "rabbitmq_alarms_memory_used_watermark 0",
        "rabbitmq_connections_opened_total 1",
        "rabbitmq_queues_created_total 1",
        "# TYPE rabbitmq_global_messages_received_total counter",
        "rabbitmq_global_messages_received_total{protocol=\"amqp091\"} 1",
        "rabbitmq_channel_messages_published_total 1",
        "rabbitmq_channel_messages_delivered_ack_total 1",
        "rabbitmq_channel_messages_unacked 1",
        "rabbitmq_queue_messages_published_total 1",
        "millpond_store_writable 1",
        "# TYPE millpond_store_syncs_total counter",
        "rabbitmq_global_publishers{protocol=\"amqp091\"} 1",
    ] {
        assert!(answer.body.lines().any(|it| it == line), "{line}: {}", answer.body);
    }
    assert!(answer.body.contains("rabbitmq_identity_info{rabbitmq_node=\"millpond@"), "{}", answer.body);
    assert!(answer.body.contains(",rabbitmq_endpoint=\"aggregated\"} 1\n"), "{}", answer.body);
    assert!(!answer.body.contains("secret"), "{}", answer.body);
    client.close().await;
}

#[tokio::test]
async fn parameters_of_any_component_and_of_the_node_are_kept_and_exported() {
    let server = TestServer::start().await;
    let steps: &[Step] = &[
        ("PUT /api/parameters/shovel/%2F/s", r#"{"value": {"src-uri": "amqp://"}}"#, 201, ""),
        ("PUT /api/parameters/shovel/%2F/s", r#"{"value": {"src-uri": "amqp://a"}}"#, 204, ""),
        ("GET /api/parameters/shovel/%2F/s", "", 200, r#""src-uri":"amqp://a""#),
        ("GET /api/parameters/shovel/none", "", 404, "Object Not Found"),
        ("PUT /api/parameters/shovel/none/s", r#"{"value": 1}"#, 404, "not_found"),
        ("PUT /api/global-parameters/owner", r#"{"value": ["a", 1]}"#, 201, ""),
        ("GET /api/global-parameters", "", 200, "owner"),
        ("PUT /api/cluster-name", "{}", 400, "key_missing"),
        ("PUT /api/cluster-name", r#"{"name": "pond"}"#, 204, ""),
        ("GET /api/overview", "", 200, r#""cluster_name":"pond""#),
        ("GET /api/definitions", "", 200, r#"{"name":"owner","value":["a",1]}"#),
        ("DELETE /api/global-parameters/owner", "", 204, ""),
        ("DELETE /api/global-parameters/owner", "", 404, "Object Not Found"),
        ("DELETE /api/parameters/shovel/%2F/s", "", 204, ""),
        ("DELETE /api/parameters/shovel/%2F/s", "", 404, "Object Not Found"),
        (
            "POST /api/definitions",
            r#"{"global_parameters": [{"name": "n", "value": 1}], "parameters": [{"vhost": "/", "component": "c", "name": "p", "value": null}]}"#,
            400,
            "key_missing,value",
        ),
        ("GET /api/global-parameters/n", "", 200, r#""value":1"#),
    ];
    walk(&server, steps).await;
}

#[tokio::test]
async fn refusals_are_json_and_a_slash_at_the_end_of_a_path_changes_nothing() {
    let server = TestServer::start().await;
    let steps: &[Step] = &[
        ("GET /api/users/", "", 200, "guest"),
        ("GET /api/queues/%2F/?page=1", "", 200, "filtered_count"),
        ("GET /api/none/", "", 404, "Object Not Found"),
        ("GET /api/queues/%FF", "", 400, r#""error":"bad_request""#),
        ("GET /api/health/checks/port-listener/x", "", 400, "Invalid port"),
        ("GET /api/healthchecks/node/other", "", 404, "Object Not Found"),
        ("PUT /api/permissions/none/guest", r#"{"configure":"","write":"","read":""}"#, 400, "no vhost"),
        ("POST /api/vhosts/none/deletion/protection", "", 404, "not_found"),
        ("PUT /api/vhosts/v", r#"{"tags": "a,b"}"#, 201, ""),
        ("POST /api/vhosts/v/deletion/protection", "", 204, ""),
        ("GET /api/vhosts/v", "", 200, r#""protected_from_deletion":true,"tags":["a","b"]"#),
        ("DELETE /api/vhosts/v", "", 412, "precondition_failed"),
        ("DELETE /api/vhosts/v/deletion/protection", "", 204, ""),
        ("DELETE /api/vhosts/v", "", 204, ""),
        ("PUT /api/feature-flags/stream_queue/enable", "{}", 204, ""),
        ("PUT /api/feature-flags/none/enable", "{}", 400, "unsupported"),
        ("DELETE /api/reset", "", 204, ""),
    ];
    walk(&server, steps).await;
}

#[tokio::test]
async fn metrics_by_object_are_told_to_those_who_may_see_them() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "orders", true).await;
    client.publish_to(1, "orders", b"x").await;
    client.consume(1, "orders", "tag", false).await;
    client.expect_delivery().await;
    let nobody = receive(send(&server, "GET /metrics/per-object", &[], "").await).await;
    assert_eq!(nobody.status, 401);
    walk(&server, &[("PUT /api/users/eve", r#"{"password": "x", "tags": "management"}"#, 201, "")]).await;
    let eve = authorization_of("eve:x");
    let request = send(&server, "GET /metrics/detailed?family=x", &[("Authorization", &eve)], "").await;
    assert_eq!(receive(request).await.status, 403);
    let all = ask(&server, "GET /metrics/per-object", &[], "").await;
    assert_eq!(all.status, 200, "{}", all.body);
    for line in [
        "rabbitmq_queue_messages_unacked{vhost=\"/\",queue=\"orders\"} 1",
        "rabbitmq_queue_messages_published_total{vhost=\"/\",queue=\"orders\"} 1",
        "rabbitmq_exchange_messages_published_total{vhost=\"/\",exchange=\"\"} 1",
        "# TYPE rabbitmq_channel_messages_published_total counter",
    ] {
        assert!(all.body.lines().any(|it| it == line), "{line}: {}", all.body);
    }
    assert!(all.body.contains("rabbitmq_connection_incoming_bytes_total{connection=\"127.0.0.1:"));
    let some = "GET /metrics/detailed?family=queue_coarse_metrics&vhost=%2F&queue=orders";
    let some = ask(&server, some, &[], "").await.body;
    let line = "rabbitmq_detailed_queue_messages{vhost=\"/\",queue=\"orders\"} 1";
    assert!(some.lines().any(|it| it == line), "{some}");
    assert!(!some.contains("channel") && !some.contains("consumers"), "{some}");
    let other = "GET /metrics/detailed?family=queue_coarse_metrics&vhost=other";
    assert!(!ask(&server, other, &[], "").await.body.contains("orders"));
    assert_eq!(ask(&server, "GET /metrics/detailed", &[], "").await.body, "");
    client.close().await;
}
