//! `postgres` with `replicate`: every insert, update and delete, by logical replication. See
//! docs/guide/source-postgres.md.
//!
//! Changes are taken with SQL functions on an ordinary connection: `pg_logical_slot_peek_binary_changes` reads without
//! taking, and `pg_replication_slot_advance` takes once the events are kept. The cursor is the end of the last
//! transaction that is kept, and of a large one that is under way how many of its changes are. What a crash left
//! untaken is taken by the next look before it reads.

mod pgoutput;
mod publication;

use super::{
    Desk, Found, Item, Kind, LOOK_BYTES_MAX, LOOK_ITEMS_MAX, Opening, Poll, Polling, Slot, Source,
    SourceError, Work,
};
use crate::database::postgres::quoted;
use crate::database::{Database, Statement, base64_bytes};
use crate::topology::read::text;
use crate::topology::{Fields, Node, Report, shorten};
use pgoutput::{Change, Decoder, Message};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long one look of long polling takes.
const LONG_DEFAULT: Duration = Duration::from_secs(30);

/// How often is asked within a look whether the log has grown.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// How often a slot is moved on although nothing was for it, so that it holds no log.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// Longest name of a slot or a publication in PostgreSQL. Bytes.
const NAME_MAX_BYTES: usize = 63;

/// Tables that may be named.
const TABLES_MAX: usize = 1000;

/// Milliseconds from 1970 to 2000, where PostgreSQL begins to count.
const MS_TO_2000: i64 = 946_684_800_000;

/// What the file says.
#[derive(Debug, Clone)]
struct Spec {
    database: String,
    tables: Vec<String>,
    publication: Option<String>,
    slot: Option<String>,
}

/// Reads `postgres:` with `replicate` or `publication`.
pub(super) fn read(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    let fields = Fields::read(node, path, &["database", "replicate", "publication", "slot"], report);
    fields.required("database", "'database', a name of the section 'databases'", report);
    let database = fields.text("database", "the name of a database", report);
    let publication = name(&fields, "publication", |_| true, report);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let slot = name(&fields, "slot", plain, report);
    let tables = fields.get("replicate").map_or(Vec::new(), |node| {
        let path = fields.path_of("replicate");
        let crate::topology::Kind::List(items) = &node.kind else {
            report.expected(node, &path, "a list of tables");
            return Vec::new();
        };
        if items.is_empty() || items.len() > TABLES_MAX {
            report.add(node.line, &path, format!("found {} tables, expected 1 to {TABLES_MAX}", items.len()));
        }
        let items = items.iter().enumerate();
        items
            .filter_map(|(at, item)| text(item, &format!("{path}[{at}]"), "the name of a table", report))
            .map(str::to_owned)
            .collect()
    });
    Some(Arc::new(Spec { database: database?.to_owned(), tables, publication, slot }))
}

fn name(
    fields: &Fields<'_>,
    key: &str,
    is_good: impl Fn(char) -> bool,
    report: &mut Report,
) -> Option<String> {
    let found = fields.text(key, "a name", report)?;
    if found.is_empty() || found.len() > NAME_MAX_BYTES || found.contains('\0') || !found.chars().all(is_good)
    {
        let line = fields.get(key).map_or(fields.line, |node| node.line);
        let expected = match key {
            "slot" => "lower case letters, digits and '_'",
            _ => "a name",
        };
        let text = format!("found '{}', expected {expected}, at most {NAME_MAX_BYTES} bytes", shorten(found));
        report.add(line, &fields.path_of(key), text);
    }
    Some(found.to_owned())
}

impl Kind for Spec {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn polling(&self) -> Polling {
        Polling { default: Poll::Long(LONG_DEFAULT), every: true, long: true }
    }

    fn event_type(&self) -> String {
        "postgres.change".to_owned()
    }

    fn slot(&self, source: &str) -> Option<Slot> {
        let name = self.slot.clone().unwrap_or_else(|| own_name(source));
        Some(Slot { database: self.database.clone(), name, is_own: self.slot.is_none() })
    }

    fn takes_alone(&self, source: &str) -> Option<String> {
        let Slot { database, name, .. } = self.slot(source)?;
        Some(format!("the replication slot '{name}' of the database '{database}'"))
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
        let database = opening.tools.actions.databases.get(&self.database)?;
        let slot = self.slot.clone().unwrap_or_else(|| own_name(opening.name));
        let publication = self.publication.clone().unwrap_or_else(|| own_name(opening.name));
        Ok(Box::new(Replicating {
            is_own: self.publication.is_none(),
            tables: self.tables.clone(),
            database,
            slot,
            publication,
            ready: false,
            looked_up_to: None,
            beaten: Instant::now(),
        }))
    }
}

/// A slot's or publication's name made of a source's.
fn own_name(source: &str) -> String {
    let plain = source.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    let mut name: String = "millpond_".chars().chain(plain).collect();
    name.truncate(NAME_MAX_BYTES);
    name
}

