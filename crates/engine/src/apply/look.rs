//! Works out what a topology would change: what is missing is declared, what is there is compared. Changes nothing.

mod named;

use super::change::{Change, ChangeKind, Op, TopologyPlan};
use super::defined::{Defined, databases};
use super::lines::{difference, json_lines, node_lines};
use super::place_of;
use crate::topology::{Rule, Topology};
use crate::worker::parking_queue;
use millpond_broker::{
    Binding, Broker, DeclareQueue, Destination, OpenSession, OpenSessionError, PolicySpec, ScheduleSpec,
    Session,
};
use millpond_model::table::{Table, TableBuf, Value as Asked};
use millpond_model::{ExchangeName, QueueName, VhostName};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What the engine knows of its rules that no topology says.
pub(crate) trait RulesNow {
    /// `stopped`, `paused`, ..., if the rule stays so.
    fn resting(&self, rule: &str) -> Option<&'static str>;

    /// Whether the rule is to have no bindings now.
    fn is_unbound(&self, rule: &str) -> bool;

    /// As [`Self::resting`], of a source.
    fn resting_source(&self, source: &str) -> Option<&'static str>;
}

/// Looks what `new` would change, `old` being the topology that was applied last.
pub(crate) fn look(
    broker: &Broker,
    vhost: &VhostName,
    file: &str,
    (old, new): (&Topology, &Topology),
    rules: &dyn RulesNow,
) -> Result<TopologyPlan, OpenSessionError> {
    let request =
        OpenSession { login: broker.internal_login(), vhost: vhost.clone(), name: "topology".into() };
    let session = broker.open_session(request)?;
    let plan =
        TopologyPlan { file: file.to_owned(), summary: format!("{file}: {new}"), ..TopologyPlan::default() };
    let in_file = InFile::of(new);
    let mut looker = Looker { broker, vhost, session, old, new, in_file, plan };
    looker.definitions();
    looker.named();
    looker.bindings(rules);
    looker.policies();
    looker.schedules();
    looker.gone();
    looker.sources(rules);
    looker.rules(rules);
    Ok(looker.plan)
}

struct Looker<'a> {
    broker: &'a Broker,
    vhost: &'a VhostName,
    session: Session,
    old: &'a Topology,
    new: &'a Topology,
    in_file: InFile<'a>,
    plan: TopologyPlan,
}

/// Names that the new topology declares: thousands of rules ask for them.
struct InFile<'a> {
    exchanges: HashSet<&'a str>,
    queues: HashSet<QueueName>,
}

impl<'a> InFile<'a> {
    fn of(topology: &'a Topology) -> Self {
        let exchanges = topology.exchanges.iter().map(|exchange| exchange.it.name.as_str()).collect();
        let queues = topology.queues.iter().map(|queue| queue.it.name.clone());
        let of_rules = topology.rules.iter().flat_map(|rule| own_names(rule));
        Self { exchanges, queues: queues.chain(of_rules).collect() }
    }
}

