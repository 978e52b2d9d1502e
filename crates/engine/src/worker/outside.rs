//! Actions on the outside: those under way, and the messages that wait for their turn.
//!
//! Each target (`Step::target`: a host, a server) has a lane of its own with its own limit, so that one that hangs holds
//! up nobody else's messages. A target that is down or overloaded is left alone for a while; then one message is its
//! probe, and the others follow when that goes well.

use super::{Held, Tools};
use crate::action::{ActionError, Answer};
use crate::topology::{Retry, Rule};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Longest time a target may ask to be left alone.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// `None` is for what the broker does itself.
type Target = Option<String>;

type Done = (Held, Answer);

/// See the module.
pub(super) struct Outside {
    tools: Tools,
    rule: Arc<Rule>,
    running: JoinSet<(Target, Held, Answer)>,
    lanes: HashMap<Target, Lane>,
    waiting: usize,
    /// Lanes that are paused.
    paused: usize,
    closed: bool,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Held>,
    running: usize,
    pause: Option<Pause>,
}

struct Pause {
    until: Instant,
    failures: u32,
}

impl Lane {
    fn room(&self, max: usize) -> usize {
        let max = match &self.pause {
            None => max,
            Some(pause) if pause.until <= Instant::now() => 1,
            Some(_) => 0,
        };
        max.saturating_sub(self.running)
    }
}

impl Outside {
    pub(super) fn new(rule: &Arc<Rule>, tools: &Tools) -> Self {
        Self {
            tools: tools.clone(),
            rule: rule.clone(),
            running: JoinSet::new(),
            lanes: HashMap::new(),
            waiting: 0,
            paused: 0,
            closed: false,
        }
    }

    /// Begins a message's action, or lets it wait for its turn; `first`: before those that wait already.
    pub(super) fn start(&mut self, held: Held, first: bool) {
        let Some(now) = &held.now else { return };
        let target = now.step.target();
        let lane = self.lanes.entry(target.clone()).or_default();
        self.waiting += 1;
        match first {
            true => lane.waiting.push_front(held),
            false => lane.waiting.push_back(held),
        }
        self.fill(&target);
    }

    /// Begins no more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Messages that wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The next message whose action is done or failed; waits for ever while there is none.
    pub(super) async fn next(&mut self) -> Result<Done, String> {
        match self.running.join_next().await {
            Some(done) => self.ended(done),
            None => std::future::pending().await,
        }
    }

    pub(super) fn try_next(&mut self) -> Option<Result<Done, String>> {
        let done = self.running.try_join_next()?;
        Some(self.ended(done))
    }

    /// When a target that was left alone is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.paused == 0 {
            return None;
        }
        let waits = |lane: &&Lane| lane.running == 0 && !lane.waiting.is_empty();
        self.lanes.values().filter(waits).filter_map(|lane| Some(lane.pause.as_ref()?.until)).min()
    }

    /// Tries the targets whose time has come.
    pub(super) fn probe(&mut self) {
        if self.paused > 0 {
            let due = |lane: &Lane| lane.pause.is_some() && lane.room(1) > 0;
            let targets = self.lanes.iter().filter(|(_, lane)| due(lane)).map(|(target, _)| target.clone());
            targets.collect::<Vec<_>>().into_iter().for_each(|target| self.fill(&target));
        }
    }

    fn ended(
        &mut self,
        done: Result<(Target, Held, Answer), tokio::task::JoinError>,
    ) -> Result<Done, String> {
        let (target, held, answer) = done.map_err(|error| format!("an action broke off: {error}"))?;
        let Some(lane) = self.lanes.get_mut(&target) else { return Ok((held, answer)) };
        lane.running -= 1;
        let was_paused = lane.pause.is_some();
        match &answer {
            Err(error) if target.is_some() && error.is_of_target() => {
                leave_alone(lane, error, &self.rule.retry)
            }
            _ => lane.pause = None,
        }
        let is_paused = lane.pause.is_some();
        self.paused = self.paused + usize::from(is_paused) - usize::from(was_paused);
        self.fill(&target);
        Ok((held, answer))
    }

    fn fill(&mut self, target: &Target) {
        let Some(lane) = self.lanes.get_mut(target) else { return };
        while !self.closed && lane.room(self.rule.concurrency) > 0 {
            let Some(held) = lane.waiting.pop_front() else { break };
            self.waiting -= 1;
            lane.running += 1;
            // Begun here and not in the task: lines of a file stand in the order of the messages.
            let Some(running) = held.now.as_ref().map(|now| now.step.start(&self.tools.actions)) else {
                continue;
            };
            let target = target.clone();
            self.running.spawn(async move { (target, held, running.await) });
        }
        if lane.running == 0 && lane.waiting.is_empty() && lane.pause.as_ref().is_none_or(is_over) {
            let lane = self.lanes.remove(target);
            self.paused -= usize::from(lane.is_some_and(|lane| lane.pause.is_some()));
        }
    }
}

fn is_over(pause: &Pause) -> bool {
    pause.until <= Instant::now()
}

fn leave_alone(lane: &mut Lane, error: &ActionError, retry: &Retry) {
    let now = Instant::now();
    let failures = match &lane.pause {
        // What was under way when the first failed tells nothing new.
        Some(pause) if pause.until > now => return,
        Some(pause) => pause.failures.saturating_add(1),
        None => 1,
    };
    let asked = error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
    let until = now + retry.wait(failures, rand::random()).max(asked);
    lane.pause = Some(Pause { until, failures });
}
