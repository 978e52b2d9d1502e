//! What is remembered of each key, and what follows.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Keys that one rule remembers.
pub(crate) const KEYS_MAX: usize = 100_000;
/// Everything that one rule remembers. Bytes.
pub(crate) const RULE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// What is remembered of one key. Bytes.
pub(crate) const KEY_STATE_MAX_BYTES: usize = 1024 * 1024;
/// Longest key. Bytes.
pub(crate) const KEY_MAX_BYTES: usize = 255;
/// Keys whose time is up that are dealt with in one go.
pub(crate) const FIRE_MAX: usize = 256;
/// How long a throttle remembers what it swallowed until the next event tells of it.
const SWALLOWED_KEPT_MS: u64 = 24 * 3600 * 1000;
/// What a remembered key takes beside its own bytes.
const KEY_OVERHEAD_BYTES: usize = 200;

/// What is waited for. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One event of each of so many kinds.
    AllOf { wanted: usize, within_ms: u64 },
    /// So many events.
    Count { number: u64, every: bool, within_ms: u64, sliding: bool },
    /// That no event comes for a while, at most so long after the first.
    Debounce { wait_ms: u64, max_ms: Option<u64> },
    /// That some time has gone since the last action.
    Throttle { every_ms: u64 },
}

/// An event, for the machine.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) key: Box<str>,
    /// Which of those that `all_of` waits for it is, by number.
    pub(crate) is: Vec<usize>,
    /// What is kept of it by a kind that keeps events.
    pub(crate) kept: Bytes,
}

/// What follows for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) key: Box<str>,
    /// The event in hand is not meant by `Act::Kept` and `Act::Joined`.
    pub(crate) act: Option<Act>,
}

/// What the actions are to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// The event in hand, the `count`-th; for a throttle, after so many that were swallowed.
    Now { count: u64 },
    /// The last of `count` events.
    Kept { event: Bytes, count: u64 },
    /// Events by their numbers; not all of them: time is up.
    Joined { events: BTreeMap<usize, Bytes> },
}

/// Why an event cannot be remembered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// Too many keys.
    #[error(
        "the rule remembers {KEYS_MAX} keys already, which is the most: let 'by' give fewer, or a shorter time"
    )]
    Keys,
    /// Too much of all keys.
    #[error("the rule remembers {RULE_MAX_BYTES} bytes already, which is the most")]
    Rule,
    /// Too much of one key.
    #[error(
        "the events of the key '{key}' have {size_bytes} bytes together, at most {KEY_STATE_MAX_BYTES} are remembered"
    )]
    Key {
        /// Which.
        key: Box<str>,
        /// With this event.
        size_bytes: usize,
    },
}

/// What is remembered of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Sliding: when the last events came, and whether reaching the number acts.
    Times { times: VecDeque<u64>, armed: bool },
    /// Tumbling: the window, and its events.
    Window { start_ms: u64, count: u64 },
    /// Since when, how many, the last event and when it came.
    Quiet { first_ms: u64, last_ms: u64, count: u64, event: Bytes },
    /// When it acted, and what came since.
    Throttled { since_ms: u64, last_ms: u64, swallowed: u64 },
    /// Since when, and the events.
    Parts { since_ms: u64, events: BTreeMap<usize, Bytes> },
}

impl State {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Times { times, .. } => times.len() * 8,
            Self::Window { .. } | Self::Throttled { .. } => 24,
            Self::Quiet { event, .. } => event.len(),
            Self::Parts { events, .. } => events.values().map(Bytes::len).sum(),
        }
    }
}

#[derive(Debug)]
struct Slot {
    state: State,
    due_ms: u64,
    size_bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    kind: Kind,
    keys: HashMap<Box<str>, Slot>,
    timers: BTreeSet<(u64, Box<str>)>,
    size_bytes: usize,
}

impl Machine {
    /// With what was remembered before; of another kind's memory nothing is taken, and its keys are given back.
    pub(crate) fn new(
        kind: Kind,
        remembered: impl IntoIterator<Item = (Box<str>, State)>,
    ) -> (Self, Vec<Box<str>>) {
        let mut it = Self { kind, keys: HashMap::new(), timers: BTreeSet::new(), size_bytes: 0 };
        let mut strange = Vec::new();
        for (key, state) in remembered {
            match it.fits(&state) {
                true => it.put(key, state),
                false => strange.push(key),
            }
        }
        (it, strange)
    }

