//! Connections to PostgreSQL.

pub(crate) mod text;
mod tls;
pub(crate) mod value;

use super::{Answer, Collected, DatabaseError, DatabaseSpec, Home, Kind, Statement, check_rows};
use crate::database::spec::Tls;
use futures_lite::StreamExt;
use serde_json::Map;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use tls::MakeTls;
pub(super) use tls::authorities;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls};
use value::{Parameter, is_known, row_to_json};

/// Prepared statements kept a connection; beyond, all are prepared anew.
const PREPARED_MAX: usize = 64;

/// Notices of a LISTEN that wait to be looked at; more tell nothing new.
const NOTICES_MAX: usize = 1;

/// A connection with its prepared statements.
pub(super) struct Postgres {
    spec: Arc<DatabaseSpec>,
    client: Client,
    prepared: HashMap<Arc<str>, tokio_postgres::Statement>,
    _driver: Driver,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Postgres({})", self.spec.name)
    }
}

/// Moves a connection's bytes; ends it when dropped, also one that is in the middle of an answer.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Postgres {
    pub(super) async fn open(spec: &Arc<DatabaseSpec>, home: &Home) -> Result<Self, DatabaseError> {
        let (client, driver) = connect(spec, home, None).await?;
        let it = Self { spec: spec.clone(), client, prepared: HashMap::new(), _driver: driver };
        let limit = format!(
            "SET statement_timeout = {}; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'iso_8601'; \
             SET extra_float_digits = 1; SET bytea_output = 'hex'",
            spec.statement_timeout.as_millis()
        );
        it.client.batch_execute(&limit).await.map_err(|error| connect_error(spec, &error))?;
        Ok(it)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) async fn run(&mut self, statement: &Statement) -> Result<Answer, DatabaseError> {
        let prepared = self.prepare(&statement.text).await?;
        self.check(&prepared, statement)?;
        let Some(expected) = &statement.expect_rows else {
            return self.execute(&prepared, statement).await;
        };
        let spec = self.spec.clone();
        self.command("BEGIN").await?;
        let answer = match self.execute(&prepared, statement).await {
            Ok(answer) => check_rows(&spec, Some(expected), &answer).map(|()| answer),
            Err(error) => Err(error),
        };
        self.command(if answer.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        answer
    }

    async fn command(&self, text: &str) -> Result<(), DatabaseError> {
        self.client.batch_execute(text).await.map_err(|error| failed(&self.spec, &error))
    }

    async fn prepare(&mut self, text: &Arc<str>) -> Result<tokio_postgres::Statement, DatabaseError> {
        if let Some(prepared) = self.prepared.get(text) {
            return Ok(prepared.clone());
        }
        let prepared = self.client.prepare(text).await.map_err(|error| failed(&self.spec, &error))?;
        if self.prepared.len() >= PREPARED_MAX {
            self.prepared.clear();
        }
        self.prepared.insert(text.clone(), prepared.clone());
        Ok(prepared)
    }

    /// Whether parameters and answer can be said: to be known before anything is done.
    fn check(
        &self,
        prepared: &tokio_postgres::Statement,
        statement: &Statement,
    ) -> Result<(), DatabaseError> {
        let unusable = |reason: String| DatabaseError::Value { database: self.spec.name.clone(), reason };
        let (given, wanted) = (statement.parameters.len(), prepared.params().len());
        if given != wanted {
            return Err(unusable(format!("the statement has {wanted} parameters, {given} were given")));
        }
        match prepared.columns().iter().find(|column| !is_known(column.type_())) {
            None => Ok(()),
            Some(column) => {
                let (name, kind) = (column.name(), column.type_().name());
                Err(unusable(format!(
                    "column '{name}' has the type {kind}, which has no form in JSON: write {name}::text"
                )))
            }
        }
    }

    async fn execute(
        &self,
        prepared: &tokio_postgres::Statement,
        statement: &Statement,
    ) -> Result<Answer, DatabaseError> {
        let parameters: Vec<_> = statement.parameters.iter().map(Parameter).collect();
        let rows = self.client.query_raw(prepared, parameters).await;
        let mut rows = pin!(rows.map_err(|error| failed(&self.spec, &error))?);
        let mut collected = Collected::new(statement);
        while let Some(row) = rows.next().await {
            let row = row.map_err(|error| failed(&self.spec, &error))?;
            // The rest is read all the same: how many there were comes at the end.
            if !collected.has_room() {
                collected.answer.more = true;
                continue;
            }
            let object: Result<Map<_, _>, _> = row_to_json(&row).collect();
            let object =
                object.map_err(|reason| DatabaseError::Value { database: self.spec.name.clone(), reason })?;
            collected.add(object);
        }
        let mut answer = collected.answer;
        answer.affected = rows.rows_affected().unwrap_or_default();
        Ok(answer)
    }
}

/// A connection that waits for notices.
#[derive(Debug)]
pub(crate) struct Listener {
    spec: Arc<DatabaseSpec>,
    notices: mpsc::Receiver<()>,
    _client: Client,
    _driver: DebugDriver,
}

struct DebugDriver(#[allow(dead_code, reason = "held for its end")] Driver);

impl std::fmt::Debug for DebugDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Driver")
    }
}

