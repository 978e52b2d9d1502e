//! Random histories beside a model that knows everything that happened and keeps nothing in order: whatever is
//! restarted, and however late time is told, each key's acts are the same.
#![allow(clippy::unwrap_used)]

use super::machine::{Act, FIRE_MAX, Fact, Full, KEY_STATE_MAX_BYTES, KEYS_MAX, Kind, Machine, State};
use super::record::{decode, encode};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

type Acts = BTreeMap<String, Vec<Act>>;

/// What happened: when, to which key, with what.
#[derive(Debug, Clone)]
struct Happened {
    at_ms: u64,
    key: String,
    is: Vec<usize>,
    text: Bytes,
}

/// What each key's acts are, by the definition of its kind. `until_ms`: time has come so far.
fn model(kind: &Kind, history: &[Happened], until_ms: u64) -> Acts {
    let keys: BTreeSet<_> = history.iter().map(|it| it.key.clone()).collect();
    let mut acts = Acts::new();
    for key in keys {
        let events: Vec<_> = history.iter().filter(|it| it.key == key).collect();
        let of_key = match kind {
            Kind::Count { number, every, within_ms, sliding: true } => {
                sliding(&events, *number, *every, *within_ms)
            }
            Kind::Count { number, every, within_ms, sliding: false } => {
                tumbling(&events, *number, *every, *within_ms)
            }
            Kind::Debounce { wait_ms, max_ms } => debounced(&events, *wait_ms, *max_ms, until_ms),
            Kind::Throttle { every_ms } => throttled(&events, *every_ms),
            Kind::AllOf { wanted, within_ms } => joined(&events, *wanted, *within_ms, until_ms),
        };
        if !of_key.is_empty() {
            acts.insert(key, of_key);
        }
    }
    acts
}

fn sliding(events: &[&Happened], number: u64, every: bool, within_ms: u64) -> Vec<Act> {
    let (mut acts, mut since, mut above) = (Vec::new(), 0, false);
    for (at, event) in events.iter().enumerate() {
        let in_window = |it: &&&Happened| it.at_ms + within_ms > event.at_ms;
        let before = events[since..at].iter().filter(in_window).count() as u64;
        above &= before >= number;
        if before + 1 >= number && !above {
            acts.push(Act::Now { count: number });
            (since, above) = if every { (at + 1, false) } else { (since, true) };
        }
    }
    acts
}

fn tumbling(events: &[&Happened], number: u64, every: bool, within_ms: u64) -> Vec<Act> {
    let mut acts = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let same = |it: &&&Happened| it.at_ms / within_ms == event.at_ms / within_ms;
        let count = events[..=at].iter().filter(same).count() as u64;
        let acts_now = if every { count.is_multiple_of(number) } else { count == number };
        if acts_now {
            acts.push(Act::Now { count });
        }
    }
    acts
}

fn debounced(events: &[&Happened], wait_ms: u64, max_ms: Option<u64>, until_ms: u64) -> Vec<Act> {
    let (mut acts, mut at) = (Vec::new(), 0);
    while at < events.len() {
        let (first, mut last) = (events[at].at_ms, at);
        let due = |last: usize| {
            let quiet = events[last].at_ms + wait_ms;
            max_ms.map_or(quiet, |max_ms| quiet.min(first + max_ms))
        };
        while last + 1 < events.len() && events[last + 1].at_ms < due(last) {
            last += 1;
        }
        if due(last) <= until_ms {
            let count = (last - at + 1) as u64;
            acts.push(Act::Kept { event: events[last].text.clone(), count });
        }
        at = last + 1;
    }
    acts
}

fn throttled(events: &[&Happened], every_ms: u64) -> Vec<Act> {
    let (mut acts, mut last, mut count) = (Vec::new(), None::<u64>, 0);
    for event in events {
        if last.is_some_and(|last| event.at_ms < last + every_ms) {
            count += 1;
        } else {
            acts.push(Act::Now { count });
            (last, count) = (Some(event.at_ms), 0);
        }
    }
    acts
}

fn joined(events: &[&Happened], wanted: usize, within_ms: u64, until_ms: u64) -> Vec<Act> {
    let (mut acts, mut parts, mut since) = (Vec::new(), BTreeMap::new(), 0);
    for event in events {
        if !parts.is_empty() && since + within_ms <= event.at_ms {
            acts.push(Act::Joined { events: std::mem::take(&mut parts) });
        }
        if parts.is_empty() {
            since = event.at_ms;
        }
        parts.extend(event.is.iter().map(|number| (*number, event.text.clone())));
        if parts.len() == wanted {
            acts.push(Act::Joined { events: std::mem::take(&mut parts) });
        }
    }
    if !parts.is_empty() && since + within_ms <= until_ms {
        acts.push(Act::Joined { events: parts });
    }
    acts
}

/// As the store would give it back.
fn restart(kind: &Kind, kept: &BTreeMap<Box<str>, Vec<u8>>) -> Machine {
    let states = kept.iter().map(|(key, value)| (key.clone(), decode(value.clone().into()).unwrap()));
    let (machine, strange) = Machine::new(kind.clone(), states);
    assert!(strange.is_empty());
    machine
}

/// What is kept of a key after an effect, as `front` keeps it.
fn keep(machine: &Machine, key: &str, kept: &mut BTreeMap<Box<str>, Vec<u8>>) {
    match machine.state(key) {
        Some(state) => kept.insert(key.into(), encode(state)),
        None => kept.remove(key),
    };
}

