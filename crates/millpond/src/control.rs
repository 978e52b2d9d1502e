//! The control socket: how the command line speaks to a running broker.
//!
//! A Unix socket `control.sock` in the data directory, so that whoever may read the messages may steer the broker,
//! and nobody else. One JSON line asks, one JSON line answers: `{"ok": {"text": TEXT}}`, `{"ok": {"listing": ...}}`
//! (which the one who asked draws as a table or writes as JSON), `{"ok": {"one": ...}}` or `{"error": TEXT}`. What
//! takes long says before that how far it has come, a line each: `{"progress": {"done": 10, "total": 20}}`. The
//! management API is for programs; this is for the person at the machine, and works without a password or an open port.

mod admin;
mod api;
mod delayed;
mod listing;
mod messages;
mod pace;
mod rules;
mod schedules;
mod secrets;
mod sources;
mod status;
mod users;
mod when;

use crate::alarms::Watch;
use crate::tls::{self, TlsRequest};
pub(crate) use admin::{AdminRequest, PolicyText};
use anyhow::{Context, Result, anyhow, bail};
pub(crate) use api::ApiAsk;
pub(crate) use delayed::DelayedRequest;
pub(crate) use listing::{Listing, Shown, Style};
pub(crate) use messages::{MessageFilterText, MessageRequest, PeriodText};
use millpond_broker::{Actor, AuditObject, Broker};
use millpond_engine::Engine;
use millpond_server::{Api, Progress, Tls};
pub(crate) use rules::{RuleRequest, replay_from};
pub(crate) use schedules::{ScheduleRequest, ScheduleText};
pub(crate) use secrets::{SecretRequest, SecretValue};
use serde::{Deserialize, Serialize};
pub(crate) use sources::SourceRequest;
pub(crate) use status::Status;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tracing::Instrument;
pub(crate) use users::{PermissionText, UserRequest};

/// Longest request: the definitions of a large broker.
const REQUEST_MAX_BYTES: u64 = 128 << 20;
/// Longest answer: the same, as a text in JSON.
const ANSWER_MAX_BYTES: u64 = 512 << 20;
/// How often it is said how far something has come.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How long a client waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long for one that needs no work.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How the broker is: a [`Status`] in JSON.
    Status,
    /// Stop.
    Shutdown {
        /// For so long clients may settle what they hold. Milliseconds; 0: not at all.
        drain_ms: u64,
    },
    /// Make a topology so, and keep it.
    Apply {
        /// For error messages.
        file: String,
        /// Its content.
        text: String,
    },
    /// What applying a topology would change.
    Plan {
        /// For error messages.
        file: String,
        /// Its content.
        text: String,
        /// The answer is JSON instead of text.
        json: bool,
    },
    /// What is asked about rules.
    Rules {
        /// What.
        ask: RuleRequest,
    },
    /// What an operator asks of the broker.
    Admin {
        /// What.
        ask: AdminRequest,
    },
    /// What is asked about delayed messages.
    Delayed {
        /// What.
        ask: DelayedRequest,
    },
    /// What is asked about schedules.
    Schedules {
        /// What.
        ask: ScheduleRequest,
    },
    /// What is asked about secrets.
    Secrets {
        /// What.
        ask: SecretRequest,
    },
    /// What is asked about users.
    Users {
        /// What.
        ask: UserRequest,
    },
    /// What is asked about certificates.
    Tls {
        /// What.
        ask: TlsRequest,
    },
    /// What is asked about sources.
    Sources {
        /// What.
        ask: SourceRequest,
    },
    /// What the management API does.
    Api {
        /// What.
        ask: ApiAsk,
    },
    /// Messages looked at, or brought from one queue to another.
    Messages {
        /// What.
        ask: MessageRequest,
    },
}

impl Request {
    /// For traces.
    fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Shutdown { .. } => "shutdown",
            Self::Apply { .. } => "apply",
            Self::Plan { .. } => "plan",
            Self::Rules { .. } => "rules",
            Self::Admin { .. } => "admin",
            Self::Delayed { .. } => "delayed",
            Self::Schedules { .. } => "schedules",
            Self::Secrets { .. } => "secrets",
            Self::Users { .. } => "users",
            Self::Sources { .. } => "sources",
            Self::Api { .. } => "api",
            Self::Messages { .. } => "messages",
            Self::Tls { .. } => "tls",
        }
    }
}

/// The answer to [`Request::Plan`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlanAnswer {
    /// For the person or the program that asked.
    pub(crate) shown: String,
    /// There is something to do.
    pub(crate) changes: bool,
    /// Applying would be refused.
    pub(crate) refused: bool,
}

/// Those who answer.
#[derive(Debug, Clone)]
pub(crate) struct Rooms {
    pub(crate) engine: Engine,
    pub(crate) broker: Broker,
    /// The management API, from inside.
    pub(crate) api: Api,
    pub(crate) watch: Arc<Watch>,
    /// Certificates, if there is TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Where AMQP is served, with TLS too.
    pub(crate) amqp: Vec<SocketAddr>,
    /// Where HTTP is served, with TLS too.
    pub(crate) http: Vec<SocketAddr>,
    /// Told when the broker is to stop: how long it may drain before.
    pub(crate) shutdown: mpsc::Sender<Duration>,
}

