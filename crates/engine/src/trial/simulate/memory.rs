//! Rules with memory in a test: the clock of the test is theirs.

use super::{Work, World};
use crate::event::Event;
use crate::topology::Rule;
use crate::window::{Acted, Pretended};
use std::sync::Arc;
use std::time::Duration;

impl World<'_> {
    /// An event comes to a rule with memory.
    pub(super) fn remember(&mut self, rule: &Arc<Rule>, event: &Event) {
        let now_ms = self.now_ms();
        if !self.memories.contains_key(&rule.name) {
            let Some(memory) = Pretended::of(rule) else { return };
            self.memories.insert(rule.name.clone(), memory);
        }
        let Some(memory) = self.memories.get_mut(&rule.name) else { return };
        let (acted, taken) = memory.take(event, now_ms);
        self.act(acted);
        if let Err(reason) = taken {
            self.park(rule, 1, &reason);
        }
        self.wake(rule);
    }

    /// The time has come that a rule waited for; or another event has changed it meanwhile.
    pub(super) fn fire(&mut self, rule: &Arc<Rule>) {
        let now_ms = self.now_ms();
        if let Some(memory) = self.memories.get_mut(&rule.name) {
            let acted = memory.fire(now_ms);
            self.act(acted);
            self.wake(rule);
        }
    }

    fn act(&mut self, acted: Vec<Acted>) {
        for Acted { rule, event } in acted {
            self.put(self.now, Work::Take(rule, Box::new(event)));
        }
    }

    /// Has the rule called when it is due.
    fn wake(&mut self, rule: &Arc<Rule>) {
        let due_ms = self.memories.get(&rule.name).and_then(Pretended::due_ms);
        if let Some(due_ms) = due_ms {
            self.put(Duration::from_millis(due_ms).max(self.now), Work::Fire(rule.clone()));
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX)
    }
}
