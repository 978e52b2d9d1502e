//! Connections to MySQL and MariaDB.

use super::value::{base64, bytes_of, float, json};
use super::{Answer, Collected, DatabaseError, DatabaseSpec, Home, Kind, Statement, check_rows};
use crate::database::postgres::authorities;
use crate::database::spec::Tls;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use mysql_async::{Column, Conn, Error, OptsBuilder, Params, SslOpts, Value as Sql};
use serde_json::Value;
use std::sync::Arc;

/// The character set of columns that hold bytes.
const BINARY: u16 = 63;

/// How a server says that it does not know a variable.
const UNKNOWN_VARIABLE: u16 = 1193;

#[derive(Debug)]
pub(super) struct MySql {
    spec: Arc<DatabaseSpec>,
    connection: Conn,
    is_closed: bool,
}

impl MySql {
    pub(super) async fn open(spec: &Arc<DatabaseSpec>, home: &Home) -> Result<Self, DatabaseError> {
        let made = tokio::time::timeout(spec.connect_timeout, dial(spec, home)).await;
        let waited = || format!("none within {} ms", spec.connect_timeout.as_millis());
        let connection = made
            .unwrap_or_else(|_| Err(waited()))
            .map_err(|reason| DatabaseError::Connect { database: spec.name.clone(), reason })?;
        Ok(Self { spec: spec.clone(), connection, is_closed: false })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed || self.connection.is_disconnected()
    }

    pub(super) async fn run(&mut self, statement: &Statement) -> Result<Answer, DatabaseError> {
        let result = self.run_it(statement).await;
        self.is_closed |= matches!(result, Err(DatabaseError::Lost { .. }));
        result
    }

    async fn run_it(&mut self, statement: &Statement) -> Result<Answer, DatabaseError> {
        let Some(expected) = &statement.expect_rows else { return self.execute(statement).await };
        self.command("START TRANSACTION").await?;
        let answer = match self.execute(statement).await {
            Ok(answer) => check_rows(&self.spec, Some(expected), &answer).map(|()| answer),
            Err(error) => Err(error),
        };
        self.command(if answer.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        answer
    }

    async fn command(&mut self, text: &str) -> Result<(), DatabaseError> {
        self.connection.query_drop(text).await.map_err(|error| failed(&self.spec, &error))
    }

    async fn execute(&mut self, statement: &Statement) -> Result<Answer, DatabaseError> {
        let spec = self.spec.clone();
        let failed = |error: Error| failed(&spec, &error);
        let unusable = |reason: String| DatabaseError::Value { database: spec.name.clone(), reason };
        let prepared = self.connection.prep(&*statement.text).await.map_err(failed)?;
        let (given, wanted) = (statement.parameters.len(), usize::from(prepared.num_params()));
        if given != wanted {
            return Err(unusable(format!("the statement has {wanted} parameters, {given} were given")));
        }
        let parameters: Result<Vec<_>, _> = statement.parameters.iter().map(parameter).collect();
        let parameters = match parameters.map_err(unusable)? {
            none if none.is_empty() => Params::Empty,
            some => Params::Positional(some),
        };
        let mut rows = self.connection.exec_iter(prepared, parameters).await.map_err(failed)?;
        let columns = rows.columns();
        let mut collected = Collected::new(statement);
        let mut count = 0;
        while let Some(row) = rows.next().await.map_err(failed)? {
            count += 1;
            if !collected.has_room() {
                collected.answer.more = true;
                continue;
            }
            let columns = columns.as_deref().unwrap_or_default();
            let object = columns.iter().zip(row.unwrap());
            let object =
                object.map(|(column, value)| (column.name_str().into_owned(), to_json(column, value)));
            collected.add(object.collect());
        }
        let mut answer = collected.answer;
        answer.affected = match columns {
            Some(columns) if !columns.is_empty() => count,
            _ => rows.affected_rows(),
        };
        rows.drop_result().await.map_err(failed)?;
        Ok(answer)
    }
}

async fn dial(spec: &DatabaseSpec, home: &Home) -> Result<Conn, String> {
    let Kind::MySql { opts } = &spec.kind else { return Err("it is not MySQL".to_owned()) };
    // The number of rows that are concerned counts, and not of those that had another value before.
    let mut builder = OptsBuilder::from_opts((**opts).clone()).prefer_socket(false).client_found_rows(true);
    if let Some(password) = &spec.password {
        builder = builder.pass(Some(home.expose(password).await?));
    }
    if spec.tls == Tls::Require {
        let ca_file = spec.ca_file.as_ref().map(|path| home.base.join(path));
        let found = tokio::task::spawn_blocking(move || authorities(ca_file.as_deref())).await;
        let found = found.map_err(|error| error.to_string())??;
        let roots = found.into_iter().map(|certificate| certificate.to_vec().into()).collect();
        builder =
            builder.ssl_opts(SslOpts::default().with_root_certs(roots).with_disable_built_in_roots(true));
    }
    let mut connection = Conn::new(builder).await.map_err(|error| error.to_string())?;
    let limit = spec.statement_timeout;
    let zone = "SET time_zone = '+00:00'";
    connection.query_drop(zone).await.map_err(|error| error.to_string())?;
    // MariaDB's name for it, and MySQL's, which knows it for queries only.
    let ours = format!("SET max_statement_time = {}", limit.as_secs_f64());
    match connection.query_drop(ours).await {
        Err(Error::Server(error)) if error.code == UNKNOWN_VARIABLE => {
            let theirs = format!("SET max_execution_time = {}", limit.as_millis());
            connection.query_drop(theirs).await.map_err(|error| error.to_string())?;
        }
        other => other.map_err(|error| error.to_string())?,
    }
    Ok(connection)
}

fn parameter(value: &Value) -> Result<Sql, String> {
    if let Some(bytes) = bytes_of(value) {
        return bytes.map(Sql::Bytes);
    }
    Ok(match value {
        Value::Null => Sql::NULL,
        Value::Bool(value) => Sql::Int((*value).into()),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Sql::Int(value),
            (None, Some(value)) => Sql::UInt(value),
            _ => Sql::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Sql::Bytes(text.clone().into_bytes()),
        other => Sql::Bytes(other.to_string().into_bytes()),
    })
}

fn to_json(column: &Column, value: Sql) -> Value {
    let kind = column.column_type();
    match value {
        Sql::NULL => Value::Null,
        Sql::Int(value) => value.into(),
        Sql::UInt(value) => value.into(),
        Sql::Float(value) => float(value.to_string().parse().unwrap_or(f64::from(value))),
        Sql::Double(value) => float(value),
        Sql::Bytes(bytes) => bytes_to_json(column, &bytes),
        Sql::Date(year, month, day, hour, minute, second, us) => {
            let date = format!("{year:04}-{month:02}-{day:02}");
            if kind == ColumnType::MYSQL_TYPE_DATE {
                return date.into();
            }
            // TIMESTAMP is a moment, and this connection's zone is UTC; DATETIME is what somebody wrote.
            let zone = if kind == ColumnType::MYSQL_TYPE_TIMESTAMP { "Z" } else { "" };
            let fraction = if us > 0 { format!(".{us:06}") } else { String::new() };
            format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}").into()
        }
        Sql::Time(negative, days, hour, minute, second, us) => {
            let sign = if negative { "-" } else { "" };
            let hours = u64::from(days) * 24 + u64::from(hour);
            let fraction = if us > 0 { format!(".{us:06}") } else { String::new() };
            format!("{sign}{hours:02}:{minute:02}:{second:02}{fraction}").into()
        }
    }
}

