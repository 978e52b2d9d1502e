//! Where a message would go, and how all of it hangs together.

use super::*;
use serde_json::json;

const THERE: &[Step] = &[
    ("PUT /api/queues/%2F/orders", "{}", 201, ""),
    ("PUT /api/exchanges/%2F/shop", r#"{"type": "topic"}"#, 201, ""),
    ("POST /api/bindings/%2F/e/shop/q/orders", r#"{"routing_key": "order.*"}"#, 201, ""),
];

#[tokio::test]
async fn a_message_is_explained_before_it_is_published() {
    let server = TestServer::start().await;
    walk(&server, THERE).await;
    let explain = |body: Value| {
        let server = &server;
        async move { ask(server, "POST /api/explain", &[], &body.to_string()).await }
    };
    let told =
        explain(json!({"vhost": "/", "exchange": "shop", "routing_key": "order.new", "headers": {"h": 1}}));
    let told = told.await.json();
    assert_eq!((&told["routed"], &told["queues"]), (&json!(true), &json!(["orders"])), "{told}");
    assert_eq!(told["steps"][0]["destination_type"], "queue");
    let told =
        explain(json!({"exchange": "shop", "routing_key": "order.new.now", "queue": "orders"})).await.json();
    assert_eq!((&told["routed"], &told["steps"][0]["code"]), (&json!(false), &json!("pattern_differs")));
    assert_eq!(told["steps"][0]["facts"], json!({"binding_key": "order.*", "routing_key": "order.new.now"}));
    assert_eq!(told["queue_reasons"][0]["code"], "not_routed");
    let told = explain(json!({"exchange": "none", "routing_key": "k"})).await.json();
    assert_eq!(told["refused"]["code"], "exchange_missing");
    let told =
        explain(json!({"exchange": "shop", "routing_key": "order.x", "user": "stranger"})).await.json();
    assert_eq!((&told["refused"]["code"], &told["routed"]), (&json!("write_refused"), &json!(false)));
    for bad in [json!({"key": "k"}), json!({"exchange": 7}), json!({"properties": []})] {
        assert_eq!(explain(bad.clone()).await.status, 400, "{bad}");
    }
    assert_eq!(explain(json!({"vhost": "none"})).await.status, 404);
}

#[tokio::test]
async fn the_graph_has_what_there_is_and_can_be_cut_around_a_node() {
    let server = TestServer::start().await;
    walk(&server, THERE).await;
    let graph = get(&server, "/graph/%2F").await;
    let node = |id: &str| graph["nodes"].as_array().unwrap().iter().any(|node| node["id"] == id);
    assert!(node("queue:/:orders") && node("exchange:/:shop"), "{graph}");
    let edge = json!({"from": "exchange:/:shop", "to": "queue:/:orders", "label": "order.*"});
    assert!(graph["edges"].as_array().unwrap().contains(&edge), "{graph}");
    let near = get(&server, "/graph?around=queue:%2F:orders&depth=1").await;
    assert_eq!(near["nodes"].as_array().unwrap().len(), 2, "{near}");
    assert_eq!(get(&server, "/graph?around=queue:%2F:orders&depth=0").await["edges"], json!([]));
    assert_eq!(ask(&server, "GET /api/graph?around=queue:%2F:none", &[], "").await.status, 400);
    assert_eq!(ask(&server, "GET /api/graph/none", &[], "").await.status, 404);
}
