//! Actions on the outside that are under way.

use super::{Held, Tools};
use crate::action::{ActionError, Appended};
use crate::plan::{FileStep, Step};
use crate::topology::{Action, Rule};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Messages of one rule whose HTTP requests are under way at once.
const HTTP_IN_FLIGHT_MAX: usize = 32;

type Done = (Held, Result<(), ActionError>);

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
        let has_http = rule.actions.iter().any(|action| matches!(action, Action::Http(_)));
        // Files are written in batches: the more lines wait, the better.
        let running_max = if has_http { HTTP_IN_FLIGHT_MAX } else { super::IN_HAND_MAX as usize };
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
            // A file's line is submitted here, so that lines stand in the order of the messages.
            let first = match held.outside.front().map(Arc::as_ref) {
                Some(Step::File(step)) => Some(self.tools.files.submit(step.clone())),
                _ => None,
            };
            self.running.spawn(run(held, first, self.tools.clone()));
        }
    }
}

/// Does a message's actions one after the other, up to the first that fails; those done are taken off its list.
async fn run(mut held: Held, first: Option<Appended>, tools: Tools) -> Done {
    let mut submitted = first;
    while let Some(step) = held.outside.front().cloned() {
        let result = match &*step {
            Step::Http(step) => tools.http.send(step).await,
            Step::File(step) => {
                let appended = submitted.take().unwrap_or_else(|| tools.files.submit(step.clone()));
                appended.await.unwrap_or_else(|_| Err(gone(step)))
            }
            Step::Publish(_) => Ok(()),
        };
        if result.is_err() {
            return (held, result);
        }
        held.outside.pop_front();
    }
    (held, Ok(()))
}

fn gone(step: &FileStep) -> ActionError {
    ActionError::File {
        place: step.place.clone(),
        path: step.path.clone(),
        reason: "the writer of files has ended".to_owned(),
    }
}
