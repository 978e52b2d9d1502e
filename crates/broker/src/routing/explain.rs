//! Why a message goes where it goes: the way of `resolve`, told binding by binding.
//!
//! Each binding is asked by a matcher of its exchange's kind that holds nothing else, so what is told is what routing
//! does; kinds that choose one of many ask the exchange's own.

use super::events::attribute;
use super::matcher::Matcher;
use super::resolve::{Keys, keys_of};
use super::targets::Target;
use super::{BindingSlot, Exchange, ExchangeKind, Router, View};
use crate::delayed::delay_ms;
use crate::error::PublishError;
use crate::request::Destination;
use millpond_model::ExchangeName;
use millpond_model::properties::RawProperties;
use millpond_model::table::{Table, Value};
use std::collections::HashSet;
use std::hash::Hash;

/// Bindings that one explanation looks at.
pub(crate) const STEPS_MAX: usize = 1000;

/// A binding that was looked at, or what stands for one.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteStep {
    /// The exchange; the default one has the empty name.
    pub exchange: ExchangeName,
    /// Its type.
    pub kind: &'static str,
    /// Where the binding leads; `None`: nowhere, the code says why.
    pub destination: Option<Destination>,
    /// Its key.
    pub binding_key: String,
    /// Its arguments.
    pub arguments: Table,
    /// Whether the message goes that way.
    pub matched: bool,
    /// Why, for programs: `key_equal`, `key_differs`, `always`, `pattern_matches`, `pattern_differs`,
    /// `headers_match`, `headers_differ`, `attributes_match`, `attributes_differ`, `hash_chosen`, `hash_other`,
    /// `chance`, `queue_named`, `no_queue_named`, `alternate`, `alternate_missing`, `no_bindings`, `waits`.
    pub code: &'static str,
    /// Why, in words.
    pub reason: String,
    /// What the reason is about, by name.
    pub facts: Vec<(&'static str, String)>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl<Q: Clone + Eq + Hash> Router<Q> {
    /// The bindings that a message meets, in the order of its way; `true`: there were more than are told.
    pub(crate) fn explain(
        &self,
        exchange: &ExchangeName,
        routing_key: &[u8],
        properties: &RawProperties<'_>,
    ) -> Result<(Vec<RouteStep>, bool), PublishError> {
        let headers = properties.headers().unwrap_or_default();
        let keys = keys_of(routing_key, headers)?;
        let view = View {
            properties,
            headers,
            exchange: exchange.as_str().as_bytes(),
            routing_key,
            vhost: self.vhost.as_str(),
        };
        let mut steps = Vec::new();
        let mut seen = HashSet::from([exchange.clone()]);
        let mut ahead = vec![exchange.clone()];
        while let Some(name) = ahead.pop() {
            if steps.len() >= STEPS_MAX {
                return Ok((steps, true));
            }
            if name.is_empty() {
                self.explain_default(&name, &keys, &mut steps);
            } else if let Some(exchange) = self.exchanges.get(name.as_str()) {
                let from = steps.len();
                self.explain_one((&name, exchange), &keys, &view, &mut steps);
                for step in &steps[from..] {
                    if let (true, Some(Destination::Exchange(next))) = (step.matched, &step.destination)
                        && seen.insert(next.clone())
                    {
                        ahead.push(next.clone());
                    }
                }
            }
        }
        Ok((steps, false))
    }

    /// The default exchange: every queue is bound to it by its name.
    fn explain_default(&self, name: &ExchangeName, keys: &Keys<'_>, steps: &mut Vec<RouteStep>) {
        for key in keys.iter() {
            let key = text(key);
            let found = self.queues.get_key_value(&*key).map(|(name, _)| name);
            let (code, reason) = match found {
                Some(_) => ("queue_named", format!("the default exchange leads to the queue named '{key}'")),
                None => ("no_queue_named", format!("there is no queue named '{key}'")),
            };
            steps.push(RouteStep {
                exchange: name.clone(),
                kind: "direct",
                destination: found.cloned().map(Destination::Queue),
                binding_key: key.clone(),
                arguments: Table::new(),
                matched: found.is_some(),
                code,
                reason,
                facts: vec![("routing_key", key)],
            });
        }
    }

    fn explain_one(
        &self,
        (name, exchange): (&ExchangeName, &Exchange<Q>),
        keys: &Keys<'_>,
        view: &View<'_>,
        steps: &mut Vec<RouteStep>,
    ) {
        let kind = exchange.spec.kind.as_str();
        let step = |code, matched, reason: String, facts| RouteStep {
            exchange: name.clone(),
            kind,
            destination: None,
            binding_key: String::new(),
            arguments: Table::new(),
            matched,
            code,
            reason,
            facts,
        };
        if let Some(delay_ms) = delay_ms(view.headers).filter(|_| exchange.delays) {
            let reason = format!("it waits {delay_ms} ms at exchange '{name}', and is routed then; now:");
            steps.push(step("waits", false, reason, vec![("delay_ms", delay_ms.to_string())]));
        }
        let looked_at = if exchange.matcher.looks_at_every_key() { usize::MAX } else { 1 };
        let keys: Vec<&[u8]> = keys.iter().take(looked_at).collect();
        let chosen = exchange.chosen(keys.first().copied().unwrap_or_default(), view);
        let mut any = false;
        for (slot, arguments) in &exchange.bindings {
            if steps.len() >= STEPS_MAX {
                return;
            }
            let Ok(target) = self.target(&slot.destination) else { continue };
            let matched = match &chosen {
                Some(chosen) => chosen.contains(&target),
                None => exchange.takes_alone((slot, arguments), &target, &keys, view),
            };
            any |= matched;
            let (code, reason, facts) = exchange.why((slot, arguments), matched, view);
            steps.push(RouteStep {
                destination: Some(slot.destination.clone()),
                binding_key: text(&slot.key),
                arguments: arguments.clone(),
                ..step(code, matched, reason, facts)
            });
        }
        if exchange.bindings.is_empty() {
            steps.push(step(
                "no_bindings",
                false,
                format!("nothing is bound to exchange '{name}'"),
                Vec::new(),
            ));
        }
        if any {
            return;
        }
        if let Some(alternate) = &exchange.alternate {
            let there = alternate.is_empty() || self.exchanges.contains_key(alternate.as_str());
            let (code, reason) = to_alternate(alternate, there);
            let facts = vec![("alternate", alternate.to_string())];
            let destination = there.then(|| Destination::Exchange(alternate.clone()));
            steps.push(RouteStep { destination, ..step(code, there, reason, facts) });
        }
    }
}

