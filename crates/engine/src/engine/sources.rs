//! The engine's sources: started, stopped, replaced.

use super::{Engine, STOPPED_SOURCE_PREFIX, State, Task};
use crate::apply::node_lines;
use crate::failures::Failure;
use crate::source::{self, CURSOR_PREFIX, KeptCursor, SourceState, SourceVitals};
use crate::topology::{SourceSpec, Topology, did_you_mean};
use crate::worker::Tools;
use bytes::Bytes;
use millpond_broker::{CommitError, OpenSession};
use millpond_model::QueueName;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// A source with its counts since the start of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// `file`, `timer`, ...
    pub kind: String,
    /// What it is doing.
    pub state: SourceState,
    /// Events published.
    pub events: u64,
    /// Items for which its `data` gave no result.
    pub dropped: u64,
    /// Items that could not become events; each was told of by an event `millpond.source.failed`.
    pub failed: u64,
    /// Times that it could not look or publish, and waited.
    pub errors: u64,
    /// Where its events go.
    pub exchange: String,
    /// What went wrong last.
    pub last_failure: Option<Failure>,
}

/// A source with its definition.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDetail {
    /// As in the list.
    pub status: SourceStatus,
    /// `FILE:LINE`.
    pub place: String,
    /// As YAML, by lines.
    pub definition: Vec<String>,
    /// The same as JSON.
    pub source: Value,
    /// How far it has come, as its kind keeps it.
    pub cursor: Option<Value>,
    /// What went wrong last, newest first; at most 10.
    pub failures: Vec<Failure>,
}

impl SourceStatus {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name, "kind": self.kind, "state": self.state.word(), "reason": self.state.reason(),
            "events": self.events, "dropped": self.dropped, "failed": self.failed, "errors": self.errors,
            "exchange": self.exchange, "last_failure": self.last_failure.as_ref().map(Failure::to_json),
        })
    }
}

impl SourceDetail {
    /// For programs: [`SourceStatus::to_json`] and more.
    pub fn to_json(&self) -> Value {
        let mut shown = self.status.to_json();
        shown["place"] = self.place.as_str().into();
        shown["definition"] = self.definition.join("\n").into();
        shown["source"] = self.source.clone();
        shown["cursor"] = self.cursor.clone().unwrap_or_default();
        shown["failures"] = self.failures.iter().map(Failure::to_json).collect();
        shown
    }
}

/// Why a source could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is none of that name.
    #[error("no source '{source_name}' in the topology{guess}")]
    Missing {
        /// As asked.
        source_name: String,
        /// `; did you mean 'log'?`, or empty.
        guess: String,
    },
    /// That it is stopped or started could not be kept.
    #[error("source '{source_name}': its state could not be kept: {reason}")]
    NotKept {
        /// Which.
        source_name: String,
        /// Why.
        reason: String,
    },
    /// The engine has shut down.
    #[error("the engine has shut down")]
    ShutDown,
}

/// The sources of the topology, and what was kept of them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    running: BTreeMap<String, RunningSource>,
    stopped: BTreeSet<String>,
    /// Of sources that are not running yet.
    cursors: BTreeMap<String, KeptCursor>,
}

/// What a topology that was taken over left behind.
#[derive(Debug)]
pub(super) struct Gone {
    /// Of sources that are not there any more.
    names: Vec<String>,
    /// Of sources that need them no more.
    queues: Vec<QueueName>,
}

/// A source of the topology.
#[derive(Debug)]
struct RunningSource {
    spec: Arc<SourceSpec>,
    vitals: Arc<SourceVitals>,
    task: Option<Task>,
}

impl RunningSource {
    fn state(&self) -> SourceState {
        match &self.task {
            Some(task) if task.handle.is_finished() => {
                SourceState::Waiting { reason: "its task broke off: stop and start it".to_owned() }
            }
            _ => self.vitals.state.lock().clone(),
        }
    }

