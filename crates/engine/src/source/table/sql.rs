//! The statements that a table is read with, in each database's words.

use super::Spec;
use crate::database::{Database, DatabaseError, Kind, Statement, as_bytes};
use crate::source::{LOOK_BYTES_MAX, LOOK_ITEMS_MAX};
use serde_json::{Map, Value};
use std::time::Duration;

/// What the columns are called that tell the place of a row; taken out of its data.
pub(super) const CURSOR: &str = "millpond cursor";
pub(super) const KEY: &str = "millpond key";

/// Whether these two are bytes, which JSON shows as a text.
const CURSOR_IS_BYTES: &str = "millpond cursor is bytes";
const KEY_IS_BYTES: &str = "millpond key is bytes";

/// Types of MySQL that hold bytes.
const BYTES: [&str; 6] = ["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"];

/// Types of PostgreSQL that hold a moment.
const MOMENTS: [&str; 7] = ["timestamptz", "timestamp", "date", "time", "datetime", "year", "timetz"];

/// Types of PostgreSQL that have a form in JSON; others are asked for as text.
const KNOWN: [&str; 22] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "oid",
    "float4",
    "float8",
    "numeric",
    "text",
    "varchar",
    "bpchar",
    "name",
    "char",
    "bytea",
    "json",
    "jsonb",
    "uuid",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
];

/// A place between rows: the values of cursor and key of the last one before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub(super) cursor: Value,
    pub(super) key: Value,
}

/// A table as its database describes it.
#[derive(Debug)]
pub(super) struct Table {
    product: Product,
    /// In quotes.
    name: String,
    cursor: String,
    key: String,
    /// What is selected of a row.
    columns: String,
    condition: String,
    /// Whether cursor and key are bytes, where the type of a column says it: in MySQL.
    are_bytes: [bool; 2],
    /// Whether the cursor is a moment, and how far behind now it is read.
    pub(super) lag: Option<Duration>,
    pub(super) is_moment: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    Postgres,
    MySql,
    Sqlite,
}

/// A statement in the making.
struct Sql {
    product: Product,
    text: String,
    parameters: Vec<Value>,
}

impl Sql {
    fn new(product: Product, text: String) -> Self {
        Self { product, text, parameters: Vec::new() }
    }

    fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// A placeholder with its value.
    fn value(&mut self, value: &Value) -> &mut Self {
        self.parameters.push(value.clone());
        let number = self.parameters.len();
        match self.product {
            Product::Postgres => self.push(&format!("${number}")),
            Product::MySql | Product::Sqlite => self.push("?"),
        }
    }

    fn done(self) -> Statement {
        let mut statement = Statement::new(self.text, self.parameters);
        statement.rows_max = LOOK_ITEMS_MAX;
        statement.bytes_max = LOOK_BYTES_MAX;
        statement
    }
}

impl Product {
    pub(super) fn of(database: &Database) -> Self {
        match database.spec().kind {
            Kind::Postgres { .. } => Self::Postgres,
            Kind::MySql { .. } => Self::MySql,
            Kind::Sqlite { .. } => Self::Sqlite,
        }
    }

