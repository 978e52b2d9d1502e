//! `postgres`, `mysql`, `sqlite`: rows of a table. See docs/guide/source-postgres.md.
//!
//! **By a cursor column**: rows are read in the order of a column that grows (an id, a time of change), ties broken by
//! a key. Values of such a column are given before their transaction commits, so a row may become visible after one
//! with a higher value. A look therefore goes in two steps: it notes the last row that is there, lets all end that
//! were writing to the table then, and reads up to the noted row. Whoever begins to write later gets higher values.
//!
//! **An outbox**: rows are read and deleted once they are kept; their keys are the cursor, so what a crash left
//! undeleted is deleted by the next look before it reads.

mod look;
mod sql;

use super::{Kind, Opening, Poll, Polling, Source, SourceError, replication};
use crate::database::DatabaseError;
use crate::topology::read::text;
use crate::topology::{Fields, Node, Report, shorten};
use look::Looking;
use std::sync::Arc;
use std::time::Duration;

/// How far behind now a column of moments is read: so long may a transaction take from the moment it takes for its own
/// (`now()` is its beginning) to its first write to the table.
const LAG_DEFAULT: Duration = Duration::from_secs(1);

/// How long MySQL's numbers are waited for: from the moment one is given until its row can be seen by a locking read.
const LAG_OF_NUMBERS: Duration = Duration::from_millis(50);

/// The longest lag.
const LAG_MAX: Duration = Duration::from_secs(3600);

/// How long one look of long polling takes.
const LONG_DEFAULT: Duration = Duration::from_secs(30);

/// Columns that may be named.
const COLUMNS_MAX: usize = 1000;

/// What the file says.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) product: &'static str,
    pub(super) database: String,
    pub(super) table: String,
    pub(super) cursor: String,
    pub(super) key: String,
    pub(super) columns: Option<Vec<String>>,
    pub(super) condition: Option<String>,
    pub(super) lag: Option<Duration>,
    pub(super) listen: Option<String>,
    pub(super) from_now: bool,
    pub(super) is_outbox: bool,
}

impl From<DatabaseError> for SourceError {
    fn from(error: DatabaseError) -> Self {
        Self::new(error.to_string())
    }
}

/// Reads `mysql:`.
pub(super) fn read_mysql(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    read("mysql", node, path, report)
}

/// Reads `sqlite:`.
pub(super) fn read_sqlite(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    read("sqlite", node, path, report)
}

/// Reads `postgres:`, in each of its ways.
pub(super) fn read_postgres(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    match node.entry("replicate").or_else(|| node.entry("publication")) {
        Some(_) => replication::read(node, path, report),
        None => read("postgres", node, path, report),
    }
}

fn read(product: &'static str, node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    let mut known = vec!["database", "table", "outbox", "cursor", "key", "columns", "where", "start"];
    match product {
        "postgres" => known.extend(["lag", "listen"]),
        "mysql" => known.push("lag"),
        _ => {}
    }
    let fields = Fields::read(node, path, &known, report);
    fields.required("database", "'database', a name of the section 'databases'", report);
    let database = fields.text("database", "the name of a database", report);
    let name = |key: &str, report: &mut Report| {
        let found = fields.text(key, "a name", report)?;
        if found.is_empty() || found.contains('\0') {
            let line = fields.get(key).map_or(node.line, |node| node.line);
            report.add(line, &fields.path_of(key), "found nothing, expected a name");
        }
        Some(found.to_owned())
    };
    let (table, outbox) = (name("table", report), name("outbox", report));
    let is_outbox = outbox.is_some();
    let cursor = name("cursor", report);
    let key = name("key", report).unwrap_or_else(|| "id".to_owned());
    check_way(&fields, cursor.is_some(), report);
    let columns = fields.get("columns").map(|node| read_columns(node, &fields.path_of("columns"), report));
    let from_now = match fields.text("start", "beginning or now", report) {
        None | Some("beginning") => false,
        Some("now") => true,
        Some(other) => {
            let line = fields.get("start").map_or(node.line, |node| node.line);
            let found = format!("found '{}', expected beginning or now", shorten(other));
            report.add(line, &fields.path_of("start"), found);
            false
        }
    };
    let lag = fields.get("lag").map(|_| fields.duration("lag", LAG_DEFAULT, LAG_MAX, report));
    let listen = name("listen", report);
    let condition = fields.text("where", "a condition in SQL", report).map(str::to_owned);
    Some(Arc::new(Spec {
        product,
        database: database?.to_owned(),
        table: table.or(outbox)?,
        cursor: cursor.unwrap_or_else(|| key.clone()),
        key,
        columns,
        condition,
        lag,
        listen,
        from_now,
        is_outbox,
    }))
}

/// Whether it is a table with its cursor, or an outbox.
fn check_way(fields: &Fields<'_>, has_cursor: bool, report: &mut Report) {
    match (fields.get("table"), fields.get("outbox")) {
        (Some(_), Some(_)) => {
            report.add(fields.line, &fields.path, "found both 'table' and 'outbox', expected one of them")
        }
        (None, None) => {
            report.add(fields.line, &fields.path, "found neither 'table' nor 'outbox', expected one of them")
        }
        (Some(_), None) if !has_cursor => {
            let expected =
                "'cursor', a column that grows with every change to be told: an id, a time of change";
            fields.required("cursor", expected, report);
        }
        (None, Some(_)) => {
            for key in ["cursor", "lag", "start"] {
                if let Some(node) = fields.get(key) {
                    report.add(
                        node.line,
                        &fields.path_of(key),
                        "found it beside 'outbox', expected none: all rows are taken",
                    );
                }
            }
        }
        _ => {}
    }
}

fn read_columns(node: &Node, path: &str, report: &mut Report) -> Vec<String> {
    let crate::topology::Kind::List(items) = &node.kind else {
        report.expected(node, path, "a list of columns");
        return Vec::new();
    };
    if items.is_empty() || items.len() > COLUMNS_MAX {
        report.add(node.line, path, format!("found {} columns, expected 1 to {COLUMNS_MAX}", items.len()));
    }
    let names = items.iter().enumerate();
    names
        .filter_map(|(at, item)| text(item, &format!("{path}[{at}]"), "the name of a column", report))
        .map(str::to_owned)
        .collect()
}

impl Kind for Spec {
    fn name(&self) -> &'static str {
        self.product
    }

    fn polling(&self) -> Polling {
        Polling { default: Poll::Long(LONG_DEFAULT), every: true, long: true }
    }

    fn event_type(&self) -> String {
        format!("{}.row", self.product)
    }

    fn takes_alone(&self, _source: &str) -> Option<String> {
        self.is_outbox.then(|| format!("the outbox '{}' of the database '{}'", self.table, self.database))
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
        let database = opening.tools.actions.databases.get(&self.database)?;
        Ok(Box::new(Looking::new(self.clone(), database)))
    }
}