/// What becomes of a message that no binding takes.
fn to_alternate(alternate: &ExchangeName, there: bool) -> (&'static str, String) {
    match there {
        true => {
            ("alternate", format!("no binding takes it, so it goes to the alternate exchange '{alternate}'"))
        }
        false => (
            "alternate_missing",
            format!("no binding takes it, and the alternate exchange '{alternate}' is not there"),
        ),
    }
}

impl<Q: Clone + Eq + Hash> Exchange<Q> {
    /// Of a kind that chooses among its bindings, where the message goes; of the others `None`.
    fn chosen(&self, key: &[u8], view: &View<'_>) -> Option<Vec<Target<Q>>> {
        let chooses = matches!(
            self.spec.routes_as(),
            ExchangeKind::ConsistentHash
                | ExchangeKind::ModulusHash
                | ExchangeKind::Random
                | ExchangeKind::LocalRandom
        );
        let mut found = Vec::new();
        self.matcher.find(key, view, &mut |target| found.push(target.clone()));
        chooses.then_some(found)
    }

    /// Whether a binding takes a message, asked as routing asks.
    fn takes_alone(
        &self,
        (slot, arguments): (&BindingSlot, &Table),
        target: &Target<Q>,
        keys: &[&[u8]],
        view: &View<'_>,
    ) -> bool {
        let mut alone = Matcher::new(&self.spec);
        if alone.add(slot, arguments, target.clone()).is_err() {
            return false;
        }
        let mut matched = false;
        keys.iter().for_each(|key| alone.find(key, view, &mut |_| matched = true));
        matched
    }

