//! The engine: which rules there are, which run, and what is kept of it.
//!
//! Kept as keyed values of the room `engine`: `topology` = `{"version": 1, "file": NAME, "text": YAML,
//! "applied_ms": TIME}`, and
//! `stopped/RULE` for every rule that does not simply run (empty: stopped; `paused`, `draining`, `drained`);
//! `version/RULE`, its versions as JSON; of sources, `source/NAME` (its cursor) and
//! `source-stopped/NAME`.

mod history;
mod leftovers;
mod replay;
mod rule_status;
mod rules;
mod sources;

use crate::action::ActionTools;
use crate::apply::{ApplyError, ApplyReport, Carrier, RulesNow, TopologyPlan, look};
use crate::bus;
use crate::dry_run::{DryRun, RuleError, dry_run};
use crate::function::Digests;
use crate::pool::Pool;
use crate::secret::Secrets;
use crate::topology::{Rule, Topology, TopologyError, check};
use crate::values;
use crate::worker::Tools;
use history::Histories;
pub use history::RuleVersion;
use millpond_broker::{Broker, CommitError, ReadValuesError};
use millpond_model::VhostName;
use parking_lot::Mutex;
pub use replay::{ReplayError, ReplayFrom, ReplayRequest};
pub use rule_status::{RuleAction, RuleDetail, RuleStatus};
use rules::{Rest, Running, may_finish_beside, read_resting};
use serde_json::{Value, json};
use sources::{Gone, Sources};
pub use sources::{SourceDetail, SourceError, SourceStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// Where the topology is kept.
const TOPOLOGY_KEY: &[u8] = b"topology";

/// The version of the value there.
const TOPOLOGY_VERSION: u64 = 1;

/// Prefix of the keys of stopped rules.
const STOPPED_PREFIX: &str = "stopped/";

/// Prefix of the keys of stopped sources.
const STOPPED_SOURCE_PREFIX: &str = "source-stopped/";

/// How long a rule of an earlier version may take to finish what it has in hand; the rest comes to the next version.
const VERSION_GRACE: Duration = Duration::from_secs(60);

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The data directory; file actions with relative paths write under `files/` in it.
    pub data_dir: PathBuf,
    /// The file of the key that the table of secrets is sealed with; nothing: `secrets.key` in the data directory.
    pub secrets_key: Option<PathBuf>,
    /// Programs that rules may run, by their absolute paths.
    pub exec_allow: Vec<PathBuf>,
}

impl EngineOptions {
    /// With this data directory, and nothing else said.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), secrets_key: None, exec_allow: Vec::new() }
    }
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kept topology cannot be read.
    #[error("the topology kept in the data directory cannot be read: {reason}")]
    BadTopology {
        /// Why.
        reason: String,
    },
    /// The kept topology is not valid for this version.
    #[error("the topology kept in the data directory is not valid any more: {0}")]
    Topology(#[from] TopologyError),
    /// The store does not say what was kept.
    #[error(transparent)]
    Values(#[from] ReadValuesError),
}

/// The topology that stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedTopology {
    /// The file's name as given; empty: nothing was applied yet.
    pub file: String,
    /// Its content.
    pub text: String,
    /// When it was applied: milliseconds since 1970; `None`: by a version that did not keep it.
    pub applied_ms: Option<u64>,
}

impl AppliedTopology {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({"file": self.file, "text": self.text, "applied_ms": self.applied_ms})
    }
}

/// The running engine; cloning counts a reference.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tools: Tools,
    /// Held while the topology or the rules' states change; the value says whether it has shut down.
    changing: tokio::sync::Mutex<bool>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    topology: Arc<Topology>,
    applied: AppliedTopology,
    /// Rules that do not simply run.
    resting: BTreeMap<String, Rest>,
    rules: BTreeMap<String, Running>,
    sources: Sources,
    histories: Histories,
    /// Rules of earlier versions that finish what they have in hand.
    finishing: Vec<Finishing>,
    /// Rules that were stopped for their next version to start.
    before: BTreeMap<String, Running>,
}

/// A rule of an earlier version.
#[derive(Debug)]
struct Finishing {
    rule: Arc<Rule>,
    task: Task,
}

