//! Logical replication of a real PostgreSQL as a source.

use crate::servers::Postgres;
use crate::source_tables::{begun, next, source};
use crate::support::*;
use serde_json::Value;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_added_to_a_replication_is_replicated() {
    let database = Postgres::new().await;
    database.sql("create table a (id int primary key); create table b (id int primary key)").await;
    let it = TestEngine::with(&source(
        &database.url(),
        "postgres",
        "replicate: [a], slot: added_to",
        "{long: 30s}",
    ))
    .await;
    begun(&it).await;
    it.apply(&source(&database.url(), "postgres", "replicate: [public.b], slot: added_to", "{long: 30s}"))
        .await;
    let published =
        "select string_agg(tablename, ',') from pg_publication_tables where pubname = 'millpond_rows'";
    in_time("the other table", async {
        while database.one(published).await != "b" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    database.sql("insert into a values (1)").await;
    database.sql("insert into b values (2)").await;
    let mut client = it.client();
    assert_eq!(next(&mut client).await["table"], "public.b");
}

/// A server that goes down hard has the slot where it was at the last checkpoint, and nobody need have noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_went_back_repeats_nothing() {
    let database = Postgres::new().await;
    database.sql("create table t (id int primary key)").await;
    let slot = format!("back_{}", database.name);
    let more = format!("replicate: [t], slot: {slot}");
    let it = TestEngine::with(&source(&database.url(), "postgres", &more, "{every: 1s}")).await;
    begun(&it).await;
    let mut client = it.client();
    // Not while a look holds it.
    let try_until = async |text: String| {
        in_time("the slot", async {
            while database.client.batch_execute(&text).await.is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    };
    try_until(format!("select pg_copy_logical_replication_slot('{slot}', '{slot}_old')")).await;
    database.sql("insert into t values (1)").await;
    assert_eq!(next(&mut client).await["after"]["id"], 1);
    let taken = format!(
        "select count(*) from pg_replication_slots a, pg_replication_slots b where a.slot_name = '{slot}' \
         and b.slot_name = '{slot}_old' and a.confirmed_flush_lsn > b.confirmed_flush_lsn"
    );
    in_time("the slot's move", async {
        while database.one(&taken).await != "1" {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    try_until(format!(
        "select pg_drop_replication_slot('{slot}'), pg_copy_logical_replication_slot('{slot}_old', '{slot}')"
    ))
    .await;
    database.sql("insert into t values (2)").await;
    assert_eq!(next(&mut client).await["after"]["id"], 2);
    it.engine.shut_down().await;
    try_until(format!("select pg_drop_replication_slot('{slot}_old')")).await;
    try_until(format!("select pg_drop_replication_slot('{slot}')")).await;
}

/// PostgreSQL refuses updates and deletes of a published table without a key: the program that owns it would stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_not_published() {
    let database = Postgres::new().await;
    database.sql("create table a (v text); insert into a values ('x')").await;
    let it = TestEngine::with(&source(
        &database.url(),
        "postgres",
        "replicate: [a], slot: without_key",
        "{long: 30s}",
    ))
    .await;
    it.until_source("rows", |status| status.state.to_string().contains("replica identity")).await;
    database.sql("update a set v = 'y'").await;
    database.sql("alter table a replica identity full").await;
    begun(&it).await;
    database.sql("update a set v = 'z'").await;
    assert_eq!(next(&mut it.client()).await["before"]["v"], "y");
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_updates_and_deletes_are_replicated_with_before_and_after() {
    let database = Postgres::new().await;
    database.sql("create table t (id int primary key, v text, n numeric, at timestamptz, d bytea, a text[]); create table f (k text); alter table f replica identity full; insert into t values (0, 'old')").await;
    let more = "replicate: [t, public.f]";
    let it = TestEngine::with(&source(&database.url(), "postgres", more, "{long: 30s}")).await;
    begun(&it).await;
    let mut client = it.client();
    database.sql("begin; insert into t values (1, 'a', 1.50, '2026-11-22T10:00:00.5+00', '\\x00ff', '{\"x,y\",NULL}'); update t set v = 'b' where id = 1; update t set id = 2 where id = 1; commit").await;
    let seen = client.get("seen").await;
    assert_eq!(seen.routing_key, "postgres.insert");
    assert_eq!(seen.header("cloudEvents:subject").as_deref(), Some("1"));
    let row = serde_json::json!({"id": 1, "v": "a", "n": "1.50", "at": "2026-11-22T10:00:00.500000Z", "d": "AP8=", "a": ["x,y", null]});
    assert_eq!(
        seen.json(),
        serde_json::json!({"operation": "insert", "table": "public.t", "before": null, "after": row})
    );
    let changed = next(&mut client).await;
    assert_eq!((&changed["before"], &changed["after"]["v"]), (&Value::Null, &"b".into()));
    let moved = next(&mut client).await;
    assert_eq!((&moved["before"], &moved["after"]["id"]), (&serde_json::json!({"id": 1}), &2.into()));
    // What was changed while nobody looked comes as well, each change once.
    let it = it.reopen().await;
    let mut client = it.client();
    database.sql("insert into f values ('one'); update f set k = 'two'; delete from t; truncate f").await;
    assert_eq!(next(&mut client).await["after"]["k"], "one");
    let full = next(&mut client).await;
    assert_eq!((&full["before"]["k"], &full["after"]["k"]), (&"one".into(), &"two".into()));
    for id in [0, 2] {
        let gone = next(&mut client).await;
        assert_eq!((&gone["operation"], &gone["before"]), (&"delete".into(), &serde_json::json!({"id": id})));
    }
    assert_eq!(client.get("seen").await.routing_key, "postgres.truncate");
    assert_eq!(client.ready("seen"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_replicated_in_parts_and_the_slot_moves_on() {
    let database = Postgres::new().await;
    database.sql("create table t (id int primary key)").await;
    let more = "replicate: [t], slot: large_one";
    let mut it = TestEngine::with(&source(&database.url(), "postgres", more, "{long: 30s}")).await;
    begun(&it).await;
    database.sql("insert into t select generate_series(1, 3500); insert into t values (3501)").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut client = it.client();
        seen.extend(ids_of(&mut client, 900).await);
        it = it.reopen().await;
    }
    let mut client = it.client();
    seen.extend(ids_of(&mut client, 801).await);
    assert_eq!(seen, (1..=3501).collect::<Vec<_>>());
    let values = it.broker.values("engine").unwrap();
    let (_, cursor) = values.into_iter().find(|(key, _)| key == "source/rows").unwrap();
    let cursor: Value = serde_json::from_slice(&cursor).unwrap();
    let lsn = cursor["cursor"]["lsn"].as_str().unwrap().to_owned();
    let taken = format!(
        "select count(*) from pg_replication_slots where slot_name = 'large_one' and confirmed_flush_lsn >= '{lsn}'"
    );
    in_time("the slot", async {
        while database.one(&taken).await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // A slot that is gone is told, and not made anew in silence.
    it.engine.shut_down().await;
    in_time("the slot's end", async {
        // A look that was broken off may still hold it.
        while database.client.batch_execute("select pg_drop_replication_slot('large_one')").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let it = it.reopen().await;
    it.until_source("rows", |status| status.state.to_string().contains("changes since")).await;
}

async fn ids_of(client: &mut Client, count: usize) -> Vec<i64> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(next(client).await["after"]["id"].as_i64().unwrap());
    }
    found
}
