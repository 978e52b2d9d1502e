//! Random histories: the router beside a list of bindings that is looked through each time.

use crate::request::{Binding, DeclareExchange, Destination};
use crate::routing::{ExchangeKind, ExchangeSpec, Removed, Resolution, Router};
use millpond_model::properties::RawProperties;
use millpond_model::table::Table;
use millpond_model::{ExchangeName, QueueName, VhostName};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

/// The invariants of the router's module essay.
pub(super) fn check_insides<Q: Clone + Eq + Hash>(router: &Router<Q>) {
    let mut incoming = BTreeSet::new();
    for (name, exchange) in &router.exchanges {
        for slot in exchange.bindings.keys() {
            match &slot.destination {
                Destination::Queue(queue) => assert!(router.queues.contains_key(queue), "{name} to {queue}"),
                Destination::Exchange(to) => assert!(router.exchanges.contains_key(to), "{name} to {to}"),
            }
            incoming.insert((slot.destination.clone(), name.clone()));
        }
    }
    assert_eq!(router.incoming, incoming);
}

type Key = (String, Destination, String);

#[derive(Default)]
struct Model {
    queues: BTreeSet<String>,
    exchanges: BTreeMap<String, ExchangeSpec>,
    bindings: BTreeSet<Key>,
}

fn exchange(name: &str) -> ExchangeName {
    ExchangeName::new(name).expect("short")
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("short")
}

fn show(binding: &Binding) -> Key {
    let key = String::from_utf8(binding.key.to_vec()).expect("text");
    (binding.source.to_string(), binding.destination.clone(), key)
}

impl Model {
    /// Takes these bindings away, and exchanges as they lose their last; what went in all.
    fn take(&mut self, gone: impl Fn(&Key) -> bool) -> (BTreeSet<Key>, BTreeSet<String>) {
        let (mut bindings, mut exchanges) = (BTreeSet::new(), BTreeSet::new());
        let mut now: BTreeSet<Key> = self.bindings.iter().filter(|key| gone(key)).cloned().collect();
        while !now.is_empty() {
            self.bindings.retain(|key| !now.contains(key));
            let sources: BTreeSet<String> = now.iter().map(|key| key.0.clone()).collect();
            bindings.append(&mut now);
            for source in sources {
                let used = self.bindings.iter().any(|key| key.0 == source);
                if !used && self.exchanges.get(&source).is_some_and(|spec| spec.auto_delete) {
                    self.exchanges.remove(&source);
                    let to = Destination::Exchange(exchange(&source));
                    now.extend(self.bindings.iter().filter(|key| key.1 == to).cloned());
                    exchanges.insert(source);
                }
            }
        }
        (bindings, exchanges)
    }

    fn route(&self, start: &str, key: &str) -> BTreeSet<String> {
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![start.to_string()]);
        let mut queues = BTreeSet::new();
        while let Some(name) = ahead.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(spec) = self.exchanges.get(&name) else { continue };
            let matches = |bound: &str| spec.kind == ExchangeKind::Fanout || bound == key;
            let mut matched = false;
            for (_, to, _) in self.bindings.iter().filter(|b| b.0 == name && matches(&b.2)) {
                matched = true;
                match to {
                    Destination::Queue(queue) => _ = queues.insert(queue.to_string()),
                    Destination::Exchange(next) => ahead.push(next.to_string()),
                }
            }
            if !matched && let Some(alternate) = spec.alternate() {
                ahead.push(alternate.to_string());
            }
        }
        queues
    }
}

fn compare_removed(removed: &Removed, wanted: &(BTreeSet<Key>, BTreeSet<String>)) {
    let bindings: Vec<Key> = removed.bindings.iter().map(show).collect();
    let exchanges: Vec<String> = removed.exchanges.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(bindings.len(), wanted.0.len(), "each once");
    assert_eq!(exchanges.len(), wanted.1.len(), "each once");
    assert_eq!(&(bindings.into_iter().collect(), exchanges.into_iter().collect()), wanted);
}

