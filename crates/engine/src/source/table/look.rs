//! Looking at a table.

use super::Spec;
use super::sql::{Place, Product, Table};
use crate::database::postgres::Listener;
use crate::database::{BYTES_KEY, Database, DatabaseError};
use crate::source::{Desk, Found, Item, LOOK_ITEMS_MAX, Source, SourceError, Work};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How often a server is asked within a look that waits, where nobody tells of news.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// The same of SQLite, which is no server.
const ASK_FILE_EVERY: Duration = Duration::from_millis(10);

/// How often a server is asked although it tells of news: rows may come in without a NOTIFY.
const ASK_LISTENING_EVERY: Duration = Duration::from_secs(5);

/// How often is asked whether those who were writing are done.
const WRITERS_EVERY: Duration = Duration::from_millis(1);

/// The same once they took long.
const WRITERS_EVERY_MAX: Duration = Duration::from_millis(100);

/// See the module above.
pub(super) struct Looking {
    spec: Spec,
    database: Database,
    table: Option<Table>,
    listener: Option<Listener>,
    /// A row up to which will be read once these transactions have ended.
    held: Option<(Place, BTreeSet<String>)>,
    /// Whether the rows of an outbox's cursor are deleted.
    deleted: bool,
}

/// What one go at the table gave.
enum Go {
    Found(Found),
    Nothing,
    /// Rows are there that may not be read yet: look again after this.
    Held(Duration),
}

impl Looking {
    pub(super) fn new(spec: Spec, database: Database) -> Self {
        Self { spec, database, table: None, listener: None, held: None, deleted: false }
    }

    async fn look_at_it(&mut self, cursor: Option<&Value>, wait: Duration) -> Result<Found, SourceError> {
        let until = Instant::now() + wait;
        // Before the table is read: what comes after is told.
        if let (Some(channel), None, false) = (&self.spec.listen, &self.listener, wait.is_zero()) {
            self.listener = Some(self.database.listen(channel).await?);
        }
        // Rows that a notice told of may be too young to be read.
        let mut again = Duration::ZERO;
        loop {
            let pause = match self.go(cursor).await? {
                Go::Found(found) => return Ok(found),
                Go::Nothing => match (self.database_is_file(), self.listener.is_some()) {
                    (true, _) => ASK_FILE_EVERY,
                    (_, true) => ASK_LISTENING_EVERY,
                    _ => ASK_EVERY,
                },
                Go::Held(pause) => pause,
            };
            let pause = if again.is_zero() { pause } else { std::mem::take(&mut again).min(pause) };
            let next = Instant::now() + pause;
            if next >= until {
                let left = self.notified(until).await?;
                match left {
                    true if !wait.is_zero() => {}
                    _ => return Ok(Found::default()),
                }
            } else if self.notified(next).await? {
                again = self.table.as_ref().and_then(|table| table.lag).unwrap_or_default();
            }
        }
    }

    fn database_is_file(&self) -> bool {
        Product::of(&self.database) == Product::Sqlite
    }

    /// Waits until then, or until there is news.
    async fn notified(&mut self, until: Instant) -> Result<bool, SourceError> {
        match &mut self.listener {
            None => {
                tokio::time::sleep_until(until).await;
                Ok(false)
            }
            Some(listener) => match timeout_at(until, listener.notified()).await {
                Err(_) => Ok(false),
                Ok(told) => Ok(told.map(|()| true)?),
            },
        }
    }

    async fn go(&mut self, cursor: Option<&Value>) -> Result<Go, SourceError> {
        let cursor = cursor.filter(|cursor| self.is_ours(cursor));
        self.describe().await?;
        match self.spec.is_outbox {
            true => self.go_outbox(cursor).await,
            false => self.go_table(cursor).await,
        }
    }