struct Replicating {
    tables: Vec<String>,
    /// The publication is this source's: it is of `tables`.
    is_own: bool,
    database: Database,
    slot: String,
    publication: String,
    /// Whether slot and publication are there.
    ready: bool,
    /// How far the log went when there was nothing.
    looked_up_to: Option<String>,
    /// When the slot was moved on last.
    beaten: Instant,
}

/// Where it goes on.
#[derive(Debug, Clone, Default)]
struct Place {
    /// The end of the last whole transaction.
    lsn: Option<String>,
    /// Changes of the next one that are kept.
    taken: u64,
}

impl Replicating {
    /// The place that a cursor says; one of another slot says nothing.
    fn place(&self, cursor: Option<&Value>) -> Place {
        let Some(cursor) = cursor.filter(|it| it.get("of").and_then(Value::as_str) == Some(&self.scope()))
        else {
            return Place::default();
        };
        Place {
            lsn: cursor.get("lsn").and_then(Value::as_str).map(str::to_owned),
            taken: cursor.get("taken").and_then(Value::as_u64).unwrap_or_default(),
        }
    }

    /// What a cursor belongs to.
    fn scope(&self) -> String {
        format!("slot {} {}", self.database.spec().name, self.slot)
    }

    fn cursor(&self, place: &Place) -> Value {
        json!({"of": self.scope(), "lsn": place.lsn, "taken": place.taken})
    }

    async fn rows(&self, text: &str, parameters: &[&str]) -> Result<Vec<Map<String, Value>>, SourceError> {
        let parameters = parameters.iter().map(|text| Value::from(*text)).collect();
        Ok(self.database.rows(text, parameters).await?)
    }

    /// Makes slot and publication where they are missing.
    async fn prepare(&mut self, place: &Place) -> Result<(), SourceError> {
        publication::prepare(&self.database, &self.publication, &self.tables, self.is_own).await?;
        let text = "select plugin::text as plugin, case when database <> current_database() then database::text end as other \
                    from pg_replication_slots where slot_name = $1::text";
        let found = self.rows(text, &[&self.slot]).await?;
        if let Some(other) = found.first().and_then(|row| row.get("other")?.as_str()) {
            return Err(SourceError::new(format!(
                "the replication slot '{}' is of the database '{other}' on the same server: name another 'slot'",
                self.slot
            )));
        }
        match found.first().and_then(|row| row.get("plugin")?.as_str()) {
            Some("pgoutput") => {}
            Some(other) => {
                return Err(SourceError::new(format!(
                    "the replication slot '{}' is of the plugin {other}, expected pgoutput: name another one",
                    self.slot
                )));
            }
            None if place.lsn.is_some() => {
                return Err(SourceError::new(format!(
                    "the replication slot '{}' is not there any more: changes since {} are lost; name another 'slot' \
                     to go on from now",
                    self.slot,
                    place.lsn.as_deref().unwrap_or_default()
                )));
            }
            None => {
                let text = "select lsn::text as lsn from pg_create_logical_replication_slot($1, 'pgoutput')";
                self.rows(text, &[&self.slot]).await?;
            }
        }
        self.ready = true;
        Ok(())
    }

    /// Takes what is kept: the log before it is of no use any more.
    async fn advance(&mut self, lsn: &str) -> Result<(), SourceError> {
        let text = "select (pg_replication_slot_advance($1, $2::pg_lsn)).end_lsn::text as lsn \
                    from pg_replication_slots where slot_name = $1 and confirmed_flush_lsn < $2::pg_lsn";
        self.rows(text, &[&self.slot, lsn]).await?;
        self.beaten = Instant::now();
        Ok(())
    }

    async fn look_at_it(&mut self, cursor: Option<&Value>, wait: Duration) -> Result<Found, SourceError> {
        let until = Instant::now() + wait;
        let place = self.place(cursor);
        if !self.ready {
            self.prepare(&place).await?;
            match &place.lsn {
                Some(lsn) => self.advance(lsn).await?,
                // From here on a slot that is gone is noticed.
                None => {
                    let text = "select confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = $1::text";
                    let rows = self.rows(text, &[&self.slot]).await?;
                    let lsn = rows.first().and_then(|row| row.get("lsn")?.as_str()).map(str::to_owned);
                    let place = Place { lsn, taken: 0 };
                    return Ok(Found { cursor: Some(self.cursor(&place)), ..Found::default() });
                }
            }
        }
        loop {
            let began = Instant::now();
            let end = self.log_end(&place).await?;
            if end != self.looked_up_to {
                let found = self.peek(&place).await?;
                if !found.items.is_empty() || found.cursor.is_some() {
                    return Ok(found);
                }
                self.looked_up_to = end.clone();
            }
            if let Some(end) = &end
                && place.taken == 0
                && self.beaten.elapsed() >= HEARTBEAT_EVERY
            {
                self.advance(end).await?;
            }
            if Instant::now() >= until {
                return Ok(Found::default());
            }
            // A server that takes long to look is not asked again at once.
            sleep(ASK_EVERY.max(began.elapsed()).min(until - Instant::now())).await;
        }
    }