impl Listener {
    /// Listens to a channel; what is notified from here on is told.
    pub(super) async fn open(
        spec: &Arc<DatabaseSpec>,
        home: &Home,
        channel: &str,
    ) -> Result<Self, DatabaseError> {
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        let (client, driver) = connect(spec, home, Some(sender)).await?;
        let text = format!("LISTEN {}", quoted(channel));
        client.batch_execute(&text).await.map_err(|error| connect_error(spec, &error))?;
        Ok(Self { spec: spec.clone(), notices, _client: client, _driver: DebugDriver(driver) })
    }

    /// Waits for a notice; several at once count as one. An error: the connection broke, open another.
    pub(crate) async fn notified(&mut self) -> Result<(), DatabaseError> {
        self.notices.recv().await.ok_or_else(|| DatabaseError::Lost {
            database: self.spec.name.clone(),
            reason: "the connection that listens has ended".to_owned(),
        })
    }
}

/// A name as SQL has it in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn connect(
    spec: &Arc<DatabaseSpec>,
    home: &Home,
    notices: Option<mpsc::Sender<()>>,
) -> Result<(Client, Driver), DatabaseError> {
    let made = tokio::time::timeout(spec.connect_timeout, dial(spec, home, notices)).await;
    let waited = || format!("none within {} ms", spec.connect_timeout.as_millis());
    made.unwrap_or_else(|_| Err(waited()))
        .map_err(|reason| DatabaseError::Connect { database: spec.name.clone(), reason })
}

async fn dial(
    spec: &DatabaseSpec,
    home: &Home,
    notices: Option<mpsc::Sender<()>>,
) -> Result<(Client, Driver), String> {
    let Kind::Postgres { config } = &spec.kind else { return Err("it is not PostgreSQL".to_owned()) };
    let mut config: Config = (**config).clone();
    config.connect_timeout(spec.connect_timeout);
    if let Some(password) = &spec.password {
        config.password(home.expose(password).await?);
    }
    config.ssl_mode(match spec.tls {
        Tls::Disable => SslMode::Disable,
        Tls::Prefer => SslMode::Prefer,
        Tls::Require => SslMode::Require,
    });
    if spec.tls == Tls::Disable {
        let (client, connection) = config.connect(NoTls).await.map_err(|error| show(&error))?;
        return Ok((client, drive(spec, connection, notices)));
    }
    let tls = MakeTls::new(spec.ca_file.as_ref().map(|path| home.base.join(path))).await?;
    let (client, connection) = config.connect(tls).await.map_err(|error| show(&error))?;
    Ok((client, drive(spec, connection, notices)))
}

fn drive<S, T>(
    spec: &DatabaseSpec,
    mut connection: Connection<S, T>,
    notices: Option<mpsc::Sender<()>>,
) -> Driver
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let name = spec.name.clone();
    Driver(tokio::spawn(async move {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notification(_))) => {
                    if let Some(notices) = &notices {
                        // Full: somebody is told already.
                        let _ = notices.try_send(());
                    }
                }
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    tracing::debug!(database = %name, notice = %notice.message(), "the database gives notice");
                }
                Some(Ok(_)) => {}
                // Whoever waits for an answer is told by the client.
                Some(Err(_)) | None => return,
            }
        }
    }))
}

fn connect_error(spec: &DatabaseSpec, error: &Error) -> DatabaseError {
    DatabaseError::Connect { database: spec.name.clone(), reason: show(error) }
}

/// The error with what caused it; the database's own words with their hint.
fn show(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        let mut text = error.message().to_owned();
        for more in [error.detail(), error.hint()].into_iter().flatten() {
            text.push_str(": ");
            text.push_str(more);
        }
        return text;
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    if text.contains("UnknownIssuer") {
        text.push_str(
            ": its authority is not known here: 'ca_file' can name it, sslmode=disable goes without",
        );
    }
    text
}

fn failed(spec: &DatabaseSpec, error: &Error) -> DatabaseError {
    let database = spec.name.clone();
    let Some(code) = error.code() else {
        // Told apart by its words alone: the library keeps the kind to itself.
        return match error.to_string().starts_with("error serializing parameter") {
            true => DatabaseError::Value { database, reason: show(error) },
            false => DatabaseError::Lost { database, reason: show(error) },
        };
    };
    if *code == SqlState::QUERY_CANCELED && show(error).contains("statement timeout") {
        return DatabaseError::Timeout { database, limit: spec.statement_timeout };
    }
    let may_pass = may_pass(code.code());
    DatabaseError::Refused { database, code: code.code().to_owned(), reason: show(error), may_pass }
}

/// Whether what failed with this SQLSTATE may be done another time. Appendix A of PostgreSQL's manual.
fn may_pass(code: &str) -> bool {
    // Connection, authorisation, transaction rollback, resources, operator intervention, system.
    let classes = ["08", "28", "40", "53", "57", "58"];
    // The object is in use, no lock was got, read only (a standby that is about to lead), a plan that is out of date.
    let others = ["55006", "55P03", "25006", "0A000", "26000"];
    classes.iter().any(|class| code.starts_with(class)) || others.contains(&code)
}