fn fire(machine: &mut Machine, now_ms: u64, acts: &mut Acts, kept: &mut BTreeMap<Box<str>, Vec<u8>>) {
    loop {
        let effects = machine.fire(now_ms);
        if effects.is_empty() {
            break;
        }
        for effect in effects {
            keep(machine, &effect.key, kept);
            if let Some(act) = effect.act {
                acts.entry(effect.key.to_string()).or_default().push(act);
            }
        }
    }
}

fn some_kind(random: &mut StdRng) -> Kind {
    let time = |random: &mut StdRng| random.random_range(1..60);
    match random.random_range(0..5) {
        0 => Kind::AllOf { wanted: random.random_range(2..4), within_ms: time(random) },
        1 | 2 => Kind::Count {
            number: random.random_range(1..6),
            every: random.random_bool(0.5),
            within_ms: time(random),
            sliding: random.random_bool(0.5),
        },
        3 => Kind::Debounce { wait_ms: time(random), max_ms: random.random_bool(0.5).then(|| time(random)) },
        _ => Kind::Throttle { every_ms: time(random) },
    }
}

#[test]
fn in_random_histories_each_key_acts_as_its_kind_is_defined() {
    for seed in 0..1000 {
        let mut random = StdRng::seed_from_u64(seed);
        let kind = some_kind(&mut random);
        let (mut machine, _) = Machine::new(kind.clone(), []);
        let (mut acts, mut kept, mut history) = (Acts::new(), BTreeMap::new(), Vec::new());
        let mut now_ms = 1_000;
        for number in 0..120 {
            now_ms += random.random_range(0..12);
            if random.random_bool(0.3) {
                fire(&mut machine, now_ms, &mut acts, &mut kept);
            }
            if random.random_bool(0.1) {
                machine = restart(&kind, &kept);
            }
            let is = match &kind {
                Kind::AllOf { wanted, .. } => vec![random.random_range(0..*wanted)],
                _ => Vec::new(),
            };
            let key = format!("k{}", random.random_range(0..3));
            let text = Bytes::from(format!("event {number}"));
            let fact = Fact { key: key.as_str().into(), is: is.clone(), kept: text.clone() };
            let (before, taken) = machine.take(&fact, now_ms);
            for effect in before.into_iter().chain([taken.unwrap()]) {
                acts.entry(key.clone()).or_default().extend(effect.act);
            }
            keep(&machine, &key, &mut kept);
            history.push(Happened { at_ms: now_ms, key, is, text });
        }
        now_ms += random.random_range(0..80);
        fire(&mut machine, now_ms, &mut acts, &mut kept);
        acts.retain(|_, acts| !acts.is_empty());
        assert_eq!(acts, model(&kind, &history, now_ms), "seed {seed}, {kind:?}");
        fire(&mut machine, now_ms + 48 * 3600 * 1000, &mut acts, &mut kept);
        assert!(machine.is_empty() && kept.is_empty(), "seed {seed}: nothing is remembered for ever");
    }
}

fn fact(key: &str, is: usize, size_bytes: usize) -> Fact {
    Fact { key: key.into(), is: vec![is], kept: vec![b'x'; size_bytes].into() }
}

#[test]
fn what_is_too_much_is_refused_and_changes_nothing() {
    let (mut machine, _) = Machine::new(Kind::AllOf { wanted: 3, within_ms: 1000 }, []);
    assert!(machine.take(&fact("k", 0, KEY_STATE_MAX_BYTES / 2), 0).1.is_ok());
    let refused = machine.take(&fact("k", 1, KEY_STATE_MAX_BYTES / 2 + 1), 1).1;
    assert_eq!(refused, Err(Full::Key { key: "k".into(), size_bytes: KEY_STATE_MAX_BYTES + 1 }));
    assert!(matches!(machine.state("k"), Some(State::Parts { events, .. }) if events.len() == 1));
    // An event that takes the place of another one needs no more room than that.
    assert!(machine.take(&fact("k", 0, KEY_STATE_MAX_BYTES), 2).1.is_ok());
    let refused =
        (0..100).find_map(|number| machine.take(&fact(&format!("{number}"), 0, 1 << 20), 3).1.err());
    assert_eq!(refused, Some(Full::Rule));
    assert_eq!(machine.fire(2000).len(), machine_keys_fired(), "time makes room");
    assert!(machine.take(&fact("k", 0, 1), 2001).1.is_ok());
}

/// Keys of a mebibyte that fit beside their own cost.
fn machine_keys_fired() -> usize {
    63
}

#[test]
fn there_are_so_many_keys_and_no_more_and_time_ends_them_in_lots() {
    let (mut machine, _) = Machine::new(Kind::Throttle { every_ms: 1000 }, []);
    for number in 0..KEYS_MAX {
        assert!(machine.take(&fact(&number.to_string(), 0, 0), 0).1.is_ok());
    }
    assert_eq!(machine.take(&fact("more", 0, 0), 0).1, Err(Full::Keys));
    assert!(machine.take(&fact("7", 0, 0), 0).1.is_ok(), "a known key is no more");
    assert_eq!(machine.fire(1000).len(), FIRE_MAX);
}

#[test]
fn the_memory_of_another_kind_is_given_back() {
    let throttled = State::Throttled { since_ms: 1, last_ms: 1, swallowed: 0 };
    let (machine, strange) = Machine::new(Kind::AllOf { wanted: 2, within_ms: 5 }, [("k".into(), throttled)]);
    assert!(machine.is_empty());
    assert_eq!(strange, vec!["k".into()]);
    for bytes in [
        &b""[..],
        b"\x02t\x01",
        b"\x01z",
        b"\x01w\x01",
        b"\x01pabcdefgh12345678\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(decode(Bytes::copy_from_slice(bytes)), None);
    }
}
