//! Plans: what an apply would change, told and not done.

use crate::support::*;
use serde_json::json;

const BEFORE: &str = r##"
exchanges: {orders: {type: topic}}
queues: {ledger: {}, gone: {}}
bindings:
  - {exchange: orders, queue: ledger, key: "order.#"}
  - {exchange: orders, queue: gone, key: "#"}
policies: {short: {pattern: ^ledger, apply_to: queues, definition: {max-length: 5}}}
schedules: {tick: {cron: "0 4 * * *", exchange: orders, routing_key: tick}}
rules:
  receipt:
    on: {exchange: orders, key: order.charged}
    when: .data.amount > 0
    do:
      - file: {path: audit.log}
      - publish: {exchange: orders, routing_key: order.receipt}
  removed:
    on: {queue: ledger}
    do: [file: {path: removed.log}]
"##;

const AFTER: &str = r##"
exchanges: {orders: {type: topic}, fresh: {type: fanout}}
queues: {ledger: {}}
bindings:
  - {exchange: orders, queue: ledger, key: "order.#"}
policies: {short: {pattern: ^ledger, apply_to: queues, definition: {max-length: 9}}}
schedules: {tick: {cron: "0 5 * * *", exchange: orders, routing_key: tick}}
rules:
  receipt:
    on: {exchange: orders, key: order.charged}
    when: .data.amount > 10
    do:
      - file: {path: audit.log}
      - publish: {exchange: orders, routing_key: order.receipt}
  copied:
    on: {exchange: fresh}
    do: [file: {path: copied.log}]
"##;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_what_comes_changes_goes_and_stays_and_does_nothing() {
    let it = TestEngine::with(BEFORE).await;
    let plan = it.engine.plan("t.yaml", AFTER).await.unwrap();
    let expected = "+ exchange fresh
+ queue rule.copied
+ queue copied.failed
+ binding fresh -> queue rule.copied ('')
~ policy short
      definition:
    -   max-length: 5
    +   max-length: 9
      pattern: ^ledger
~ schedule tick
      body: ''
    - cron: '0 4 * * *'
    + cron: '0 5 * * *'
      delivery_mode: null
- binding orders -> queue gone ('#')
- queue removed.failed
= queue gone: left, though no longer in the file
- rule removed
~ rule receipt
        key: order.charged
    - when: .data.amount > 0
    + when: .data.amount > 10
      do:
+ rule copied
t.yaml: 5 to add, 3 to change, 3 to remove, 1 left";
    assert_eq!(plan.to_string(), expected);
    assert!(plan.has_changes() && plan.refusals.is_empty());
    let mut client = it.client();
    assert!(!client.has_queue("rule.copied") && client.has_queue("removed.failed"));
    let unchanged = it.engine.plan("t.yaml", BEFORE).await.unwrap();
    assert_eq!(unchanged.to_string(), "t.yaml: nothing to change");
    assert!(!unchanged.has_changes());
    // Carried out, the same is done, and then there is nothing to do.
    let report = it.engine.apply("t.yaml", AFTER).await.unwrap();
    assert_eq!(report.plan, plan);
    assert_eq!(report.changes.len(), plan.changes.len());
    assert!(!it.engine.plan("t.yaml", AFTER).await.unwrap().has_changes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_there_for_programs_too() {
    let it = TestEngine::with(BEFORE).await;
    let json = it.engine.plan("t.yaml", AFTER).await.unwrap().to_json();
    assert_eq!(
        (&json["add"], &json["change"], &json["remove"], &json["leave"]),
        (&json!(5), &json!(3), &json!(3), &json!(1))
    );
    let rule = json["changes"].as_array().unwrap().iter().find(|it| it["name"] == "receipt").unwrap();
    let expected = json!({
        "change": "change", "what": "rule", "name": "receipt", "place": "t.yaml:9: rules.receipt", "then": "replaced",
        "difference": ["    key: order.charged", "- when: .data.amount > 0", "+ when: .data.amount > 10", "  do:"],
    });
    assert_eq!(rule, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_apply_would_refuse() {
    let it = TestEngine::with("queues: {ledger: {}}").await;
    let topology = r#"
queues:
  ledger: {arguments: {x-max-length: 100}}
  bad: {arguments: {x-message-ttl: soon}}
rules:
  r: {on: {queue: nowhere}, do: [http: {endpoint: "https://h", ca_file: none.pem}]}
"#;
    let plan = it.engine.plan("t.yaml", topology).await.unwrap();
    assert_eq!(plan.refusals.len(), 4, "{plan}");
    for part in [
        "! t.yaml:3: queues.ledger: inequivalent arg",
        "! t.yaml:4: queues.bad: ",
        "found queue 'nowhere'",
        "none.pem",
    ] {
        assert!(plan.to_string().contains(part), "{plan}");
    }
    let error = it.engine.apply("t.yaml", topology).await.unwrap_err().to_string();
    assert_eq!(error, plan.refusals.join("\n"));
    assert!(it.engine.plan("t.yaml", "queus: {}").await.is_err());
}
