//! What is counted of clients at work.

use super::*;
use millpond_amqp_codec::{basic, confirm};
use millpond_testkit::{Client, Event};
use serde_json::json;

/// Publishes 10 to a queue and one to nowhere, with confirms.
async fn work(server: &TestServer) -> Client {
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q", true).await;
    client.declare_queue(1, "empty", true).await;
    client.send(1, confirm::Select { no_wait: false }).await;
    client.expect("confirm.select-ok").await;
    for _ in 0..10 {
        client.publish_to(1, "q", b"x").await;
    }
    client.publish_to(1, "nowhere", b"x").await;
    while !matches!(client.event().await, Event::Ack { tag: 11, .. }) {}
    client
}

#[tokio::test]
async fn what_clients_do_is_counted_for_queue_exchange_channel_connection_vhost_and_node() {
    let server = TestServer::start().await;
    let mut client = work(&server).await;
    client.consume(1, "q", "tag", false).await;
    for _ in 0..10 {
        client.expect_delivery().await;
    }
    client.send(1, basic::Ack { delivery_tag: 3, multiple: true }).await;
    let path = "/queues/%2F/q?columns=messages_unacknowledged";
    while get(&server, path).await["messages_unacknowledged"] != 7 {}
    let stats = |shown: &Value, names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| shown["message_stats"][*name].clone()).collect()
    };
    let queue = get(&server, "/queues/%2F/q").await;
    let names = ["publish", "deliver", "deliver_get", "ack", "redeliver", "get", "deliver_no_ack"];
    assert_eq!(stats(&queue, &names), [10, 10, 10, 3, 0, 0, 0], "{queue}");
    assert!(get(&server, "/queues/%2F/empty").await.get("message_stats").is_none());
    let exchange = get(&server, "/exchanges/%2F/amq.default").await;
    assert_eq!(stats(&exchange, &["publish_in", "publish_out"]), [11, 10], "{exchange}");
    let connection = get(&server, "/connections").await[0].clone();
    assert!(connection["recv_oct"].as_u64().unwrap() > 100 && connection["send_cnt"].as_u64().unwrap() > 2);
    let channel = get(&server, "/channels").await[0].clone();
    let names = ["publish", "confirm", "drop_unroutable", "return_unroutable", "deliver", "ack"];
    assert_eq!(stats(&channel, &names), [11, 11, 1, 0, 10, 3], "{channel}");
    let facts = ["consumer_count", "messages_unacknowledged", "messages_unconfirmed", "prefetch_count"];
    assert_eq!(facts.map(|fact| channel[fact].clone()), [1, 7, 0, 0]);
    assert_eq!((&channel["confirm"], &channel["transactional"]), (&json!(true), &json!(false)));
    for of_all in [get(&server, "/overview").await, get(&server, "/vhosts/%2F").await] {
        let names = ["publish", "confirm", "drop_unroutable", "deliver", "deliver_get", "ack"];
        assert_eq!(stats(&of_all, &names), [11, 11, 1, 10, 10, 3], "{of_all}");
    }
    let churn = get(&server, "/overview").await["churn_rates"].clone();
    let names = ["connection_created", "channel_created", "queue_created", "channel_closed"];
    assert_eq!(names.map(|name| churn[name].clone()), [1, 1, 2, 0], "{churn}");
    client.close().await;
}

#[tokio::test]
async fn rates_and_samples_are_noted_while_messages_move() {
    let server = TestServer::start().await;
    let mut client = work(&server).await;
    let query = "msg_rates_age=1&msg_rates_incr=1&lengths_age=1&lengths_incr=1";
    loop {
        client.publish_to(1, "q", b"x").await;
        let queue = get(&server, &format!("/queues/%2F/q?{query}")).await;
        let details = &queue["message_stats"]["publish_details"];
        if details["rate"].as_f64().unwrap() > 0.0 {
            let samples = details["samples"].as_array().unwrap();
            assert_eq!(samples.len(), 2, "{details}");
            assert!(samples[0]["timestamp"].as_u64() > samples[1]["timestamp"].as_u64(), "{details}");
            assert!(queue["messages_details"]["rate"].as_f64().unwrap() > 0.0, "{queue}");
            assert!(queue["messages_ready_details"]["samples"].is_array());
            break;
        }
    }
    let overview = get(&server, &format!("/overview?{query}")).await;
    assert_eq!(overview["rates_mode"], "basic");
    assert!(overview["message_stats"]["publish_details"]["samples"].is_array(), "{overview}");
    assert!(overview["queue_totals"]["messages_details"]["samples"].is_array());
}

#[tokio::test]
async fn a_consumer_that_is_alone_on_its_channel_has_the_rate_of_the_channel() {
    let server = TestServer::start().await;
    let mut client = Client::connect(server.amqp()).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q", true).await;
    client.consume(1, "q", "c", true).await;
    loop {
        client.publish_to(1, "q", b"x").await;
        client.expect_delivery().await;
        let consumers = get(&server, "/consumers").await;
        if consumers[0]["rate_delivered"].as_f64().unwrap() > 0.0 {
            break;
        }
    }
    client.consume(1, "q", "d", true).await;
    let consumers = get(&server, "/consumers").await;
    let told: Vec<_> = consumers.as_array().unwrap().iter().map(|it| it.get("rate_delivered")).collect();
    assert_eq!(told, [None, None], "whose the deliveries are is not counted");
}

#[tokio::test]
async fn queues_are_sorted_by_what_was_counted() {
    let server = TestServer::start().await;
    let mut client = work(&server).await;
    client.publish_to(1, "empty", b"x").await;
    while get(&server, "/queues/%2F/empty").await["messages"] != 1 {}
    walk(&server, &[("PUT /api/queues/%2F/idle", "{}", 201, "")]).await;
    for (column, order) in
        [("message_stats.publish", ["idle", "empty", "q"]), ("messages_details.rate", ["empty", "idle", "q"])]
    {
        let page = get(&server, &format!("/queues?page=1&page_size=10&sort={column}")).await;
        let all = get(&server, &format!("/queues?sort={column}")).await;
        if column == "message_stats.publish" {
            assert_eq!(names(&page["items"]), order);
        }
        assert_eq!(names(&all).len(), 3);
    }
}

#[tokio::test]
async fn what_needs_attention_is_named_to_those_who_may_see_it() {
    let server = TestServer::start().await;
    assert_eq!(get(&server, "/attention").await, json!([]));
    let client = work(&server).await;
    let found = get(&server, "/attention").await;
    let item = json!({
        "kind": "queue_without_consumers", "severity": "warning", "vhost": "/", "name": "q", "messages": 10,
    });
    assert!(found.as_array().unwrap().contains(&item), "{found}");
    walk(&server, &[("PUT /api/users/eve", r#"{"password": "x", "tags": "management"}"#, 201, "")]).await;
    let eve = authorization_of("eve:x");
    let answer = receive(send(&server, "GET /api/attention", &[("Authorization", &eve)], "").await).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    drop(client);
}