impl Rooms {
    /// The same for somebody at the socket: what they change is entered as theirs.
    fn in_hands_of(&self, stream: &UnixStream) -> Self {
        let uid = stream.peer_cred().ok().map(|it| it.uid());
        Self { broker: self.broker.in_hands_of(Actor::at_control_socket(uid)), ..self.clone() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(Shown),
    Error(String),
    Progress { done: u64, total: u64 },
}

/// Nobody answers where a broker was looked for.
#[derive(Debug, thiserror::Error)]
#[error("no broker answers at {}: is it running with this --data-dir?", .0.display())]
pub(crate) struct NotReachable(PathBuf);

fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Asks a running broker; its refusal is an error. `told` hears how far it has come: done, and altogether.
pub(crate) fn ask(data_dir: &Path, request: &Request, mut told: impl FnMut(u64, u64)) -> Result<Shown> {
    let path = socket_path(data_dir);
    let connected = std::os::unix::net::UnixStream::connect(&path);
    let mut stream = connected.map_err(|error| anyhow!(error).context(NotReachable(path)))?;
    stream.set_read_timeout(match request {
        // Messages take as long as there are many, or as their rate says.
        Request::Messages { .. }
        | Request::Rules { ask: RuleRequest::Replay { .. } }
        | Request::Api { .. } => None,
        Request::Status => Some(STATUS_TIMEOUT),
        _ => Some(ANSWER_TIMEOUT),
    })?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut lines = BufReader::new(stream.take(ANSWER_MAX_BYTES));
    loop {
        let mut answer = String::new();
        lines.read_line(&mut answer).context("the broker did not answer")?;
        match serde_json::from_str(&answer).context("the broker's answer")? {
            Answer::Ok(shown) => return Ok(shown),
            Answer::Error(text) => return Err(anyhow!(text)),
            Answer::Progress { done, total } => told(done, total),
        }
    }
}

/// Opens the socket; the store's lock is held, so a file left there is a dead process's.
pub(crate) fn bind(data_dir: &Path) -> Result<UnixListener> {
    let path = socket_path(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!("{}: {error}", path.display()),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the task is dropped.
pub(crate) async fn run(listener: UnixListener, rooms: Rooms) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let rooms = rooms.in_hands_of(&stream);
                tokio::spawn(async move {
                    if let Err(error) = serve_one(stream, &rooms).await {
                        tracing::debug!(%error, "a control client went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_one(stream: UnixStream, rooms: &Rooms) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(REQUEST_MAX_BYTES)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Request>(&line) {
        // Without the text of the error, which tells what stands where something else was expected: a secret perhaps.
        Err(_) if line.contains("\"secrets\"") || line.contains("\"users\"") => {
            Answer::Error("a request that this broker does not know".into())
        }
        Err(error) => Answer::Error(format!("a request that this broker does not know: {error}")),
        Ok(request) => {
            let progress = Progress::default();
            let span = tracing::info_span!(
                target: "millpond::trace",
                "control",
                otel.name = format!("control {}", request.name()),
                otel.failed = tracing::field::Empty,
            );
            let mut work = pin!(carry_out(request, rooms, progress.clone()).instrument(span.clone()));
            let mut before = (0, 0);
            let done = loop {
                tokio::select! {
                    done = &mut work => break done,
                    () = tokio::time::sleep(PROGRESS_EVERY) => {}
                }
                let now = progress.get();
                if std::mem::replace(&mut before, now) != now {
                    let (done, total) = now;
                    say(&mut write, &Answer::Progress { done, total }).await?;
                }
            };
            span.record("otel.failed", done.is_err());
            done.map_or_else(|e| Answer::Error(format!("{e:#}")), Answer::Ok)
        }
    };
    say(&mut write, &answer).await
}

async fn say(write: &mut OwnedWriteHalf, answer: &Answer) -> Result<()> {
    let mut text = serde_json::to_string(answer)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    Ok(())
}

async fn carry_out(request: Request, rooms: &Rooms, progress: Progress) -> Result<Shown> {
    let engine = &rooms.engine;
    match request {
        Request::Status => Ok(serde_json::to_string(&Status::of(rooms))?.into()),
        Request::Shutdown { drain_ms } => {
            let detail = if drain_ms > 0 { format!("drain {drain_ms}ms") } else { String::new() };
            rooms.broker.audit("broker.shutdown", AuditObject::named("broker", ""), &detail);
            // Full: the same was just asked by another.
            let _ = rooms.shutdown.try_send(Duration::from_millis(drain_ms));
            let what = if drain_ms > 0 { "draining" } else { "stopping" };
            Ok(format!("the broker is {what}").into())
        }
        Request::Apply { file, text } => {
            let report = engine.apply(&file, &text).await?;
            let object = AuditObject::named("topology", file);
            rooms.broker.audit("topology.applied", object, &report.summary);
            let done = if report.plan.has_changes() { "\napplied" } else { "" };
            Ok(format!("{}{}{done}\n{}", report.plan, report.told_otherwise(), report.summary).into())
        }
        Request::Plan { file, text, json } => {
            let plan = engine.plan(&file, &text).await?;
            let shown = if json { plan.to_json().to_string() } else { plan.to_string() };
            Ok(serde_json::to_string(&PlanAnswer {
                shown,
                changes: plan.has_changes(),
                refused: !plan.refusals.is_empty(),
            })?
            .into())
        }
        Request::Rules { ask } => rules::carry_out(ask, rooms).await,
        Request::Admin { ask } => admin::carry_out(ask, rooms).await,
        Request::Delayed { ask } => delayed::carry_out(ask, rooms).await,
        Request::Schedules { ask } => schedules::carry_out(ask, rooms).await,
        Request::Secrets { ask } => secrets::carry_out(ask, rooms).await,
        Request::Users { ask } => users::carry_out(ask, &rooms.broker).await,
        Request::Tls { ask } => tls::carry_out(&ask, rooms.tls.as_ref(), &rooms.broker),
        Request::Sources { ask } => sources::carry_out(ask, rooms).await,
        Request::Api { ask } => api::carry_out(ask, rooms, progress).await,
        Request::Messages { ask } => messages::carry_out(ask, rooms, &progress).await.map(Shown::from),
    }
}
