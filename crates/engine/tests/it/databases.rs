//! Statements in real databases.

use crate::servers::{MariaDb, Postgres};
use crate::support::*;
use millpond_engine::check;

/// A rule that takes from `in`, does `sql` and publishes to `out`.
fn rule(url: &str, more: &str, sql: &str) -> String {
    format!(
        r#"
databases:
  shop: {{url: "{url}"{more}}}
queues: {{in: {{}}, out: {{}}}}
rules:
  store:
    on: {{queue: in}}
    do:
      - sql: {{database: shop, {sql}}}
      - publish: {{exchange: "", routing_key: out}}
    retry: {{max_attempts: 3, first: 10ms}}
"#
    )
}

/// What a rule did with an event: published, or the error with which it was parked.
async fn outcome(it: &TestEngine, event: &str) -> Result<(), String> {
    let mut client = it.client();
    let before = it.counts("store");
    client.publish("", "in", event).await;
    it.until("store", |now| now.1 + now.3 > before.1 + before.3).await;
    match it.counts("store").3 > before.3 {
        true => Err(client.get("store.failed").await.header("x-millpond-error").unwrap()),
        false => Ok(()),
    }
}

/// Column types with what is given and what the database then has, as it writes it.
const POSTGRES_VALUES: [(&str, &str, &str); 22] = [
    ("bool", "true", "t"),
    ("int2", "-7", "-7"),
    ("int8", "9007199254740993", "9007199254740993"),
    ("float8", "0.1", "0.1"),
    ("numeric(30,10)", "\"12345678901234567890.0123456789\"", "12345678901234567890.0123456789"),
    ("numeric", "12", "12"),
    ("text", "\"it's; -- \\\\ \\\"quoted\\\" \\u00e9\"", "it's; -- \\ \"quoted\" é"),
    ("text", "{\"a\": [1]}", "{\"a\":[1]}"),
    ("text", "17", "17"),
    ("varchar(5)", "\"abcde\"", "abcde"),
    ("bytea", "\"AP9h\"", "\\x00ff61"),
    ("bytea", "{\"$base64\": \"AP9h\"}", "\\x00ff61"),
    ("timestamptz", "\"2026-11-22T12:00:00.123456+02:00\"", "2026-11-22 10:00:00.123456+00"),
    ("timestamp", "\"2026-11-22T12:00:00\"", "2026-11-22 12:00:00"),
    ("date", "\"2026-11-22\"", "2026-11-22"),
    ("interval", "\"P1DT2H\"", "1 day 02:00:00"),
    ("json", "{\"b\": null}", "{\"b\":null}"),
    ("jsonb", "\"text\"", "\"text\""),
    ("uuid", "\"0189d0f0-1111-7222-8333-444455556666\"", "0189d0f0-1111-7222-8333-444455556666"),
    ("int4[]", "[1, null, 3]", "{1,NULL,3}"),
    ("text[][]", "[[\"a,b\", \"\\\"\"], [\"{\", \"NULL\"]]", "{{\"a,b\",\"\\\"\"},{\"{\",\"NULL\"}}"),
    ("inet", "\"10.0.0.1\"", "10.0.0.1/32"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_reaches_postgresql() {
    let database = Postgres::new().await;
    let columns: Vec<_> = (0..POSTGRES_VALUES.len()).collect();
    let types = columns.iter().map(|at| format!("c{at} {}", POSTGRES_VALUES[*at].0));
    let types = types.collect::<Vec<_>>().join(", ");
    database
        .sql(&format!("set timezone = 'UTC'; create table t (key text primary key, none int4, {types})"))
        .await;
    let places = (1..=columns.len() + 2).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ");
    let parameters = columns.iter().map(|at| format!("'.data.c{at}'")).collect::<Vec<_>>().join(", ");
    let sql =
        format!("statement: 'insert into t values ({places})', parameters: [.key, .data.none, {parameters}]");
    let it = TestEngine::with(&rule(&database.url(), "", &sql)).await;
    let values = columns.iter().map(|at| format!("\"c{at}\": {}", POSTGRES_VALUES[*at].1));
    let event = format!("{{\"id\": \"e1\", \"data\": {{{}}}}}", values.collect::<Vec<_>>().join(", "));
    let properties = millpond_model::properties::Properties {
        content_type: Some("application/cloudevents+json".into()),
        ..persistent()
    };
    let event =
        event.replace("\"id\"", "\"specversion\": \"1.0\", \"type\": \"t\", \"source\": \"s\", \"id\"");
    let mut client = it.client();
    client.publish_with("", "in", event.as_bytes(), &properties).await;
    it.until("store", |(_, acted, _, failed)| acted + failed > 0).await;
    if let Some(parked) = client.try_get("store.failed").await {
        panic!("{}", parked.header("x-millpond-error").unwrap());
    }
    for at in columns {
        let (kind, given, expected) = POSTGRES_VALUES[at];
        assert_eq!(
            database.one(&format!("select c{at}::text from t")).await.replace("true", "t"),
            expected,
            "{kind} {given}"
        );
    }
    assert_eq!(database.one("select coalesce(none::text, 'null') from t").await, "null");
    assert_eq!(database.one("select key from t").await, "e1/store/0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_is_refused_by_its_key_and_parked_with_the_reason() {
    let database = Postgres::new().await;
    database.sql("create table t (id int primary key)").await;
    let sql = "statement: 'insert into t values ($1)', parameters: [.data.id]";
    let it = TestEngine::with(&rule(&database.url(), "", sql)).await;
    assert_eq!(outcome(&it, r#"{"id": 1}"#).await, Ok(()));
    let refused = outcome(&it, r#"{"id": 1}"#).await.unwrap_err();
    assert!(refused.contains("duplicate key value") && refused.contains("23505"), "{refused}");
    // What cannot go better is not tried again.
    assert_eq!(it.counts("store").2, 0);
    let wrong = outcome(&it, r#"{"id": "x"}"#).await.unwrap_err();
    assert!(wrong.contains("invalid input syntax for type integer"), "{wrong}");
    assert_eq!(outcome(&it, r#"{"id": 2}"#).await, Ok(()));
    assert_eq!(database.one("select count(*) from t").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_concerns_other_rows_than_expected_is_undone() {
    let (postgres, maria) = (Postgres::new().await, MariaDb::new().await);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    let table = "create table t (id int primary key, token varchar(20))";
    let rows = "insert into t values (1, 'old'), (2, 'old'), (3, 'old')";
    for text in [table, rows] {
        postgres.sql(text).await;
        maria.sql(text).await;
        sqlite.execute_batch(text).unwrap();
    }
    let cases = [
        (postgres.url(), "update t set token = $1 where id >= $2"),
        (maria.url(), "update t set token = ? where id >= ?"),
        (format!("sqlite:{}", path.display()), "update t set token = ?1 where id >= ?2"),
    ];
    for (url, statement) in cases {
        let sql = format!("statement: '{statement}', parameters: [.data.token, .data.id], expect_rows: 1");
        let it = TestEngine::with(&rule(&url, "", &sql)).await;
        assert_eq!(outcome(&it, r#"{"token": "new", "id": 3}"#).await, Ok(()), "{url}");
        // The same value again concerns the row as well.
        assert_eq!(outcome(&it, r#"{"token": "new", "id": 3}"#).await, Ok(()), "{url}");
        let refused = outcome(&it, r#"{"token": "all", "id": 0}"#).await.unwrap_err();
        assert!(refused.contains("concerned 3 rows, expected 1: it was undone"), "{url}: {refused}");
        assert_eq!(it.counts("store").2, 2, "{url}: a row may come, so it is tried again");
    }
    let count = "select concat(count(*), '') from t where token = 'old'";
    assert_eq!(postgres.one(count).await, "2");
    assert_eq!(maria.one(count).await, "2");
    let left: i64 =
        sqlite.query_row("select count(*) from t where token = 'old'", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_reach_mariadb_and_sqlite() {
    let maria = MariaDb::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    maria.sql("create table t (a bigint, b double, c varchar(50), d varbinary(9), e decimal(30,5), f int, g text)").await;
    sqlite
        .execute_batch("create table t (a integer, b real, c text, d blob, e text, f integer, g text)")
        .unwrap();
    let parameters = (b'a'..=b'g').map(|c| format!(".data.{}", char::from(c))).collect::<Vec<_>>().join(", ");
    let event = r#"{"a": 9007199254740993, "b": 0.1, "c": "it's \u00e9; --", "d": {"$base64": "AP8="}, "e": "1234567890123456789012.12345", "g": {"x": true}}"#;
    for url in [maria.url(), format!("sqlite:{}", path.display())] {
        let sql =
            format!("statement: 'insert into t values (?, ?, ?, ?, ?, ?, ?)', parameters: [{parameters}]");
        let it = TestEngine::with(&rule(&url, "", &sql)).await;
        assert_eq!(outcome(&it, event).await, Ok(()), "{url}");
        let wrong = rule(&url, "", "statement: 'insert into t values (?)', parameters: [.data.a]");
        let it = TestEngine::with(&wrong).await;
        let refused = outcome(&it, event).await.unwrap_err();
        assert!(refused.contains("olumn"), "{refused}");
        assert_eq!(it.counts("store").2, 0, "{url}");
    }
    let row = "select concat_ws('|', a, b, c, hex(d), e, f, g) from t";
    let expected = r#"9007199254740993|0.1|it's é; --|00FF|1234567890123456789012.12345|{"x":true}"#;
    assert_eq!(maria.one(row).await, expected);
    assert_eq!(sqlite.query_row(row, [], |row| row.get::<_, String>(0)).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_taken_from_its_reference_and_shown_nowhere() {
    let database = Postgres::new().await;
    let (name, port) = (&database.name, database.server.port);
    database
        .sql(&format!(
            "create role app_{name} login password 'p@ss/w:rd'; grant all on schema public to public"
        ))
        .await;
    database.sql("create table t (id int); grant all on t to public").await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("password");
    let ca_file = tls_file("authority.pem");
    let url = format!(
        "postgres://app_{name}:${{file:{}}}@127.0.0.1:{port}/{name}?sslmode=verify-full",
        secret.display()
    );
    let more = format!(", ca_file: {}", ca_file.display());
    let sql = "statement: 'insert into t values ($1)', parameters: [.data.id]";
    let it = TestEngine::with(&rule(&url, &more, sql)).await;
    std::fs::write(&secret, "wrong").unwrap();
    let refused = outcome(&it, r#"{"id": 1}"#).await.unwrap_err();
    assert!(refused.contains("password authentication failed") && !refused.contains("wrong"), "{refused}");
    std::fs::write(&secret, "p@ss/w:rd\n").unwrap();
    assert_eq!(outcome(&it, r#"{"id": 1}"#).await, Ok(()));
    // Without the authority the server is nobody.
    let it = TestEngine::with(&rule(&url, "", sql)).await;
    let refused = outcome(&it, r#"{"id": 1}"#).await.unwrap_err();
    assert!(refused.contains("'ca_file' can name it"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_tried_again_and_a_statement_that_takes_too_long_is_ended() {
    let database = Postgres::new().await;
    database.sql("create table t (id int)").await;
    let sql = "statement: 'insert into t select $1 from pg_sleep(600)', parameters: [.data.id]";
    let it = TestEngine::with(&rule(&database.url(), ", statement_timeout: 100ms", sql)).await;
    let refused = outcome(&it, r#"{"id": 1}"#).await.unwrap_err();
    assert!(refused.contains("no answer within 100 ms"), "{refused}");
    assert_eq!(it.counts("store").2, 2);
    let nobody = "postgres://postgres@127.0.0.1:1/none?sslmode=disable";
    let it = TestEngine::with(&rule(nobody, "", sql)).await;
    let refused = outcome(&it, r#"{"id": 1}"#).await.unwrap_err();
    assert!(refused.contains("database 'shop': no connection: ") && refused.contains("refused"), "{refused}");
    assert_eq!(it.counts("store").2, 2);
    let it = TestEngine::with(&rule("sqlite:missing.db", "", sql)).await;
    let refused = outcome(&it, r#"{"id": 1}"#).await.unwrap_err();
    assert!(refused.contains("unable to open database file"), "{refused}");
}

#[test]
fn mistakes_about_databases_are_reported_at_once() {
    let text = r#"
databases:
  a: {url: "postgres://app:s3cret@host/shop"}
  b: {url: "oracle://host/shop"}
  c: {url: "postgres:///shop"}
  d: {url: "mysql://app@host/shop?sslmode=prefer"}
  e: {url: "postgres://app:${env:A}@host/shop", password: "${env:B}"}
  f: {password: s3cret}
  g: {url: "sqlite::memory:"}
  h: {url: "postgres://app@host/shop?password=s3cret", connections: 0}
queues: {in: {}}
rules:
  r:
    on: {queue: in}
    do:
      - sql: {database: z, statement: 'select \(.data.id)'}
      - sql: {database: e, statement: select 1, parameters: .data.id, expect_rows: 5-1}
"#;
    let error = check("t.yaml", text).unwrap_err().to_string();
    assert!(!error.contains("s3cret"), "{error}");
    let expected = [
        "t.yaml:3: databases.a.url: found a password, expected a reference to a secret",
        "t.yaml:4: databases.b.url: found the scheme 'oracle', expected a URL: postgres://",
        "t.yaml:5: databases.c.url: found no host",
        "t.yaml:6: databases.d.url: found sslmode=prefer, expected one of disable",
        "t.yaml:7: databases.e: found a password in 'url' and one in 'password'",
        "t.yaml:8: databases.f: found no 'url'",
        "t.yaml:8: databases.f.password: found a text, expected a reference",
        "t.yaml:9: databases.g.url: found 'sqlite::memory:', expected sqlite:PATH",
        "t.yaml:10: databases.h.url: found a password",
        "t.yaml:10: databases.h.connections: found the number 0, expected a whole number from 1 to 64",
        "t.yaml:16: rules.r.do[0].sql.statement: found '\\(' in a statement, expected placeholders",
        "t.yaml:16: rules.r.do: found database 'z', expected one of the section 'databases'",
        "t.yaml:17: rules.r.do[1].sql.parameters: found '.data.id', expected a list of jq",
        "t.yaml:17: rules.r.do[1].sql.expect_rows: found '5-1', expected a number of rows",
    ];
    for line in expected {
        assert!(error.contains(line), "no\n{line}\nin\n{error}");
    }
}