fn step(router: &mut Router<String>, model: &mut Model, random: &mut StdRng) {
    let some_exchange = format!("X{}", random.random_range(0..8));
    let some_queue = format!("q{}", random.random_range(0..40));
    let key = *["a", "b", "c"].choose(random).expect("some");
    let to = match random.random_bool(0.3) {
        true => Destination::Exchange(exchange(&format!("X{}", random.random_range(0..8)))),
        false => Destination::Queue(queue(&some_queue)),
    };
    let binding = Binding {
        source: exchange(&some_exchange),
        destination: to.clone(),
        key: key.as_bytes().into(),
        arguments: Table::new(),
    };
    match random.random_range(0..100) {
        0..10 if !model.exchanges.contains_key(&some_exchange) => {
            let alternate = random.random_bool(0.3).then(|| format!("X{}", random.random_range(0..8)));
            let request = DeclareExchange {
                name: exchange(&some_exchange),
                kind: if random.random_bool(0.5) { "direct" } else { "fanout" }.into(),
                passive: false,
                durable: false,
                auto_delete: random.random_bool(0.5),
                internal: false,
                arguments: alternate.map(|name| ("alternate-exchange", name)).into_iter().collect(),
            };
            assert!(router.declare_exchange(&request).expect("a good declaration"));
            let spec = router.exchange(&some_exchange).expect("just declared").clone();
            model.exchanges.insert(some_exchange, spec);
        }
        10..30 if model.queues.insert(some_queue.clone()) => router.add_queue(queue(&some_queue), some_queue),
        30..70 => {
            let there = match &to {
                Destination::Queue(name) => model.queues.contains(name.as_str()),
                Destination::Exchange(name) => model.exchanges.contains_key(name.as_str()),
            };
            let good = there && model.exchanges.contains_key(&some_exchange);
            let bound = router.bind(&binding);
            assert_eq!(bound.is_ok(), good);
            if good {
                assert_eq!(bound.ok(), Some(model.bindings.insert(show(&binding))));
            }
        }
        70..90 => {
            let wanted = show(&binding);
            let removed = router.unbind(&binding).expect("no default exchange here");
            compare_removed(&removed, &model.take(|key| *key == wanted));
        }
        90..96 => {
            let removed = router.remove_queue(&some_queue);
            assert_eq!(removed.is_some(), model.queues.remove(&some_queue));
            if let Some((_, removed)) = removed {
                let to = Destination::Queue(queue(&some_queue));
                compare_removed(&removed, &model.take(|key| key.1 == to));
            }
        }
        96..100 => {
            let removed = router.delete_exchange(&exchange(&some_exchange), false).expect("not built in");
            let there = model.exchanges.remove(&some_exchange).is_some();
            let to = Destination::Exchange(exchange(&some_exchange));
            let mut wanted = model.take(|key| key.0 == some_exchange || key.1 == to);
            wanted.1.extend(there.then_some(some_exchange));
            compare_removed(&removed, &wanted);
        }
        _ => {}
    }
}

fn compare(router: &Router<String>, model: &Model) {
    check_insides(router);
    let exchanges: BTreeMap<String, ExchangeSpec> =
        router.exchanges().map(|(name, spec)| (name.to_string(), spec.clone())).collect();
    assert_eq!(exchanges, model.exchanges);
    let mut bindings = BTreeSet::new();
    for name in exchanges.keys() {
        bindings.extend(router.bindings_from(name).iter().map(show));
    }
    assert_eq!(bindings, model.bindings);
    let mut out = Resolution::default();
    for name in exchanges.keys() {
        for key in ["a", "b"] {
            let properties = RawProperties::default();
            router.route(name.as_bytes(), key.as_bytes(), &properties, &mut out).expect("it is there");
            let queues: BTreeSet<String> = out.queues.iter().cloned().collect();
            assert_eq!(queues.len(), out.queues.len(), "each once");
            assert_eq!(queues, model.route(name, key), "exchange {name}, key {key}");
            assert!(out.keyed_only);
        }
    }
}

#[test]
fn random_topologies_agree_with_the_model_after_every_step() {
    for seed in 0..12 {
        let mut router = Router::new(VhostName::new("/").expect("short"));
        let mut model = Model::default();
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..2000 {
            step(&mut router, &mut model, &mut random);
            compare(&router, &model);
        }
    }
}

#[test]
fn many_queues_on_one_exchange_come_and_go() {
    let mut router = Router::new(VhostName::new("/").expect("short"));
    let spec = ExchangeSpec {
        kind: ExchangeKind::Fanout,
        durable: true,
        auto_delete: true,
        internal: false,
        arguments: Table::new(),
    };
    router.restore_exchange(exchange("F"), spec);
    let names: Vec<String> = (0..5000).map(|n| format!("q{n}")).collect();
    for name in &names {
        router.add_queue(queue(name), name.clone());
        let binding = Binding {
            source: exchange("F"),
            destination: Destination::Queue(queue(name)),
            key: Box::default(),
            arguments: Table::new(),
        };
        assert!(router.bind(&binding).expect("good"));
    }
    let mut out = Resolution::default();
    router.route(b"F", b"", &RawProperties::default(), &mut out).expect("it is there");
    assert_eq!(out.queues.iter().collect::<BTreeSet<_>>(), names.iter().collect());
    for (at, name) in names.iter().enumerate() {
        let (_, removed) = router.remove_queue(name).expect("it is there");
        assert_eq!(
            (removed.bindings.len(), removed.exchanges.len()),
            (1, usize::from(at + 1 == names.len()))
        );
    }
    check_insides(&router);
}
