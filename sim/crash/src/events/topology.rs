//! What the broker is told to do.

use std::path::Path;

/// What remembers acts after so many events of a key.
pub(super) const SEVEN: u64 = 7;

/// Queues that rules publish to.
pub(super) const OUT: &str = "out";
pub(super) const ROWS: &str = "rows";
pub(super) const SUMS: &str = "sums";
pub(super) const SEVENTHS: &str = "sevenths";
pub(super) const PAIRS: &str = "pairs";
pub(super) const DRAINED: &str = "drained";

/// All of them.
pub(super) const QUEUES: [&str; 6] = [OUT, ROWS, SUMS, SEVENTHS, PAIRS, DRAINED];

/// The program that a rule runs, in the folder: writes down that it ran.
pub(super) const PROGRAM: &str = "ran.sh";

const LITE_SOURCES: [&str; 3] = ["lines", "lite-table", "lite-outbox"];
const POSTGRES_SOURCES: [&str; 3] = ["pg-table", "pg-outbox", "pg-log"];

/// The sources' names.
pub(super) fn sources(postgres: bool) -> Vec<&'static str> {
    let more = if postgres { &POSTGRES_SOURCES[..] } else { &[] };
    LITE_SOURCES.iter().chain(more).copied().collect()
}

/// The file: `port` is where HTTP calls go, `postgres` the URL of the server.
pub(super) fn topology(folder: &Path, port: u16, postgres: Option<&str>) -> String {
    let folder = folder.display();
    let (mut database, mut sources) = (String::new(), String::new());
    if let Some(url) = postgres {
        database = format!(r#"  pg: {{url: "{url}"}}"#);
        sources = r#"
  pg-table:
    postgres: {database: pg, table: rows, cursor: id, listen: rows}
    type: row
  pg-outbox:
    postgres: {database: pg, outbox: outbox, listen: outbox}
    type: row
  pg-log:
    postgres: {database: pg, publication: crash, slot: crash}
    data: .data.after
    type: row
"#
        .to_owned();
    }
    format!(
        r#"
queues: {{{OUT}: {{}}, {ROWS}: {{}}, {SUMS}: {{}}, {SEVENTHS}: {{}}, {PAIRS}: {{}}, {DRAINED}: {{}}}}
databases:
  lite: {{url: "sqlite:{folder}/lite.db"}}
  books: {{url: "sqlite:{folder}/books.db"}}
{database}
sources:
  lines:
    file: {{path: {folder}/in/app.log*, format: json, from: start}}
    poll: {{long: 5s}}
    type: line
  lite-table:
    sqlite: {{database: lite, table: rows, cursor: id}}
    type: row
  lite-outbox:
    sqlite: {{database: lite, outbox: outbox}}
    poll: {{every: 50ms}}
    type: row
{sources}
{rules}
"#,
        rules = rules(&folder, port)
    )
}

fn rules(folder: &std::path::Display<'_>, port: u16) -> String {
    format!(
        r#"
rules:
  act:
    on: {{type: [line, posted]}}
    do:
      - http: {{endpoint: "http://127.0.0.1:{port}/call", body: '.data.n | tostring', timeout: 2s}}
      - publish: {{exchange: "", routing_key: {OUT}, body: '.data.n | tostring'}}
    retry: {{max_attempts: 1000, first: 20ms, factor: 1.5, max: 200ms}}
  rows:
    on: {{type: row}}
    order_by: '"\(.source) \(.data.k)"'
    do:
      - if: .data.n % 4 == 0
        sql:
          database: books
          statement: insert into effects (key, event, life) select ?1, ?2, life from lives
          parameters: [.key, .id]
      - publish:
          exchange: ""
          routing_key: {ROWS}
          body: '{{source, event: .id, id: .data.id, k: .data.k, n: .data.n}}'
    retry: {{max_attempts: 1000, first: 20ms, factor: 1.5, max: 200ms}}
  sums:
    on: {{type: row}}
    debounce: {{wait: 40ms, max: 200ms, by: '"\(.source) \(.data.k)"'}}
    do:
      - exec: {{command: [{folder}/{PROGRAM}], stdin: '"\(.count) \(.key)\n"'}}
      - publish: {{exchange: "", routing_key: {SUMS}, body: '{{key, count}}'}}
    retry: {{max_attempts: 1000, first: 20ms, factor: 1.5, max: 200ms}}
  sevenths:
    on: {{type: row}}
    count: {{every: {SEVEN}, within: 720h, by: '"\(.source) \(.data.k)"'}}
    do:
      - publish: {{exchange: "", routing_key: {SEVENTHS}, body: '{{key, count}}'}}
  pairs:
    all_of:
      events:
        table: {{type: row, source: /sources/lite-table}}
        outbox: {{type: row, source: /sources/lite-outbox}}
      correlate: .data.n
      within: 720h
    do:
      - publish: {{exchange: "", routing_key: {PAIRS}, body: '.events | map(.data.n)'}}
  drained:
    on: {{type: line}}
    do:
      - publish: {{exchange: "", routing_key: {DRAINED}, body: '.data.n | tostring'}}
"#
    )
}
