//! Making a topology so: what is missing is declared, what is there is compared, and nothing is changed if anything
//! that is there differs.

use crate::topology::{Placed, Rule, Topology, TopologyError, Trigger, did_you_mean};
use crate::worker::parking_queue;
use millpond_broker::{
    BindError, Binding, Broker, CommitError, DeclareExchange, DeclareExchangeError, DeclareQueue,
    DeclareQueueError, DeleteQueueError, Destination, Durability, OpenSession, OpenSessionError, QueueError,
    Session, SessionEvent,
};
use millpond_model::table::Table;
use millpond_model::{ExchangeName, QueueName, VhostName};
use std::fmt;
use std::future::poll_fn;

/// What an apply changed; as text, one line a change.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ApplyReport {
    /// In the order it was done: `exchange orders: declared`.
    pub changes: Vec<String>,
    /// What stands now: `1 exchange, 2 queues...`.
    pub summary: String,
}

impl fmt::Display for ApplyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        if self.changes.is_empty() {
            writeln!(f, "nothing to change")?;
        }
        write!(f, "{}", self.summary)
    }
}

/// Why a topology was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file is wrong; nothing was changed.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// What is there differs, or something named is missing; nothing was changed. One line for each.
    #[error("{}", .conflicts.join("\n"))]
    Conflicts {
        /// `FILE:LINE: path: what was found, what was expected`.
        conflicts: Vec<String>,
    },
    /// The broker refused a change; those before it stand, and applying again goes on from there.
    #[error("{place}: {reason}")]
    Refused {
        /// `FILE:LINE: path`.
        place: String,
        /// What it said.
        reason: String,
    },
    /// A change did not reach the disk.
    #[error("the changes could not be kept: {0}")]
    NotKept(#[from] CommitError),
    /// No session with the broker.
    #[error(transparent)]
    Session(#[from] OpenSessionError),
    /// The engine or the broker shuts down.
    #[error("the broker shuts down")]
    ShutDown,
}

/// A session and the end of what it changes.
pub(crate) struct Changer {
    session: Session,
    last: Option<u64>,
    events: Vec<SessionEvent>,
    pub(crate) report: ApplyReport,
    file: String,
}

/// What a declaration found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Same,
    Nothing,
}

impl Changer {
    pub(crate) fn open(broker: &Broker, vhost: &VhostName, file: &str) -> Result<Self, OpenSessionError> {
        let request =
            OpenSession { login: broker.internal_login(), vhost: vhost.clone(), name: "topology".into() };
        let session = broker.open_session(request)?;
        let (last, events, report) = (None, Vec::new(), ApplyReport::default());
        Ok(Self { session, last, events, report, file: file.to_owned() })
    }

    fn place<T>(&self, placed: &Placed<T>) -> String {
        format!("{}:{}: {}", self.file, placed.line, placed.path)
    }

    fn note(&mut self, durability: Durability) {
        if let Durability::Pending(token) = durability {
            self.last = Some(token);
        }
    }