    async fn describe(&mut self) -> Result<(), SourceError> {
        if self.table.is_some() {
            return Ok(());
        }
        let (database, spec) = (&self.database, &self.spec);
        // The keys that were taken are deleted once more after a crash: a new row must not have one of them.
        if self.spec.is_outbox && self.database_is_file() && Table::gives_keys_again(database, spec).await? {
            return Err(SourceError::new(format!(
                "SQLite gives values of '{}' again when the rows of '{}' are deleted, and so rows could be lost: \
                 declare it 'integer primary key autoincrement'",
                spec.key, spec.table
            )));
        }
        self.table = Some(Table::describe(database, spec).await?);
        Ok(())
    }

    /// What a cursor belongs to: one of another table, left by an earlier file, says nothing.
    fn scope(&self) -> String {
        let Spec { database, table, cursor, key, .. } = &self.spec;
        let way = if self.spec.is_outbox { "outbox" } else { "table" };
        format!("{way} {database} {table} {cursor} {key}")
    }

    fn is_ours(&self, cursor: &Value) -> bool {
        cursor.get("of").and_then(Value::as_str) == Some(&self.scope())
    }

    fn cursor_of(&self, place: Option<&Place>) -> Value {
        match place {
            None => json!({"of": self.scope()}),
            Some(place) => json!({"of": self.scope(), "cursor": place.cursor, "key": place.key}),
        }
    }

    fn table(&self) -> Result<&Table, SourceError> {
        self.table.as_ref().ok_or_else(|| SourceError::new("the table is not described yet"))
    }

    async fn go_table(&mut self, cursor: Option<&Value>) -> Result<Go, SourceError> {
        let held = self.held.take();
        let table = self.table()?;
        if cursor.is_none() && self.spec.from_now {
            let last = self.place(&self.database.run(&table.last()).await?.rows)?;
            return Ok(Go::Found(Found { cursor: Some(self.cursor_of(last.as_ref())), ..Found::default() }));
        }
        let after = cursor.and_then(place_of_cursor);
        let up_to = match held {
            Some(held) => held,
            None => {
                let candidate = self.database.run(&table.candidate(after.as_ref())).await?;
                let Some(place) = self.place(&candidate.rows)? else { return Ok(Go::Nothing) };
                (place, self.writers().await?)
            }
        };
        let Some(up_to) = self.settle(up_to).await? else { return Ok(Go::Held(WRITERS_EVERY)) };
        let table = self.table()?;
        let rows = match self.database.run(&table.rows(after.as_ref(), &up_to)).await {
            // Somebody writes there.
            Err(error) if is_lock(&error) => return Ok(Go::Held(WRITERS_EVERY_MAX)),
            rows => rows?.rows,
        };
        let mut last = None;
        let mut items = Vec::with_capacity(rows.len());
        for mut row in rows {
            let place = table.place_of(&mut row).ok_or_else(unreadable)?;
            items.push(self.item(&place, row));
            last = Some(place);
        }
        let Some(last) = last else { return Ok(Go::Nothing) };
        let more = items.len() >= LOOK_ITEMS_MAX || last != up_to;
        Ok(Go::Found(Found { items, cursor: Some(self.cursor_of(Some(&last))), more, ..Found::default() }))
    }

    /// Lets those end that were writing when the row was seen. `None`: they take long.
    async fn settle(
        &mut self,
        (place, mut writers): (Place, BTreeSet<String>),
    ) -> Result<Option<Place>, SourceError> {
        let (mut pause, began) = (WRITERS_EVERY, Instant::now());
        if let (Product::MySql, Some(lag), false) =
            (Product::of(&self.database), self.table()?.lag, self.table()?.is_moment)
        {
            sleep(lag).await;
        }
        while !writers.is_empty() {
            sleep(pause).await;
            let now = self.writers().await?;
            writers.retain(|writer| now.contains(writer));
            pause = (pause * 2).min(WRITERS_EVERY_MAX);
            if !writers.is_empty() && began.elapsed() > WRITERS_EVERY_MAX {
                self.held = Some((place, writers));
                return Ok(None);
            }
        }
        Ok(Some(place))
    }

