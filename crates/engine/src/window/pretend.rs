//! A rule's memory without a broker, for tests and dry runs.

use super::look::{key_of, part_of};
use super::machine::{Act, Effect, Fact, Kind, Machine};
use super::outgoing::joined_event;
use super::{Memory, acting, due_queue, late_queue};
use crate::event::Event;
use crate::jq::to_json;
use crate::topology::Rule;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// See the module.
#[derive(Debug)]
pub(crate) struct Pretended {
    rule: Arc<Rule>,
    memory: Memory,
    machine: Machine,
}

/// What a rule's actions get to work on.
#[derive(Debug)]
pub(crate) struct Acted {
    /// The rule without its memory, with the actions that are meant.
    pub(crate) rule: Arc<Rule>,
    pub(crate) event: Event,
}

impl Pretended {
    /// `None`: the rule has no memory.
    pub(crate) fn of(rule: &Arc<Rule>) -> Option<Self> {
        let memory = rule.memory.clone()?;
        let (machine, _) = Machine::new(memory.kind.clone(), []);
        Some(Self { rule: rule.clone(), memory, machine })
    }

    /// When time has the next to say. Milliseconds since 1970.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.machine.due_ms()
    }

    /// An event comes. Error: it would be parked, with this reason; what was due before is done all the same.
    pub(crate) fn take(&mut self, event: &Event, now_ms: u64) -> (Vec<Acted>, Result<(), String>) {
        let fact = match self.fact(event) {
            Ok(Some(fact)) => fact,
            Ok(None) => return (Vec::new(), Ok(())),
            Err(reason) => return (Vec::new(), Err(reason)),
        };
        let (before, taken) = self.machine.take(&fact, now_ms);
        let mut acted: Vec<_> = before.into_iter().filter_map(|it| self.acted(it, None, now_ms)).collect();
        match taken {
            Ok(effect) => acted.extend(self.acted(effect, Some(&fact.kept), now_ms)),
            Err(full) => return (acted, Err(full.to_string())),
        }
        (acted, Ok(()))
    }

    /// Time has passed.
    pub(crate) fn fire(&mut self, now_ms: u64) -> Vec<Acted> {
        let effects = self.machine.fire(now_ms);
        effects.into_iter().filter_map(|effect| self.acted(effect, None, now_ms)).collect()
    }

    fn fact(&self, event: &Event) -> Result<Option<Fact>, String> {
        let key = key_of(&self.rule, &self.memory, event).map_err(|error| error.to_string())?;
        let Some(key) = key else { return Ok(None) };
        let mut whole = match to_json(&event.val)? {
            Value::Object(whole) => whole,
            _ => Map::new(),
        };
        if !matches!(self.memory.kind, Kind::AllOf { .. }) {
            let kept = Value::Object(whole).to_string().into_bytes().into();
            return Ok(Some(Fact { key, is: Vec::new(), kept }));
        }
        whole.remove("amqp");
        Ok(part_of(&self.memory, &whole, event.hops).map(|(is, kept)| Fact { key, is, kept }))
    }

    fn acted(&self, effect: Effect, in_hand: Option<&Bytes>, now_ms: u64) -> Option<Acted> {
        let (rule, memory) = (&*self.rule, &self.memory);
        let due = || acting(rule, due_queue(rule), &rule.actions);
        let counted = |kept: &Bytes, count: u64| {
            let mut event: Value = serde_json::from_slice(kept).unwrap_or_default();
            event["count"] = count.into();
            event["key"] = (*effect.key).into();
            event
        };
        let (rule, json) = match effect.act? {
            Act::Now { count } => (due(), counted(in_hand?, count)),
            Act::Kept { event, count } => (due(), counted(&event, count)),
            Act::Joined { events } => {
                let is_late = events.len() < memory.wanted.len();
                let late = || acting(rule, late_queue(rule), &memory.on_timeout);
                let (json, _) = joined_event(rule, memory, &effect.key, &events, now_ms);
                (if is_late { late() } else { due() }, json)
            }
        };
        let now = UNIX_EPOCH.checked_add(Duration::from_millis(now_ms)).unwrap_or(UNIX_EPOCH);
        Some(Acted { rule: Arc::new(rule), event: Event::of_json(&json, now) })
    }
}