    /// Waits until all changes are on the disk.
    pub(crate) async fn settle(&mut self) -> Result<(), ApplyError> {
        while let Some(last) = self.last {
            let Self { session, events, .. } = self;
            poll_fn(|cx| session.poll_events(cx, events)).await;
            for event in self.events.drain(..) {
                match event {
                    SessionEvent::Committed { token, result } => {
                        result?;
                        if token == last {
                            self.last = None;
                        }
                    }
                    SessionEvent::Shutdown | SessionEvent::Closed { .. } => return Err(ApplyError::ShutDown),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    // ---- looking

    /// Compares with what is there, and looks for what is named and nowhere; changes nothing.
    pub(crate) fn check(&mut self, topology: &Topology) -> Result<(), ApplyError> {
        let mut conflicts = Vec::new();
        for exchange in &topology.exchanges {
            if let Err(error) = self.look_exchange(&exchange.it) {
                conflicts.push(format!("{}: {error}", self.place(exchange)));
            }
        }
        for queue in &topology.queues {
            if let Err(error) = self.look_queue(&queue.it) {
                conflicts.push(format!("{}: {error}", self.place(queue)));
            }
        }
        for binding in &topology.bindings {
            let place = self.place(binding);
            conflicts.extend(
                self.missing_exchange(topology, &binding.it.source).map(|it| format!("{place}: {it}")),
            );
            conflicts.extend(match &binding.it.destination {
                Destination::Queue(queue) => {
                    self.missing_queue(topology, queue).map(|it| format!("{place}: {it}"))
                }
                Destination::Exchange(exchange) => {
                    self.missing_exchange(topology, exchange).map(|it| format!("{place}: {it}"))
                }
            });
        }
        for schedule in &topology.schedules {
            let missing = self.missing_exchange(topology, &schedule.it.exchange);
            conflicts.extend(missing.map(|it| format!("{}: {it}", self.place(schedule))));
        }
        for rule in &topology.rules {
            let missing = match &rule.on {
                Trigger::Exchange { exchange, .. } => self.missing_exchange(topology, exchange),
                Trigger::Queue(queue) => self.missing_queue(topology, queue),
            };
            conflicts.extend(missing.map(|it| format!("{}: rules.{}.on: {it}", rule.place, rule.name)));
            for (place, exchange) in rule.publishes_to() {
                let missing = self.missing_exchange(topology, exchange);
                conflicts.extend(missing.map(|it| format!("{place}: rules.{}.do: {it}", rule.name)));
            }
            for queue in own_queues(rule) {
                if let Err(error) = self.look_queue(&queue) {
                    conflicts.push(format!("{}: rules.{}: {error}", rule.place, rule.name));
                }
            }
        }
        if conflicts.is_empty() { Ok(()) } else { Err(ApplyError::Conflicts { conflicts }) }
    }

    /// Declaring what exists with the same shape changes nothing, so existence is asked for first.
    fn look_exchange(&mut self, request: &DeclareExchange) -> Result<Found, DeclareExchangeError> {
        let passive = DeclareExchange { passive: true, ..request.clone() };
        match self.session.declare_exchange(&passive) {
            Err(DeclareExchangeError::Missing { .. }) => Ok(Found::Nothing),
            Err(error) => Err(error),
            Ok(_) => self.session.declare_exchange(request).map(|_| Found::Same),
        }
    }

    fn look_queue(&mut self, request: &DeclareQueue) -> Result<Found, DeclareQueueError> {
        let passive = DeclareQueue { passive: true, ..request.clone() };
        match self.session.declare_queue(&passive) {
            Err(DeclareQueueError::Queue(QueueError::Missing { .. })) => Ok(Found::Nothing),
            Err(error) => Err(error),
            Ok(_) => self.session.declare_queue(request).map(|_| Found::Same),
        }
    }

    /// What to say of an exchange that is neither in the file nor in the broker.
    fn missing_exchange(&mut self, topology: &Topology, name: &ExchangeName) -> Option<String> {
        if name.is_empty() || topology.exchanges.iter().any(|exchange| exchange.it.name == *name) {
            return None;
        }
        let request = DeclareExchange {
            name: name.clone(),
            kind: "direct".into(),
            passive: true,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        self.session.declare_exchange(&request).err()?;
        let known = topology.exchanges.iter().map(|exchange| exchange.it.name.as_str());
        let guess = did_you_mean(name.as_str(), known);
        Some(format!("found exchange '{name}', expected one of the file or of the broker{guess}"))
    }

    fn missing_queue(&mut self, topology: &Topology, name: &QueueName) -> Option<String> {
        let declared = topology.queues.iter().map(|queue| queue.it.name.clone());
        let known: Vec<_> = declared.chain(topology.rules.iter().flat_map(|rule| own_names(rule))).collect();
        if known.contains(name) {
            return None;
        }
        self.session.declare_queue(&DeclareQueue { passive: true, ..plain_queue(name.clone()) }).err()?;
        let guess = did_you_mean(name.as_str(), known.iter().map(QueueName::as_str));
        Some(format!("found queue '{name}', expected one of the file or of the broker{guess}"))
    }

    // ---- changing

    /// Declares what is missing, bindings and the rules' own queues included.
    pub(crate) fn declare(&mut self, topology: &Topology) -> Result<(), ApplyError> {
        for exchange in &topology.exchanges {
            let place = self.place(exchange);
            let refused = |error: DeclareExchangeError| refuse(&place, &error);
            if self.look_exchange(&exchange.it).map_err(refused)? == Found::Nothing {
                let durability = self.session.declare_exchange(&exchange.it).map_err(refused)?;
                self.note(durability);
                self.report.changes.push(format!("exchange {}: declared", exchange.it.name));
            }
        }
        for queue in &topology.queues {
            let place = self.place(queue);
            self.declare_queue(&queue.it, &place)?;
        }
        for rule in &topology.rules {
            for queue in own_queues(rule) {
                self.declare_queue(&queue, &rule.place)?;
            }
        }
        for binding in &topology.bindings {
            let place = self.place(binding);
            self.bind(&binding.it, &place)?;
        }
        for rule in &topology.rules {
            if let Some(binding) = rule.binding() {
                self.bind(&binding, &rule.place)?;
            }
        }
        Ok(())
    }

    fn declare_queue(&mut self, request: &DeclareQueue, place: &str) -> Result<(), ApplyError> {
        let refused = |error: DeclareQueueError| refuse(place, &error);
        if self.look_queue(request).map_err(refused)? == Found::Nothing {
            let (_, durability) = self.session.declare_queue(request).map_err(refused)?;
            self.note(durability);
            self.report.changes.push(format!("queue {}: declared", request.name));
        }
        Ok(())
    }

    fn bind(&mut self, binding: &Binding, place: &str) -> Result<(), ApplyError> {
        let durability = self.session.bind(binding).map_err(|error: BindError| refuse(place, &error))?;
        // A transient end makes a binding that nobody keeps; then it is not told either.
        if durability != Durability::Now {
            self.report.changes.push(format!("binding {}: made", show_binding(binding)));
        }
        self.note(durability);
        Ok(())
    }

    /// Removes a binding that an earlier topology had.
    pub(crate) fn unbind(&mut self, binding: &Binding) {
        match self.session.unbind(binding) {
            Ok(durability) => {
                self.note(durability);
                self.report.changes.push(format!("binding {}: removed", show_binding(binding)));
            }
            // Its exchange has gone, and the binding with it.
            Err(error) => tracing::debug!(%error, "a binding of an earlier topology is not there any more"),
        }
    }

    /// Deletes a queue that was a rule's own, if nothing is in it.
    pub(crate) fn delete_own_queue(&mut self, name: &QueueName) {
        let passive = DeclareQueue { passive: true, ..plain_queue(name.clone()) };
        if self.session.declare_queue(&passive).is_err() {
            return;
        }
        match self.session.delete_queue(name, false, true) {
            Ok((_, durability)) => {
                self.note(durability);
                self.report.changes.push(format!("queue {name}: deleted"));
            }
            Err(DeleteQueueError::NotEmpty { .. }) => {
                self.report.changes.push(format!("queue {name}: left, it is not empty"));
            }
            Err(error) => self.report.changes.push(format!("queue {name}: left: {error}")),
        }
    }
}

pub(crate) fn refuse(place: &str, error: &dyn fmt::Display) -> ApplyError {
    ApplyError::Refused { place: place.to_owned(), reason: error.to_string() }
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
pub(crate) fn own_names(rule: &Rule) -> Vec<QueueName> {
    match rule.on {
        Trigger::Exchange { .. } => vec![rule.queue(), rule.parking_queue()],
        Trigger::Queue(_) => vec![rule.parking_queue()],
    }
}

fn own_queues(rule: &Rule) -> Vec<DeclareQueue> {
    match rule.on {
        Trigger::Exchange { .. } => vec![plain_queue(rule.queue()), parking_queue(rule)],
        Trigger::Queue(_) => vec![parking_queue(rule)],
    }
}

fn show_binding(binding: &Binding) -> String {
    let to = match &binding.destination {
        Destination::Queue(queue) => format!("queue {queue}"),
        Destination::Exchange(exchange) => format!("exchange {exchange}"),
    };
    let key = String::from_utf8_lossy(&binding.key);
    let headers = if binding.arguments.is_empty() { "" } else { ", headers" };
    format!("{} -> {to} ('{key}'{headers})", binding.source)
}