    /// How far the log goes; the slot stands at the place then, or behind it.
    async fn log_end(&mut self, place: &Place) -> Result<Option<String>, SourceError> {
        let lsn = place.lsn.as_deref().unwrap_or("0/0");
        let text = "select pg_current_wal_flush_lsn()::text as lsn, confirmed_flush_lsn < $2::pg_lsn as is_behind \
                    from pg_replication_slots where slot_name = $1::text";
        let rows = self.rows(text, &[&self.slot, lsn]).await?;
        let Some(row) = rows.first() else {
            return Err(SourceError::new(format!(
                "the replication slot '{}' is not there any more",
                self.slot
            )));
        };
        // A server that went down hard may have it where it stood at the last checkpoint: changes would come again.
        if row.get("is_behind") == Some(&Value::Bool(true)) {
            self.advance(lsn).await?;
        }
        Ok(row.get("lsn").and_then(Value::as_str).map(str::to_owned))
    }

    /// Reads the next changes without taking them.
    async fn peek(&self, place: &Place) -> Result<Found, SourceError> {
        let changes = "(73, 85, 68, 84)";
        // Of a transaction that is partly kept, the rest; how tables look is told before the first change of each.
        let rest = match place.taken {
            0 => String::new(),
            taken => format!(" where nth > {taken} or get_byte(data, 0) not in {changes}"),
        };
        let text = format!(
            "select lsn, data from (select lsn::text as lsn, data, n, \
             sum(case when get_byte(data, 0) in {changes} then 1 else 0 end) over (order by n) as nth \
             from pg_logical_slot_peek_binary_changes($1, null, {LOOK_ITEMS_MAX}, 'proto_version', '1', \
             'publication_names', $2) with ordinality as c(lsn, xid, data, n)) c{rest} order by n"
        );
        let parameters = vec![self.slot.clone().into(), quoted(&self.publication).into()];
        let mut statement = Statement::new(text, parameters);
        statement.rows_max = LOOK_ITEMS_MAX * 4;
        statement.bytes_max = LOOK_BYTES_MAX;
        let answer = self.database.run(&statement).await?;
        let mut taking = Taking { place: place.clone(), ..Taking::default() };
        let unreadable = |reason: String| SourceError::new(format!("slot '{}': {reason}", self.slot));
        for row in &answer.rows {
            if taking.items.len() >= LOOK_ITEMS_MAX {
                break;
            }
            let (Some(lsn), Some(data)) =
                (row.get("lsn").and_then(Value::as_str), row.get("data").and_then(Value::as_str))
            else {
                return Err(unreadable("the database's answer has no data".to_owned()));
            };
            let bytes = base64_bytes(data).map_err(unreadable)?;
            taking.take(lsn, &bytes).map_err(unreadable)?;
        }
        let moved = taking.place.lsn != place.lsn || taking.place.taken != place.taken;
        let cursor = moved.then(|| self.cursor(&taking.place));
        Ok(Found { more: moved, items: taking.items, cursor, ..Found::default() })
    }
}

/// What a look takes.
#[derive(Default)]
struct Taking {
    decoder: Decoder,
    place: Place,
    items: Vec<Item>,
    /// Of the transaction that is read.
    commit_lsn: u64,
    committed_us: i64,
}

impl Taking {
    fn take(&mut self, lsn: &str, bytes: &[u8]) -> Result<(), String> {
        match self.decoder.read(bytes)? {
            Message::Begin { commit_lsn, committed_us } => {
                (self.commit_lsn, self.committed_us) = (commit_lsn, committed_us);
            }
            Message::Commit => self.place = Place { lsn: Some(lsn.to_owned()), taken: 0 },
            Message::Change(change) => {
                let subject = subject_of(&change);
                let operation = change.kind.name();
                let data = json!({
                    "operation": operation,
                    "table": change.table,
                    "before": change.before,
                    "after": change.after,
                });
                self.push(operation, subject, data);
            }
            Message::Truncate { tables } => {
                let subject = tables.join(",");
                self.push("truncate", subject, json!({"operation": "truncate", "tables": tables}));
            }
            Message::Other => {}
        }
        Ok(())
    }

    fn push(&mut self, operation: &str, subject: String, data: Value) {
        self.place.taken += 1;
        let id = format!("{:X}/{}", self.commit_lsn, self.place.taken);
        self.items.push(Item {
            event_type: Some(format!("postgres.{operation}")),
            subject: Some(subject),
            time_ms: u64::try_from(self.committed_us.div_euclid(1000).saturating_add(MS_TO_2000)).ok(),
            ..Item::json(id, data)
        });
    }
}

/// The values of the key; the table's name if it has none.
fn subject_of(change: &Change) -> String {
    let row = change.after.as_ref().or(change.before.as_ref());
    let shown = |name: &String| match row.and_then(|row| row.get(name)) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    match change.key.as_slice() {
        [] => change.table.clone(),
        key => key.iter().map(shown).collect::<Vec<_>>().join(","),
    }
}

impl Source for Replicating {
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
            match self.place(Some(cursor)).lsn {
                Some(lsn) => self.advance(&lsn).await,
                None => Ok(()),
            }
        })
    }
}
