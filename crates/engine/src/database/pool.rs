//! A few connections to a server, made when they are needed and used again.

use super::mysql::MySql;
use super::postgres::Postgres;
use super::{ANSWER_GRACE, Answer, DatabaseError, DatabaseSpec, Home, Kind, Statement};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A connection that was idle for longer is not used again: servers and firewalls close such ones without a word.
const IDLE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Pool {
    spec: Arc<DatabaseSpec>,
    home: Home,
    slots: Semaphore,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

#[derive(Debug)]
enum Connection {
    Postgres(Postgres),
    MySql(MySql),
}

impl Connection {
    async fn open(spec: &Arc<DatabaseSpec>, home: &Home) -> Result<Self, DatabaseError> {
        match &spec.kind {
            Kind::MySql { .. } => MySql::open(spec, home).await.map(Self::MySql),
            _ => Postgres::open(spec, home).await.map(Self::Postgres),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Postgres(connection) => connection.is_closed(),
            Self::MySql(connection) => connection.is_closed(),
        }
    }

    async fn run(&mut self, statement: &Statement) -> Result<Answer, DatabaseError> {
        match self {
            Self::Postgres(connection) => connection.run(statement).await,
            Self::MySql(connection) => connection.run(statement).await,
        }
    }
}

impl Pool {
    pub(super) fn new(spec: Arc<DatabaseSpec>, home: Home) -> Self {
        let slots = Semaphore::new(spec.connections as usize);
        Self { spec, home, slots, idle: Mutex::default() }
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    pub(super) async fn run(&self, statement: &Statement) -> Result<Answer, DatabaseError> {
        let limit = self.spec.statement_timeout;
        let slot = tokio::time::timeout(limit, self.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else {
            return Err(DatabaseError::Busy {
                database: self.spec.name.clone(),
                connections: self.spec.connections,
                waited: limit,
            });
        };
        let mut connection = match self.take() {
            Some(connection) => connection,
            None => Connection::open(&self.spec, &self.home).await?,
        };
        // Given up, the connection is closed: nobody reads the rest of the answer, and an open transaction ends.
        let result = tokio::time::timeout(limit + ANSWER_GRACE, connection.run(statement)).await;
        let result = result
            .unwrap_or_else(|_| Err(DatabaseError::Timeout { database: self.spec.name.clone(), limit }));
        let usable = result.as_ref().err().is_none_or(DatabaseError::spares_connection);
        if usable && !connection.is_closed() {
            self.idle.lock().push((connection, Instant::now()));
        }
        result
    }

    /// The connection that was used last; those that were idle for too long are closed.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        idle.retain(|(connection, since)| since.elapsed() < IDLE_MAX && !connection.is_closed());
        Some(idle.pop()?.0)
    }
}