    fn fits(&self, state: &State) -> bool {
        matches!(
            (&self.kind, state),
            (Kind::AllOf { .. }, State::Parts { .. })
                | (Kind::Count { sliding: true, .. }, State::Times { .. })
                | (Kind::Count { sliding: false, .. }, State::Window { .. })
                | (Kind::Debounce { .. }, State::Quiet { .. })
                | (Kind::Throttle { .. }, State::Throttled { .. })
        )
    }

    /// When time has the next to say. Milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.timers.first().map(|(due_ms, _)| *due_ms)
    }

    /// What is remembered of a key.
    pub(crate) fn state(&self, key: &str) -> Option<&State> {
        self.keys.get(key).map(|slot| &slot.state)
    }

    /// Nothing is remembered.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.timers.is_empty() && self.size_bytes == 0
    }

    /// An event. What was due for its key before comes first. `Err`: nothing was changed but for that.
    pub(crate) fn take(&mut self, fact: &Fact, now_ms: u64) -> (Option<Effect>, Result<Effect, Full>) {
        let was_due = self.keys.get(&fact.key).is_some_and(|slot| slot.due_ms <= now_ms);
        let before = if was_due { self.expire(&fact.key) } else { None };
        let taken = self.check(fact).map(|()| {
            let state = self.remove(&fact.key);
            let (state, act) = self.step(state, fact, now_ms);
            if let Some(state) = state {
                self.put(fact.key.clone(), state);
            }
            Effect { key: fact.key.clone(), act }
        });
        (before, taken)
    }

    /// What is due; call again while [`Self::due_ms`] is not later than now.
    pub(crate) fn fire(&mut self, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while effects.len() < FIRE_MAX
            && let Some((due_ms, key)) = self.timers.first()
            && *due_ms <= now_ms
        {
            let key = key.clone();
            effects.extend(self.expire(&key));
        }
        effects
    }

    fn check(&self, fact: &Fact) -> Result<(), Full> {
        let slot = self.keys.get(&fact.key);
        if slot.is_none() && self.keys.len() >= KEYS_MAX {
            return Err(Full::Keys);
        }
        let kept = match (&self.kind, slot.map(|slot| &slot.state)) {
            (Kind::AllOf { .. }, Some(State::Parts { events, .. })) => {
                let stay = events.iter().filter(|(number, _)| !fact.is.contains(number));
                stay.map(|(_, event)| event.len()).sum::<usize>() + fact.is.len() * fact.kept.len()
            }
            (Kind::AllOf { .. }, _) => fact.is.len() * fact.kept.len(),
            (Kind::Debounce { .. }, _) => fact.kept.len(),
            (Kind::Count { .. } | Kind::Throttle { .. }, _) => 0,
        };
        if kept > KEY_STATE_MAX_BYTES {
            return Err(Full::Key { key: fact.key.clone(), size_bytes: kept });
        }
        let before = slot.map_or(0, |slot| slot.size_bytes);
        match self.size_bytes - before + kept > RULE_MAX_BYTES {
            true => Err(Full::Rule),
            false => Ok(()),
        }
    }

    fn step(&self, state: Option<State>, fact: &Fact, now_ms: u64) -> (Option<State>, Option<Act>) {
        match (&self.kind, state) {
            (Kind::AllOf { wanted, .. }, state) => {
                let (since_ms, mut events) = match state {
                    Some(State::Parts { since_ms, events }) => (since_ms, events),
                    _ => (now_ms, BTreeMap::new()),
                };
                events.extend(fact.is.iter().map(|number| (*number, fact.kept.clone())));
                match events.len() {
                    0 => (None, None),
                    len if len >= *wanted => (None, Some(Act::Joined { events })),
                    _ => (Some(State::Parts { since_ms, events }), None),
                }
            }
            (Kind::Count { number, every, within_ms, sliding: true }, state) => {
                let (mut times, mut armed) = match state {
                    Some(State::Times { times, armed }) => (times, armed),
                    _ => (VecDeque::new(), true),
                };
                times.retain(|time| time.saturating_add(*within_ms) > now_ms);
                armed |= (times.len() as u64) < *number;
                times.push_back(now_ms);
                while times.len() as u64 > *number {
                    times.pop_front();
                }
                let act = (armed && times.len() as u64 >= *number).then_some(Act::Now { count: *number });
                match &act {
                    Some(_) if *every => (None, act),
                    _ => (Some(State::Times { armed: armed && act.is_none(), times }), act),
                }
            }
            (Kind::Count { number, every, within_ms, sliding: false }, state) => {
                let start_ms = now_ms - now_ms % within_ms;
                let before = match state {
                    Some(State::Window { start_ms: known, count }) if known == start_ms => count,
                    _ => 0,
                };
                let count = before + 1;
                let acts = if *every { count.is_multiple_of(*number) } else { count == *number };
                (Some(State::Window { start_ms, count }), acts.then_some(Act::Now { count }))
            }
            (Kind::Debounce { .. }, state) => {
                let (first_ms, before) = match state {
                    Some(State::Quiet { first_ms, count, .. }) => (first_ms, count),
                    _ => (now_ms, 0),
                };
                let event = fact.kept.clone();
                (Some(State::Quiet { first_ms, last_ms: now_ms, count: before + 1, event }), None)
            }
            (Kind::Throttle { every_ms }, Some(State::Throttled { since_ms, swallowed, .. }))
                if now_ms < since_ms.saturating_add(*every_ms) =>
            {
                (Some(State::Throttled { since_ms, last_ms: now_ms, swallowed: swallowed + 1 }), None)
            }
            (Kind::Throttle { .. }, state) => {
                let count = match state {
                    Some(State::Throttled { swallowed, .. }) => swallowed,
                    _ => 0,
                };
                let state = State::Throttled { since_ms: now_ms, last_ms: now_ms, swallowed: 0 };
                (Some(state), Some(Act::Now { count }))
            }
        }
    }

    /// When a key's time is up.
    fn due_of(&self, state: &State) -> u64 {
        match (&self.kind, state) {
            (Kind::AllOf { within_ms, .. }, State::Parts { since_ms, .. }) => {
                since_ms.saturating_add(*within_ms)
            }
            (Kind::Count { within_ms, .. }, State::Times { times, .. }) => {
                times.back().map_or(0, |last| last.saturating_add(*within_ms))
            }
            (Kind::Count { within_ms, .. }, State::Window { start_ms, .. }) => {
                start_ms.saturating_add(*within_ms)
            }
            (Kind::Debounce { wait_ms, max_ms }, State::Quiet { first_ms, last_ms, .. }) => {
                let quiet = last_ms.saturating_add(*wait_ms);
                max_ms.map_or(quiet, |max_ms| quiet.min(first_ms.saturating_add(max_ms)))
            }
            (Kind::Throttle { every_ms }, State::Throttled { since_ms, swallowed, .. }) => {
                let kept_ms = if *swallowed == 0 { 0 } else { SWALLOWED_KEPT_MS };
                since_ms.saturating_add(*every_ms).saturating_add(kept_ms)
            }
            // Nothing of another kind is put here.
            _ => 0,
        }
    }

    /// Forgets a key whose time is up.
    fn expire(&mut self, key: &str) -> Option<Effect> {
        let act = match self.remove(key)? {
            State::Parts { events, .. } => Some(Act::Joined { events }),
            State::Quiet { event, count, .. } => Some(Act::Kept { event, count }),
            State::Times { .. } | State::Window { .. } | State::Throttled { .. } => None,
        };
        Some(Effect { key: key.into(), act })
    }

    fn put(&mut self, key: Box<str>, state: State) {
        let due_ms = self.due_of(&state);
        let size_bytes = KEY_OVERHEAD_BYTES + key.len() + state.size_bytes();
        self.size_bytes += size_bytes;
        self.timers.insert((due_ms, key.clone()));
        self.keys.insert(key, Slot { state, due_ms, size_bytes });
    }

    fn remove(&mut self, key: &str) -> Option<State> {
        let (key, slot) = self.keys.remove_entry(key)?;
        self.size_bytes -= slot.size_bytes;
        self.timers.remove(&(slot.due_ms, key));
        Some(slot.state)
    }
}