    fn quoted(self, name: &str) -> String {
        match self {
            Self::MySql => format!("`{}`", name.replace('`', "``")),
            Self::Postgres | Self::Sqlite => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// `schema.table` in quotes.
    fn quoted_table(self, name: &str) -> String {
        name.split('.').map(|part| self.quoted(part)).collect::<Vec<_>>().join(".")
    }
}

impl Table {
    /// Asks the database what the table is like.
    pub(super) async fn describe(database: &Database, spec: &Spec) -> Result<Self, DatabaseError> {
        let product = Product::of(database);
        let name = product.quoted_table(&spec.table);
        let found = match product {
            Product::Postgres => postgres_columns(database, &name).await?,
            Product::MySql => mysql_columns(database, &spec.table).await?,
            Product::Sqlite => Vec::new(),
        };
        let cursor = product.quoted(&spec.cursor);
        let key = product.quoted(&spec.key);
        let is_moment =
            found.iter().any(|(name, kind)| *name == spec.cursor && MOMENTS.contains(&kind.as_str()));
        let row = match (&spec.columns, product) {
            (Some(columns), _) => {
                let kind_of = |column: &str| {
                    found.iter().find(|(name, _)| name == column).map(|(_, kind)| kind.as_str())
                };
                columns.iter().map(|it| column(product, it, kind_of(it))).collect::<Vec<_>>().join(", ")
            }
            (None, Product::Postgres) if found.iter().any(|(_, kind)| !is_known(kind)) => found
                .iter()
                .map(|(name, kind)| column(product, name, Some(kind)))
                .collect::<Vec<_>>()
                .join(", "),
            // New columns come without a word.
            (None, _) => "t.*".to_owned(),
        };
        let are_bytes = [&spec.cursor, &spec.key].map(|column| {
            product == Product::MySql
                && found.iter().any(|(name, kind)| name == column && BYTES.contains(&kind.as_str()))
        });
        let condition = spec.condition.as_ref().map_or(String::new(), |text| format!(" and ({text})"));
        let lag = match (spec.lag, product) {
            (Some(lag), _) => Some(lag),
            (None, Product::Postgres | Product::MySql) if is_moment => Some(super::LAG_DEFAULT),
            (None, Product::MySql) => Some(super::LAG_OF_NUMBERS),
            _ => None,
        };
        Ok(Self { product, name, cursor, key, columns: row, condition, are_bytes, lag, is_moment })
    }

    /// Cursor and key as the columns that tell a place.
    fn place_columns(&self, cursor: &str, key: &str) -> String {
        let alias = |name| self.product.quoted(name);
        let (cursor_as, key_as) = (alias(CURSOR), alias(KEY));
        let is_bytes = |column: &str, known: bool| match self.product {
            Product::Sqlite => format!("typeof({column}) = 'blob'"),
            _ => u8::from(known).to_string(),
        };
        match self.product {
            // It writes every type as a text that it reads again without loss.
            Product::Postgres => format!("{cursor}::text as {cursor_as}, {key}::text as {key_as}"),
            Product::MySql | Product::Sqlite => format!(
                "{cursor} as {cursor_as}, {key} as {key_as}, {} as {}, {} as {}",
                is_bytes(cursor, self.are_bytes[0]),
                alias(CURSOR_IS_BYTES),
                is_bytes(key, self.are_bytes[1]),
                alias(KEY_IS_BYTES),
            ),
        }
    }

    /// Whole rows, with what tells their places.
    fn select(&self) -> Sql {
        let place = self.place_columns(&format!("t.{}", self.cursor), &format!("t.{}", self.key));
        Sql::new(self.product, format!("select {}, {place} from {} t", self.columns, self.name))
    }

    /// Whether SQLite gives a key of this outbox again once its row is deleted: the numbers of an `integer primary key`
    /// go on from the largest that is there, and in an empty table from 1.
    pub(super) async fn gives_keys_again(database: &Database, spec: &Spec) -> Result<bool, DatabaseError> {
        let text = "select m.sql as made, count(c.name) as columns, \
                    max(lower(c.name) = lower(?2) and upper(c.type) = 'INTEGER') as found \
                    from sqlite_master m join pragma_table_info(m.name) c on c.pk > 0 \
                    where m.type = 'table' and lower(m.name) = lower(?1)";
        let rows = database.rows(text, vec![spec.table.as_str().into(), spec.key.as_str().into()]).await?;
        let Some(row) = rows.first() else { return Ok(false) };
        let number = |name: &str| row.get(name).and_then(Value::as_i64).unwrap_or_default();
        let made = row.get("made").and_then(Value::as_str).unwrap_or_default().to_lowercase();
        let is_numbered = ["rowid", "_rowid_", "oid"].contains(&spec.key.to_lowercase().as_str())
            || (number("columns") == 1 && number("found") == 1);
        let never_again = made.contains("autoincrement") || made.contains("without rowid");
        Ok(is_numbered && !never_again)
    }

    fn range(&self, sql: &mut Sql, after: Option<&Place>, up_to: Option<&Place>) {
        let (cursor, key) = (format!("t.{}", self.cursor), format!("t.{}", self.key));
        sql.push(&format!(" where {cursor} is not null"));
        if let Some(after) = after {
            // The first part is what an index can be asked for.
            sql.push(&format!(" and {cursor} >= ")).value(&after.cursor);
            sql.push(&format!(" and ({cursor} > ")).value(&after.cursor);
            sql.push(&format!(" or {key} > ")).value(&after.key).push(")");
        }
        if let Some(up_to) = up_to {
            sql.push(&format!(" and {cursor} <= ")).value(&up_to.cursor);
            sql.push(&format!(" and ({cursor} < ")).value(&up_to.cursor);
            sql.push(&format!(" or {key} <= ")).value(&up_to.key).push(")");
        }
        sql.push(&self.condition);
    }

    /// The last row of the next so many: up to there the next look reads, once all that may still come is there.
    pub(super) fn candidate(&self, after: Option<&Place>) -> Statement {
        let (cursor, key) = (&self.cursor, &self.key);
        let mut sql =
            Sql::new(self.product, format!("select t.{cursor} as c, t.{key} as k from {} t", self.name));
        self.range(&mut sql, after, None);
        if let (Some(lag), true) = (self.lag, self.is_moment) {
            let now = match self.product {
                Product::Postgres => format!("now() - interval '{} milliseconds'", lag.as_millis()),
                Product::MySql => format!("now(6) - interval {} microsecond", lag.as_micros()),
                // Its columns have no types: nothing is known to be a moment.
                Product::Sqlite => String::new(),
            };
            if !now.is_empty() {
                sql.push(&format!(" and t.{cursor} <= {now}"));
            }
        }
        sql.push(&format!(" order by t.{cursor}, t.{key} limit {LOOK_ITEMS_MAX}"));
        self.last_of(sql)
    }

    /// The last row there is.
    pub(super) fn last(&self) -> Statement {
        let (cursor, key) = (&self.cursor, &self.key);
        let text = format!(
            "select t.{cursor} as c, t.{key} as k from {} t where t.{cursor} is not null order by t.{cursor} desc, t.{key} desc limit 1",
            self.name
        );
        self.last_of(Sql::new(self.product, text))
    }

    fn last_of(&self, mut sql: Sql) -> Statement {
        let place = self.place_columns("x.c", "x.k");
        sql.text = format!("select {place} from ({}) x order by x.c desc, x.k desc limit 1", sql.text);
        sql.done()
    }

    /// The rows after a place up to another.
    pub(super) fn rows(&self, after: Option<&Place>, up_to: &Place) -> Statement {
        let mut sql = self.select();
        self.range(&mut sql, after, Some(up_to));
        sql.push(&format!(" order by t.{}, t.{} limit {LOOK_ITEMS_MAX}", self.cursor, self.key));
        if self.product == Product::MySql {
            // Waits for those who write in this range and have not committed.
            sql.push(" lock in share mode");
        }
        sql.done()
    }

    /// The next rows of an outbox.
    pub(super) fn outbox(&self) -> Statement {
        let mut sql = self.select();
        self.range(&mut sql, None, None);
        sql.push(&format!(" order by t.{} limit {LOOK_ITEMS_MAX}", self.key));
        sql.done()
    }

    /// Takes rows out of an outbox.
    pub(super) fn delete(&self, keys: &[Value]) -> Statement {
        let mut sql = Sql::new(self.product, format!("delete from {} where {} in (", self.name, self.key));
        for (number, key) in keys.iter().enumerate() {
            if number > 0 {
                sql.push(", ");
            }
            sql.value(key);
        }
        sql.push(")");
        sql.done()
    }

    /// Transactions that write to the table and have not ended.
    pub(super) fn writers(&self) -> Statement {
        let text = "select distinct virtualtransaction as it from pg_locks where locktype = 'relation' \
                    and database = (select oid from pg_database where datname = current_database()) \
                    and relation in (select relid from pg_partition_tree($1::regclass) union select $1::regclass) \
                    and mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
                    and granted and pid is distinct from pg_backend_pid()";
        Statement::new(text, vec![self.name.clone().into()])
    }

    /// Where a row stands; it is taken out of its data. `None`: the answer is not what was asked for.
    pub(super) fn place_of(&self, row: &mut Map<String, Value>) -> Option<Place> {
        let place =
            Place { cursor: value_of(row, CURSOR, CURSOR_IS_BYTES)?, key: value_of(row, KEY, KEY_IS_BYTES)? };
        Some(match self.product {
            // MySQL does not read the zone that is shown.
            Product::MySql => Place { cursor: without_zone(place.cursor), key: without_zone(place.key) },
            _ => place,
        })
    }
}

fn value_of(row: &mut Map<String, Value>, name: &str, is_bytes: &str) -> Option<Value> {
    let value = row.remove(name)?;
    let is_bytes = row.remove(is_bytes).is_some_and(|it| it.as_i64() == Some(1));
    Some(if is_bytes { as_bytes(value) } else { value })
}

fn without_zone(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z') => {
            Value::String(text.trim_end_matches('Z').to_owned())
        }
        other => other,
    }
}

