//! Queues paused and emptied into others, consumers changed and ended, over HTTP.

use super::*;
use millpond_amqp_codec::basic;
use millpond_testkit::{Client, Event};
use serde_json::json;

async fn consumer(server: &TestServer) -> Client {
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q", true).await;
    client.send(1, basic::Qos { prefetch_count: 1, ..Default::default() }).await;
    client.expect("basic.qos-ok").await;
    client.consume(1, "q", "c", false).await;
    client
}

async fn publish(server: &TestServer, key: &str, body: &str) {
    let body = json!({
        "properties": {"headers": {"colour": format!("{body} red")}, "message_id": format!("id-{body}")},
        "routing_key": key, "payload": body, "payload_encoding": "string",
    });
    let line = "POST /api/exchanges/%2F/amq.default/publish";
    assert_eq!(ask(server, line, &[], &body.to_string()).await.status, 200);
}

async fn connection(server: &TestServer) -> String {
    let list = get(server, "/connections").await;
    list[0]["name"].as_str().unwrap().replace(' ', "%20").replace('>', "%3E")
}

#[tokio::test]
async fn a_queue_is_paused_and_goes_on() {
    let server = TestServer::start().await;
    let mut client = consumer(&server).await;
    walk(
        &server,
        &[("PUT /api/queues/%2F/q/pause", "", 204, ""), ("PUT /api/queues/%2F/none/pause", "", 404, "")],
    )
    .await;
    let shown = get(&server, "/queues/%2F/q").await;
    assert_eq!((&shown["paused"], &shown["state"]), (&json!(true), &json!("paused")));
    publish(&server, "q", "one").await;
    client.send(1, basic::Get { queue: "q", ..Default::default() }).await;
    client.expect("basic.get-empty").await;
    let got = ask(
        &server,
        "POST /api/queues/%2F/q/get",
        &[],
        r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#,
    );
    assert_eq!(got.await.json(), json!([]));
    assert_eq!(get(&server, "/queues/%2F/q/messages").await["messages"][0]["payload"], "one");
    walk(&server, &[("PUT /api/queues/%2F/q/resume", "", 204, "")]).await;
    assert_eq!(client.expect_delivery().await.2, b"one");
    assert_eq!(get(&server, "/queues/%2F/q").await["state"], "running");
    let actions = "POST /api/queues/%2F/q/actions";
    walk(
        &server,
        &[(actions, r#"{"action":"sync"}"#, 204, ""), (actions, r#"{"action":"melt"}"#, 400, "melt")],
    )
    .await;
}

#[tokio::test]
async fn consumers_are_changed_paused_and_ended() {
    let server = TestServer::start().await;
    let mut client = consumer(&server).await;
    let name = connection(&server).await;
    for body in ["1", "2", "3"] {
        publish(&server, "q", body).await;
    }
    assert_eq!(client.expect_delivery().await.2, b"1");
    let line = format!("PUT /api/consumers/%2F/{name}/1/c");
    let change = |body: &'static str| ask(&server, &line, &[], body);
    assert_eq!(change(r#"{"prefetch": 2}"#).await.status, 204);
    assert_eq!(client.expect_delivery().await.2, b"2");
    assert_eq!(get(&server, "/consumers/%2F").await[0]["prefetch_count"], 2);
    assert_eq!(
        change(r#"{"paused": true, "rate": 100, "rate_window_ms": 500, "lease_ms": 60000}"#).await.status,
        204
    );
    let shown = &get(&server, "/consumers/%2F").await[0];
    assert_eq!((&shown["paused"], &shown["rate_promised"]), (&json!(true), &json!(100.0)));
    client.send(1, basic::Ack { delivery_tag: 2, multiple: true }).await;
    client.send(1, basic::Get { queue: "q", ..Default::default() }).await;
    match client.event().await {
        Event::Got { content, .. } => assert_eq!(content.body, b"3"),
        other => panic!("{other:?}"),
    }
    assert_eq!(change(r#"{"paused": false, "rate": null}"#).await.status, 204);
    let shown = &get(&server, "/consumers/%2F").await[0];
    assert_eq!((&shown["paused"], &shown["rate_promised"]), (&json!(false), &json!(null)));
    for body in ["{}", r#"{"prefetch": -1}"#, r#"{"prefetch": 70000}"#, r#"{"rate": "x"}"#, r#"{"rate": 0}"#]
    {
        assert_eq!(change(body).await.status, 400, "{body}");
    }
    let channel = format!("PUT /api/channels/{name}%20(1)");
    assert_eq!(ask(&server, &channel, &[], r#"{"prefetch": 7}"#).await.status, 204);
    assert_eq!(get(&server, "/consumers/%2F").await[0]["prefetch_count"], 7);
    assert_eq!(ask(&server, "PUT /api/channels/none", &[], r#"{"prefetch": 7}"#).await.status, 404);
    let end = line.replace("PUT", "DELETE");
    assert_eq!(ask(&server, &end, &[], "").await.status, 204);
    assert!(client.expect("basic.cancel").await.contains("\"c\""));
    assert_eq!(get(&server, "/consumers/%2F").await, json!([]));
    assert_eq!(ask(&server, &end, &[], "").await.status, 404);
    // The tag is free again.
    client.consume(1, "q", "c", false).await;
}

#[tokio::test]
async fn a_move_to_a_topic_exchange_takes_the_keys_that_its_user_may_publish_with() {
    let server = TestServer::start().await;
    walk(
        &server,
        &[
            ("PUT /api/users/eve", r#"{"password": "pw", "tags": "management"}"#, 201, ""),
            ("PUT /api/permissions/%2F/eve", r#"{"configure": "", "write": ".*", "read": ".*"}"#, 201, ""),
            (
                "PUT /api/topic-permissions/%2F/eve",
                r#"{"exchange": "amq.topic", "write": "^a[.]", "read": ""}"#,
                201,
                "",
            ),
            ("PUT /api/queues/%2F/q", "{}", 201, ""),
            ("PUT /api/queues/%2F/to", "{}", 201, ""),
            ("POST /api/bindings/%2F/e/amq.topic/q/to", r##"{"routing_key": "#"}"##, 201, ""),
            ("POST /api/bindings/%2F/e/amq.direct/q/q", r#"{"routing_key": "a.1"}"#, 201, ""),
            ("POST /api/bindings/%2F/e/amq.direct/q/q", r#"{"routing_key": "b.1"}"#, 201, ""),
        ],
    )
    .await;
    for (key, headers) in [("a.1", json!({})), ("a.1", json!({"CC": ["b.2"]})), ("b.1", json!({}))] {
        let body = json!({
            "properties": {"headers": headers}, "routing_key": key, "payload": "x", "payload_encoding": "string",
        });
        let line = "POST /api/exchanges/%2F/amq.direct/publish";
        assert_eq!(ask(&server, line, &[], &body.to_string()).await.status, 200);
    }
    let eve = authorization_of("eve:pw");
    let line = "POST /api/queues/%2F/q/move";
    let moved = |body: Value| {
        let (server, eve) = (&server, &eve);
        async move {
            let sent = send(server, line, &[("authorization", eve)], &body.to_string()).await;
            receive(sent).await.json()
        }
    };
    let report = moved(json!({"to": {"exchange": "amq.topic"}})).await;
    assert_eq!((&report["moved"], &report["looked_at"]), (&json!(1), &json!(3)), "{report}");
    assert!(report["stayed"].to_string().contains("topic 'b.2' in exchange 'amq.topic'"), "{report}");
    let report = moved(json!({"to": {"exchange": "amq.topic", "routing_key": "a.9"}, "limit": 5})).await;
    assert_eq!(report["moved"], json!(1), "a copy's key counts too: {report}");
    assert_eq!(get(&server, "/queues/%2F/q").await["messages"], json!(1));
}

#[tokio::test]
async fn messages_are_browsed_searched_and_moved() {
    let server = TestServer::start().await;
    walk(&server, &[("PUT /api/queues/%2F/q", "{}", 201, ""), ("PUT /api/queues/%2F/to", "{}", 201, "")])
        .await;
    for body in ["one", "two", "three"] {
        publish(&server, "q", body).await;
    }
    let payloads = |list: &Value| -> Vec<String> {
        list["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["payload"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = get(&server, "/queues/%2F/q/messages").await;
    assert_eq!(
        (payloads(&all), &all["next"]),
        (vec!["one".into(), "two".into(), "three".into()], &json!(null))
    );
    let first = &all["messages"][0];
    assert_eq!(
        (&first["state"], &first["redelivered"], &first["properties"]["message_id"]),
        (&json!("ready"), &json!(false), &json!("id-one"))
    );
    let page = get(&server, "/queues/%2F/q/messages?count=2&truncate=2").await;
    assert_eq!(payloads(&page), ["on", "tw"]);
    let rest = get(&server, &format!("/queues/%2F/q/messages?from={}", page["next"])).await;
    assert_eq!(payloads(&rest), ["three"]);
    for (search, found) in [("t", 2), ("two+red", 1), ("id-", 3), ("nothing", 0)] {
        let list = get(&server, &format!("/queues/%2F/q/messages?search={search}")).await;
        assert_eq!(payloads(&list).len(), found, "{search}");
    }
    let move_to = |body: Value| {
        let server = &server;
        async move { ask(server, "POST /api/queues/%2F/q/move", &[], &body.to_string()).await }
    };
    let dry =
        move_to(json!({"to": {"queue": "to"}, "filter": {"search": "t"}, "dry_run": true})).await.json();
    assert_eq!((&dry["moved"], dry["preview"].as_array().unwrap().len()), (&json!(2), 2));
    let moved =
        move_to(json!({"to": {"queue": "to"}, "filter": {"headers": {"colour": "two red"}}})).await.json();
    assert_eq!((&moved["moved"], &moved["targets"]), (&json!(1), &json!([{"queue": "to", "messages": 1}])));
    let by_exchange =
        json!({"to": {"exchange": "amq.default", "routing_key": "to"}, "limit": 1, "copy": true});
    assert_eq!(move_to(by_exchange).await.json()["moved"], 1);
    assert_eq!(payloads(&get(&server, "/queues/%2F/to/messages").await), ["two", "one"]);
    assert_eq!(payloads(&get(&server, "/queues/%2F/q/messages").await), ["one", "three"]);
    let nowhere = move_to(json!({"to": {"exchange": "amq.fanout"}})).await.json();
    assert_eq!((&nowhere["moved"], &nowhere["stayed"][0]["messages"]), (&json!(0), &json!(2)), "{nowhere}");
    for bad in [
        json!({}),
        json!({"to": {}}),
        json!({"to": {"queue": "to"}, "filtre": {}}),
        json!({"to": {"queue": "q"}}),
        json!({"to": {"queue": "to"}, "rate": 0}),
    ] {
        let status = move_to(bad.clone()).await.status;
        assert_eq!(status, 400, "{bad}");
    }
    assert_eq!(move_to(json!({"to": {"queue": "none"}})).await.status, 404);
    walk(&server, &[("PUT /api/vhosts/other", "", 201, ""), ("PUT /api/queues/other/q", "{}", 201, "")])
        .await;
    let moved = move_to(json!({"to": {"queue": "q"}, "to_vhost": "other", "limit": 1})).await.json();
    assert_eq!((&moved["moved"], &moved["targets"]), (&json!(1), &json!([{"queue": "q", "messages": 1}])));
    assert_eq!(payloads(&get(&server, "/queues/other/q/messages").await), ["one"]);
    assert_eq!(payloads(&get(&server, "/queues/%2F/q/messages").await), ["three"]);
    // Nobody has permissions where there is no vhost.
    assert_eq!(move_to(json!({"to": {"queue": "q"}, "to_vhost": "none"})).await.status, 401);
}

#[tokio::test]
async fn dead_messages_are_sent_back_to_where_they_died_and_what_is_held_is_shown() {
    let server = TestServer::start().await;
    let dying = r#"{"arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "grave"}}"#;
    walk(&server, &[("PUT /api/queues/%2F/grave", "{}", 201, ""), ("PUT /api/queues/%2F/q", dying, 201, "")])
        .await;
    publish(&server, "q", "one").await;
    let reject = r#"{"count":1,"ackmode":"reject_requeue_false","encoding":"auto"}"#;
    ask(&server, "POST /api/queues/%2F/q/get", &[], reject).await;
    let redrive = |body: &'static str| ask(&server, "POST /api/queues/%2F/grave/redrive", &[], body);
    let dry = redrive(r#"{"dry_run": true}"#).await.json();
    assert_eq!((&dry["moved"], &dry["preview"][0]["payload"]), (&json!(1), &json!("one")));
    assert_eq!(redrive(r#"{"filter": {"died_of": "expired"}}"#).await.json()["moved"], 0);
    assert_eq!(redrive("").await.json()["targets"], json!([{"queue": "q", "messages": 1}]));
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.consume(1, "q", "holder", false).await;
    client.expect_delivery().await;
    let held = get(&server, "/queues/%2F/q/messages?state=unacked").await;
    assert_eq!(
        (&held["messages"][0]["consumer_tag"], &held["messages"][0]["payload"]),
        (&json!("holder"), &json!("one"))
    );
    assert_eq!(get(&server, "/queues/%2F/q/messages").await["messages"], json!([]));
}
