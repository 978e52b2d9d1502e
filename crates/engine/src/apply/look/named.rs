//! What a topology names and does not declare itself.

use super::{Looker, place_of};
use crate::topology::{Rule, Trigger, did_you_mean};
use millpond_broker::{DeclareExchange, DeclareExchangeError, Destination};
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, QueueName};

impl Looker<'_> {
    /// What is named and neither in the file nor in the broker.
    pub(super) fn named(&mut self) {
        let (file, new) = (self.plan.file.clone(), self.new);
        let mut missing = Vec::new();
        for binding in &new.bindings {
            let place = place_of(&file, binding);
            missing.extend(self.missing_exchange(&binding.it.source).map(|it| (place.clone(), it)));
            let to = match &binding.it.destination {
                Destination::Queue(queue) => self.missing_queue(queue),
                Destination::Exchange(exchange) => self.missing_exchange(exchange),
            };
            missing.extend(to.map(|it| (place, it)));
        }
        for schedule in &new.schedules {
            let place = place_of(&file, schedule);
            missing.extend(self.missing_exchange(&schedule.it.exchange).map(|it| (place, it)));
        }
        for source in &new.sources {
            let place = format!("{}: sources.{}.exchange", source.place, source.name);
            missing.extend(self.missing_exchange(&source.exchange).map(|it| (place, it)));
        }
        for rule in &new.rules {
            let on = match (rule.on.bound_to(), rule.on.taken_from()) {
                (Some(exchange), _) => self.missing_exchange(exchange).or_else(|| self.no_bus(rule)),
                (_, Some(queue)) => self.missing_queue(queue).or_else(|| self.other_kind(&rule.on, queue)),
                _ => None,
            };
            missing.extend(on.map(|it| (format!("{}: rules.{}.on", rule.place, rule.name), it)));
            for (place, exchange) in rule.publishes_to() {
                let to = self.missing_exchange(exchange);
                missing.extend(to.map(|it| (format!("{place}: rules.{}.do", rule.name), it)));
            }
        }
        for (place, reason) in missing {
            self.refuse(&place, &reason);
        }
    }

    /// What to say of an exchange that is neither in the file nor in the broker.
    fn missing_exchange(&self, name: &ExchangeName) -> Option<String> {
        let known = name.is_empty() || self.in_file.exchanges.contains(name.as_str());
        if known || self.session.has_exchange(name.as_str()) {
            return None;
        }
        let guess = did_you_mean(name.as_str(), self.in_file.exchanges.iter().copied());
        Some(format!("found exchange '{name}', expected one of the file or of the broker{guess}"))
    }

    /// What to say of a bus that the broker has as another type; of one in the file that was said when it was read.
    fn no_bus(&self, rule: &Rule) -> Option<String> {
        let Trigger::Events { bus, .. } = &rule.on else { return None };
        let request = DeclareExchange {
            name: bus.clone(),
            kind: "x-events".into(),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        match self.session.would_declare_exchange(&request) {
            Err(DeclareExchangeError::Inequivalent { arg, .. }) if &*arg.argument == "type" => {
                let kind = arg.current;
                Some(format!("found the bus '{bus}' of type {kind}, expected one of type 'x-events'"))
            }
            _ => None,
        }
    }

    fn missing_queue(&self, name: &QueueName) -> Option<String> {
        if self.in_file.queues.contains(name) || self.session.ready_count(name).is_some() {
            return None;
        }
        let guess = did_you_mean(name.as_str(), self.in_file.queues.iter().map(QueueName::as_str));
        Some(format!("found queue '{name}', expected one of the file or of the broker{guess}"))
    }

    /// What to say of a stream that is taken from as a queue, which would leave messages out at each start, or the
    /// other way round.
    fn other_kind(&self, on: &Trigger, name: &QueueName) -> Option<String> {
        let in_file = self.new.queues.iter().find(|queue| queue.it.name == *name);
        let in_file = in_file
            .map(|queue| queue.it.arguments.get("x-queue-type").and_then(Value::as_str) == Some("stream"));
        let is_stream = in_file.or_else(|| self.session.is_stream(name))?;
        match (on, is_stream) {
            (Trigger::Queue(_), true) => {
                Some(format!("found the stream '{name}' as a queue, expected {{stream: {name}}}"))
            }
            (Trigger::Stream(_), false) => {
                Some(format!("found the queue '{name}' as a stream, expected {{queue: {name}}}"))
            }
            _ => None,
        }
    }
}
