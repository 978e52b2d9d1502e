//! Tables of real databases as sources.

use crate::servers::{MariaDb, Postgres};
use crate::support::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A source of this kind into queue `seen`.
pub(crate) fn source(url: &str, kind: &str, more: &str, poll: &str) -> String {
    format!(
        "databases: {{shop: {{url: \"{url}\"}}}}\nqueues: {{seen: {{}}}}\n\
         bindings: [{{exchange: millpond.events, queue: seen}}]\n\
         sources:\n  rows:\n    {kind}: {{database: shop, {more}}}\n    poll: {poll}\n"
    )
}

pub(crate) async fn next(client: &mut Client) -> Value {
    client.get("seen").await.json()
}

async fn ids(client: &mut Client, count: usize) -> Vec<i64> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(next(client).await["id"].as_i64().unwrap());
    }
    found
}

/// Waits until the source has a place, so that what comes later counts.
pub(crate) async fn begun(it: &TestEngine) {
    in_time("the cursor", async {
        while !it.broker.values("engine").unwrap().iter().any(|(key, _)| key == "source/rows") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_comes_out_of_postgresql() {
    let values = [
        ("bool", "true", "true"),
        ("int2", "-7", "-7"),
        ("int8", "9007199254740993", "9007199254740993"),
        ("float4", "0.1", "0.1"),
        ("float8", "'NaN'", "\"NaN\""),
        ("numeric", "12345678901234567890.0123000", "\"12345678901234567890.0123000\""),
        ("numeric", "0.00001", "\"0.00001\""),
        ("numeric", "-1000000", "\"-1000000\""),
        ("numeric", "-0.5", "\"-0.5\""),
        ("numeric(9,2)", "0", "\"0.00\""),
        ("numeric", "'NaN'", "\"NaN\""),
        ("text", "'it''s'", "\"it's\""),
        ("bytea", "'\\x00ff61'", "\"AP9h\""),
        ("timestamptz", "'2026-11-22T12:00:00.123456+02:00'", "\"2026-11-22T10:00:00.123456Z\""),
        ("timestamptz", "'infinity'", "\"infinity\""),
        ("timestamp", "'1969-12-31T23:59:59'", "\"1969-12-31T23:59:59\""),
        ("date", "'2024-02-29'", "\"2024-02-29\""),
        ("date", "'0044-03-15 BC'", "\"-000043-03-15\""),
        ("time", "'23:59:59.5'", "\"23:59:59.500000\""),
        ("interval", "'1 mon 2 days 3.5 s'", "\"P1M2DT3.500000S\""),
        ("json", "'{\"a\": 1}'", "{\"a\": 1}"),
        ("jsonb", "'[null]'", "[null]"),
        ("uuid", "'0189d0f0-1111-7222-8333-444455556666'", "\"0189d0f0-1111-7222-8333-444455556666\""),
        ("int4[]", "'{{1,NULL},{3,4}}'", "[[1, null], [3, 4]]"),
        ("text[]", "'{}'", "[]"),
        ("inet", "'10.0.0.1'", "\"10.0.0.1/32\""),
        ("mood", "'glad'", "\"glad\""),
        ("int4", "null", "null"),
    ];
    let database = Postgres::new().await;
    database.sql("create type mood as enum ('sad', 'glad')").await;
    let columns =
        values.iter().enumerate().map(|(at, (kind, ..))| format!("c{at} {kind}")).collect::<Vec<_>>();
    database.sql(&format!("create table t (id int primary key, {})", columns.join(", "))).await;
    let given = values.iter().map(|(_, given, _)| *given).collect::<Vec<_>>().join(", ");
    database.sql(&format!("insert into t values (1, {given})")).await;
    let it =
        TestEngine::with(&source(&database.url(), "postgres", "table: t, cursor: id", "{every: 20ms}")).await;
    let seen = it.client().get("seen").await;
    let found = seen.json();
    for (at, (kind, given, expected)) in values.iter().enumerate() {
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(found[format!("c{at}")], expected, "{kind} {given}");
    }
    assert_eq!(found.as_object().unwrap().len(), values.len() + 1, "{found}");
    assert_eq!(seen.routing_key, "postgres.row");
    assert_eq!(seen.header("cloudEvents:subject").as_deref(), Some("1"));
    assert_eq!(seen.header("cloudEvents:id").as_deref(), Some("rows/1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_and_updates_come_once_and_equal_times_are_not_skipped() {
    let database = Postgres::new().await;
    database.sql("create table t (id int primary key, v text, at timestamptz not null)").await;
    database.sql("insert into t select n, 'a', '2026-01-01T00:00:00Z' from generate_series(1, 2500) n").await;
    let more = "table: public.t, cursor: at, columns: [id, v]";
    let it = TestEngine::with(&source(&database.url(), "postgres", more, "{long: 30s}")).await;
    let mut client = it.client();
    assert_eq!(ids(&mut client, 2500).await, (1..=2500).collect::<Vec<_>>());
    database.sql("update t set v = 'b', at = '2026-01-02T00:00:00Z' where id in (7, 9)").await;
    assert_eq!(next(&mut client).await, serde_json::json!({"id": 7, "v": "b"}));
    let it = it.reopen().await;
    let mut client = it.client();
    assert_eq!(next(&mut client).await["id"], 9);
    database.sql("insert into t values (2501, 'a', '2026-01-02T00:00:00Z')").await;
    assert_eq!(next(&mut client).await["id"], 2501);
    assert_eq!(client.ready("seen"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_transaction_commits_late_is_not_skipped() {
    let database = Postgres::new().await;
    database.sql("create table t (id bigserial primary key, v text)").await;
    let it =
        TestEngine::with(&source(&database.url(), "postgres", "table: t, cursor: id", "{long: 30s}")).await;
    let mut client = it.client();
    let late = database.client().await;
    late.batch_execute("begin; insert into t (v) values ('late')").await.unwrap();
    database.sql("insert into t (v) values ('early')").await;
    // Both are looked at by now: the later one waits for the earlier.
    let waiting = "select count(*) from pg_stat_activity where query like '%virtualtransaction%' and application_name = 'millpond'";
    in_time("a look", async {
        while database.one(waiting).await == "0" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(client.ready("seen"), 0);
    late.batch_execute("commit").await.unwrap();
    assert_eq!(next(&mut client).await["v"], "late");
    assert_eq!(next(&mut client).await["v"], "early");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_wakes_and_a_start_from_now_leaves_out_what_was() {
    let database = Postgres::new().await;
    database.sql("create table t (id bigserial primary key, v text); insert into t (v) values ('old')").await;
    let more = "table: t, cursor: id, listen: News, start: now";
    let it = TestEngine::with(&source(&database.url(), "postgres", more, "{long: 1h}")).await;
    let mut client = it.client();
    begun(&it).await;
    for round in 0..3 {
        database.sql(&format!("insert into t (v) values ('{round}'); notify \"News\"")).await;
        assert_eq!(next(&mut client).await["v"], round.to_string());
    }
    // The connection is cut: it is made anew, and nothing is lost.
    database.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'millpond' and datname = current_database()").await;
    database.sql("insert into t (v) values ('after')").await;
    assert_eq!(next(&mut client).await["v"], "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_whose_keys_come_again_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for (table, is_taken) in [
        ("id integer primary key, v", false),
        ("id INTEGER, v, primary key (id)", false),
        ("id integer primary key autoincrement, v", true),
        ("id text primary key, v", true),
        ("id integer, v, primary key (id, v)", true),
        ("id integer primary key, v) without rowid; --", true),
    ] {
        // A file each: who waits looks again.
        let path = dir.path().join(format!("{}.db", table.len()));
        let url = format!("sqlite:{}", path.display());
        let sqlite = rusqlite::Connection::open(path).unwrap();
        sqlite.execute_batch(&format!("create table box ({table});")).unwrap();
        sqlite.execute_batch("insert into box (id, v) values (7, 'x')").unwrap();
        let it = TestEngine::with(&source(&url, "sqlite", "outbox: box", "{every: 10ms}")).await;
        if is_taken {
            assert_eq!(it.client().get("seen").await.json()["v"], "x", "{table}");
        } else {
            let expected = "waiting: SQLite gives values of 'id' again when the rows of 'box' are deleted";
            it.until_source("rows", |status| status.state.to_string().starts_with(expected)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_is_emptied_and_each_row_comes_once() {
    let (postgres, maria) = (Postgres::new().await, MariaDb::new().await);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    let table = "create table box (id int primary key, v varchar(20))";
    postgres.sql(table).await;
    maria.sql(table).await;
    sqlite.execute_batch(table).unwrap();
    let left = "select concat(count(*), '') from box";
    for (url, kind) in [
        (postgres.url(), "postgres"),
        (maria.url(), "mysql"),
        (format!("sqlite:{}", path.display()), "sqlite"),
    ] {
        let it = TestEngine::with(&source(&url, kind, "outbox: box", "{every: 10ms}")).await;
        let mut client = it.client();
        let mut seen = Vec::new();
        let mut it = Some(it);
        for round in 0..3 {
            // Ids come in any order.
            for id in [round * 10 + 5, round * 10 + 1, 1000 - round] {
                let row = format!("insert into box values ({id}, 'x')");
                match kind {
                    "postgres" => postgres.sql(&row).await,
                    "mysql" => maria.sql(&row).await,
                    _ => sqlite.execute_batch(&row).unwrap(),
                }
            }
            if round == 1 {
                let again = it.take().unwrap().reopen().await;
                client = again.client();
                it = Some(again);
            }
            seen.extend(ids(&mut client, 3).await);
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 5, 11, 15, 21, 25, 998, 999, 1000], "{kind}");
        in_time("an empty outbox", async {
            loop {
                let count = match kind {
                    "postgres" => postgres.one(left).await,
                    "mysql" => maria.one(left).await,
                    _ => sqlite.query_row(left, [], |row| row.get(0)).unwrap(),
                };
                if count == "0" {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(client.ready("seen"), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_mariadb_and_sqlite_come_once_in_the_order_of_their_cursor() {
    let maria = MariaDb::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    maria
        .sql("create table t (id bigint auto_increment primary key, v decimal(9,2), b blob, at timestamp(6) not null default now(6), index (at, id))")
        .await;
    sqlite
        .execute_batch("create table t (id integer primary key autoincrement, v text, b blob, at text)")
        .unwrap();
    for (url, kind, cursor, poll) in [
        (maria.url(), "mysql", "id", "{long: 30s}"),
        (maria.url(), "mysql", "at", "{every: 20ms}"),
        (format!("sqlite:{}", path.display()), "sqlite", "id", "{long: 30s}"),
    ] {
        let row = "insert into t (v, b, at) values (12.5, x'00ff', '2026-11-22 10:00:00.5')";
        let insert = async || match kind {
            "mysql" => maria.sql(row).await,
            _ => sqlite.execute_batch(row).unwrap(),
        };
        match kind {
            "mysql" => maria.sql("truncate table t").await,
            _ => sqlite.execute_batch("delete from t").unwrap(),
        }
        insert().await;
        insert().await;
        let it = TestEngine::with(&source(&url, kind, &format!("table: t, cursor: {cursor}"), poll)).await;
        let mut client = it.client();
        let first = next(&mut client).await;
        let expected = match kind {
            "mysql" => {
                serde_json::json!({"id": 1, "v": "12.50", "b": "AP8=", "at": "2026-11-22T10:00:00.500000Z"})
            }
            _ => serde_json::json!({"id": 1, "v": "12.5", "b": "AP8=", "at": "2026-11-22 10:00:00.5"}),
        };
        assert_eq!(first, expected, "{kind} {cursor}");
        assert_eq!(ids(&mut client, 1).await, [2], "{kind} {cursor}");
        insert().await;
        assert_eq!(ids(&mut client, 1).await, [3], "{kind} {cursor}");
        let it = it.reopen().await;
        let mut client = it.client();
        insert().await;
        assert_eq!(ids(&mut client, 1).await, [4], "{kind} {cursor}");
        assert_eq!(client.ready("seen"), 0, "{kind} {cursor}");
    }
}

/// Writers whose transactions commit in any order, an engine that is stopped and started meanwhile: every committed
/// row comes once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_committed_row_comes_once_whatever_the_order_of_commits() {
    const WRITERS: i64 = 4;
    const ROUNDS: i64 = 25;
    let (postgres, maria) = (Postgres::new().await, MariaDb::new().await);
    postgres.sql("create table t (id bigserial primary key, v text)").await;
    maria.sql("create table t (id bigint auto_increment primary key, v varchar(40))").await;
    for kind in ["postgres", "mysql"] {
        let url = if kind == "postgres" { postgres.url() } else { maria.url() };
        let mut it = TestEngine::with(&source(&url, kind, "table: t, cursor: id", "{long: 30s}")).await;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let mut to = match kind {
                "postgres" => To::Postgres(postgres.client().await),
                _ => To::MariaDb(maria.client().await),
            };
            writers.spawn(async move {
                let mut kept = Vec::new();
                for round in 0..ROUNDS {
                    to.run("begin").await;
                    let count = rand::random_range(1..4);
                    for number in 0..count {
                        to.run(&format!("insert into t (v) values ('{writer}-{round}-{number}')")).await;
                        tokio::time::sleep(Duration::from_millis(rand::random_range(0..8))).await;
                    }
                    match rand::random_bool(0.8) {
                        true => {
                            to.run("commit").await;
                            kept.extend((0..count).map(|number| format!("{writer}-{round}-{number}")));
                        }
                        false => to.run("rollback").await,
                    }
                }
                kept
            });
        }
        let mut kept = Vec::new();
        while let Some(more) = writers.join_next().await {
            kept.extend(more.unwrap());
            it = it.reopen().await;
        }
        let mut client = it.client();
        let mut seen = BTreeMap::new();
        for _ in 0..kept.len() {
            *seen.entry(next(&mut client).await["v"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        for row in &kept {
            assert_eq!(seen.get(row), Some(&1), "{kind}: {row}");
        }
        let last = if kind == "postgres" {
            To::Postgres(postgres.client().await)
        } else {
            To::MariaDb(maria.client().await)
        };
        let mut last = last;
        last.run("insert into t (v) values ('last')").await;
        assert_eq!(next(&mut client).await["v"], "last", "{kind}: a row came twice");
    }
}

enum To {
    Postgres(tokio_postgres::Client),
    MariaDb(mysql_async::Conn),
}

impl To {
    async fn run(&mut self, text: &str) {
        use mysql_async::prelude::Queryable;
        match self {
            Self::Postgres(client) => client.batch_execute(text).await.unwrap(),
            Self::MariaDb(client) => client.query_drop(text).await.unwrap(),
        }
    }
}

/// UUIDs are kept as bytes in MySQL and SQLite, and by some programs in PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_bytes_are_each_told_once() {
    let (postgres, maria) = (Postgres::new().await, MariaDb::new().await);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    let urls = [
        (postgres.url(), "postgres", "bytea", "'\\x"),
        (maria.url(), "mysql", "binary(2)", "x'"),
        (format!("sqlite:{}", path.display()), "sqlite", "blob", "x'"),
    ];
    for (url, kind, column, literal) in urls {
        for (way, more) in [
            ("list", "table: list, cursor: id"),
            ("box", "outbox: box"),
            ("three", "table: three, cursor: n"),
        ] {
            let rows =
                ["00ff", "0102", "ff00"].map(|id| format!("insert into {way} values ({literal}{id}', 7);"));
            let make = format!("create table {way} (id {column} primary key, n int);{}", rows.concat());
            for text in make.split(';').filter(|text| !text.is_empty()) {
                match kind {
                    "postgres" => postgres.sql(text).await,
                    "mysql" => maria.sql(text).await,
                    _ => sqlite.execute_batch(text).unwrap(),
                }
            }
            let it = TestEngine::with(&source(&url, kind, more, "{every: 10ms}")).await;
            let mut client = it.client();
            let mut seen = Vec::new();
            for _ in 0..3 {
                let event = client.get("seen").await;
                seen.push((
                    event.json()["id"].as_str().unwrap().to_owned(),
                    event.header("cloudEvents:subject").unwrap(),
                ));
            }
            let both = |id: &str, subject: &str| (id.to_owned(), subject.to_owned());
            let expected = match kind {
                "postgres" => [both("AP8=", "\\x00ff"), both("AQI=", "\\x0102"), both("/wA=", "\\xff00")],
                _ => [both("AP8=", "AP8="), both("AQI=", "AQI="), both("/wA=", "/wA=")],
            };
            assert_eq!(seen, expected, "{kind} {way}");
            // Looks that find nothing: what it has is gone on from.
            let it = it.reopen().await;
            it.until_source("rows", |status| status.state == millpond_engine::SourceState::Running).await;
            let row = format!("insert into {way} values ({literal}ff01', 8)");
            match kind {
                "postgres" => postgres.sql(&row).await,
                "mysql" => maria.sql(&row).await,
                _ => sqlite.execute_batch(&row).unwrap(),
            }
            assert_eq!(next(&mut it.client()).await["id"], "/wE=", "{kind} {way}");
        }
    }
}

#[test]
fn mistakes_in_sources_of_tables_are_reported() {
    let databases = "databases: {shop: {url: \"postgres://a@h/d\"}, file: {url: \"sqlite:f.db\"}}\n";
    for (kind, expected) in [
        ("postgres: {table: t, cursor: id}", "sources.a.postgres: found no 'database'"),
        ("postgres: {database: shop}", "sources.a.postgres: found neither 'table' nor 'outbox'"),
        (
            "postgres: {database: shop, table: t, outbox: t}",
            "sources.a.postgres: found both 'table' and 'outbox'",
        ),
        ("postgres: {database: shop, table: t}", "sources.a.postgres: found no 'cursor'"),
        (
            "postgres: {database: shop, outbox: t, cursor: id}",
            "sources.a.postgres.cursor: found it beside 'outbox'",
        ),
        (
            "postgres: {database: shp, table: t, cursor: id}",
            "found database 'shp', expected one of the section 'databases'; did you mean 'shop'?",
        ),
        (
            "mysql: {database: shop, table: t, cursor: id}",
            "sources.a.mysql.database: found 'shop', a postgres database, expected a mysql one",
        ),
        (
            "postgres: {database: shop, outbox: t}}\n  b: {postgres: {database: shop, outbox: t}",
            "t.yaml:4: sources.b: found the outbox 't' of the database 'shop' here and in sources.a",
        ),
        (
            "postgres: {database: shop, replicate: [t]}}\n  A: {postgres: {database: shop, replicate: [u]}",
            "sources.A: found the replication slot 'millpond_a' of the database 'shop' here and in sources.a",
        ),
        ("postgres: {database: shop, replicate: []}", "sources.a.postgres.replicate: found 0 tables"),
        (
            "postgres: {database: shop, replicate: [t], slot: Ab}",
            "sources.a.postgres.slot: found 'Ab', expected lower case",
        ),
        ("sqlite: {database: file, table: t, cursor: id, listen: c}", "found the unknown key 'listen'"),
        (
            "sqlite: {database: file, table: t, cursor: id, start: end}",
            "sources.a.sqlite.start: found 'end', expected beginning or now",
        ),
        (
            "sqlite: {database: file, table: t, cursor: id, columns: []}",
            "sources.a.sqlite.columns: found 0 columns",
        ),
    ] {
        let text = format!("{databases}sources:\n  a: {{{kind}}}\n");
        let error = millpond_engine::check("t.yaml", &text).unwrap_err().to_string();
        assert!(error.contains(expected), "no\n{expected}\nin\n{error}");
    }
}