    fn why(
        &self,
        (slot, arguments): (&BindingSlot, &Table),
        matched: bool,
        view: &View<'_>,
    ) -> (&'static str, String, Vec<(&'static str, String)>) {
        let (key, routing_key) = (text(&slot.key), text(view.routing_key));
        let of_keys = vec![("binding_key", key.clone()), ("routing_key", routing_key.clone())];
        match (self.spec.routes_as(), matched) {
            (ExchangeKind::Direct, true) => {
                ("key_equal", format!("the routing key is '{key}', as the binding key"), of_keys)
            }
            (ExchangeKind::Direct, false) => (
                "key_differs",
                format!("the binding key is '{key}', and the routing key '{routing_key}'"),
                of_keys,
            ),
            (ExchangeKind::Fanout | ExchangeKind::RecentHistory | ExchangeKind::Delayed, _) => {
                ("always", "every message goes to every binding".to_owned(), Vec::new())
            }
            (ExchangeKind::Topic, true) => (
                "pattern_matches",
                format!("the routing key '{routing_key}' fits the pattern '{key}'"),
                of_keys,
            ),
            (ExchangeKind::Topic, false) => (
                "pattern_differs",
                format!("the routing key '{routing_key}' does not fit the pattern '{key}'"),
                of_keys,
            ),
            (ExchangeKind::Headers, true) => {
                ("headers_match", "the headers are as the binding asks".to_owned(), Vec::new())
            }
            (ExchangeKind::Headers, false) => why_headers(arguments, view),
            (ExchangeKind::Events, true) => {
                ("attributes_match", "the event's attributes are as the binding asks".to_owned(), Vec::new())
            }
            (ExchangeKind::Events, false) => why_attributes(slot, arguments, view),
            (ExchangeKind::ConsistentHash | ExchangeKind::ModulusHash, true) => {
                ("hash_chosen", "the hash of the message falls to this binding".to_owned(), Vec::new())
            }
            (ExchangeKind::ConsistentHash | ExchangeKind::ModulusHash, false) => {
                ("hash_other", "the hash of the message falls to another binding".to_owned(), Vec::new())
            }
            (ExchangeKind::Random | ExchangeKind::LocalRandom, _) => {
                ("chance", "one binding is taken by chance, another time another one".to_owned(), Vec::new())
            }
        }
    }
}

/// Which of the headers that a binding asks for are missing or other.
fn why_headers(arguments: &Table, view: &View<'_>) -> (&'static str, String, Vec<(&'static str, String)>) {
    let wanted = arguments.iter().filter(|(name, _)| &**name != "x-match");
    let missing = |(name, _): &&(Box<str>, Value)| view.headers.get(name).is_none();
    let (missing, other): (Vec<_>, Vec<_>) = wanted.partition(missing);
    let names = |list: &[&(Box<str>, Value)]| {
        list.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (missing, there) = (names(&missing), names(&other));
    let reason = match (missing.is_empty(), there.is_empty()) {
        (false, true) => format!("the message has no header {missing}"),
        (false, false) => format!("the message has no header {missing}; of {there} the value may be another"),
        _ => format!("the message has other values in {there}"),
    };
    ("headers_differ", reason, vec![("missing", missing), ("there", there)])
}

/// Which attributes a binding asks for, and what the event has.
fn why_attributes(
    slot: &BindingSlot,
    arguments: &Table,
    view: &View<'_>,
) -> (&'static str, String, Vec<(&'static str, String)>) {
    let key = (!slot.key.is_empty()).then_some("type");
    let names = arguments.iter().map(|(name, _)| &**name).chain(key);
    let has = |name: &str| match attribute(view, name) {
        Some(value) => format!("{name}={}", text(&value)),
        None => format!("{name} is not there"),
    };
    let found = names.map(has).collect::<Vec<_>>().join(", ");
    let reason = format!("the event's attributes are not as the binding asks; it has {found}");
    ("attributes_differ", reason, vec![("attributes", found)])
}
