//! What of an event the machine is told.

use super::Memory;
use super::machine::{Fact, KEY_MAX_BYTES, Kind};
use crate::action::HOPS_MAX;
use crate::event::Event;
use crate::jq::{Jq, JqError};
use crate::pool::EvaluationError;
use crate::topology::Rule;
use bytes::Bytes;
use millpond_broker::Delivery;
use millpond_events::Origin;
use millpond_model::table::{Table, Value as Asked};
use serde_json::{Map, Value, json};

/// A message as the machine is told of it.
#[derive(Debug)]
pub(super) enum Look {
    /// `when` does not hold, or it is none of those that are waited for.
    Skip,
    /// What happened.
    Fact(Fact),
}

/// Why a message cannot be told to the machine.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    /// An expression failed.
    #[error(transparent)]
    Jq(#[from] JqError),
    /// No expression came to its end.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The key is none.
    #[error("{place}: the key has {size_bytes} bytes, at most {KEY_MAX_BYTES} are allowed")]
    LongKey {
        /// `FILE:LINE`.
        place: String,
        /// Of the key.
        size_bytes: usize,
    },
    /// There is no key.
    #[error("{place}: the expression for the key gave null: write (... // \"none\") if it may be absent")]
    NoKey {
        /// `FILE:LINE`.
        place: String,
    },
    /// It has come through too many rules.
    #[error(
        "the message has come through {hops} rules, at most {HOPS_MAX} may follow one another: do they form a loop?"
    )]
    Loop {
        /// How many.
        hops: u64,
    },
}

/// Works out what a message means to a rule with memory.
pub(super) fn look(
    rule: &Rule,
    memory: &Memory,
    delivery: &Delivery,
    origin: Origin<'_>,
) -> Result<Look, LookError> {
    let needs = memory.by.iter().chain(&rule.when).map(Jq::needs).collect();
    let event = Event::of_delivery(delivery, origin, needs);
    let Some(key) = key_of(rule, memory, &event)? else { return Ok(Look::Skip) };
    let (is, kept) = match memory.kind {
        Kind::Count { .. } | Kind::Throttle { .. } => (Vec::new(), Bytes::new()),
        Kind::Debounce { .. } => (Vec::new(), delivery.message.record().clone()),
        Kind::AllOf { .. } => match part_of(memory, &origin.read(&delivery.message), event.hops) {
            Some(part) => part,
            None => return Ok(Look::Skip),
        },
    };
    Ok(Look::Fact(Fact { key, is, kept }))
}

/// The key of an event; `None`: `when` does not hold.
pub(super) fn key_of(rule: &Rule, memory: &Memory, event: &Event) -> Result<Option<Box<str>>, LookError> {
    if let Some(when) = &rule.when
        && !when.is_true(&event.val)?
    {
        return Ok(None);
    }
    if event.hops >= HOPS_MAX {
        return Err(LookError::Loop { hops: event.hops });
    }
    let place = || rule.place.clone();
    let key: Box<str> = match &memory.by {
        None => "".into(),
        Some(by) => match by.one(&event.val)? {
            Value::Null => return Err(LookError::NoKey { place: place() }),
            Value::String(text) => text.into(),
            other => other.to_string().into(),
        },
    };
    match key.len() {
        0..=KEY_MAX_BYTES => Ok(Some(key)),
        size_bytes => Err(LookError::LongKey { place: place(), size_bytes }),
    }
}

/// Which of those that are waited for an event is, and what is kept of it; `None`: it is none of them.
pub(super) fn part_of(memory: &Memory, event: &Map<String, Value>, hops: u64) -> Option<(Vec<usize>, Bytes)> {
    let named = memory.wanted.iter().enumerate();
    let is: Vec<_> = named.filter(|(_, it)| holds(&it.conditions, event)).map(|(at, _)| at).collect();
    let kept = json!({"hops": hops, "event": event});
    (!is.is_empty()).then(|| (is, kept.to_string().into_bytes().into()))
}

/// Whether the attributes of an event are as the arguments of a binding ask: as the bus does, which has routed the
/// event by one of them, and does not say by which.
fn holds(conditions: &Table, event: &Map<String, Value>) -> bool {
    conditions.iter().all(|(name, asked)| {
        let value = match event.get(&**name) {
            Some(Value::String(text)) => text.clone(),
            Some(other @ (Value::Bool(_) | Value::Number(_))) => other.to_string(),
            _ => return false,
        };
        let value = value.as_bytes();
        match asked {
            Asked::Array(all) => all.iter().any(|one| is_so(one, value)),
            one => is_so(one, value),
        }
    })
}

fn is_so(asked: &Asked, value: &[u8]) -> bool {
    match asked {
        Asked::LongStr(text) => **text == *value,
        Asked::Table(parts) => {
            let part = |name: &str| parts.get(name).and_then(Asked::as_str).unwrap_or_default().as_bytes();
            value.starts_with(part("prefix")) && value.ends_with(part("suffix"))
        }
        _ => false,
    }
}