fn bytes_to_json(column: &Column, bytes: &[u8]) -> Value {
    match column.column_type() {
        ColumnType::MYSQL_TYPE_JSON => json(&String::from_utf8_lossy(bytes)),
        ColumnType::MYSQL_TYPE_BIT if bytes.len() <= 8 => {
            bytes.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte)).into()
        }
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => {
            String::from_utf8_lossy(bytes).into()
        }
        _ if column.character_set() == BINARY && column.flags().contains(ColumnFlags::BINARY_FLAG) => {
            base64(bytes).into()
        }
        _ => String::from_utf8_lossy(bytes).into(),
    }
}

fn failed(spec: &DatabaseSpec, error: &Error) -> DatabaseError {
    let database = spec.name.clone();
    match error {
        Error::Server(error) => match error.code {
            // MariaDB's and MySQL's.
            1969 | 3024 => DatabaseError::Timeout { database, limit: spec.statement_timeout },
            code => DatabaseError::Refused {
                database,
                code: format!("{code}, {}", error.state),
                reason: error.message.clone(),
                may_pass: may_pass(code, &error.state),
            },
        },
        Error::Io(_) | Error::Url(_) => DatabaseError::Lost { database, reason: error.to_string() },
        Error::Driver(_) | Error::Other(_) => DatabaseError::Lost { database, reason: error.to_string() },
    }
}

/// Whether what failed so may be done another time.
fn may_pass(code: u16, state: &str) -> bool {
    // Connection, transaction rollback, access.
    let classes = ["08", "40", "28"];
    // Too many connections, no such account or database yet, out of memory or disk, shutting down, read only, lock not
    // got, deadlock, interrupted, table definition changed.
    let codes = [
        1021, 1037, 1040, 1041, 1044, 1045, 1049, 1053, 1114, 1203, 1205, 1213, 1226, 1290, 1317, 1412, 1615,
        1836,
    ];
    classes.iter().any(|class| state.starts_with(class)) || codes.contains(&code)
}
