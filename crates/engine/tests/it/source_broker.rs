//! What happens in the broker, as events.

use crate::support::{TestEngine, durable, queue};
use millpond_broker::{ConsumeRequest, ResourceLimits, Resources};
use millpond_model::ConsumerTag;
use millpond_model::table::Table;
use serde_json::json;

fn topology(broker: &str) -> String {
    format!(
        "queues: {{seen: {{}}}}\nbindings: [{{exchange: millpond.events, queue: seen}}]\nsources:\n  own: {{broker: {broker}}}\n"
    )
}

#[tokio::test]
async fn queues_consumers_and_alarms_are_told_of() {
    let it = TestEngine::new().await;
    it.apply(&topology("{}")).await;
    it.until_source("own", |status| status.state == millpond_engine::SourceState::Running).await;
    let mut client = it.client();
    // Whether the source listens already is seen at its first event.
    let mut number = 0;
    loop {
        number += 1;
        let name = format!("probe.{number}");
        client.session.declare_queue(&durable(&name)).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        if client.ready("seen") > 0 {
            break;
        }
    }
    while client.try_get("seen").await.is_some() {}
    client.session.declare_queue(&durable("orders")).unwrap();
    let seen = client.get("seen").await;
    assert_eq!(seen.routing_key, "millpond.queue.created");
    assert_eq!(seen.header("cloudEvents:subject").unwrap(), "orders");
    assert_eq!(seen.json(), json!({"vhost": "/", "queue": "orders", "durable": true, "exclusive": false}));
    let mut other = it.client();
    for tag in ["one", "two"] {
        let request = ConsumeRequest {
            queue: queue("orders"),
            tag: ConsumerTag::new(tag).unwrap(),
            no_ack: false,
            exclusive: false,
            priority: 0,
            prefetch: 1,
            prefetch_shared: false,
            cookie: 0,
            channel: 0,
            arguments: Table::new(),
        };
        let consumer = other.session.consume(request).unwrap();
        if tag == "one" {
            other.session.cancel(consumer);
            let seen = client.get("seen").await;
            assert_eq!(seen.routing_key, "millpond.consumer.gone");
            assert_eq!(seen.json(), json!({"vhost": "/", "queue": "orders", "consumer": "one", "left": 0}));
        }
    }
    drop(other);
    assert_eq!(client.get("seen").await.json()["consumer"], "two");
    client.session.delete_queue(&queue("orders"), false, false).unwrap();
    let seen = client.get("seen").await;
    assert_eq!(
        (seen.routing_key.as_str(), seen.json()["queue"].as_str()),
        ("millpond.queue.deleted", Some("orders"))
    );
    let limits = ResourceLimits { memory_max_bytes: 10, disk_free_min_bytes: 10, refuse_after_ms: None };
    for (bytes, event) in [(11, "millpond.alarm.set"), (9, "millpond.alarm.cleared")] {
        let measured = Resources { memory_bytes: Some(bytes), disk_free_bytes: None };
        it.broker.check_resources(measured, &limits);
        let seen = client.get("seen").await;
        assert_eq!((seen.routing_key.as_str(), seen.json()), (event, json!({"resource": "memory"})));
    }
}

#[test]
fn mistakes_are_reported_with_their_line() {
    for (broker, wanted) in [
        ("{events: all}", "sources.own.broker.events: found 'all', expected a list of queue.created, "),
        ("{events: [queue.born]}", "sources.own.broker.events: found 'queue.born', expected queue.created, "),
    ] {
        let error = millpond_engine::check("t.yaml", &topology(broker)).unwrap_err().to_string();
        assert!(error.contains(&format!("t.yaml:4: {wanted}")), "{broker}: {error}");
    }
}
