//! SQLite: a file, on a thread of its own, for its calls block.

use super::value::{base64, bytes_of, float};
use super::{Answer, Collected, DatabaseError, DatabaseSpec, Statement, check_rows};
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};

/// Statements that wait for their turn; more wait outside.
const WAITING_MAX: usize = 64;

/// A file. Cloning counts a reference.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    spec: Arc<DatabaseSpec>,
    path: Arc<Path>,
    thread: Arc<Mutex<Option<Thread>>>,
}

struct Thread {
    jobs: mpsc::Sender<Job>,
    interrupt: Arc<InterruptHandle>,
}

struct Job {
    statement: Statement,
    done: oneshot::Sender<Result<Answer, DatabaseError>>,
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Thread")
    }
}

impl Sqlite {
    pub(super) fn new(spec: Arc<DatabaseSpec>, path: PathBuf) -> Self {
        Self { spec, path: path.into(), thread: Arc::default() }
    }

    pub(super) async fn run(&self, statement: &Statement) -> Result<Answer, DatabaseError> {
        let limit = self.spec.statement_timeout;
        let (jobs, interrupt) = self.thread().await?;
        let (done, answer) = oneshot::channel();
        let job = Job { statement: statement.clone(), done };
        let lost = || DatabaseError::Lost {
            database: self.spec.name.clone(),
            reason: "its thread has ended".to_owned(),
        };
        jobs.send(job).await.map_err(|_| lost())?;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|_| lost())?,
            Err(_) => {
                interrupt.interrupt();
                Err(DatabaseError::Timeout { database: self.spec.name.clone(), limit })
            }
        }
    }

    /// The thread; started with the first statement.
    async fn thread(&self) -> Result<(mpsc::Sender<Job>, Arc<InterruptHandle>), DatabaseError> {
        let mut thread = self.thread.lock().await;
        if let Some(thread) = thread.as_ref().filter(|thread| !thread.jobs.is_closed()) {
            return Ok((thread.jobs.clone(), thread.interrupt.clone()));
        }
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let (opened, opening) = oneshot::channel();
        let (spec, path) = (self.spec.clone(), self.path.clone());
        let work = move || match open(&spec, &path) {
            Err(error) => drop(opened.send(Err(error))),
            Ok(connection) => {
                let _ = opened.send(Ok(Arc::new(connection.get_interrupt_handle())));
                work(&spec, &connection, waiting);
            }
        };
        let broken = |reason: String| DatabaseError::Connect { database: self.spec.name.clone(), reason };
        let builder = std::thread::Builder::new().name("millpond-sqlite".into());
        builder.spawn(work).map_err(|error| broken(error.to_string()))?;
        let interrupt = opening.await.map_err(|_| broken("its thread has ended".to_owned()))??;
        *thread = Some(Thread { jobs: jobs.clone(), interrupt: interrupt.clone() });
        Ok((jobs, interrupt))
    }
}

fn open(spec: &DatabaseSpec, path: &Path) -> Result<Connection, DatabaseError> {
    let broken = |error: rusqlite::Error| DatabaseError::Connect {
        database: spec.name.clone(),
        reason: format!("{}: {error}", path.display()),
    };
    // A name that is written wrong is to be an error and not an empty database.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(broken)?;
    connection.busy_timeout(spec.statement_timeout).map_err(broken)?;
    Ok(connection)
}

fn work(spec: &DatabaseSpec, connection: &Connection, mut waiting: mpsc::Receiver<Job>) {
    while let Some(Job { statement, done }) = waiting.blocking_recv() {
        // Nobody waits any more: it is not begun.
        if done.is_closed() {
            continue;
        }
        let _ = done.send(run(spec, connection, &statement));
    }
}

fn run(spec: &DatabaseSpec, connection: &Connection, statement: &Statement) -> Result<Answer, DatabaseError> {
    let Some(expected) = &statement.expect_rows else { return execute(spec, connection, statement) };
    let command = |text| connection.execute_batch(text).map_err(|error| failed(spec, &error));
    command("BEGIN IMMEDIATE")?;
    let answer = execute(spec, connection, statement)
        .and_then(|answer| check_rows(spec, Some(expected), &answer).map(|()| answer));
    let ended = command(if answer.is_ok() { "COMMIT" } else { "ROLLBACK" });
    if ended.is_err() && !connection.is_autocommit() {
        let _ = command("ROLLBACK");
    }
    answer.and_then(|answer| ended.map(|()| answer))
}

fn execute(
    spec: &DatabaseSpec,
    connection: &Connection,
    statement: &Statement,
) -> Result<Answer, DatabaseError> {
    let failed = |error: rusqlite::Error| failed(spec, &error);
    let unusable = |reason: String| DatabaseError::Value { database: spec.name.clone(), reason };
    let mut prepared = connection.prepare(&statement.text).map_err(failed)?;
    let (given, wanted) = (statement.parameters.len(), prepared.parameter_count());
    if given != wanted {
        return Err(unusable(format!("the statement has {wanted} parameters, {given} were given")));
    }
    let parameters: Result<Vec<_>, _> = statement.parameters.iter().map(parameter).collect();
    let parameters = parameters.map_err(unusable)?;
    let names: Vec<String> = prepared.column_names().map(str::to_owned).collect();
    let is_read = prepared.readonly();
    let before = connection.total_changes();
    let mut collected = Collected::new(statement);
    let mut rows = prepared.query(rusqlite::params_from_iter(parameters)).map_err(failed)?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(failed)? {
        count += 1;
        if !collected.has_room() {
            collected.answer.more = true;
            // A statement that changes something is to come to its end.
            if is_read {
                break;
            }
            continue;
        }
        let columns = names.iter().enumerate();
        let object: Result<_, rusqlite::Error> =
            columns.map(|(at, name)| Ok((name.clone(), to_json(row.get_ref(at)?)))).collect();
        collected.add(object.map_err(failed)?);
    }
    let mut answer = collected.answer;
    answer.affected = if is_read { count } else { connection.total_changes().saturating_sub(before) };
    Ok(answer)
}

fn parameter(value: &Value) -> Result<Sql, String> {
    if let Some(bytes) = bytes_of(value) {
        return bytes.map(Sql::Blob);
    }
    Ok(match value {
        Value::Null => Sql::Null,
        Value::Bool(value) => Sql::Integer((*value).into()),
        Value::Number(number) => match number.as_i64() {
            Some(value) => Sql::Integer(value),
            None => Sql::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Sql::Text(text.clone()),
        other => Sql::Text(other.to_string()),
    })
}

fn to_json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => value.into(),
        ValueRef::Real(value) => float(value),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => base64(bytes).into(),
    }
}

fn failed(spec: &DatabaseSpec, error: &rusqlite::Error) -> DatabaseError {
    let database = spec.name.clone();
    let Some(code) = error.sqlite_error_code() else {
        return DatabaseError::Value { database, reason: error.to_string() };
    };
    let may_pass = matches!(
        code,
        ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::CannotOpen
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged
    );
    let number = error.sqlite_error().map_or(0, |error| error.extended_code);
    DatabaseError::Refused { database, code: format!("SQLite {number}"), reason: error.to_string(), may_pass }
}
