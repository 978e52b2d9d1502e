//! Databases: those that a topology names, each with a few connections, behind one door.
//!
//! [`Databases`] knows them by name, a [`Database`] does statements ([`Statement`]) and answers with JSON ([`Answer`]).
//! How JSON becomes SQL's values and back is the same for actions and sources: docs/guide/databases.md.

mod error;
mod mysql;
mod pool;
pub(crate) mod postgres;
mod spec;
mod sqlite;
mod value;

pub(crate) use error::DatabaseError;
pub(crate) use spec::{DatabaseSpec, Kind, read_databases, read_range};
pub(crate) use value::{BYTES_KEY, as_bytes, base64_bytes};

use crate::secret::{SecretText, Secrets};
use parking_lot::Mutex;
use pool::Pool;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// So much longer than `statement_timeout` an answer is waited for: the server is to end the statement itself, for
/// only then is it known to be undone.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

/// Largest answer, as JSON. Bytes.
pub(crate) const ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// SQL, with placeholders as the database has them: `$1`, or `?`.
    pub(crate) text: Arc<str>,
    /// One for each placeholder.
    pub(crate) parameters: Vec<Value>,
    /// Rows of the answer that are kept.
    pub(crate) rows_max: usize,
    /// Rows are kept until they have so many bytes as JSON.
    pub(crate) bytes_max: usize,
    /// How many rows it has to give or change; done in a transaction that is undone otherwise.
    pub(crate) expect_rows: Option<RangeInclusive<u64>>,
}

impl Statement {
    /// One whose whole answer is wanted.
    pub(crate) fn new(text: impl Into<Arc<str>>, parameters: Vec<Value>) -> Self {
        Self {
            text: text.into(),
            parameters,
            rows_max: usize::MAX,
            bytes_max: ANSWER_MAX_BYTES,
            expect_rows: None,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    /// Rows as objects, in their order; the columns in theirs.
    pub(crate) rows: Vec<Map<String, Value>>,
    /// Rows that were changed; for a statement that only gives rows, how many those were.
    pub(crate) affected: u64,
    /// Whether there were more rows than are here.
    pub(crate) more: bool,
}

/// The databases of the topology. Cloning counts a reference.
#[derive(Debug, Clone)]
pub(crate) struct Databases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    home: Home,
    known: Mutex<BTreeMap<String, Database>>,
}

/// Where what a database needs is found.
#[derive(Debug, Clone)]
struct Home {
    /// Relative paths begin here.
    base: PathBuf,
    secrets: Secrets,
}

impl Home {
    /// The text with its secrets as they are now.
    async fn expose(&self, text: &SecretText) -> Result<String, String> {
        let hidden = text.resolve(&self.secrets).await;
        hidden
            .map(|hidden| hidden.expose().to_owned())
            .map_err(|error| format!("the password {text}: {error}"))
    }
}

/// One of them. Cloning counts a reference.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    spec: Arc<DatabaseSpec>,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Server(Arc<Pool>),
    Sqlite(sqlite::Sqlite),
}

impl Databases {
    /// None yet; relative paths are under `base`.
    pub(crate) fn new(base: PathBuf, secrets: Secrets) -> Self {
        Self(Arc::new(Inner { home: Home { base, secrets }, known: Mutex::default() }))
    }

    /// Those of a topology from now on. One that is said as before keeps its connections; connections of the others
    /// are closed once what is under way on them is done.
    pub(crate) fn set(&self, specs: &[Arc<DatabaseSpec>]) {
        let mut known = self.0.known.lock();
        let mut new = BTreeMap::new();
        for spec in specs {
            let kept = known.remove(&spec.name).filter(|database| *database.spec == **spec);
            new.insert(spec.name.clone(), kept.unwrap_or_else(|| Database::new(spec.clone(), &self.0.home)));
        }
        *known = new;
    }

    /// The database of that name.
    pub(crate) fn get(&self, name: &str) -> Result<Database, DatabaseError> {
        let known = self.0.known.lock();
        known.get(name).cloned().ok_or_else(|| DatabaseError::Missing { name: name.to_owned() })
    }
}

impl Database {
    fn new(spec: Arc<DatabaseSpec>, home: &Home) -> Self {
        let way = match &spec.kind {
            Kind::Sqlite { path } => Way::Sqlite(sqlite::Sqlite::new(spec.clone(), home.base.join(path))),
            Kind::Postgres { .. } | Kind::MySql { .. } => {
                Way::Server(Arc::new(Pool::new(spec.clone(), home.clone())))
            }
        };
        Self { spec, way }
    }

    pub(crate) fn spec(&self) -> &DatabaseSpec {
        &self.spec
    }

    /// Does a statement.
    pub(crate) async fn run(&self, statement: &Statement) -> Result<Answer, DatabaseError> {
        match &self.way {
            Way::Server(pool) => pool.run(statement).await,
            Way::Sqlite(sqlite) => sqlite.run(statement).await,
        }
    }

    /// Gives every row of a query.
    pub(crate) async fn rows(
        &self,
        text: impl Into<Arc<str>>,
        parameters: Vec<Value>,
    ) -> Result<Vec<Map<String, Value>>, DatabaseError> {
        Ok(self.run(&Statement::new(text, parameters)).await?.rows)
    }

    /// A PostgreSQL connection of one's own, outside the pool, with what the server says unasked.
    pub(crate) async fn listen(&self, channel: &str) -> Result<postgres::Listener, DatabaseError> {
        match &self.way {
            Way::Server(pool) => postgres::Listener::open(&self.spec, pool.home(), channel).await,
            Way::Sqlite(_) => Err(DatabaseError::Value {
                database: self.spec.name.clone(),
                reason: "only PostgreSQL has LISTEN".to_owned(),
            }),
        }
    }
}

/// Counts an answer's rows and bytes while it comes.
#[derive(Debug)]
struct Collected {
    answer: Answer,
    rows_max: usize,
    bytes_max: usize,
    size_bytes: usize,
}

impl Collected {
    fn new(statement: &Statement) -> Self {
        let (rows_max, bytes_max) = (statement.rows_max, statement.bytes_max);
        Self { answer: Answer::default(), rows_max, bytes_max, size_bytes: 0 }
    }

    /// Whether another row is kept.
    fn has_room(&self) -> bool {
        self.answer.rows.len() < self.rows_max && self.size_bytes < self.bytes_max
    }

    fn add(&mut self, row: Map<String, Value>) {
        self.size_bytes += row.iter().map(|(name, value)| name.len() + size_of_value(value)).sum::<usize>();
        self.answer.rows.push(row);
    }
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(size_of_value).sum::<usize>() + 2,
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| key.len() + size_of_value(value)).sum::<usize>() + 2
        }
        _ => 8,
    }
}

/// Whether as many rows are concerned as a statement expects.
fn check_rows(
    spec: &DatabaseSpec,
    expected: Option<&RangeInclusive<u64>>,
    answer: &Answer,
) -> Result<(), DatabaseError> {
    let Some(range) = expected else { return Ok(()) };
    let found = answer.affected.max(answer.rows.len() as u64);
    if range.contains(&found) {
        return Ok(());
    }
    let expected = show_range(range);
    Err(DatabaseError::Rows { database: spec.name.clone(), found, expected })
}

/// `1`, `1-5`.
pub(crate) fn show_range(range: &RangeInclusive<u64>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    }
}