#[derive(Debug)]
struct Task {
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl Task {
    /// Stops it then, if it has not ended by itself.
    fn stop_after(&self, time: Duration) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            let _ = stop.send(true);
        });
    }

    /// Stops all of them at once: each may take a while to let go.
    async fn stop_all(tasks: Vec<Self>) {
        for task in &tasks {
            // A task that has ended needs no telling.
            let _ = task.stop.send(true);
        }
        for task in tasks {
            if let Err(error) = task.handle.await {
                tracing::error!(%error, "the task of a rule or source broke off");
            }
        }
    }
}

impl Engine {
    /// Starts with the topology and the rules' states that were kept; must be called inside a tokio runtime.
    pub async fn start(broker: Broker, options: EngineOptions) -> Result<Self, StartError> {
        let secrets = Secrets::open(broker.clone(), &options.data_dir, options.secrets_key.clone())?;
        let actions = ActionTools::start(&options, secrets);
        let vhost = VhostName::new("/").expect("a short name");
        let mut values = broker.values(values::ROOM)?;
        let kept = values.iter().find(|(key, _)| key == TOPOLOGY_KEY).map(|(_, value)| read_kept(value));
        let (applied, components) = kept.transpose()?.unwrap_or_default();
        let AppliedTopology { file, text, .. } = &applied;
        let mut topology = match text.as_str() {
            "" => Topology::default(),
            text => check_aside(file, text).await?,
        };
        if let Err(error) = leftovers::sweep(&broker, &mut values, &topology).await {
            tracing::error!(%error, "what rules and sources left behind could not be deleted");
        }
        let resting = read_resting(&values);
        topology.set_digests(components);
        let data_dir = options.data_dir.as_path().into();
        let tools = Tools { broker, vhost, actions, data_dir, pool: Pool::new() };
        if let Err(error) = bus::declare(&tools.broker, &tools.vhost).await {
            tracing::error!(%error, "there is no event bus: events of sources have to wait");
        }
        if !text.is_empty()
            && let Err(error) = declare(&tools, file, &topology, &resting).await
        {
            // Clients may have changed what is there; that is no reason to keep them out.
            tracing::error!(%error, "the kept topology does not fit the broker: apply it again when it does");
        }
        let state = State {
            topology: Arc::new(Topology::default()),
            applied,
            resting: resting.clone(),
            rules: BTreeMap::new(),
            sources: Sources::read(&values),
            histories: Histories::read(&values),
            finishing: Vec::new(),
            before: BTreeMap::new(),
        };
        let inner = Inner { tools, changing: tokio::sync::Mutex::new(false), state: Mutex::new(state) };
        let engine = Self { inner: Arc::new(inner) };
        engine.start_new(Arc::new(topology));
        Ok(engine)
    }

    /// What applying this file would change; changes nothing.
    pub async fn plan(&self, file: &str, text: &str) -> Result<TopologyPlan, ApplyError> {
        let changing = self.inner.changing.lock().await;
        if *changing {
            return Err(ApplyError::ShutDown);
        }
        Ok(self.look(file, text).await?.1)
    }

    /// What a file says, and what applying it would change.
    async fn look(&self, file: &str, text: &str) -> Result<(Arc<Topology>, TopologyPlan), ApplyError> {
        let mut topology = check_aside(file, text).await?;
        let refused = self.inner.tools.actions.functions.look(&mut topology).await;
        let topology = Arc::new(topology);
        let Tools { broker, vhost, actions, .. } = &self.inner.tools;
        let (old, stopped) = {
            let state = self.inner.state.lock();
            let stopped = Resting { rules: state.resting.clone(), sources: state.sources.stopped() };
            (state.topology.clone(), stopped)
        };
        let mut plan = look(broker, vhost, file, (&old, &topology), &stopped)?;
        plan.refusals.extend(refused);
        plan.refusals.extend(refused_authorities(actions, file, &topology).await);
        Ok((topology, plan))
    }

    /// Makes a topology so, keeps it, and starts, replaces and removes rules: [`Self::plan`], carried out. Applying
    /// the same again changes nothing. What is in the broker and not in the file is left alone, but for what an
    /// earlier topology bound.
    pub async fn apply(&self, file: &str, text: &str) -> Result<ApplyReport, ApplyError> {
        let span = tracing::info_span!(target: "millpond::trace", "engine.apply", file);
        self.apply_now(file, text).instrument(span).await
    }

