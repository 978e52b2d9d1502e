//! Applying topologies: what is declared, compared, replaced, left and kept.

use crate::support::*;

const FIRST: &str = r##"
exchanges: {orders: {type: topic}, copies: {type: fanout}}
queues: {ledger: {arguments: {x-max-length: 100}}, all: {}}
bindings:
  - {exchange: orders, queue: ledger, key: "order.#"}
  - {exchange: orders, to_exchange: copies, key: "#"}
  - {exchange: copies, queue: all}
rules:
  receipt:
    on: {exchange: orders, key: order.charged}
    do: [file: {path: audit.log}]
"##;

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_is_declared_once_and_kept() {
    let it = TestEngine::new().await;
    let declared = "exchange orders: declared
exchange copies: declared
queue ledger: declared
queue all: declared
queue rule.receipt: declared
queue receipt.failed: declared
binding orders -> queue ledger ('order.#'): made
binding orders -> exchange copies ('#'): made
binding copies -> queue all (''): made
binding orders -> queue rule.receipt ('order.charged'): made
rule receipt: added
test.yaml: 2 exchanges, 2 queues, 3 bindings, 1 rule";
    assert_eq!(it.apply(FIRST).await, declared);
    let again = "nothing to change\ntest.yaml: 2 exchanges, 2 queues, 3 bindings, 1 rule";
    assert_eq!(it.apply(FIRST).await, again);
    let mut client = it.client();
    client.publish("orders", "order.charged", "1").await;
    assert_eq!((client.ready("ledger"), client.ready("all")), (1, 1));
    it.until("receipt", |(_, acted, ..)| acted == 1).await;
    drop(client);
    let it = it.reopen().await;
    assert_eq!(it.state("receipt"), "running");
    assert_eq!(it.apply(FIRST).await, again);
    it.client().publish("orders", "order.charged", "2").await;
    it.until("receipt", |(_, acted, ..)| acted == 1).await;
    let lines = std::fs::read_to_string(it.file("audit.log")).unwrap();
    assert_eq!(lines.lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_or_is_missing_is_told_and_nothing_is_changed() {
    let it = TestEngine::new().await;
    let mut client = it.client();
    let durability = client.session.declare_queue(&durable("ledger")).unwrap().1;
    client.wait(durability).await;
    let durability = client.session.declare_exchange(&exchange("orders", "direct")).unwrap();
    client.wait(durability).await;
    let topology = r#"
exchanges: {orders: {type: topic}, fresh: {type: topic}}
queues:
  new: {}
  ledger: {arguments: {x-max-length: 100}}
bindings:
  - {exchange: ordres, queue: new}
  - {exchange: fresh, queue: ledgr}
rules:
  r:
    on: {queue: nowhere}
    do:
      - publish: {exchange: freshh}
"#;
    let error = it.engine.apply("t.yaml", topology).await.unwrap_err().to_string();
    let expected = "t.yaml:2: exchanges.orders: inequivalent arg 'type' for exchange 'orders' in vhost '/': received 'topic' but current is 'direct'
t.yaml:5: queues.ledger: inequivalent arg 'x-max-length' for queue 'ledger' in vhost '/': received the value '100' of type 'signedint' but current is none
t.yaml:7: bindings[0]: found exchange 'ordres', expected one of the file or of the broker; did you mean 'orders'?
t.yaml:8: bindings[1]: found queue 'ledgr', expected one of the file or of the broker; did you mean 'ledger'?
t.yaml:10: rules.r.on: found queue 'nowhere', expected one of the file or of the broker
t.yaml:13: rules.r.do: found exchange 'freshh', expected one of the file or of the broker; did you mean 'fresh'?";
    assert_eq!(error, expected);
    assert!(!client.has_queue("new") && !client.has_queue("r.failed"));
    assert!(it.engine.rules().is_empty());
    let error = it.engine.apply("t.yaml", "queus: {}").await.unwrap_err().to_string();
    assert!(error.starts_with("t.yaml:1: found the unknown key 'queus'"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_no_longer_says_goes_if_nothing_is_lost_by_it() {
    let it = TestEngine::with(FIRST).await;
    it.engine.stop_rule("receipt").await.unwrap();
    let mut client = it.client();
    client.publish("orders", "order.charged", "waits").await;
    let second = r#"
exchanges: {orders: {type: topic}}
queues: {ledger: {arguments: {x-max-length: 100}}}
bindings:
  - {exchange: orders, queue: ledger, key: order.placed}
rules:
  other:
    on: {exchange: orders, key: order.charged}
    do: [file: {path: other.log}]
"#;
    let expected = "queue rule.other: declared
queue other.failed: declared
binding orders -> queue ledger ('order.placed'): made
binding orders -> queue rule.other ('order.charged'): made
binding orders -> queue ledger ('order.#'): removed
binding orders -> exchange copies ('#'): removed
binding copies -> queue all (''): removed
binding orders -> queue rule.receipt ('order.charged'): removed
queue rule.receipt: left, it is not empty
queue receipt.failed: deleted
exchange copies: left, though no longer in the file
queue all: left, though no longer in the file
rule receipt: removed
rule other: added
test.yaml: 1 exchange, 1 queue, 1 binding, 1 rule";
    assert_eq!(it.apply(second).await, expected);
    assert_eq!(client.get("rule.receipt").await.body, "waits");
    client.publish("orders", "order.charged", "acted on").await;
    it.until("other", |(_, acted, ..)| acted == 1).await;
    assert_eq!(client.ready("rule.receipt"), 0, "it is not bound any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_rule_replaces_the_old_one_and_takes_over_its_queue() {
    let it = TestEngine::with(FIRST).await;
    it.engine.stop_rule("receipt").await.unwrap();
    let mut client = it.client();
    client.publish("orders", "order.charged", "1").await;
    let changed = FIRST.replace("audit.log", "changed.log").replace("key: order.charged", "key: order.paid");
    let expected = "binding orders -> queue rule.receipt ('order.paid'): made
binding orders -> queue rule.receipt ('order.charged'): removed
rule receipt: replaced, stopped
test.yaml: 2 exchanges, 2 queues, 3 bindings, 1 rule";
    assert_eq!(it.apply(&changed).await, expected);
    assert_eq!(it.state("receipt"), "stopped");
    client.publish("orders", "order.charged", "2").await;
    client.publish("orders", "order.paid", "3").await;
    it.engine.start_rule("receipt").await.unwrap();
    it.until("receipt", |(_, acted, ..)| acted == 2).await;
    let lines = std::fs::read_to_string(it.file("changed.log")).unwrap();
    assert_eq!(lines.lines().count(), 2);
    assert!(!it.file("audit.log").exists());
    // Moved within its file it is the same rule.
    let moved = format!("# A comment.\n{changed}");
    assert!(it.apply(&moved).await.starts_with("nothing to change\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_can_match_headers() {
    let topology = r#"
exchanges: {events: {type: headers}}
queues: {out: {}}
rules:
  red:
    on: {exchange: events, headers: {x-match: any, colour: red, size: 5}}
    do: [publish: {exchange: "", routing_key: out}]
"#;
    let it = TestEngine::with(topology).await;
    let mut client = it.client();
    for (body, name, value) in [("1", "colour", "blue"), ("2", "colour", "red"), ("3", "other", "red")] {
        let mut properties = persistent();
        properties.headers.push(name, value);
        client.publish_with("events", "", body.as_bytes(), &properties).await;
    }
    assert_eq!(client.get("out").await.body, "2");
    assert!(client.try_get("out").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_are_not_there_are_named_with_the_nearest() {
    let it = TestEngine::with(FIRST).await;
    let expected = "no rule 'recept' in the topology; did you mean 'receipt'?";
    assert_eq!(it.engine.stop_rule("recept").await.unwrap_err().to_string(), expected);
    assert_eq!(it.engine.start_rule("recept").await.unwrap_err().to_string(), expected);
    assert_eq!(it.engine.dry_run("recept", &serde_json::json!({})).unwrap_err().to_string(), expected);
    it.engine.shut_down().await;
    assert_eq!(it.engine.stop_rule("receipt").await.unwrap_err().to_string(), "the engine has shut down");
}

const OPERATED: &str = r#"
exchanges: {jobs: {type: topic}}
queues: {reports: {}}
bindings: [{exchange: jobs, queue: reports, key: "report.*"}]
policies: {short: {pattern: ^reports, apply_to: queues, definition: {max-length: 5}}}
operator_policies: {all: {pattern: ., apply_to: queues, definition: {max-length: 100}}}
schedules:
  tick:
    cron: "* * * * * *"
    exchange: jobs
    routing_key: report.tick
    headers: {kind: full}
    properties: {type: report, priority: 3}
    body: {n: 1}
  yearly: {cron: "@yearly", zone: Europe/Berlin, exchange: "", routing_key: reports}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_schedules_come_and_go_with_the_file() {
    let it = TestEngine::new().await;
    let summary = "test.yaml: 1 exchange, 1 queue, 1 binding, 0 rules, 2 policies, 2 schedules";
    let report = it.apply(OPERATED).await;
    for change in
        ["policy short: set", "operator policy all: set", "schedule tick: set", "schedule yearly: set"]
    {
        assert!(report.contains(change), "{report}");
    }
    assert_eq!(it.apply(OPERATED).await, format!("nothing to change\n{summary}"));
    let it = it.reopen().await;
    assert_eq!(it.apply(OPERATED).await, format!("nothing to change\n{summary}"));
    let mut client = it.client();
    in_time("a tick", async {
        while client.ready("reports") == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    let report = it.apply("queues: {reports: {}}").await;
    for change in [
        "policy short: cleared",
        "operator policy all: cleared",
        "schedule tick: removed",
        "schedule yearly: removed",
    ] {
        assert!(report.contains(change), "{report}");
    }
    let missing = it.engine.apply("test.yaml", "schedules: {s: {cron: '@daily', exchange: nobodys}}").await;
    let missing = missing.unwrap_err().to_string();
    let wanted =
        "test.yaml:1: schedules.s: found exchange 'nobodys', expected one of the file or of the broker";
    assert!(missing.contains(wanted), "{missing}");
}
