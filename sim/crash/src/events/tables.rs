//! Rows that are written while the broker lives, dies and is away: to a table and an outbox of a SQLite file, and, where
//! there is one, to those of a PostgreSQL server and to a table whose log is read.

use super::postgres::Postgres;
use anyhow::{Context, Result};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Events have one of so many keys.
const KEYS: u64 = 8;

/// Who writes to PostgreSQL at the same time: their commits come in another order than their ids.
const POSTGRES_WRITERS: u64 = 3;

/// One in so many transactions is rolled back.
const ROLLED_BACK_ONE_IN: u32 = 20;

/// How long one who writes waits for SQLite's lock.
const BUSY: Duration = Duration::from_secs(10);

/// The sources that see each row of SQLite, and those that see each of PostgreSQL.
pub(super) const LITE: [&str; 2] = ["/sources/lite-table", "/sources/lite-outbox"];
pub(super) const POSTGRES: [&str; 3] = ["/sources/pg-table", "/sources/pg-outbox", "/sources/pg-log"];

/// Sources whose events come in the order of their ids.
pub(super) const IN_ORDER: [&str; 3] = ["/sources/lite-table", "/sources/lite-outbox", "/sources/pg-table"];

const LITE_SCHEMA: &str = "pragma journal_mode = wal;
    create table rows (id integer primary key, k integer not null, n integer not null);
    create table outbox (id integer primary key autoincrement, k integer not null, n integer not null);";

const POSTGRES_SCHEMA: &str =
    "create table rows (id bigserial primary key, k bigint not null, n bigint not null);
    create table outbox (id bigserial primary key, k bigint not null, n bigint not null);
    create table changes (id bigserial primary key, k bigint not null, n bigint not null);
    create function told() returns trigger language plpgsql as
      $$ begin perform pg_notify(tg_table_name, ''); return null; end $$;
    create trigger told after insert on rows for each statement execute function told();
    create trigger told after insert on outbox for each statement execute function told();
    create publication crash for table changes;";

/// From here on the log is kept; not in one transaction with others.
const SLOT: &str = "select pg_create_logical_replication_slot('crash', 'pgoutput')";

/// What the effects of a rule leave behind: who did them is the life of the broker that the harness wrote down.
const BOOKS_SCHEMA: &str = "pragma journal_mode = wal;
    create table effects (key text not null, event text not null, life integer not null);
    create table lives (life integer not null);
    insert into lives values (0);";

/// The writers, until they are stopped.
pub(super) struct Tables {
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    written: Arc<Mutex<Written>>,
    tasks: JoinSet<Result<()>>,
}

/// Numbers of the rows that are committed, with their keys.
#[derive(Debug, Default, Clone)]
pub(super) struct Written {
    next: u64,
    pub(super) lite: BTreeMap<u64, u64>,
    pub(super) postgres: BTreeMap<u64, u64>,
}

impl Tables {
    /// Makes the tables.
    pub(super) async fn new(folder: &Path, postgres: Option<&Postgres>) -> Result<Self> {
        lite(folder, "lite.db")?.execute_batch(LITE_SCHEMA).context("the tables of SQLite")?;
        lite(folder, "books.db")?.execute_batch(BOOKS_SCHEMA).context("the effects' table")?;
        if let Some(postgres) = postgres {
            let client = postgres.client().await?;
            client.batch_execute(POSTGRES_SCHEMA).await.context("the tables of PostgreSQL")?;
            client.batch_execute(SLOT).await.context("the slot")?;
        }
        Ok(Self {
            folder: folder.into(),
            stop: Arc::default(),
            written: Arc::default(),
            tasks: JoinSet::new(),
        })
    }