    async fn apply_now(&self, file: &str, text: &str) -> Result<ApplyReport, ApplyError> {
        let changing = self.inner.changing.lock().await;
        if *changing {
            return Err(ApplyError::ShutDown);
        }
        let (topology, plan) = self.look(file, text).await?;
        plan.check()?;
        self.inner.tools.actions.functions.keep(&topology).await?;
        let Tools { broker, vhost, .. } = &self.inner.tools;
        let mut carrier = Carrier::open(broker, vhost)?;
        carrier.add(&plan).await?;
        let components = topology.digests.iter().map(|(name, digest)| (name.to_string(), json!(**digest)));
        let components: serde_json::Map<_, _> = components.collect();
        let applied_ms = self.inner.tools.now_ms();
        let kept = json!({"version": TOPOLOGY_VERSION, "file": file, "text": text, "components": components,
                          "applied_ms": applied_ms});
        let kept = kept.to_string();
        self.put(TOPOLOGY_KEY, Some(kept.as_bytes())).await?;
        let old = {
            let mut state = self.inner.state.lock();
            let (file, text) = (file.to_owned(), text.to_owned());
            state.applied = AppliedTopology { file, text, applied_ms: Some(applied_ms) };
            state.topology.clone()
        };
        self.stop_changed(&topology).await;
        carrier.remove(&plan).await?;
        for rule in old.rules.iter().filter(|rule| topology.rule(&rule.name).is_none()) {
            self.keep_resting(&rule.name, None).await?;
        }
        leftovers::forget_rules(broker, &old, &topology).await?;
        carrier.done.extend(self.drop_slots(&old, &topology).await);
        self.keep_versions(file, &topology).await?;
        let gone = self.start_new(topology);
        self.inner.tools.actions.functions.sweep().await;
        self.forget_sources(&gone).await?;
        Ok(ApplyReport { changes: carrier.done, summary: plan.summary.clone(), plan })
    }

    /// Stops the sources and rules that another topology says differently, or not at all. A rule that stays and takes
    /// from the same queue finishes what it has in hand beside its next version.
    async fn stop_changed(&self, topology: &Topology) {
        let mut stopping = Vec::new();
        {
            let mut state = self.inner.state.lock();
            let state = &mut *state;
            for old in std::mem::take(&mut state.finishing) {
                let next = topology.rule(&old.rule.name);
                match next.is_some_and(|next| may_finish_beside(&old.rule, next)) {
                    true => state.finishing.extend(Some(old).filter(|old| !old.task.handle.is_finished())),
                    false => stopping.push(old.task),
                }
            }
            for (name, mut running) in std::mem::take(&mut state.rules) {
                let next = topology.rule(&name);
                let stays = next.is_some_and(|rule| rule.definition == running.rule.definition);
                let finishes = next.is_some_and(|rule| may_finish_beside(&running.rule, rule));
                match running.task.take() {
                    task if stays => running.task = task,
                    Some(task) if finishes => {
                        running.finish();
                        task.stop_after(VERSION_GRACE);
                        state.finishing.push(Finishing { rule: running.rule.clone(), task });
                    }
                    task => stopping.extend(task),
                }
                let rules = if stays { &mut state.rules } else { &mut state.before };
                rules.insert(name, running);
            }
            stopping.extend(state.sources.take_changed(topology));
        }
        Task::stop_all(stopping).await;
    }

    /// Takes a topology over: rules and sources that are not there yet come, and those that are not stopped start.
    /// What is left of sources that went.
    fn start_new(&self, topology: Arc<Topology>) -> Gone {
        self.inner.tools.actions.define(&topology);
        let mut state = self.inner.state.lock();
        let state = &mut *state;
        self.inner.tools.actions.databases.set(&topology.databases);
        for rule in &topology.rules {
            if state.rules.contains_key(&rule.name) {
                continue;
            }
            let mut running = Running::new(rule.clone(), state.before.get(&rule.name));
            let rest = state.resting.get(&rule.name).copied();
            if rest.is_none_or(Rest::works) {
                running.start(&self.inner.tools);
            }
            if rest == Some(Rest::Draining) {
                self.watch_drain(&rule.name);
            }
            state.rules.insert(rule.name.clone(), running);
        }
        let gone = state.sources.start_new(&topology, &self.inner.tools);
        state.before.clear();
        state.topology = topology;
        gone
    }

    /// The topology that stands, as it was applied.
    pub fn topology(&self) -> AppliedTopology {
        self.inner.state.lock().applied.clone()
    }

    /// What a rule would do with an event, without doing it.
    pub fn dry_run(&self, rule: &str, event: &Value) -> Result<DryRun, RuleError> {
        let topology = self.inner.state.lock().topology.clone();
        dry_run(&topology, rule, event)
    }