    /// Who is writing to the table; of PostgreSQL alone: MySQL's locking read finds them by itself, and SQLite has one
    /// writer at a time.
    async fn writers(&self) -> Result<BTreeSet<String>, SourceError> {
        if Product::of(&self.database) != Product::Postgres {
            return Ok(BTreeSet::new());
        }
        let rows = self.database.run(&self.table()?.writers()).await?.rows;
        Ok(rows.iter().filter_map(|row| Some(row.get("it")?.as_str()?.to_owned())).collect())
    }

    async fn go_outbox(&mut self, cursor: Option<&Value>) -> Result<Go, SourceError> {
        if let Some(cursor) = cursor {
            self.delete_taken(cursor).await?;
        }
        let table = self.table()?;
        let rows = self.database.run(&table.outbox()).await?.rows;
        let mut keys = Vec::with_capacity(rows.len());
        let mut items = Vec::with_capacity(rows.len());
        for mut row in rows {
            let place = table.place_of(&mut row).ok_or_else(unreadable)?;
            items.push(Item {
                subject: Some(shown(&place.key)),
                ..Item::json(shown(&place.key), Value::Object(row))
            });
            keys.push(place.key);
        }
        if items.is_empty() {
            return Ok(Go::Nothing);
        }
        let more = items.len() >= LOOK_ITEMS_MAX;
        self.deleted = false;
        Ok(Go::Found(Found {
            items,
            cursor: Some(json!({"of": self.scope(), "taken": keys})),
            more,
            ..Found::default()
        }))
    }

    /// Deletes the rows of an outbox that are kept as events: before others are read, so that none is read again.
    async fn delete_taken(&mut self, cursor: &Value) -> Result<(), SourceError> {
        let taken = Some(cursor).filter(|cursor| self.is_ours(cursor));
        let taken = taken.and_then(|cursor| cursor.get("taken")).and_then(Value::as_array);
        if let Some(taken) = taken.filter(|taken| !self.deleted && !taken.is_empty()) {
            self.describe().await?;
            self.database.run(&self.table()?.delete(taken)).await?;
        }
        self.deleted = true;
        Ok(())
    }

    fn place(&self, rows: &[Map<String, Value>]) -> Result<Option<Place>, SourceError> {
        let Some(row) = rows.first() else { return Ok(None) };
        self.table()?.place_of(&mut row.clone()).map(Some).ok_or_else(unreadable)
    }

    fn item(&self, place: &Place, row: Map<String, Value>) -> Item {
        let key = shown(&place.key);
        let id = match self.spec.cursor == self.spec.key {
            true => key.clone(),
            false => format!("{key}/{}", shown(&place.cursor)),
        };
        Item { subject: Some(key), ..Item::json(id, Value::Object(row)) }
    }
}

fn unreadable() -> SourceError {
    SourceError::new("the database's answer has no cursor or no key")
}

fn is_lock(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Timeout { .. })
        || matches!(error, DatabaseError::Refused { code, .. } if code.starts_with("1205") || code.starts_with("1213"))
}

fn place_of_cursor(cursor: &Value) -> Option<Place> {
    Some(Place { cursor: cursor.get("cursor")?.clone(), key: cursor.get("key")?.clone() })
}

fn shown(value: &Value) -> String {
    match value.get(BYTES_KEY).unwrap_or(value) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Source for Looking {
    fn look<'a>(
        &'a mut self,
        _desk: &'a mut Desk,
        cursor: Option<&'a Value>,
        wait: Duration,
    ) -> Work<'a, Found> {
        Box::pin(self.look_at_it(cursor, wait))
    }

    fn committed<'a>(&'a mut self, cursor: &'a Value) -> Work<'a, ()> {
        Box::pin(async move {
            match self.spec.is_outbox {
                true => self.delete_taken(cursor).await,
                false => Ok(()),
            }
        })
    }
}
