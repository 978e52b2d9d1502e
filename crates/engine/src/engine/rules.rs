//! Rules started, stopped, paused and drained.

use super::rule_status::{RuleAction, RuleDetail, RuleStatus};
use super::{Engine, Finishing, Inner, STOPPED_PREFIX, State, Task};
use crate::apply::node_lines;
use crate::dry_run::RuleError;
use crate::failures::Failure;
use crate::topology::{Rule, Trigger};
use crate::window;
use crate::worker::{self, RuleState, Tools, Vitals};
use bytes::Bytes;
use millpond_broker::{CommitError, Durability, OpenSession, Session, SessionEvent};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How long a pause waits for what is in hand; after that it goes on by itself.
const PAUSE_WAIT: Duration = Duration::from_secs(5);

/// How often it is looked whether the queue of a rule that is drained is empty, or one that is paused has finished.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a rule does not simply run; kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It has let go of its messages.
    Stopped,
    /// It has finished what it had in hand, or does.
    Paused,
    /// Nothing new comes to its queue; what is there is worked off.
    Draining,
    /// Its queue was worked off, and nothing comes.
    Drained,
}

impl Rest {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }

    /// The bindings of its queue were taken away.
    pub(super) fn is_unbound(self) -> bool {
        matches!(self, Self::Draining | Self::Drained)
    }

    /// It still takes messages.
    pub(super) fn works(self) -> bool {
        self == Self::Draining
    }

    fn kept(self) -> &'static [u8] {
        match self {
            // As it was before there was anything else.
            Self::Stopped => b"",
            other => other.as_str().as_bytes(),
        }
    }
}

/// What was kept of rules that do not simply run.
pub(super) fn read_resting(values: &[(Bytes, Bytes)]) -> BTreeMap<String, Rest> {
    let read = |(key, value): &(Bytes, Bytes)| {
        let name = std::str::from_utf8(key).ok()?.strip_prefix(STOPPED_PREFIX)?.to_owned();
        let all = [Rest::Paused, Rest::Draining, Rest::Drained];
        Some((name, all.into_iter().find(|rest| rest.kept() == &value[..]).unwrap_or(Rest::Stopped)))
    };
    values.iter().filter_map(read).collect()
}

/// A rule of the topology.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) rule: Arc<Rule>,
    vitals: Arc<Vitals>,
    /// Of the workers behind a rule with memory.
    inner: Arc<Vitals>,
    pub(super) task: Option<Task>,
}

impl Running {
    /// `before`: the version whose counts go on.
    pub(super) fn new(rule: Arc<Rule>, before: Option<&Self>) -> Self {
        let next = |of: fn(&Self) -> &Arc<Vitals>| {
            before.map_or_else(Vitals::default, |before| of(before).next()).into()
        };
        Self { rule, vitals: next(|it| &it.vitals), inner: next(|it| &it.inner), task: None }
    }

    /// `finishes`: an earlier version has messages in hand.
    fn state(&self, rest: Option<Rest>, finishes: bool) -> RuleState {
        let works = self.task.as_ref().is_some_and(|task| !task.handle.is_finished());
        match rest {
            Some(Rest::Paused) if works || finishes => return RuleState::Pausing,
            Some(Rest::Paused) => return RuleState::Paused,
            Some(Rest::Drained) => return RuleState::Drained,
            Some(Rest::Draining) if *self.vitals.state.lock() == RuleState::Running => {
                return RuleState::Draining;
            }
            _ => {}
        }
        match &self.task {
            Some(_) if !works => {
                RuleState::Waiting { reason: "its task broke off: stop and start it".to_owned() }
            }
            _ => match &*self.inner.state.lock() {
                waiting @ RuleState::Waiting { .. } => waiting.clone(),
                _ => self.vitals.state.lock().clone(),
            },
        }
    }

    pub(super) fn start(&mut self, tools: &Tools) {
        if self.task.is_none() {
            let (stop, stopped) = watch::channel(false);
            for vitals in [&self.vitals, &self.inner] {
                vitals.finish.send_replace(false);
            }
            *self.vitals.state.lock() = RuleState::Running;
            worker::take_place(&self.rule, tools);
            let (rule, vitals, tools) = (self.rule.clone(), self.vitals.clone(), tools.clone());
            let handle = match &rule.memory {
                None => tokio::spawn(worker::run(rule, tools, vitals, stopped)),
                Some(memory) => {
                    let (memory, inner) = (memory.clone(), self.inner.clone());
                    tokio::spawn(window::run(rule, memory, tools, (vitals, inner), stopped))
                }
            };
            self.task = Some(Task { stop, handle });
        }
    }

