//! Actions on the outside that are under way.

use super::{Held, Tools};
use crate::action::{Action, Answer, Running};
use crate::topology::Rule;
use std::collections::VecDeque;
use tokio::task::JoinSet;

/// Messages of one rule that wait for somebody else's answer at once.
const WAITING_FOR_OTHERS_MAX: usize = 32;

type Done = (Held, Answer);

/// See the module.
pub(super) struct Outside {
    tools: Tools,
    running: JoinSet<Done>,
    waiting: VecDeque<Held>,
    running_max: usize,
    closed: bool,
}

impl Outside {
    pub(super) fn new(rule: &Rule, tools: &Tools) -> Self {
        let waits = rule.actions.iter().any(Action::waits_for_others);
        // Files are written in batches: the more lines wait, the better.
        let running_max = if waits { WAITING_FOR_OTHERS_MAX } else { super::IN_HAND_MAX as usize };
        Self {
            tools: tools.clone(),
            running: JoinSet::new(),
            waiting: VecDeque::new(),
            running_max,
            closed: false,
        }
    }

    /// Begins a message's actions, or lets it wait for its turn.
    pub(super) fn start(&mut self, held: Held) {
        self.waiting.push_back(held);
        self.fill();
    }

    /// Begins no more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
    }

    /// Nothing is under way, and nothing waits for its turn.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// The next message whose actions are done or failed; waits for ever while there is none.
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

    fn ended(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<Done, String> {
        self.fill();
        done.map_err(|error| format!("an action broke off: {error}"))
    }

    fn fill(&mut self) {
        while !self.closed && self.running.len() < self.running_max {
            let Some(held) = self.waiting.pop_front() else { return };
            // Begun here and not in the task: lines of a file stand in the order of the messages.
            let first = held.outside.front().map(|step| step.start(&self.tools.actions));
            self.running.spawn(run(held, first, self.tools.clone()));
        }
    }
}

/// Does a message's actions one after the other, up to the first that fails; those done are taken off its list.
async fn run(mut held: Held, first: Option<Running>, tools: Tools) -> Done {
    let mut begun = first;
    while let Some(step) = held.outside.front() {
        let result = begun.take().unwrap_or_else(|| step.start(&tools.actions)).await;
        if result.is_err() {
            return (held, result);
        }
        held.outside.pop_front();
    }
    (held, Ok(serde_json::Value::Null))
}