fn is_known(kind: &str) -> bool {
    KNOWN.contains(&kind.strip_prefix('_').unwrap_or(kind))
}

fn column(product: Product, name: &str, kind: Option<&str>) -> String {
    let quoted = product.quoted(name);
    match (product, kind) {
        (Product::Postgres, Some(kind)) if !is_known(kind) => format!("t.{quoted}::text as {quoted}"),
        _ => format!("t.{quoted}"),
    }
}

fn names_and_types(rows: &[Map<String, Value>]) -> Vec<(String, String)> {
    let text = |row: &Map<String, Value>, name: &str| Some(row.get(name)?.as_str()?.to_owned());
    rows.iter().filter_map(|row| Some((text(row, "name")?, text(row, "kind")?.to_lowercase()))).collect()
}

async fn postgres_columns(database: &Database, table: &str) -> Result<Vec<(String, String)>, DatabaseError> {
    // An enum and a domain count as what they are shown as.
    let text = "select a.attname as name, \
                case t.typtype when 'e' then 'text' when 'd' then b.typname else t.typname end as kind \
                from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_type b on b.oid = t.typbasetype \
                where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum";
    Ok(names_and_types(&database.rows(text, vec![table.into()]).await?))
}

async fn mysql_columns(database: &Database, table: &str) -> Result<Vec<(String, String)>, DatabaseError> {
    let (schema, table) = match table.split_once('.') {
        Some((schema, table)) => (Value::from(schema), table),
        None => (Value::Null, table),
    };
    let text = "select column_name as name, data_type as kind from information_schema.columns \
                where table_schema = coalesce(?, database()) and table_name = ? order by ordinal_position";
    Ok(names_and_types(&database.rows(text, vec![schema, table.into()]).await?))
}
