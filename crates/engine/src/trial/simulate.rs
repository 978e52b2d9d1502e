//! A test carried out: messages, attempts and delays in the order of a clock that the test moves.

mod memory;

use super::read::PARKED;
use super::route::{Address, reached};
use super::{Came, Given, Trial};
use crate::action::{PublishStep, Step, header_json};
use crate::event::Event;
use crate::jq::Needs;
use crate::plan::{Act, Place, Plan, Progress, Todo, advance, plan};
use crate::topology::{Rule, Topology};
use crate::window::Pretended;
use millpond_broker::Delivery;
use millpond_events::Origin;
use millpond_model::Message;
use millpond_model::table::{Table, Value as Header};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When a test begins: 2026-01-01T00:00:00Z. Seconds since 1970.
const BEGINS_S: u64 = 1_767_225_600;

/// Messages and attempts of one test; more is taken for a loop.
const WORK_MAX: u64 = 10_000;

/// Carries a test out; the actions in the order in which they began. Errors: the test cannot go on.
pub(super) fn run(topology: &Topology, trial: &Trial) -> Result<Vec<Came>, String> {
    let mut world = World {
        topology,
        trial,
        now: Duration::from_secs(BEGINS_S),
        waiting: BTreeMap::new(),
        number: 0,
        came: Vec::new(),
        asked: BTreeMap::new(),
        memories: BTreeMap::new(),
    };
    for given in &trial.given {
        match given {
            Given::Event(event) => world.give(event),
            Given::After(time) => {
                let end = world.now + *time;
                world.run_until(end)?;
                world.now = end;
            }
        }
        world.run_until(world.now)?;
    }
    Ok(world.came)
}

/// Something that waits for its time.
enum Work {
    /// A message has come to a rule.
    Take(Arc<Rule>, Box<Event>),
    /// A message goes on with what is left to be done.
    Go(Held),
    /// A rule with memory is due.
    Fire(Arc<Rule>),
    /// A published message is routed.
    Route(Box<Published>),
}

/// A message in hand, as the engine's worker has it.
struct Held {
    rule: Arc<Rule>,
    event: Box<Event>,
    /// What is known of what is to be done.
    todo: VecDeque<Todo>,
    /// Where to go on behind that.
    progress: Progress,
    /// Where the first of them stands among what came, once it was begun.
    begun: Option<usize>,
    publishes: Vec<PublishStep>,
    attempts: u32,
}

impl Held {
    /// Keeps a publish for the end; gives back what is not one.
    fn publish(&mut self, step: Step, place: &Place) -> Option<Step> {
        match step {
            Step::Publish(step) => {
                self.publishes.push(step);
                self.progress.done(place, Value::Null);
                None
            }
            outside => Some(outside),
        }
    }
}

struct Published {
    exchange: String,
    key: String,
    headers: Table,
    message: Message,
}

struct World<'t> {
    topology: &'t Topology,
    trial: &'t Trial,
    /// Since 1970.
    now: Duration,
    waiting: BTreeMap<(Duration, u64), Work>,
    number: u64,
    came: Vec<Came>,
    /// How many answers of each kind were given.
    asked: BTreeMap<String, usize>,
    /// Of rules with memory, by name.
    memories: BTreeMap<String, Pretended>,
}