    /// The table of secrets.
    pub fn secrets(&self) -> &Secrets {
        &self.inner.tools.actions.secrets
    }

    /// Stops every source and rule and waits until each has let go of its messages. They start again with the next engine.
    pub async fn shut_down(&self) {
        let mut changing = self.inner.changing.lock().await;
        *changing = true;
        let tasks: Vec<_> = {
            let mut state = self.inner.state.lock();
            let mut tasks = state.sources.take_all();
            tasks.extend(state.rules.values_mut().filter_map(|running| running.task.take()));
            tasks.extend(state.finishing.drain(..).map(|old| old.task));
            tasks
        };
        Task::stop_all(tasks).await;
    }

    /// Writes a keyed value and waits until it is durable.
    async fn put(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), CommitError> {
        values::put(&self.inner.tools.broker, key, value).await
    }
}

/// As [`check`], away from the runtime's threads: a large file takes a while.
async fn check_aside(file: &str, text: &str) -> Result<Topology, TopologyError> {
    let (file, text) = (file.to_owned(), text.to_owned());
    match tokio::task::spawn_blocking(move || check(&file, &text)).await {
        Ok(checked) => checked,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Whether requests can be sent with the authorities that rules name, and their programs be run. Asked when a topology is applied and not at a
/// start: a file that has gone since holds up the requests that need it, and nothing else.
async fn refused_authorities(actions: &ActionTools, file: &str, topology: &Arc<Topology>) -> Vec<String> {
    let (http, programs) = (actions.http.clone(), actions.programs.clone());
    let (file, topology) = (file.to_owned(), topology.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let mut refused = Vec::new();
        for rule in &topology.rules {
            for (place, ca_file) in rule.ca_files() {
                let reason = http.check(ca_file).err();
                refused.extend(reason.map(|reason| format!("{place}: rules.{}.do: {reason}", rule.name)));
            }
        }
        for (line, path, program) in topology.programs() {
            let reason = programs.check(program).err();
            refused.extend(reason.map(|reason| format!("{file}:{line}: {path}: {reason}")));
        }
        refused
    });
    looked.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Rules and sources that are stopped.
#[derive(Debug, Default)]
struct Resting {
    rules: BTreeMap<String, Rest>,
    sources: BTreeSet<String>,
}

impl RulesNow for Resting {
    fn resting(&self, rule: &str) -> Option<&'static str> {
        self.rules.get(rule).map(|rest| rest.as_str())
    }

    fn is_unbound(&self, rule: &str) -> bool {
        self.rules.get(rule).is_some_and(|rest| rest.is_unbound())
    }

    fn resting_source(&self, source: &str) -> Option<&'static str> {
        self.sources.contains(source).then_some("stopped")
    }
}

/// Makes the kept topology so again.
async fn declare(
    tools: &Tools,
    file: &str,
    topology: &Topology,
    rules: &BTreeMap<String, Rest>,
) -> Result<(), ApplyError> {
    let Tools { broker, vhost, .. } = tools;
    let plan = look(
        broker,
        vhost,
        file,
        (topology, topology),
        &Resting { rules: rules.clone(), sources: BTreeSet::new() },
    )?;
    plan.check()?;
    Carrier::open(broker, vhost)?.add(&plan).await
}

/// The kept topology, and which components its functions have.
fn read_kept(value: &[u8]) -> Result<(AppliedTopology, Digests), StartError> {
    let bad = |reason: &str| StartError::BadTopology { reason: reason.to_owned() };
    let kept: Value = serde_json::from_slice(value).map_err(|error| bad(&error.to_string()))?;
    if kept.get("version").and_then(Value::as_u64) != Some(TOPOLOGY_VERSION) {
        return Err(bad("it was written by a newer version"));
    }
    let member = |name: &str| kept.get(name).and_then(Value::as_str).map(str::to_owned);
    // What was kept before there were functions has none.
    let components = kept.get("components").and_then(Value::as_object).into_iter().flatten();
    let digests =
        components.filter_map(|(name, digest)| Some((name.as_str().into(), digest.as_str()?.into())));
    let digests = digests.collect();
    match (member("file"), member("text")) {
        (Some(file), Some(text)) => {
            let applied_ms = kept.get("applied_ms").and_then(Value::as_u64);
            Ok((AppliedTopology { file, text, applied_ms }, digests))
        }
        _ => Err(bad("it has no file name or no text")),
    }
}