    /// Begins to write.
    pub(super) async fn start(&mut self, postgres: Option<&Postgres>, seed: u64) -> Result<()> {
        let (connection, stop, written) =
            (lite(&self.folder, "lite.db")?, self.stop.clone(), self.written.clone());
        self.tasks
            .spawn(async move { write_lite(connection, &stop, &written, StdRng::seed_from_u64(seed)).await });
        for number in 0..if postgres.is_some() { POSTGRES_WRITERS } else { 0 } {
            let Some(postgres) = postgres else { continue };
            let (client, stop, written) = (postgres.client().await?, self.stop.clone(), self.written.clone());
            let dice = StdRng::seed_from_u64(seed ^ (number + 1));
            self.tasks.spawn(async move { write_postgres(client, &stop, &written, dice).await });
        }
        Ok(())
    }

    /// Ends it, and says what was written.
    pub(super) async fn stop(&mut self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.written.lock().clone())
    }

    /// Effects from now on come from another process.
    pub(super) fn begin_life(&self, life: u32) -> Result<()> {
        lite(&self.folder, "books.db")?.execute("update lives set life = ?1", [life])?;
        Ok(())
    }

    /// The effects: idempotency key, event and life of each.
    pub(super) fn effects(&self) -> Result<Vec<(String, String, u32)>> {
        let books = lite(&self.folder, "books.db")?;
        let mut statement = books.prepare("select key, event, life from effects order by rowid")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Rows that nobody took out of the outboxes.
    pub(super) async fn left(&self, postgres: Option<&Postgres>) -> Result<i64> {
        let count = "select count(*) from outbox";
        let mut left: i64 = lite(&self.folder, "lite.db")?.query_row(count, [], |row| row.get(0))?;
        if let Some(postgres) = postgres {
            left += postgres.client().await?.query_one(count, &[]).await?.get::<_, i64>(0);
        }
        Ok(left)
    }
}

impl Drop for Tables {
    /// The harness ends only when its threads do, also with an error.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lite(folder: &Path, name: &str) -> Result<Connection> {
    let connection = Connection::open(folder.join(name)).with_context(|| name.to_owned())?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn number(written: &Mutex<Written>) -> u64 {
    let mut written = written.lock();
    written.next += 1;
    written.next
}

/// Every transaction writes some rows to the table and the outbox.
async fn write_lite(
    mut connection: Connection,
    stop: &AtomicBool,
    written: &Mutex<Written>,
    mut dice: StdRng,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        write_some(&mut connection, written, &mut dice)?;
        tokio::time::sleep(Duration::from_millis(dice.random_range(2..=20))).await;
    }
    Ok(())
}

fn write_some(connection: &mut Connection, written: &Mutex<Written>, dice: &mut StdRng) -> Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let mut rows = BTreeMap::new();
    for _ in 0..dice.random_range(1..=4) {
        let (n, k) = (number(written), dice.random_range(0..KEYS));
        transaction.execute(&format!("insert into rows (k, n) values ({k}, {n})"), [])?;
        transaction.execute(&format!("insert into outbox (k, n) values ({k}, {n})"), [])?;
        rows.insert(n, k);
    }
    if dice.random_ratio(1, ROLLED_BACK_ONE_IN) {
        transaction.rollback()?;
    } else {
        transaction.commit()?;
        written.lock().lite.extend(rows);
    }
    Ok(())
}

/// Every transaction writes some rows to the three tables, and takes its time before it commits.
async fn write_postgres(
    mut client: tokio_postgres::Client,
    stop: &AtomicBool,
    written: &Mutex<Written>,
    mut dice: StdRng,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let transaction = client.transaction().await?;
        let mut rows = BTreeMap::new();
        for _ in 0..dice.random_range(1..=3) {
            let (n, k) = (number(written), dice.random_range(0..KEYS));
            for table in ["rows", "outbox", "changes"] {
                transaction.batch_execute(&format!("insert into {table} (k, n) values ({k}, {n})")).await?;
                tokio::time::sleep(Duration::from_micros(dice.random_range(0..1500))).await;
            }
            rows.insert(n, k);
        }
        if dice.random_ratio(1, ROLLED_BACK_ONE_IN) {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
            written.lock().postgres.extend(rows);
        }
        tokio::time::sleep(Duration::from_millis(dice.random_range(2..=30))).await;
    }
    Ok(())
}