impl World<'_> {
    fn put(&mut self, when: Duration, work: Work) {
        self.number += 1;
        self.waiting.insert((when, self.number), work);
    }

    fn time(&self) -> SystemTime {
        UNIX_EPOCH + self.now
    }

    /// Does what is due up to `end`, the clock with it.
    fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= end
        {
            let ((when, _), work) = first.remove_entry();
            self.now = self.now.max(when);
            if self.number > WORK_MAX {
                return Err(format!("more than {WORK_MAX} messages and attempts: do rules form a loop?"));
            }
            match work {
                Work::Take(rule, event) => self.take(rule, &event),
                Work::Go(held) => self.go(held),
                Work::Fire(rule) => self.fire(&rule),
                Work::Route(published) => self.route(*published),
            }
        }
        Ok(())
    }

    /// An event of the test comes in.
    fn give(&mut self, given: &Value) {
        let text = |name: &str| given.get(name).and_then(Value::as_str).map(str::to_owned);
        let members = given.as_object().cloned().unwrap_or_default();
        let key =
            text("routing_key").or_else(|| text("subject")).or_else(|| text("type")).unwrap_or_default();
        let headers: Table = given
            .get("headers")
            .and_then(Value::as_object)
            .map(|headers| headers.iter().map(|(name, value)| (name.as_str(), field(value))).collect())
            .unwrap_or_default();
        let address = Address {
            exchange: text("exchange"),
            queue: text("queue"),
            key: text("routing_key").or_else(|| text("type")).unwrap_or_default(),
            headers,
            attributes: attributes(&members),
        };
        self.number += 1;
        let id = text("id").unwrap_or_else(|| format!("given-{}", self.number));
        let json = event_json(members, &id, &key, &address);
        let event = Event::of_json(&json, self.time());
        for rule in self.chosen(&address) {
            self.put(self.now, Work::Take(rule, Box::new(event.clone())));
        }
    }

    /// The rules that take part and get it. A test of one rule need not say how events come to it.
    fn chosen(&self, address: &Address) -> Vec<Arc<Rule>> {
        let reached = reached(self.topology, address);
        let Some(only) = &self.trial.rule else { return reached };
        if address.exchange.is_none() && address.queue.is_none() {
            return self.topology.rule(only).cloned().into_iter().collect();
        }
        reached.into_iter().filter(|rule| rule.name == *only).collect()
    }

    fn take(&mut self, rule: Arc<Rule>, event: &Event) {
        if rule.memory.is_some() {
            return self.remember(&rule, event);
        }
        match plan(&rule, event) {
            Ok(Plan::Skip) => {}
            Err(error) => self.park(&rule, 1, &error.to_string()),
            Ok(Plan::Act(Act { todo, progress, .. })) => {
                let (event, todo) = (Box::new(event.clone()), todo.into());
                let publishes = Vec::new();
                self.go(Held { rule, event, todo, progress, begun: None, publishes, attempts: 0 });
            }
        }
    }

    fn note(&mut self, rule: &Rule, step: &Step) -> usize {
        let (kind, facts) = step.facts();
        self.came.push(Came { kind, rule: rule.name.clone(), facts });
        self.came.len() - 1
    }

    /// Does what comes next, as the worker does: each action in its turn, then the publishes in one commit.
    fn go(&mut self, mut held: Held) {
        loop {
            let Some(Todo { step, place }) = held.todo.pop_front() else {
                if held.progress.is_at_end(&held.rule) {
                    break;
                }
                match advance(&held.rule, &held.event, &mut held.progress) {
                    Ok(todo) => held.todo.extend(todo),
                    Err(error) => return self.park(&held.rule, held.attempts + 1, &error.to_string()),
                }
                continue;
            };
            let Some(step) = held.publish(step, &place) else { continue };
            let at = held.begun.unwrap_or_else(|| self.note(&held.rule, &step));
            let answer = self.answer(&self.came[at].kind.clone());
            if let Some(members) = self.came[at].facts.as_object_mut() {
                let attempts = members.get("attempts").and_then(Value::as_u64).unwrap_or(0);
                members.insert("attempts".to_owned(), (attempts + 1).into());
            }
            match step.pretend(&answer) {
                Ok(answer) => held.progress.done(&place, answer),
                Err(reason) => {
                    held.begun = Some(at);
                    return self.failed(held, Todo { step, place }, &reason);
                }
            }
            held.begun = None;
        }
        for step in std::mem::take(&mut held.publishes) {
            let published = Published {
                exchange: step.exchange.clone(),
                key: step.routing_key.clone(),
                headers: step.properties.headers.clone(),
                message: Message::published_at(
                    self.now.as_millis() as u64,
                    step.exchange.as_bytes(),
                    step.routing_key.as_bytes(),
                    &step.encoded,
                    true,
                    &step.body,
                ),
            };
            self.note(&held.rule, &Step::Publish(step));
            let delay = published.headers.get("x-delay").and_then(Header::as_i64);
            let delays = self.topology.exchange_kind(&published.exchange) == Some("x-delayed-message");
            let delay = delay.filter(|_| delays).and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
            self.put(self.now + Duration::from_millis(delay), Work::Route(Box::new(published)));
        }
    }

    fn failed(&mut self, mut held: Held, todo: Todo, reason: &str) {
        held.attempts += 1;
        if held.attempts >= held.rule.retry.attempts_max {
            if held.progress.failed(&held.rule, &todo.place, reason, held.attempts) {
                held.todo.clear();
                (held.begun, held.attempts) = (None, 0);
                return self.go(held);
            }
            return self.park(&held.rule.clone(), held.attempts, reason);
        }
        held.todo.push_front(todo);
        // In the middle of the jitter: a test is to give the same each time.
        let wait = held.rule.retry.wait(held.attempts, 0.5);
        self.put(self.now + wait, Work::Go(held));
    }

    fn park(&mut self, rule: &Rule, attempts: u32, error: &str) {
        let facts = json!({"queue": rule.parking_queue().as_str(), "error": error, "attempts": attempts});
        self.came.push(Came { kind: PARKED.to_owned(), rule: rule.name.clone(), facts });
    }

    /// What the outside says to the next action of a kind; success without content unless the test says else.
    fn answer(&mut self, kind: &str) -> Value {
        let Some(stub) = self.trial.answers.iter().find(|stub| stub.kind == kind) else { return json!({}) };
        let asked = self.asked.entry(kind.to_owned()).or_default();
        let answer = stub.answers.get(*asked).or_else(|| stub.answers.last());
        *asked += 1;
        answer.cloned().unwrap_or_else(|| json!({}))
    }

    /// What a rule published comes to the rules that listen to it.
    fn route(&mut self, published: Published) {
        let Published { exchange, key, headers, message } = published;
        let attributes = headers
            .iter()
            .filter_map(|(name, value)| {
                let name = name.strip_prefix("cloudEvents:").or_else(|| name.strip_prefix("cloudEvents_"))?;
                Some((name.to_owned(), plain(&header_json(value))?))
            })
            .collect();
        let address = Address { exchange: Some(exchange), queue: None, key, headers, attributes };
        let delivery = Delivery { seq: self.number, redelivered: false, message };
        let now = self.time();
        if self.trial.rule.is_some() {
            return;
        }
        for rule in self.chosen(&address) {
            let queue = rule.queue();
            let origin = Origin { vhost: "/", queue: queue.as_str(), seq: delivery.seq, now };
            let event = Event::of_delivery(&delivery, origin, Needs::ALL);
            self.put(self.now, Work::Take(rule, Box::new(event)));
        }
    }
}