    /// Newest first, of the rule and of the workers behind its memory.
    fn failures(&self) -> Vec<Failure> {
        let mut all = [self.vitals.failures.all(), self.inner.failures.all()].concat();
        all.sort_by_key(|failure| std::cmp::Reverse(failure.at_ms));
        all
    }

    /// Takes no more messages, and ends when it has finished those in hand.
    pub(super) fn finish(&self) {
        for vitals in [&self.vitals, &self.inner] {
            vitals.finish.send_replace(true);
        }
    }
}

/// Whether a rule may finish what it has in hand while its version `next` begins on what comes: both take from the same
/// queue, which gives each message to one of them (a stream does not), nothing is remembered that one of them only may
/// change, and events have no order.
pub(super) fn may_finish_beside(rule: &Rule, next: &Rule) -> bool {
    let alone = |rule: &Rule| {
        rule.memory.is_some() || rule.order_by.is_some() || matches!(rule.on, Trigger::Stream(_))
    };
    !alone(rule) && !alone(next) && rule.queue() == next.queue()
}

impl Engine {
    /// Every rule, sorted by name.
    pub fn rules(&self) -> Vec<RuleStatus> {
        let state = self.inner.state.lock();
        state.rules.values().map(|running| self.status(&state, running)).collect()
    }

    fn status(&self, state: &State, running: &Running) -> RuleStatus {
        let tools = &self.inner.tools;
        let figures = |queue: &millpond_model::QueueName| {
            let figures = tools.broker.queue_figures(&tools.vhost, queue).ok();
            figures.map_or((0, 0), |figures| (figures.ready + figures.waiting, figures.unacked))
        };
        let (rule, name) = (&running.rule, &running.rule.name);
        let (vitals, inner) = (&running.vitals, &running.inner);
        let both = |of: fn(&Vitals) -> &AtomicU64| {
            of(vitals).load(Ordering::Relaxed) + of(inner).load(Ordering::Relaxed)
        };
        let (queue, parking_queue) = (rule.queue(), rule.parking_queue());
        let (ready, unacked) = figures(&queue);
        let works = |old: &Finishing| old.rule.name == *name && !old.task.handle.is_finished();
        let finishes = state.finishing.iter().any(works);
        RuleStatus {
            name: name.clone(),
            state: running.state(state.resting.get(name).copied(), finishes),
            version: state.histories.version(name),
            ready,
            unacked,
            parked: figures(&parking_queue).0,
            seen: vitals.seen.load(Ordering::Relaxed),
            acted: both(|it| &it.acted),
            retried: both(|it| &it.retried),
            failed: both(|it| &it.failed),
            queue: queue.as_str().to_owned(),
            parking_queue: parking_queue.as_str().to_owned(),
            actions: RuleAction::all_of(rule),
            last_failure: running.failures().into_iter().next(),
        }
    }

    /// One rule.
    pub fn rule(&self, name: &str) -> Result<RuleDetail, RuleError> {
        let rule = self.find(name)?;
        let state = self.inner.state.lock();
        let running = state.rules.get(name).ok_or_else(|| RuleError::missing(name, []))?;
        Ok(RuleDetail {
            status: self.status(&state, running),
            place: rule.place.clone(),
            definition: node_lines(&rule.definition),
            rule: rule.definition.without_digests().to_json(),
            failures: running.failures(),
        })
    }

    /// Starts a rule that was stopped, paused or drained; kept over restarts. One that runs is left alone.
    pub async fn start_rule(&self, rule: &str) -> Result<(), RuleError> {
        let changing = self.inner.changing.lock().await;
        if *changing {
            return Err(RuleError::ShutDown);
        }
        let definition = self.find(rule)?;
        let rest = self.inner.state.lock().resting.get(rule).copied();
        if rest.is_some_and(Rest::is_unbound) {
            self.rebind(&definition, true).await?;
        }
        if rest == Some(Rest::Paused) {
            // It may be finishing still; what it lets go of comes again.
            self.end_task(rule).await;
        }
        self.keep_resting(rule, None).await.map_err(|error| not_kept(rule, &error))?;
        let mut state = self.inner.state.lock();
        if let Some(running) = state.rules.get_mut(rule) {
            running.start(&self.inner.tools);
        }
        Ok(())
    }

