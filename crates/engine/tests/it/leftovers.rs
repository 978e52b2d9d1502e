//! What rules and sources leave behind when they go.

use crate::servers::Postgres;
use crate::support::*;

fn keys(it: &TestEngine) -> Vec<String> {
    let values = it.broker.values("engine").unwrap();
    values.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
}

fn has(it: &TestEngine, prefix: &str) -> bool {
    keys(it).iter().any(|key| key.starts_with(prefix))
}

async fn until(it: &TestEngine, prefix: &str, there: bool) {
    in_time(&format!("{prefix}: {there}"), async {
        while has(it, prefix) != there {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A rule whose first action goes well and whose second is tried again for ever, and one that remembers.
fn rules(url: &str, queue: &str) -> String {
    format!(
        r#"
queues: {{in: {{}}, other: {{}}, counted: {{}}}}
rules:
  call:
    on: {{queue: {queue}}}
    do:
      - file: {{path: done.log}}
      - http: {{endpoint: "{url}"}}
    retry: {{max_attempts: 1000, first: 50ms, factor: 1}}
  count:
    on: {{queue: counted}}
    count: {{at_least: 5, within: 1h, by: .data.user}}
    do: [{{publish: {{exchange: "", routing_key: other}}}}]
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_goes_or_changes_its_queue_leaves_no_values() {
    let server = Server::start(&["503 Service Unavailable"]).await;
    let it = TestEngine::with(&rules(&server.url, "in")).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"n": 1}"#).await;
    client.publish("", "counted", r#"{"user": "a"}"#).await;
    until(&it, "ledger/call/", true).await;
    until(&it, "state/count/", true).await;
    it.apply(&rules(&server.url, "other")).await;
    assert!(!has(&it, "ledger/"), "{:?}", keys(&it));
    client.publish("", "other", r#"{"n": 2}"#).await;
    until(&it, "ledger/call/", true).await;
    it.apply("queues: {in: {}}").await;
    assert!(!has(&it, "ledger/") && !has(&it, "state/"), "{:?}", keys(&it));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_of_rules_and_sources_that_went_is_deleted_at_the_start() {
    let server = Server::start(&["503 Service Unavailable"]).await;
    let it = TestEngine::with(&rules(&server.url, "in")).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"n": 1}"#).await;
    client.publish("", "counted", r#"{"user": "a"}"#).await;
    until(&it, "ledger/call/", true).await;
    until(&it, "state/count/", true).await;
    let gone = [
        "ledger/gone/0000000000000000/0000000000000001/0",
        "ledger/call/0000000000000000/0000000000000001/0",
        "state/gone/a",
        "stopped/gone",
        "source/gone",
        "source-stopped/gone",
    ];
    for key in gone {
        it.broker.put_value("engine", key.as_bytes(), Some(b"x"), None);
    }
    let it = it.reopen().await;
    let left = keys(&it);
    assert!(gone.iter().all(|key| !left.iter().any(|it| it == key)), "{left:?}");
    assert!(has(&it, "ledger/call/") && has(&it, "state/count/") && has(&it, "topology"), "{left:?}");
}

fn source(url: &str, more: &str) -> String {
    format!(
        "databases: {{shop: {{url: \"{url}\"}}}}\nsources:\n  rows:\n    postgres: {{database: shop, replicate: [t]{more}}}\n"
    )
}

async fn slots(database: &Postgres) -> String {
    let text = "select concat(string_agg(slot_name::text, ','), '') from pg_replication_slots where database = current_database()";
    database.one(text).await
}

async fn slots_become(database: &Postgres, expected: &str) {
    in_time(expected, async {
        while slots(database).await != expected {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replication_slot_is_dropped_with_its_source_and_not_before() {
    let database = Postgres::new().await;
    database.sql("create table t (id int primary key)").await;
    // The server's slots are those of all tests: this one has a name of its own.
    let source = |url: &str, more: &str| source(url, more).replace("rows:", "leftover:");
    let own = "millpond_leftover";
    let it = TestEngine::with(&source(&database.url(), "")).await;
    until(&it, "source/leftover", true).await;
    slots_become(&database, own).await;
    it.engine.stop_source("leftover").await.unwrap();
    let it = it.reopen().await;
    assert_eq!(slots(&database).await, own, "a source that is stopped keeps its slot");
    it.engine.start_source("leftover").await.unwrap();
    it.until_source("leftover", |status| status.state.to_string() == "running").await;
    // Another name of the database, and of the source, with the same slot.
    let moved = source(&database.url(), ", slot: millpond_leftover").replace("shop", "store");
    it.apply(&moved.replace("leftover:", "moved:")).await;
    assert_eq!(slots(&database).await, own);
    let plan = it.engine.plan("t.yaml", "queues: {}").await.unwrap().to_string();
    let expected =
        "its replication slot millpond_leftover stays and holds the log: drop it with select pg_drop";
    assert!(plan.contains(expected), "{plan}");
    it.apply(&source(&database.url(), "")).await;
    let plan = it.engine.plan("t.yaml", "queues: {}").await.unwrap().to_string();
    assert!(plan.contains("its replication slot millpond_leftover is dropped"), "{plan}");
    let report = it.apply("queues: {}").await;
    assert!(report.contains("replication slot millpond_leftover: dropped"), "{report}");
    assert_eq!(slots(&database).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_server_is_away_is_named_with_what_to_do() {
    let it = TestEngine::with(&source("postgres://x@127.0.0.1:1/x?sslmode=disable", "")).await;
    let report = it.apply("queues: {}").await;
    let expected = "replication slot millpond_rows: left in database shop, where it holds the log: drop it with select \
                    pg_drop_replication_slot('millpond_rows')";
    assert!(report.contains(expected), "{report}");
}