/// The event as JSON, with its AMQP part where the engine has it.
fn event_json(mut members: Map<String, Value>, id: &str, key: &str, address: &Address) -> Value {
    let mut amqp = Map::new();
    for (name, value) in
        [("exchange", address.exchange.clone().unwrap_or_default()), ("routing_key", key.to_owned())]
    {
        amqp.insert(name.to_owned(), value.into());
    }
    let headers = address.headers.iter().map(|(name, value)| (name.to_string(), header_json(value)));
    amqp.insert("headers".to_owned(), Value::Object(headers.collect()));
    amqp.insert("properties".to_owned(), json!({}));
    amqp.insert("redelivered".to_owned(), false.into());
    amqp.insert("queue".to_owned(), address.queue.clone().into());
    for name in ["exchange", "routing_key", "queue", "headers"] {
        members.remove(name);
    }
    if let Some(Value::Object(said)) = members.remove("amqp") {
        amqp.extend(said);
    }
    members.insert("amqp".to_owned(), Value::Object(amqp));
    members.entry("id").or_insert_with(|| id.into());
    Value::Object(members)
}

/// Attributes of an event that are texts, numbers or truth values.
fn attributes(members: &Map<String, Value>) -> Vec<(String, String)> {
    let not = ["data", "data_base64", "amqp", "exchange", "routing_key", "queue", "headers"];
    let attributes = members.iter().filter(|(name, _)| !not.contains(&name.as_str()));
    attributes.filter_map(|(name, value)| Some((name.clone(), plain(value)?))).collect()
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

fn field(value: &Value) -> Header {
    match value {
        Value::Bool(value) => Header::Bool(*value),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| Header::F64(number.as_f64().unwrap_or(f64::NAN)), Header::I64)
        }
        Value::String(text) => Header::from(text.as_str()),
        Value::Array(items) => Header::Array(items.iter().map(field).collect()),
        Value::Object(fields) => {
            Header::Table(fields.iter().map(|(name, value)| (name.as_str(), field(value))).collect())
        }
        Value::Null => Header::Void,
    }
}