    fn status(&self) -> SourceStatus {
        let vitals = &self.vitals;
        SourceStatus {
            name: self.spec.name.clone(),
            kind: self.spec.kind.name().to_owned(),
            state: self.state(),
            events: vitals.events.load(Ordering::Relaxed),
            dropped: vitals.dropped.load(Ordering::Relaxed),
            failed: vitals.failed.load(Ordering::Relaxed),
            errors: vitals.errors.load(Ordering::Relaxed),
            exchange: self.spec.exchange.as_str().to_owned(),
            last_failure: vitals.failures.all().into_iter().next(),
        }
    }

    fn start(&mut self, tools: &Tools) {
        if self.task.is_none() {
            let (stop, stopped) = watch::channel(false);
            *self.vitals.state.lock() = SourceState::Running;
            let work = source::run(self.spec.clone(), tools.clone(), self.vitals.clone(), stopped);
            self.task = Some(Task { stop, handle: tokio::spawn(work) });
        }
    }
}

impl Sources {
    /// What was kept of the sources.
    pub(super) fn read(values: &[(Bytes, Bytes)]) -> Self {
        let mut this = Self::default();
        for (key, value) in values {
            let Ok(key) = std::str::from_utf8(key) else { continue };
            if let Some(name) = key.strip_prefix(STOPPED_SOURCE_PREFIX) {
                this.stopped.insert(name.to_owned());
            } else if let Some(name) = key.strip_prefix(CURSOR_PREFIX) {
                match KeptCursor::decode(value) {
                    Some(cursor) => drop(this.cursors.insert(name.to_owned(), cursor)),
                    None => {
                        tracing::warn!(source = name, "the cursor of a source cannot be read: it begins anew")
                    }
                }
            }
        }
        this
    }

    /// Takes out the tasks of sources that another topology says differently, or not at all. What they have
    /// committed is remembered.
    pub(super) fn take_changed(&mut self, topology: &Topology) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (name, running) in &mut self.running {
            let stays = topology.source(name).is_some_and(|it| it.definition == running.spec.definition);
            if !stays {
                tasks.extend(running.task.take());
            }
        }
        tasks
    }

    /// Takes out every task.
    pub(super) fn take_all(&mut self) -> Vec<Task> {
        self.running.values_mut().filter_map(|running| running.task.take()).collect()
    }

    /// Takes a topology over, after [`Self::take_changed`] and the end of the tasks it gave; what went.
    pub(super) fn start_new(&mut self, topology: &Topology, tools: &Tools) -> Gone {
        let mut gone = Vec::new();
        let mut queues = Vec::new();
        self.running.retain(|name, running| {
            let new = topology.source(name);
            let stays = new.is_some();
            let own = running.spec.kind.own_queue(name);
            queues
                .extend(own.filter(|own| new.is_none_or(|it| it.kind.own_queue(name).as_ref() != Some(own))));
            if !stays {
                gone.push(name.clone());
            }
            stays
        });
        for name in &gone {
            self.cursors.remove(name);
        }
        for spec in &topology.sources {
            let (name, old) = (&spec.name, self.running.get(&spec.name));
            if old.is_some_and(|old| old.spec.definition == spec.definition) {
                continue;
            }
            let kept = match old {
                Some(old) => old.vitals.cursor.lock().clone(),
                None => self.cursors.remove(name),
            };
            let vitals = Arc::new(SourceVitals::new(kept));
            let mut running = RunningSource { spec: spec.clone(), vitals, task: None };
            if !self.stopped.contains(name) {
                running.start(tools);
            }
            self.running.insert(name.clone(), running);
        }
        Gone { names: gone, queues }
    }

    /// Names of those that are stopped.
    pub(super) fn stopped(&self) -> BTreeSet<String> {
        self.stopped.clone()
    }

    fn find(&self, name: &str) -> Result<&RunningSource, SourceError> {
        match self.running.get(name) {
            Some(running) => Ok(running),
            None => Err(SourceError::Missing {
                source_name: name.to_owned(),
                guess: did_you_mean(name, self.running.keys().map(String::as_str)),
            }),
        }
    }
}