impl Looker<'_> {
    fn add(
        &mut self,
        kind: ChangeKind,
        what: &'static str,
        name: &dyn std::fmt::Display,
        done: &str,
        op: Op,
    ) -> &mut Change {
        self.plan.changes.push(Change {
            kind,
            what,
            name: name.to_string(),
            place: String::new(),
            done: done.to_owned(),
            difference: Vec::new(),
            op,
        });
        let last = self.plan.changes.len() - 1;
        &mut self.plan.changes[last]
    }

    fn refuse(&mut self, place: &str, reason: &dyn std::fmt::Display) {
        self.plan.refusals.push(format!("{place}: {reason}"));
    }

    /// Exchanges and queues, those of the rules included.
    fn definitions(&mut self) {
        let (file, new) = (self.plan.file.clone(), self.new);
        for exchange in &new.exchanges {
            let place = place_of(&file, exchange);
            match self.session.would_declare_exchange(&exchange.it) {
                Ok(false) => {}
                Ok(true) => {
                    let op = Op::DeclareExchange(exchange.it.clone());
                    self.add(ChangeKind::Add, "exchange", &exchange.it.name, "declared", op).place = place;
                }
                Err(error) => self.refuse(&place, &error),
            }
        }
        for queue in &new.queues {
            self.queue(&queue.it, place_of(&file, queue));
        }
        for rule in &new.rules {
            for queue in own_queues(rule) {
                self.queue(&queue, format!("{}: rules.{}", rule.place, rule.name));
            }
        }
    }

    fn queue(&mut self, request: &DeclareQueue, place: String) {
        match self.session.would_declare_queue(request) {
            Ok(false) => {}
            Ok(true) => {
                let op = Op::DeclareQueue(request.clone());
                self.add(ChangeKind::Add, "queue", &request.name, "declared", op).place = place;
            }
            Err(error) => self.refuse(&place, &error),
        }
    }

    fn bindings(&mut self, now: &dyn RulesNow) {
        let (file, new) = (self.plan.file.clone(), self.new);
        let own = new.bindings.iter().map(|binding| (binding.it.clone(), place_of(&file, binding)));
        let bound = new.rules.iter().filter(|rule| !now.is_unbound(&rule.name));
        let of_rules = bound.flat_map(|rule| {
            rule.bindings().into_iter().map(|it| (it, format!("{}: rules.{}.on", rule.place, rule.name)))
        });
        let mut planned = BTreeSet::new();
        for (binding, place) in own.chain(of_rules) {
            if !self.session.has_binding(&binding) && planned.insert(identity(&binding)) {
                let name = show_binding(&binding);
                self.add(ChangeKind::Add, "binding", &name, "made", Op::Bind(binding)).place = place;
            }
        }
    }

    fn policies(&mut self) {
        let (file, new) = (self.plan.file.clone(), self.new);
        for (kind, policies) in new.policies() {
            let there = self.broker.list_policies(self.vhost, kind).unwrap_or_default();
            for placed in policies {
                let known = there.iter().find(|it| it.name == placed.it.name);
                if known == Some(&placed.it) {
                    continue;
                }
                let lines = known.map(|known| difference(&policy_lines(known), &policy_lines(&placed.it)));
                let change = if lines.is_some() { ChangeKind::Change } else { ChangeKind::Add };
                let op = Op::SetPolicy(kind, placed.it.clone());
                let change = self.add(change, kind.as_str(), &placed.it.name, "set", op);
                change.difference = lines.unwrap_or_default();
                change.place = place_of(&file, placed);
            }
        }
    }

    fn schedules(&mut self) {
        let (file, new) = (self.plan.file.clone(), self.new);
        let there = self.broker.list_schedules(self.vhost).unwrap_or_default();
        for placed in &new.schedules {
            let known = there.iter().map(|info| &info.spec).find(|it| it.name == placed.it.name);
            if known == Some(&placed.it) {
                continue;
            }
            let lines = known.map(|known| difference(&schedule_lines(known), &schedule_lines(&placed.it)));
            let change = if lines.is_some() { ChangeKind::Change } else { ChangeKind::Add };
            let op = Op::SetSchedule(Box::new(placed.it.clone()));
            let change = self.add(change, "schedule", &placed.it.name, "set", op);
            change.difference = lines.unwrap_or_default();
            change.place = place_of(&file, placed);
        }
    }

    /// What the topology before said, and this one does not.
    fn gone(&mut self) {
        let (old, new) = (self.old, self.new);
        let kept: BTreeSet<_> = new.all_bindings().map(|binding| identity(&binding)).collect();
        for binding in old.all_bindings().filter(|old| !kept.contains(&identity(old))) {
            if self.session.has_binding(&binding) {
                let name = show_binding(&binding);
                self.add(ChangeKind::Remove, "binding", &name, "removed", Op::Unbind(binding));
            }
        }
        let own: HashSet<QueueName> = new.rules.iter().flat_map(|rule| own_names(rule)).collect();
        for queue in old.rules.iter().flat_map(|rule| own_names(rule)).filter(|queue| !own.contains(queue)) {
            match self.session.ready_count(&queue) {
                None => {}
                Some(0) => {
                    let op = Op::DeleteQueue(queue.clone());
                    self.add(ChangeKind::Remove, "queue", &queue, "deleted", op);
                }
                Some(_) => {
                    self.add(ChangeKind::Leave, "queue", &queue, "left, it is not empty", Op::Engine);
                }
            }
        }
        for ((kind, olds), (_, news)) in old.policies().into_iter().zip(new.policies()) {
            let there = self.broker.list_policies(self.vhost, kind).unwrap_or_default();
            for gone in olds.iter().filter(|old| !news.iter().any(|new| new.it.name == old.it.name)) {
                // An operator may have been faster.
                if there.iter().any(|it| it.name == gone.it.name) {
                    let op = Op::ClearPolicy(kind, gone.it.name.clone());
                    self.add(ChangeKind::Remove, kind.as_str(), &gone.it.name, "cleared", op);
                }
            }
        }
        let there = self.broker.list_schedules(self.vhost).unwrap_or_default();
        for gone in
            old.schedules.iter().filter(|old| !new.schedules.iter().any(|it| it.it.name == old.it.name))
        {
            if there.iter().any(|it| it.spec.name == gone.it.name) {
                let op = Op::RemoveSchedule(gone.it.name.clone());
                self.add(ChangeKind::Remove, "schedule", &gone.it.name, "removed", op);
            }
        }
        for (what, name) in old.left_by(new) {
            self.add(ChangeKind::Leave, what, &name, "left, though no longer in the file", Op::Engine);
        }
    }

    fn rules(&mut self, now: &dyn RulesNow) {
        let (old, new) = (self.old, self.new);
        let resting = |rule: &str| now.resting(rule).map_or(String::new(), |state| format!(", {state}"));
        let told = |_: &str| String::new();
        let removed = |_: &str| "removed".to_owned();
        self.defined("mail server", &old.mail_servers(), &new.mail_servers(), &removed, &told);
        self.defined("provider", &old.providers(), &new.providers(), &removed, &told);
        self.defined("function", &old.functions(), &new.functions(), &removed, &told);
        self.defined("database", &databases(old), &databases(new), &removed, &told);
        self.defined("rule", &old.rules(), &new.rules(), &removed, &resting);
    }

    fn sources(&mut self, now: &dyn RulesNow) {
        let (old, new) = (self.old, self.new);
        let resting =
            |name: &str| now.resting_source(name).map_or(String::new(), |state| format!(", {state}"));
        self.defined("source", &old.sources(), &new.sources(), &crate::source::removed(old, new), &resting);
    }

    /// Whatever the engine runs by its definition: rules, sources.
    fn defined(
        &mut self,
        what: &'static str,
        old: &[Defined<'_>],
        new: &[Defined<'_>],
        removed: &dyn Fn(&str) -> String,
        note: &dyn Fn(&str) -> String,
    ) {
        let stays: HashSet<_> = new.iter().map(|it| it.name).collect();
        let known: HashMap<_, _> = old.iter().map(|it| (it.name, it)).collect();
        for gone in old.iter().filter(|old| !stays.contains(old.name)) {
            self.add(ChangeKind::Remove, what, &gone.name, &removed(gone.name), Op::Engine);
        }
        for it in new {
            let before = known.get(it.name).copied();
            if before.is_some_and(|before| before.definition == it.definition) {
                continue;
            }
            let (kind, verb) = match before {
                Some(_) => (ChangeKind::Change, "replaced"),
                None => (ChangeKind::Add, "added"),
            };
            let lines = before.map(|old| difference(&node_lines(old.definition), &node_lines(it.definition)));
            let done = format!("{verb}{}", note(it.name));
            let change = self.add(kind, what, &it.name, &done, Op::Engine);
            change.difference = lines.unwrap_or_default();
            change.place = it.place.clone();
        }
    }
}

fn plain_queue(name: QueueName) -> DeclareQueue {
    DeclareQueue {
        name,
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
    }
}

/// The queues that come and go with a rule.
fn own_names(rule: &Rule) -> Vec<QueueName> {
    own_queues(rule).into_iter().map(|queue| queue.name).collect()
}

fn own_queues(rule: &Rule) -> Vec<DeclareQueue> {
    let mut all = match rule.on.bound_to() {
        Some(_) => vec![plain_queue(rule.queue()), parking_queue(rule)],
        None => vec![parking_queue(rule)],
    };
    all.extend(crate::window::own_queues(rule).into_iter().map(plain_queue));
    all
}

/// What tells a binding from others.
fn identity(binding: &Binding) -> (ExchangeName, Destination, Box<[u8]>, Vec<u8>) {
    // Tables of a file were encoded when it was checked.
    let arguments = binding.arguments.encode().map(TableBuf::into_bytes).unwrap_or_default();
    (binding.source.clone(), binding.destination.clone(), binding.key.clone(), arguments)
}

fn show_binding(binding: &Binding) -> String {
    let to = match &binding.destination {
        Destination::Queue(queue) => format!("queue {queue}"),
        Destination::Exchange(exchange) => format!("exchange {exchange}"),
    };
    let key = String::from_utf8_lossy(&binding.key);
    let arguments = match binding.arguments.is_empty() {
        true => String::new(),
        false => format!(", {}", crate::action::show_value(&Asked::Table(binding.arguments.clone()))),
    };
    format!("{} -> {to} ('{key}'{arguments})", binding.source)
}

fn policy_lines(policy: &PolicySpec) -> Vec<String> {
    let definition: Value = serde_json::from_str(&policy.definition.to_json()).unwrap_or_default();
    json_lines(&json!({
        "pattern": policy.pattern,
        "apply_to": policy.apply_to.as_str(),
        "priority": policy.priority,
        "definition": definition,
    }))
}

fn schedule_lines(schedule: &ScheduleSpec) -> Vec<String> {
    let headers: Vec<_> = schedule
        .properties
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", crate::action::show_value(value)))
        .collect();
    let properties = &schedule.properties;
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("expiration", &properties.expiration),
        ("message_id", &properties.message_id),
        ("type", &properties.type_),
        ("app_id", &properties.app_id),
    ];
    let texts: serde_json::Map<_, _> = texts
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value.as_ref()?.to_string()))))
        .collect();
    json_lines(&json!({
        "cron": schedule.cron,
        "zone": schedule.zone,
        "exchange": schedule.exchange.as_str(),
        "routing_key": String::from_utf8_lossy(&schedule.routing_key),
        "headers": headers,
        "properties": texts,
        "priority": properties.priority,
        "delivery_mode": properties.delivery_mode,
        "body": String::from_utf8_lossy(&schedule.body),
        "missed": format!("{:?}", schedule.missed).to_ascii_lowercase(),
    }))
}