    /// Stops a rule; its queue goes on collecting. Kept over restarts. When this returns, the rule has let go of its
    /// messages.
    pub async fn stop_rule(&self, rule: &str) -> Result<(), RuleError> {
        let changing = self.inner.changing.lock().await;
        if *changing {
            return Err(RuleError::ShutDown);
        }
        let definition = self.find(rule)?;
        if self.inner.state.lock().resting.get(rule).is_some_and(|rest| rest.is_unbound()) {
            self.rebind(&definition, true).await?;
        }
        self.keep_resting(rule, Some(Rest::Stopped)).await.map_err(|error| not_kept(rule, &error))?;
        self.end_task(rule).await;
        Ok(())
    }

    /// Pauses a rule: it takes no more messages and finishes those it has in hand, retries included; its queue goes on
    /// collecting. Kept over restarts. `false`: it has not finished yet, and does by itself.
    pub async fn pause_rule(&self, rule: &str) -> Result<bool, RuleError> {
        let changing = self.inner.changing.lock().await;
        if *changing {
            return Err(RuleError::ShutDown);
        }
        let definition = self.find(rule)?;
        if self.inner.state.lock().resting.get(rule).is_some_and(|rest| rest.is_unbound()) {
            self.rebind(&definition, true).await?;
        }
        self.keep_resting(rule, Some(Rest::Paused)).await.map_err(|error| not_kept(rule, &error))?;
        if let Some(running) = self.inner.state.lock().rules.get(rule) {
            running.finish();
        }
        let rests = async {
            while self.works(rule) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        Ok(tokio::time::timeout(PAUSE_WAIT, rests).await.is_ok())
    }

    /// Drains a rule: nothing new comes to its queue, what is there is worked off, then it rests. Kept over restarts.
    /// Only for rules with a queue of their own. Returns when nothing new can come.
    pub async fn drain_rule(&self, rule: &str) -> Result<(), RuleError> {
        let changing = self.inner.changing.lock().await;
        if *changing {
            return Err(RuleError::ShutDown);
        }
        let definition = self.find(rule)?;
        if let Some(queue) = definition.on.taken_from() {
            let (rule, queue) = (rule.to_owned(), queue.as_str().to_owned());
            return Err(RuleError::NotItsQueue { rule, queue });
        }
        // Kept first: after a crash in between the next engine unbinds it.
        let rest = self.inner.state.lock().resting.get(rule).copied();
        self.keep_resting(rule, Some(Rest::Draining)).await.map_err(|error| not_kept(rule, &error))?;
        self.rebind(&definition, false).await?;
        if rest == Some(Rest::Paused) {
            self.end_task(rule).await;
        }
        if let Some(running) = self.inner.state.lock().rules.get_mut(rule) {
            running.start(&self.inner.tools);
        }
        self.watch_drain(rule);
        Ok(())
    }

    /// Looks until the queue of a draining rule is empty, then lets it rest.
    pub(super) fn watch_drain(&self, rule: &str) {
        tokio::spawn(watch_drain(Arc::downgrade(&self.inner), rule.to_owned()));
    }

    /// Takes the bindings of a draining rule away, if that was not done.
    async fn unbind_draining(&self, rule: &str) {
        if let Ok(definition) = self.find(rule)
            && let Err(error) = self.rebind(&definition, false).await
        {
            tracing::warn!(rule, %error, "a draining rule gets messages still");
        }
    }

    /// `true`: there is nothing more to look for.
    async fn drained(&self, rule: &str) -> bool {
        let looked = || {
            let state = self.inner.state.lock();
            let draining = state.resting.get(rule) == Some(&Rest::Draining);
            state.rules.get(rule).filter(|_| draining).map(|running| running.rule.clone())
        };
        let Some(definition) = looked() else { return true };
        let tools = &self.inner.tools;
        let is_empty = || {
            window::worked_queues(&definition).iter().all(|queue| {
                match tools.broker.queue_figures(&tools.vhost, queue) {
                    Ok(figures) => figures.ready + figures.waiting + figures.unacked == 0,
                    // It was deleted: nothing can be in it.
                    Err(_) => true,
                }
            })
        };
        if !is_empty() {
            return false;
        }
        let changing = self.inner.changing.lock().await;
        if *changing {
            return true;
        }
        if looked().is_none() {
            return true;
        }
        if !is_empty() {
            return false;
        }
        if let Err(error) = self.keep_resting(rule, Some(Rest::Drained)).await {
            tracing::warn!(rule, %error, "the rule is drained, which could not be kept");
            return true;
        }
        self.end_task(rule).await;
        tracing::info!(rule, "the rule is drained");
        true
    }

    /// Whether a version of a rule has something in hand, or takes it.
    fn works(&self, rule: &str) -> bool {
        let state = self.inner.state.lock();
        let now = state.rules.get(rule).and_then(|running| running.task.as_ref());
        let old = state.finishing.iter().filter(|old| old.rule.name == rule).map(|old| &old.task);
        now.into_iter().chain(old).any(|task| !task.handle.is_finished())
    }

    /// Ends a rule's task and those of its earlier versions.
    async fn end_task(&self, rule: &str) {
        let tasks: Vec<_> = {
            let mut state = self.inner.state.lock();
            let old = state.finishing.extract_if(.., |old| old.rule.name == rule).map(|old| old.task);
            let mut tasks: Vec<_> = old.collect();
            tasks.extend(state.rules.get_mut(rule).and_then(|running| running.task.take()));
            tasks
        };
        Task::stop_all(tasks).await;
    }

    /// Makes or takes away the bindings of a rule's own queue; durable when this returns.
    async fn rebind(&self, rule: &Rule, bound: bool) -> Result<(), RuleError> {
        let tools = &self.inner.tools;
        let refused = |reason: String| RuleError::NotBound { rule: rule.name.clone(), reason };
        let request = OpenSession {
            login: tools.broker.internal_login(),
            vhost: tools.vhost.clone(),
            name: "topology".into(),
        };
        let mut session = tools.broker.open_session(request).map_err(|error| refused(error.to_string()))?;
        for binding in rule.bindings() {
            let changed = match bound {
                true => session.bind(&binding),
                false => session.unbind(&binding),
            };
            let durability = changed.map_err(|error| refused(error.to_string()))?;
            settled(&mut session, durability).await.map_err(|error| refused(error.to_string()))?;
        }
        Ok(())
    }

    pub(super) fn find(&self, rule: &str) -> Result<Arc<Rule>, RuleError> {
        let state = self.inner.state.lock();
        match state.rules.get(rule) {
            Some(running) => Ok(running.rule.clone()),
            None => Err(RuleError::missing(rule, state.rules.keys().map(String::as_str))),
        }
    }

    /// Keeps why a rule rests; `None`: it runs.
    pub(super) async fn keep_resting(&self, rule: &str, rest: Option<Rest>) -> Result<(), CommitError> {
        let known = self.inner.state.lock().resting.get(rule).copied();
        if known != rest {
            let key = format!("{STOPPED_PREFIX}{rule}");
            self.put(key.as_bytes(), rest.map(Rest::kept)).await?;
        }
        let mut state = self.inner.state.lock();
        match rest {
            Some(rest) => state.resting.insert(rule.to_owned(), rest),
            None => state.resting.remove(rule),
        };
        Ok(())
    }
}

async fn watch_drain(inner: Weak<Inner>, rule: String) {
    if let Some(inner) = inner.upgrade() {
        let engine = Engine { inner };
        let changing = engine.inner.changing.lock().await;
        if !*changing {
            engine.unbind_draining(&rule).await;
        }
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // An engine that is gone drains nothing; the next one goes on.
        let Some(inner) = inner.upgrade() else { return };
        if (Engine { inner }).drained(&rule).await {
            return;
        }
    }
}

/// Waits until a change is on the disk.
pub(super) async fn settled(session: &mut Session, durability: Durability) -> Result<(), CommitError> {
    let Durability::Pending(wanted) = durability else { return Ok(()) };
    let mut events = Vec::new();
    loop {
        poll_fn(|cx| session.poll_events(cx, &mut events)).await;
        for event in events.drain(..) {
            match event {
                SessionEvent::Committed { token, result } if token == wanted => return result,
                SessionEvent::Committed { result, .. } => result?,
                SessionEvent::Shutdown | SessionEvent::Closed { .. } => return Err(CommitError::Closed),
                _ => {}
            }
        }
    }
}

fn not_kept(rule: &str, error: &CommitError) -> RuleError {
    RuleError::NotKept { rule: rule.to_owned(), reason: error.to_string() }
}
