//! Messages of the past given to a rule again, or only looked at.

use crate::support::*;
use millpond_engine::{ReplayFrom, ReplayReport, ReplayRequest};
use serde_json::json;

const SHOP: &str = r##"
exchanges: {orders: {type: topic}}
queues:
  history: {arguments: {x-queue-type: stream}}
  remembers: {arguments: {x-retain: 1D}}
  receipts: {}
  other: {}
bindings:
  - {exchange: orders, queue: history, key: "#"}
  - {exchange: orders, queue: remembers, key: "#"}
rules:
  receipt:
    on: {exchange: orders, key: order.charged}
    when: .data.amount > 0
    do:
      - publish: {exchange: "", routing_key: receipts, body: '{order: .data.order, total: .data.amount}'}
"##;

fn request(queue: &str) -> ReplayRequest {
    ReplayRequest {
        rule: "receipt".to_owned(),
        queue: queue.to_owned(),
        of: ReplayFrom::Any,
        since_ms: None,
        until_ms: None,
        limit: None,
        file: None,
        dry_run: true,
    }
}

async fn place(it: &TestEngine) {
    let mut client = it.client();
    for (id, body) in [("e1", r#"{"order":"a1","amount":5}"#), ("e2", r#"{"order":"a2","amount":0}"#)] {
        let mut properties = persistent();
        properties.message_id = Some(id.into());
        client.publish_with("orders", "order.charged", body.as_bytes(), &properties).await;
    }
    it.until("receipt", |(seen, ..)| seen == 2).await;
    assert_eq!(client.get("receipts").await.properties.message_id.as_deref(), Some("e1/receipt/0"));
}

async fn looked(it: &TestEngine, request: &ReplayRequest) -> ReplayReport {
    in_time("the replay", it.engine.replay(request)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_over_a_stream_shows_how_a_changed_rule_differs_and_does_nothing() {
    let it = TestEngine::with(SHOP).await;
    place(&it).await;
    let same = looked(&it, &request("history")).await;
    assert_eq!((same.read, same.acts, same.acted, same.same, same.differ), (2, 1, 1, 2, 0), "{same}");
    assert!(same.messages.is_empty());
    let changed = SHOP.replace(".data.amount > 0", ".data.amount >= 0").replace("total: .data", "sum: .data");
    let file = Some(("new.yaml".to_owned(), changed.clone()));
    let report = looked(&it, &ReplayRequest { file, ..request("history") }).await;
    assert_eq!((report.acts, report.acted, report.same, report.differ), (2, 1, 0, 2), "{report}");
    let text = report.to_string();
    for part in ["message 0, id e1: differs (version 1 then)", "-       total: 5", "+       sum: 5"] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    assert_eq!(report.to_json()["messages"][1]["then"], json!([]));
    assert_eq!(it.client().ready("receipts"), 0);
    // Applied, it is the version of now that is compared with the one of then.
    it.apply(&changed).await;
    let report = looked(&it, &request("history")).await;
    assert_eq!(
        (report.acts, report.acted, report.differ, report.messages[0].version),
        (2, 1, 2, 1),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_takes_a_rule_that_remembers_through_the_times_of_the_messages() {
    let rule = |memory: &str| {
        format!(
            r##"
exchanges: {{orders: {{type: topic}}}}
queues: {{history: {{arguments: {{x-queue-type: stream}}}}, receipts: {{}}}}
bindings: [{{exchange: orders, queue: history, key: "#"}}]
rules:
  receipt:
    on: {{exchange: orders, key: "#"}}
    when: .data.amount > 0
    {memory}
    do:
      - publish: {{exchange: "", routing_key: receipts, body: '{{key, count}}'}}
"##
        )
    };
    let two = rule("count: {at_least: 2, within: 1h, by: .data.order}");
    let it = TestEngine::with(&two).await;
    let mut client = it.client();
    for (id, order, amount) in [("e1", "a", 5), ("e2", "b", 5), ("e3", "b", 0), ("e4", "a", 5)] {
        let mut properties = persistent();
        properties.message_id = Some(id.into());
        let body = json!({"order": order, "amount": amount}).to_string();
        client.publish_with("orders", "order.charged", body.as_bytes(), &properties).await;
    }
    assert_eq!(client.get("receipts").await.json(), json!({"key": "a", "count": 2}));
    let same = looked(&it, &request("history")).await;
    assert_eq!((same.read, same.acts, same.acted, same.same, same.differ), (4, 1, 1, 4, 0), "{same}");
    let with = |memory: &str| ReplayRequest {
        file: Some(("new.yaml".to_owned(), rule(memory))),
        until_ms: Some(u64::MAX / 2),
        ..request("history")
    };
    let three = looked(&it, &with("count: {at_least: 3, within: 1h, by: .data.order}")).await;
    assert_eq!((three.acts, three.acted, three.differ), (0, 1, 1), "{three}");
    assert_eq!((three.messages[0].id.as_deref(), &three.messages[0].now), (Some("e4"), &json!([])));
    // What falls due when no more messages come stands with the last one.
    let quiet = looked(&it, &with("debounce: {wait: 1h, by: .data.order}")).await;
    assert_eq!((quiet.acts, quiet.differ), (1, 1), "{quiet}");
    let mut bodies: Vec<_> =
        quiet.messages[0].now.as_array().unwrap().iter().map(|it| &it["publish"]["body"]).collect();
    // Both may fall due in the same millisecond.
    bodies.sort_by_key(|it| it["key"].to_string());
    assert_eq!(bodies, [&json!({"key": "a", "count": 2}), &json!({"key": "b", "count": 1})], "{quiet}");
    // Applied, its memory is another: the version of then is still the one that counted.
    it.apply(&rule("debounce: {wait: 1h, by: .data.order}")).await;
    let after = looked(&it, &ReplayRequest { until_ms: Some(u64::MAX / 2), ..request("history") }).await;
    assert_eq!((after.acts, after.acted, after.differ), (1, 1, 1), "{after}");
    assert_eq!(it.client().ready("receipts"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_goes_through_all_stages_of_a_rule() {
    let it = TestEngine::with(SHOP).await;
    place(&it).await;
    let staged = SHOP.replace(
        "    do:\n",
        "    do:\n      - {name: asked, http: {endpoint: 'http://127.0.0.1:9/'}}\n      \
         - file: {path: f, line: .results.asked.status}\n",
    );
    let file = Some(("new.yaml".to_owned(), staged));
    let report = looked(&it, &ReplayRequest { file, ..request("history") }).await;
    let now = &report.messages[0].now;
    assert_eq!((&now[1]["file"]["line"], now.as_array().unwrap().len()), (&json!(200), 3), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_is_known_to_have_been() {
    let it =
        TestEngine::with(&SHOP.replace("total: .data.amount", "total: (.data.amount | ltrimstr(1) | keys)"))
            .await;
    let mut client = it.client();
    let mut properties = persistent();
    properties.message_id = Some("e9".into());
    client.publish_with("orders", "order.charged", br#"{"order":"a9","amount":7}"#, &properties).await;
    it.until("receipt", |(.., failed)| failed == 1).await;
    it.apply(SHOP).await;
    let report = looked(&it, &request("history")).await;
    assert_eq!((report.read, report.acts, report.acted, report.differ), (1, 1, 0, 1), "{report}");
    let parked = report.messages[0].parked.as_deref().unwrap_or_default();
    assert!(parked.contains("jq"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_again_keeps_its_id_and_so_do_its_effects() {
    let it = TestEngine::with(SHOP).await;
    place(&it).await;
    let mut client = it.client();
    let report = looked(&it, &ReplayRequest { dry_run: false, ..request("history") }).await;
    assert_eq!((report.read, report.given), (2, 2));
    assert_eq!(report.to_string(), "rule receipt: 2 of 2 messages of queue history were given to its queue");
    let again = client.get("receipts").await;
    assert_eq!(again.properties.message_id.as_deref(), Some("e1/receipt/0"));
    assert_eq!(again.json(), json!({"order": "a1", "total": 5}));
    it.until("receipt", |(seen, ..)| seen == 4).await;
    // Messages without an id get that of their place: the same each time.
    client.publish("orders", "order.charged", r#"{"order":"a3","amount":1}"#).await;
    client.get("receipts").await;
    let late = ReplayRequest { dry_run: false, limit: Some(3), ..request("history") };
    let mut ids = Vec::new();
    for _ in 0..2 {
        looked(&it, &late).await;
        client.get("receipts").await;
        ids.push(client.get("receipts").await.properties.message_id);
    }
    assert_eq!(ids[0].as_deref(), Some("history/2/receipt/0"));
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_ready_or_remembered_are_read_without_being_taken() {
    let it = TestEngine::with(SHOP).await;
    place(&it).await;
    let mut client = it.client();
    // Nothing was acked there yet.
    assert_eq!(looked(&it, &request("remembers")).await.read, 0);
    let ready = ReplayRequest { of: ReplayFrom::Ready, ..request("remembers") };
    assert_eq!(looked(&it, &ready).await.read, 2);
    assert_eq!(client.ready("remembers"), 2);
    client.get("remembers").await;
    let remembered = looked(&it, &request("remembers")).await;
    assert_eq!((remembered.read, remembered.acts), (1, 1), "{remembered}");
    let none = ReplayRequest { until_ms: Some(1), ..request("remembers") };
    assert_eq!(looked(&it, &none).await.read, 0);
    let one = ReplayRequest { limit: Some(1), ..request("history") };
    assert_eq!(looked(&it, &one).await.read, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_says_why() {
    let it = TestEngine::with(SHOP).await;
    let real = |queue: &str| ReplayRequest { dry_run: false, ..request(queue) };
    let file = Some(("f.yaml".to_owned(), SHOP.to_owned()));
    for (request, part) in [
        (request("nowhere"), "no queue 'nowhere'"),
        (real("rule.receipt"), "what is ready in queue 'rule.receipt' it takes anyway"),
        (ReplayRequest { file, ..real("history") }, "add --dry-run, or apply the file"),
        (ReplayRequest { rule: "recept".to_owned(), ..request("history") }, "did you mean 'receipt'?"),
        (ReplayRequest { of: ReplayFrom::Remembered, ..request("other") }, "does not remember"),
    ] {
        let error = it.engine.replay(&request).await.unwrap_err().to_string();
        assert!(error.contains(part), "{part}\nis not in\n{error}");
    }
}

/// Whom a message named beside its key was acted on when it was published; so were its sender and its time to live.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_again_goes_to_the_rule_alone_whatever_its_properties_ask() {
    let it = TestEngine::with(SHOP).await;
    let mut client = it.client();
    let mut properties = persistent();
    let copies = [millpond_model::table::Value::from("other")];
    properties.headers.push("CC", millpond_model::table::Value::Array(copies.into()));
    properties.expiration = Some("3600000".into());
    client.publish_with("orders", "order.charged", br#"{"order":"a1","amount":5}"#, &properties).await;
    client.get("receipts").await;
    let again = ReplayRequest { dry_run: false, ..request("history") };
    assert_eq!(looked(&it, &again).await.given, 1);
    client.get("receipts").await;
    assert_eq!(client.ready("other"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_now_as_it_did_then_is_the_same_wherever_the_rule_stands_in_its_file() {
    let failing = SHOP.replace("total: .data.amount", "total: (.data.amount | ltrimstr(1) | keys)");
    let it = TestEngine::with(&failing).await;
    let mut client = it.client();
    client.publish("orders", "order.charged", r#"{"order":"a9","amount":7}"#).await;
    it.until("receipt", |(.., failed)| failed == 1).await;
    client.get("receipt.failed").await;
    let report = looked(&it, &request("history")).await;
    assert_eq!((report.read, report.would_park, report.same, report.differ), (1, 1, 1, 0), "{report}");
}
