//! What a replay found or gave.

use super::Would;
use crate::apply::{difference, json_lines};
use serde_json::{Value, json};
use std::fmt;

/// A message with what the rule would do, and did.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// Its place in the queue it was read from.
    pub place: u64,
    /// The event's id, if the message says one.
    pub id: Option<String>,
    /// When it was published or acked: milliseconds since 1970.
    pub at_ms: Option<u64>,
    /// The version of the rule that was in force then; 0: not known.
    pub version: u64,
    /// Why it was parked then, if it stands in the rule's parking queue.
    pub parked: Option<String>,
    /// Actions now, each `{kind: members}`.
    pub now: Value,
    /// Actions then, as far as that is known.
    pub then: Option<Value>,
    /// Lines that differ: `- ` then, `+ ` now.
    pub difference: Vec<String>,
}

/// What a replay found, or gave to the rule's queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReplayReport {
    /// The rule.
    pub rule: String,
    /// Where the messages were read.
    pub from: String,
    /// Messages that were read.
    pub read: u64,
    /// Messages given to the rule's queue; 0 in a dry run.
    pub given: u64,
    /// Only said, not done.
    pub dry_run: bool,
    /// Messages that the rule would act on now.
    pub acts: u64,
    /// Messages that it acted on then.
    pub acted: u64,
    /// Messages with which it would do the same as then.
    pub same: u64,
    /// Messages with which it would do something else.
    pub differ: u64,
    /// Messages of which it is not known what it did.
    pub unknown: u64,
    /// Messages that would be parked.
    pub would_park: u64,
    /// Messages, the first ones.
    pub messages: Vec<Replayed>,
    /// There were more, that are counted only.
    pub left_off: u64,
}

fn shown(would: &Would) -> Value {
    match would {
        Would::Nothing => json!([]),
        Would::Fails(error) => json!([{"parked": {"error": error}}]),
        Would::Acts(actions) => {
            actions.iter().map(|(kind, facts)| json!({kind.as_str(): facts})).collect::<Vec<_>>().into()
        }
    }
}

/// Compares what the rule would do with a message with what it did.
pub(crate) fn compare(it: &mut Replayed, now: &Would, then: Option<&Would>) {
    it.now = shown(now);
    // What was parked then is known to have been, whatever the version says of it.
    it.then = match &it.parked {
        Some(error) => Some(json!([{"parked": {"error": error}}])),
        None => then.map(shown),
    };
    if let Some(then) = &it.then
        && placeless(then) != placeless(&it.now)
    {
        it.difference = difference(&json_lines(then), &json_lines(&it.now));
    }
}

/// Without the place (`FILE:LINE: `) at the beginning of an error: a rule that moved in its file fails as before.
fn placeless(would: &Value) -> Value {
    let mut would = would.clone();
    if let Some(Value::String(error)) = would.pointer_mut("/0/parked/error")
        && let Some((place, rest)) = error.split_once(": ")
        && place.rsplit_once(':').is_some_and(|(_, line)| line.parse::<u32>().is_ok())
    {
        *error = rest.to_owned();
    }
    would
}

impl ReplayReport {
    /// For programs.
    pub fn to_json(&self) -> Value {
        let message = |it: &Replayed| {
            json!({
                "place": it.place, "id": it.id, "at_ms": it.at_ms, "version": it.version, "parked": it.parked,
                "now": it.now, "then": it.then, "difference": it.difference,
            })
        };
        json!({
            "rule": self.rule, "from": self.from, "dry_run": self.dry_run, "read": self.read, "given": self.given,
            "acts": self.acts, "acted": self.acted, "same": self.same, "differ": self.differ,
            "unknown": self.unknown, "would_park": self.would_park, "left_off": self.left_off,
            "messages": self.messages.iter().map(message).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.dry_run {
            return write!(
                f,
                "rule {}: {} of {} messages of queue {} were given to its queue",
                self.rule, self.given, self.read, self.from
            );
        }
        for it in &self.messages {
            let id = it.id.as_deref().map_or(String::new(), |id| format!(", id {id}"));
            let version =
                if it.version > 0 { format!(" (version {} then)", it.version) } else { String::new() };
            if it.then.is_none() {
                writeln!(f, "message {}{id}: what it did is not known; now:", it.place)?;
                for line in json_lines(&it.now) {
                    writeln!(f, "    {line}")?;
                }
            } else {
                writeln!(f, "message {}{id}: differs{version}", it.place)?;
                for line in &it.difference {
                    writeln!(f, "  {line}")?;
                }
            }
        }
        if self.left_off > 0 {
            writeln!(f, "... and {} more", self.left_off)?;
        }
        write!(
            f,
            "rule {}: {} messages of queue {} read; it acted on {} then and would on {} now; {} same, {} differ, {} not known, {} would be parked",
            self.rule,
            self.read,
            self.from,
            self.acted,
            self.acts,
            self.same,
            self.differ,
            self.unknown,
            self.would_park
        )
    }
}
