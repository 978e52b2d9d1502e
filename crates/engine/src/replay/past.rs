//! Rules with memory over messages of the past, whose own times are the clock.
//!
//! The memory begins with nothing. What falls due between a message and the next one is told with the message before.
//! A version's memory holds what it would have had: a definition that could read the memory of the one before it takes
//! the messages of that time too.

use super::would::{Would, would, would_with};
use super::{Replayed, Versions};
use crate::event::Event;
use crate::jq::Needs;
use crate::topology::Rule;
use crate::window::{Acted, Pretended};
use millpond_broker::Delivery;
use millpond_events::Origin;
use std::sync::Arc;

/// What of a message is known once the next one has come.
pub(crate) type Known = (Replayed, Would, Option<Would>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Past {
    now: Line,
    then: Vec<Then>,
    waiting: Option<Known>,
    /// The time of the message before: the clock does not go back.
    clock_ms: u64,
}

/// A rule, with what it remembers if it does.
#[derive(Debug)]
struct Line {
    rule: Arc<Rule>,
    memory: Option<Pretended>,
}

/// A version; without a line it cannot be worked with.
#[derive(Debug)]
struct Then {
    since_ms: u64,
    number: u64,
    /// Since when there are messages in its memory.
    remembers_since_ms: u64,
    line: Option<Line>,
}

impl Past {
    /// Whether one of them remembers: others are worked out message by message.
    pub(crate) fn is_needed(now: &Rule, versions: &Versions) -> bool {
        let then = versions.values().filter_map(|(_, rule)| rule.as_ref());
        now.memory.is_some() || then.into_iter().any(|rule| rule.memory.is_some())
    }

    pub(crate) fn new(now: &Arc<Rule>, versions: &Versions) -> Self {
        let mut then: Vec<Then> = Vec::with_capacity(versions.len());
        let mut before: Option<&Arc<Rule>> = None;
        for (since_ms, (number, rule)) in versions {
            let memory = |rule: Option<&Arc<Rule>>| rule.and_then(|rule| rule.memory.clone());
            let goes_on = memory(before)
                .zip(memory(rule.as_ref()))
                .is_some_and(|(before, now)| before.is_readable_by(&now));
            let remembers_since_ms =
                then.last().filter(|_| goes_on).map_or(*since_ms, |before| before.remembers_since_ms);
            let line = rule.as_ref().map(Line::new);
            then.push(Then { since_ms: *since_ms, number: *number, remembers_since_ms, line });
            before = rule.as_ref();
        }
        Self { now: Line::new(now), then, waiting: None, clock_ms: 0 }
    }

    /// Takes the next message; gives the one before it.
    pub(crate) fn take(
        &mut self,
        mut replayed: Replayed,
        delivery: &Delivery,
        origin: Origin<'_>,
    ) -> Option<Known> {
        let at_ms = replayed.at_ms.unwrap_or_default().max(self.clock_ms);
        let before = self.finish(at_ms);
        self.clock_ms = at_ms;
        let now = self.now.take(delivery, origin, at_ms);
        let in_force = self.in_force(at_ms);
        let mut did = None;
        for (number, then) in self.then.iter_mut().enumerate() {
            if at_ms < then.remembers_since_ms {
                continue;
            }
            let would = then.line.as_mut().map(|line| line.take(delivery, origin, at_ms));
            if in_force == Some(number) {
                replayed.version = then.number;
                did = would;
            }
        }
        self.waiting = Some((replayed, now, did));
        before
    }

    /// Time passes; gives the last message.
    pub(crate) fn finish(&mut self, until_ms: u64) -> Option<Known> {
        let in_force = self.in_force(self.clock_ms);
        let now = self.now.pass(until_ms);
        let mut did = Would::Nothing;
        for (number, then) in self.then.iter_mut().enumerate() {
            let Some(line) = &mut then.line else { continue };
            let would = line.pass(until_ms);
            if in_force == Some(number) {
                did = would;
            }
        }
        let (replayed, was, then) = self.waiting.take()?;
        Some((replayed, was.and(now), then.map(|then| then.and(did))))
    }

    fn in_force(&self, at_ms: u64) -> Option<usize> {
        self.then.iter().rposition(|then| then.since_ms <= at_ms)
    }
}

impl Line {
    fn new(rule: &Arc<Rule>) -> Self {
        Self { rule: rule.clone(), memory: Pretended::of(rule) }
    }

    fn take(&mut self, delivery: &Delivery, origin: Origin<'_>, now_ms: u64) -> Would {
        let Some(memory) = &mut self.memory else { return would(&self.rule, delivery, origin) };
        let event = Event::of_delivery(delivery, origin, Needs::ALL);
        match self.rule.when.as_ref().map(|when| when.is_true(&event.val)) {
            Some(Ok(false)) => return Would::Nothing,
            Some(Err(error)) => return Would::Fails(error.to_string()),
            Some(Ok(true)) | None => {}
        }
        let (acted, taken) = memory.take(&event, now_ms);
        let all = done(acted);
        match taken {
            Ok(()) => all,
            Err(reason) => all.and(Would::Fails(reason)),
        }
    }

    /// What falls due up to then.
    fn pass(&mut self, until_ms: u64) -> Would {
        let Some(memory) = &mut self.memory else { return Would::Nothing };
        let mut all = Would::Nothing;
        while let Some(due_ms) = memory.due_ms().filter(|due_ms| *due_ms <= until_ms) {
            all = all.and(done(memory.fire(due_ms)));
            if memory.due_ms() == Some(due_ms) {
                break;
            }
        }
        all
    }
}

fn done(acted: Vec<Acted>) -> Would {
    let each = acted.into_iter().map(|Acted { rule, event }| would_with(&rule, &event));
    each.fold(Would::Nothing, Would::and)
}
