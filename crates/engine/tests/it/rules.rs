//! Rules that publish: what they take, what they make, what survives.

use crate::support::*;
use millpond_model::properties::Properties;
use millpond_model::table::Table;

const ORDERS: &str = r#"
exchanges:
  orders: {type: topic}
queues:
  receipts: {}
bindings:
  - {exchange: orders, queue: receipts, key: order.receipt}
rules:
  receipt:
    on: {exchange: orders, key: order.charged}
    when: .data.amount > 0
    do:
      - publish:
          exchange: orders
          routing_key: order.receipt
          headers: {payment: '\(.data.payment)', amount: '\(.data.amount)', source: receipt-rule}
          body: '{order: .data.order, total: .data.amount}'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_publishes_what_its_file_says() {
    let it = TestEngine::with(ORDERS).await;
    let mut client = it.client();
    client.publish("orders", "order.charged", r#"{"order": "a7", "amount": 12.5, "payment": "card"}"#).await;
    let receipt = client.get("receipts").await;
    assert_eq!(receipt.body, r#"{"order":"a7","total":12.5}"#);
    assert_eq!((receipt.exchange.as_str(), receipt.routing_key.as_str()), ("orders", "order.receipt"));
    assert_eq!(receipt.properties.content_type.as_deref(), Some("application/json"));
    assert_eq!(receipt.properties.delivery_mode, Some(2));
    assert_eq!(receipt.header("payment").as_deref(), Some("card"));
    assert_eq!(receipt.header("source").as_deref(), Some("receipt-rule"));
    assert_eq!(receipt.header("x-millpond-hops").as_deref(), Some("1"));
    assert_eq!(receipt.properties.headers.get("amount"), Some(&millpond_model::table::Value::F64(12.5)));
    let id = receipt.properties.message_id.unwrap();
    assert!(id.starts_with("rule.receipt/0-") && id.ends_with("/receipt/0"), "{id}");
    it.until("receipt", |counts| counts == (1, 1, 0, 0)).await;
    assert_eq!(client.ready("rule.receipt"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_for_which_when_does_not_hold_are_done_with() {
    let it = TestEngine::with(ORDERS).await;
    let mut client = it.client();
    for amount in 0..500 {
        let body = format!(r#"{{"order": "{amount}", "amount": {}, "payment": "card"}}"#, amount % 2);
        client.publish("orders", "order.charged", &body).await;
    }
    it.until("receipt", |counts| counts == (500, 250, 0, 0)).await;
    for number in 0..250 {
        let receipt = client.get("receipts").await;
        assert_eq!(receipt.json()["order"], (2 * number + 1).to_string());
    }
    let it = it.reopen().await;
    assert_eq!(it.client().ready("rule.receipt"), 0, "what was skipped is acked durably");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_jq_fails_is_parked_with_the_error_at_once() {
    let it = TestEngine::with(ORDERS).await;
    let mut client = it.client();
    let mut headers = Table::new();
    headers.push("colour", "blue");
    let properties = Properties {
        headers,
        delivery_mode: Some(2),
        message_id: Some("m1".into()),
        ..Properties::default()
    };
    client.publish_with("orders", "order.charged", b"\"text\"", &properties).await;
    let parked = client.get("receipt.failed").await;
    assert_eq!(parked.body, "\"text\"");
    assert_eq!(parked.header("colour").as_deref(), Some("blue"));
    assert_eq!(parked.properties.message_id.as_deref(), Some("m1"));
    assert_eq!(parked.header("x-millpond-rule").as_deref(), Some("receipt"));
    assert_eq!(parked.header("x-millpond-attempts").as_deref(), Some("1"));
    assert_eq!(parked.header("x-millpond-exchange").as_deref(), Some("orders"));
    assert_eq!(parked.header("x-millpond-routing-key").as_deref(), Some("order.charged"));
    let error = parked.header("x-millpond-error").unwrap();
    assert!(error.starts_with("test.yaml:11: jq '.data.amount > 0': "), "{error}");
    assert_eq!(it.counts("receipt"), (1, 0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_rule_lets_its_queue_collect_and_stays_stopped_over_a_restart() {
    let it = TestEngine::with(ORDERS).await;
    it.engine.stop_rule("receipt").await.unwrap();
    assert_eq!(it.state("receipt"), "stopped");
    let mut client = it.client();
    client.publish("orders", "order.charged", r#"{"order": "1", "amount": 1, "payment": "x"}"#).await;
    assert_eq!(client.ready("rule.receipt"), 1);
    drop(client);
    let it = it.reopen().await;
    assert_eq!(it.state("receipt"), "stopped");
    let mut client = it.client();
    assert_eq!(client.ready("rule.receipt"), 1);
    it.engine.start_rule("receipt").await.unwrap();
    assert_eq!(client.get("receipts").await.json()["order"], "1");
    drop(client);
    let it = it.reopen().await;
    assert_eq!(it.state("receipt"), "running");
    assert_eq!(it.client().ready("rule.receipt"), 0);
    assert_eq!(it.client().ready("receipts"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ack_and_publishes_are_one_commit() {
    let topology = r#"
queues: {in: {}, out.a: {}, out.b: {}}
rules:
  copy:
    on: {queue: in}
    do:
      - publish: {exchange: "", routing_key: out.a, body: .data}
      - publish: {exchange: "", routing_key: out.b}
"#;
    let mut it = TestEngine::with(topology).await;
    let mut client = it.client();
    let mut sent = 0;
    // The engine is cut off wherever it happens to be; nothing is lost or done twice in what is kept.
    for round in 0..3 {
        for number in 0..200 {
            client.publish("", "in", &format!("{}", round * 200 + number)).await;
            sent += 1;
        }
        drop(client);
        it = it.reopen().await;
        client = it.client();
        let (waiting, a, b) = (client.ready("in"), client.ready("out.a"), client.ready("out.b"));
        assert_eq!(a, b, "both publishes of an event are there, or none");
        assert!(waiting + a <= sent, "{waiting} wait and {a} are done of {sent}");
    }
    for number in 0..sent {
        assert_eq!(client.get("out.a").await.body, number.to_string());
        assert_eq!(client.get("out.b").await.body, number.to_string());
    }
    assert!(client.try_get("out.a").await.is_none() && client.try_get("out.b").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_chain_and_a_loop_ends_in_the_parking_queue() {
    let topology = r#"
queues: {in: {}}
rules:
  again:
    on: {queue: in}
    do:
      - publish: {exchange: "", routing_key: in}
"#;
    let it = TestEngine::with(topology).await;
    let mut client = it.client();
    client.publish("", "in", "round and round").await;
    let parked = client.get("again.failed").await;
    assert_eq!(parked.body, "round and round");
    assert_eq!(parked.header("x-millpond-hops").as_deref(), Some("64"));
    let error = parked.header("x-millpond-error").unwrap();
    assert!(error.contains("has come through 64 rules"), "{error}");
    assert_eq!(it.counts("again"), (65, 64, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_not_lost_when_the_parking_queue_was_deleted() {
    let it = TestEngine::with(ORDERS).await;
    let mut client = it.client();
    client.session.delete_queue(&queue("receipt.failed"), false, false).unwrap();
    client.publish("orders", "order.charged", "[]").await;
    assert_eq!(client.get("receipt.failed").await.body, "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_whose_queue_is_deleted_waits_until_it_is_there_again() {
    let topology = r#"
queues: {in: {}, out: {}}
rules:
  move:
    on: {queue: in}
    do: [publish: {exchange: "", routing_key: out}]
"#;
    let it = TestEngine::with(topology).await;
    let mut client = it.client();
    client.session.delete_queue(&queue("in"), false, false).unwrap();
    in_time("the wait", async {
        while !it.state("move").starts_with("waiting: ") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.session.declare_queue(&durable("in")).unwrap();
    client.publish("", "in", "late").await;
    assert_eq!(client.get("out").await.body, "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_is_missing_is_tried_again_until_it_comes() {
    let topology = r#"
exchanges: {later: {type: fanout}}
queues: {in: {}, out: {}}
bindings: [{exchange: later, queue: out}]
rules:
  move:
    on: {queue: in}
    do: [publish: {exchange: later}]
    retry: {max_attempts: 1000, first: 1ms, max: 5ms}
"#;
    let it = TestEngine::with(topology).await;
    let mut client = it.client();
    let later = exchange("later", "fanout");
    client.session.delete_exchange(&later.name, false).unwrap();
    client.publish("", "in", "patience").await;
    it.until("move", |(_, _, retried, _)| retried >= 3).await;
    it.apply(topology).await;
    assert_eq!(client.get("out").await.body, "patience");
}