impl State {
    /// Takes a task out of a source.
    fn take_source_task(&mut self, name: &str) -> Option<Task> {
        self.sources.running.get_mut(name)?.task.take()
    }
}

impl Engine {
    /// Every source, sorted by name.
    pub fn sources(&self) -> Vec<SourceStatus> {
        let state = self.inner.state.lock();
        state.sources.running.values().map(RunningSource::status).collect()
    }

    /// One source.
    pub fn source(&self, name: &str) -> Result<SourceDetail, SourceError> {
        let state = self.inner.state.lock();
        let running = state.sources.find(name)?;
        let cursor = running.vitals.cursor.lock().as_ref().map(|kept| kept.cursor.clone());
        Ok(SourceDetail {
            status: running.status(),
            place: running.spec.place.clone(),
            definition: node_lines(&running.spec.definition),
            source: running.spec.definition.to_json(),
            cursor,
            failures: running.vitals.failures.all(),
        })
    }

    /// Starts a stopped source where it left off; kept over restarts. One that runs is left alone.
    pub async fn start_source(&self, name: &str) -> Result<(), SourceError> {
        let changing = self.inner.changing.lock().await;
        if *changing {
            return Err(SourceError::ShutDown);
        }
        self.inner.state.lock().sources.find(name)?;
        self.keep_source_stopped(name, false).await.map_err(|error| not_kept(name, &error))?;
        let mut state = self.inner.state.lock();
        if let Some(running) = state.sources.running.get_mut(name) {
            running.start(&self.inner.tools);
        }
        Ok(())
    }

    /// Stops a source; what comes meanwhile is looked for when it starts again, if its kind can. Kept over restarts.
    pub async fn stop_source(&self, name: &str) -> Result<(), SourceError> {
        let changing = self.inner.changing.lock().await;
        if *changing {
            return Err(SourceError::ShutDown);
        }
        self.inner.state.lock().sources.find(name)?;
        self.keep_source_stopped(name, true).await.map_err(|error| not_kept(name, &error))?;
        let task = self.inner.state.lock().take_source_task(name);
        if let Some(task) = task {
            Task::stop_all(vec![task]).await;
        }
        Ok(())
    }

    /// Forgets what was kept of sources that went. Their queues are deleted if nothing is in them.
    pub(super) async fn forget_sources(&self, gone: &Gone) -> Result<(), CommitError> {
        self.delete_queues(&gone.queues);
        for name in &gone.names {
            self.put(format!("{CURSOR_PREFIX}{name}").as_bytes(), None).await?;
            self.keep_source_stopped(name, false).await?;
        }
        Ok(())
    }

    fn delete_queues(&self, queues: &[QueueName]) {
        if queues.is_empty() {
            return;
        }
        let Tools { broker, vhost, .. } = &self.inner.tools;
        let request =
            OpenSession { login: broker.internal_login(), vhost: vhost.clone(), name: "topology".into() };
        let Ok(mut session) = broker.open_session(request) else { return };
        for queue in queues {
            match session.delete_queue(queue, false, true) {
                Ok(_) => tracing::info!(queue = queue.as_str(), "the queue of a source is deleted"),
                Err(error) => tracing::warn!(queue = queue.as_str(), %error, "the queue of a source is left"),
            }
        }
    }

    async fn keep_source_stopped(&self, name: &str, stopped: bool) -> Result<(), CommitError> {
        let known = self.inner.state.lock().sources.stopped.contains(name);
        if known != stopped {
            let key = format!("{STOPPED_SOURCE_PREFIX}{name}");
            self.put(key.as_bytes(), stopped.then_some(b"".as_slice())).await?;
        }
        let stopped_names = &mut self.inner.state.lock().sources.stopped;
        match stopped {
            true => stopped_names.insert(name.to_owned()),
            false => stopped_names.remove(name),
        };
        Ok(())
    }
}

fn not_kept(name: &str, error: &CommitError) -> SourceError {
    SourceError::NotKept { source_name: name.to_owned(), reason: error.to_string() }
}
