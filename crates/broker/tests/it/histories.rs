//! Random histories of several sessions: nothing is lost, nothing comes twice, order is kept, also over restarts.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashMap};

const QUEUES: [&str; 4] = ["durable-1", "durable-2", "transient", GROUPED];
/// Its messages go by groups.
const GROUPED: &str = "grouped";
const SESSIONS: usize = 4;
const STEPS: usize = 400;

/// What each queue must hold, acked ones taken out: number of the message and whether it survives a restart.
type Model = HashMap<&'static str, BTreeMap<u32, bool>>;

struct Actor {
    client: Client,
    /// Running consumers by cookie: queue and whether it acks.
    consumers: HashMap<u64, (&'static str, bool, ConsumerId)>,
    held: Vec<(&'static str, Seen)>,
}

struct History {
    rng: StdRng,
    broker: TestBroker,
    actors: Vec<Actor>,
    model: Model,
    next_message: u32,
    next_cookie: u64,
}

/// Every sixth message has no group.
fn group_of(number: u32) -> Option<Box<str>> {
    Some(number % 6).filter(|group| *group != 0).map(|group| group.to_string().into())
}

impl History {
    fn new(seed: u64, paging: bool) -> Self {
        let inbox_max_bytes = [300, 2000, 1 << 20][seed as usize % 3];
        let options = BrokerOptions { inbox_max_bytes, ..options() };
        let mut this = Self {
            rng: StdRng::seed_from_u64(seed),
            broker: if paging { TestBroker::paging(options) } else { TestBroker::with(options) },
            actors: Vec::new(),
            model: QUEUES.iter().map(|queue| (*queue, BTreeMap::new())).collect(),
            next_message: 0,
            next_cookie: 0,
        };
        this.begin();
        this
    }

    /// Opens the sessions and declares what is missing.
    fn begin(&mut self) {
        for _ in 0..SESSIONS {
            let client = self.broker.session();
            self.actors.push(Actor { client, consumers: HashMap::new(), held: Vec::new() });
        }
        let client = &mut self.actors[0].client;
        for queue in QUEUES {
            let mut request = queue_request(queue, if queue == "transient" { "" } else { "d" });
            if queue == GROUPED {
                request.arguments =
                    arguments(&[("x-group-by", "property:type".into()), ("x-group-window", 20.into())]);
            }
            let (_, durability) = client.session.declare_queue(&request).unwrap();
            client.wait_commit(durability);
            client.bind("amq.fanout", queue, "");
        }
    }

    fn step(&mut self) {
        let at = self.rng.random_range(0..SESSIONS);
        let queue = QUEUES[self.rng.random_range(0..QUEUES.len())];
        match self.rng.random_range(0..100) {
            0..30 => self.publish(at, queue, false),
            30..35 => self.publish(at, queue, true),
            35..45 => self.start(at, queue),
            45..50 => self.cancel(at),
            50..60 => self.take(at),
            60..80 => self.settle(at),
            80..90 => self.get(at, queue),
            90..92 => self.purge(at, queue),
            92..96 => self.replace(at),
            _ => self.transact(at, queue),
        }
    }

    fn numbers(&mut self) -> Vec<(u32, bool)> {
        let count = self.rng.random_range(1..8);
        let first = self.next_message;
        self.next_message += count;
        (first..first + count).map(|number| (number, self.rng.random_bool(0.6))).collect()
    }

    fn batch(&mut self, at: usize, exchange: &str, key: &str, numbers: &[(u32, bool)]) -> Vec<Publish> {
        let client = &mut self.actors[at].client;
        let one = |(number, keep): &(u32, bool)| {
            let properties = if *keep { persistent() } else { transient() };
            let properties = Properties { type_: group_of(*number), ..properties };
            client.message(exchange, key, &format!("{number:08}"), &properties).unwrap()
        };
        numbers.iter().map(one).collect()
    }

    fn publish(&mut self, at: usize, queue: &'static str, fanout: bool) {
        let numbers = self.numbers();
        let (exchange, key) = if fanout { ("amq.fanout", "") } else { ("", queue) };
        let mut batch = self.batch(at, exchange, key, &numbers);
        if !fanout && self.rng.random_bool(0.3) {
            // A batch for several queues.
            let other = QUEUES[self.rng.random_range(0..QUEUES.len())];
            let more = self.numbers();
            batch.extend(self.batch(at, "", other, &more));
            self.model.get_mut(other).unwrap().extend(more);
        }
        self.actors[at].client.session.publish(&mut batch).unwrap();
        for name in QUEUES.iter().filter(|name| fanout || **name == queue) {
            self.model.get_mut(name).unwrap().extend(numbers.iter().copied());
        }
    }

    fn start(&mut self, at: usize, queue: &'static str) {
        self.next_cookie += 1;
        let no_ack = self.rng.random_bool(0.2);
        let request = ConsumeRequest {
            no_ack,
            prefetch: self.rng.random_range(0..6),
            priority: self.rng.random_range(-1..2),
            ..consume_request(queue, self.next_cookie)
        };
        let actor = &mut self.actors[at];
        if actor.consumers.len() < 5 {
            let id = actor.client.session.consume(request).unwrap();
            actor.consumers.insert(self.next_cookie, (queue, !no_ack, id));
        }
    }

    fn cancel(&mut self, at: usize) {
        let Some(cookie) = self.actors[at].consumers.keys().min().copied() else { return };
        // What a consumer without acks was given already still comes.
        self.take(at);
        let actor = &mut self.actors[at];
        let (_, acks, id) = actor.consumers[&cookie];
        actor.client.session.cancel(id);
        let late = actor.client.take_deliveries();
        assert!(!acks || late.iter().all(|seen| seen.cookie != cookie));
        self.note(at, late);
        self.actors[at].consumers.remove(&cookie);
    }

    fn take(&mut self, at: usize) {
        let seen = self.actors[at].client.take_deliveries();
        self.note(at, seen);
    }

    /// Nobody else has messages of a group that comes to somebody.
    fn check_alone(&self, at: usize, queue: &str, seen: &Seen) {
        let group = group_of(seen.body.parse().unwrap());
        if queue != GROUPED || group.is_none() {
            return;
        }
        for (other, actor) in self.actors.iter().enumerate() {
            for (_, held) in actor.held.iter().filter(|(of, _)| *of == GROUPED) {
                let same = (other, held.cookie) == (at, seen.cookie);
                let apart = same || group_of(held.body.parse().unwrap()) != group;
                assert!(apart, "{} came while {} was with another", seen.body, held.body);
            }
        }
    }

    fn note(&mut self, at: usize, seen: Vec<Seen>) {
        for seen in &seen {
            let (queue, acks, _) = self.actors[at].consumers[&seen.cookie];
            if acks {
                self.check_alone(at, queue, seen);
            }
        }
        let actor = &mut self.actors[at];
        for seen in seen {
            let (queue, acks, _) = actor.consumers[&seen.cookie];
            let number = seen.body.parse().unwrap();
            if acks {
                assert!(self.model[queue].contains_key(&number), "{queue}: {number} came and was not there");
                actor.held.push((queue, seen));
            } else {
                let there = self.model.get_mut(queue).unwrap().remove(&number);
                assert!(there.is_some(), "{queue}: {number} came and was not there");
            }
        }
    }

    /// Picks some of what the session holds.
    fn pick(&mut self, at: usize, most: usize) -> Vec<(&'static str, Seen)> {
        let held = &mut self.actors[at].held;
        let count = self.rng.random_range(0..=most).min(held.len());
        (0..count).map(|_| held.swap_remove(self.rng.random_range(0..held.len()))).collect()
    }

    fn settled(&mut self, picked: &[(&'static str, Seen)]) {
        for (queue, seen) in picked {
            let there = self.model.get_mut(queue).unwrap().remove(&seen.body.parse().unwrap());
            assert!(there.is_some(), "{queue}: {} was settled twice", seen.body);
        }
    }

    fn settle(&mut self, at: usize) {
        let picked = self.pick(at, 20);
        let outcome = [Outcome::Accept, Outcome::Reject, Outcome::Requeue][self.rng.random_range(0..3)];
        let ids: Vec<_> = picked.iter().map(|(_, seen)| seen.id).collect();
        self.actors[at].client.session.settle(&ids, outcome);
        if outcome != Outcome::Requeue {
            self.settled(&picked);
        }
    }

    fn transact(&mut self, at: usize, queue: &'static str) {
        let picked = self.pick(at, 5);
        let numbers = self.numbers();
        let mut batch = self.batch(at, "", queue, &numbers);
        let ids: Vec<_> = picked.iter().map(|(_, seen)| (seen.id, Outcome::Accept)).collect();
        self.actors[at].client.session.transact(&mut batch, &ids, &[]).unwrap();
        self.settled(&picked);
        self.model.get_mut(queue).unwrap().extend(numbers);
    }

    fn get(&mut self, at: usize, queue: &'static str) {
        let no_ack = self.rng.random_bool(0.3);
        let Some(got) = self.actors[at].client.get(queue, no_ack) else { return };
        let body = String::from_utf8(got.delivery.message.body().to_vec()).unwrap();
        let id = DeliveryId { queue: got.queue, seq: got.delivery.seq };
        let seen = Seen { cookie: 0, id, redelivered: got.delivery.redelivered, body };
        self.check_alone(at, queue, &seen);
        if no_ack {
            self.settled(&[(queue, seen)]);
        } else {
            self.actors[at].held.push((queue, seen));
        }
    }

    /// Purges; what stays must be held by somebody.
    fn purge(&mut self, at: usize, queue: &'static str) {
        for at in 0..SESSIONS {
            self.take(at);
        }
        let (count, _) = self.actors[at].client.session.purge_queue(&self::queue(queue)).unwrap();
        // Inboxes that drained may have been filled again before the purge.
        for at in 0..SESSIONS {
            self.take(at);
        }
        let held: Vec<u32> = (self.actors.iter().flat_map(|actor| &actor.held))
            .filter(|(of, _)| *of == queue)
            .map(|(_, seen)| seen.body.parse().unwrap())
            .collect();
        let before = self.model[queue].len();
        self.model.get_mut(queue).unwrap().retain(|number, _| held.contains(number));
        assert_eq!(before - self.model[queue].len(), count as usize, "{queue}: purged");
    }

    /// Closes a session and opens another.
    fn replace(&mut self, at: usize) {
        self.leave(at);
        let client = self.broker.session();
        self.actors[at] = Actor { client, consumers: HashMap::new(), held: Vec::new() };
    }

    /// Cancels all consumers of a session that will close, and takes what those without acks were given: it is gone,
    /// and must be known.
    fn leave(&mut self, at: usize) {
        let actor = &mut self.actors[at];
        for (_, _, id) in actor.consumers.values() {
            actor.client.session.cancel(*id);
        }
        self.take(at);
    }

    /// Closes all, looks at what is left, goes on.
    fn check(&mut self, restart: bool) {
        (0..SESSIONS).for_each(|at| self.leave(at));
        self.actors.clear();
        if restart {
            self.broker.reopen();
            self.model.values_mut().for_each(|queue| queue.retain(|_, keep| *keep));
            self.model.get_mut("transient").unwrap().clear();
        }
        self.begin();
        for queue in QUEUES {
            let mut client = self.broker.session();
            let found: Vec<u32> = std::iter::from_fn(|| client.get(queue, false))
                .map(|got| String::from_utf8_lossy(got.delivery.message.body()).parse().unwrap())
                .collect();
            let wanted: Vec<u32> = self.model[queue].keys().copied().collect();
            assert_eq!(found, wanted, "{queue}");
        }
    }
}

fn run(seed: u64, paging: bool) {
    let mut history = History::new(seed, paging);
    for round in 0..4 {
        for _ in 0..STEPS / 4 {
            history.step();
        }
        history.check(round % 2 == 1);
    }
}

fn check(paging: bool, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed, paging));
        assert!(result.is_ok(), "seed {seed} fails");
    }
}

#[test]
fn random_histories_keep_every_message_exactly_once() {
    check(false, 0..15);
}

#[test]
fn random_histories_of_queues_that_page_out_keep_every_message_exactly_once() {
    check(true, 100..115);
}
