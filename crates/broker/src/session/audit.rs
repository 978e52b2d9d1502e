//! What a session enters into the audit log, and tells of queues that are new.

use super::Session;
use super::definitions::destination_queue;
use crate::access::{AccessRefused, Right, Thing};
use crate::audit::{AuditObject, FrontEnd};
use crate::json::of_table;
use crate::notice::Notice;
use crate::queue::QueueCell;
use crate::queue::cell::QueueSpec;
use crate::queue::handle::QueueHandle;
use crate::request::{Binding, DeclareExchange, Destination};
use crate::routing::Router;
use crate::stats::Count;
use millpond_model::table::Table;
use serde_json::Value;

impl Session {
    /// Enters a change. What the process does for itself is not one: who had it done so is entered where they asked.
    fn note(&self, operation: &'static str, kind: &'static str, name: &str, detail: impl FnOnce() -> String) {
        if self.login.actor.front_end != FrontEnd::Internal {
            let object = AuditObject::in_vhost(kind, &self.vhost.name, name);
            self.core.audit.done(&self.login.actor, operation, object, &detail());
        }
    }

    /// A queue is there: counted, entered, told to those who listen.
    pub(super) fn tell_created(&self, cell: &QueueCell) {
        self.core.stats.churn.add_shared(Count::QueueCreated, 1);
        self.note_queue("queue.created", cell.spec(), || cell.spec().shown());
        self.core.tell(|| {
            let spec = cell.spec();
            let (vhost, queue) = (self.vhost.name.clone(), spec.name.clone());
            let (durable, exclusive) = (spec.durable, spec.exclusive.is_some());
            Notice::QueueCreated { vhost, queue, durable, exclusive }
        });
    }

    /// A queue that is a connection's own, or that the broker has named and that goes with its last consumer, comes and
    /// goes with its client: it is no change that others see.
    pub(super) fn note_queue(
        &self,
        operation: &'static str,
        spec: &QueueSpec,
        detail: impl FnOnce() -> String,
    ) {
        if !spec.is_clients_own() {
            self.note(operation, "queue", spec.name.as_str(), detail);
        }
    }

    pub(super) fn note_exchange(
        &self,
        operation: &'static str,
        name: &str,
        request: Option<&DeclareExchange>,
    ) {
        self.note(operation, "exchange", name, || {
            request.map_or_else(String::new, |it| {
                let shape = shown(it.durable, it.auto_delete, &it.arguments);
                format!("type {}, {shape}", it.kind)
            })
        });
    }

    pub(super) fn note_binding(
        &self,
        operation: &'static str,
        binding: &Binding,
        router: &Router<QueueHandle>,
    ) {
        let queue = router.queue(destination_queue(binding));
        if queue.is_some_and(|queue| queue.0.spec().is_clients_own()) {
            return;
        }
        let (kind, destination) = match &binding.destination {
            Destination::Queue(name) => ("queue", name.as_str()),
            Destination::Exchange(name) => ("exchange", name.as_str()),
        };
        let name = format!("{} -> {destination}", binding.source);
        self.note(operation, "binding", &name, || {
            let key = String::from_utf8_lossy(&binding.key);
            let arguments = match binding.arguments.is_empty() {
                true => String::new(),
                false => format!(", arguments {}", Value::Object(of_table(&binding.arguments))),
            };
            format!("to {kind}, key '{key}'{arguments}")
        });
    }

    pub(super) fn note_refused(&self, right: Right, thing: Thing<'_>, refused: &AccessRefused) {
        let (operation, object) = thing.audited(right, &self.vhost.name);
        self.core.audit.refused(&self.login.actor, operation, object, ("", &refused.to_string()));
    }
}

impl QueueSpec {
    /// Whether it is its client's own: see [`Session::note_queue`].
    pub(super) fn is_clients_own(&self) -> bool {
        self.exclusive.is_some() || self.auto_delete && self.name.as_str().starts_with("amq.gen-")
    }

    /// For the audit log.
    pub(super) fn shown(&self) -> String {
        shown(self.durable, self.auto_delete, &self.arguments)
    }
}

fn shown(durable: bool, auto_delete: bool, arguments: &Table) -> String {
    let durable = if durable { "durable" } else { "transient" };
    let auto_delete = if auto_delete { ", auto-delete" } else { "" };
    let arguments = match arguments.is_empty() {
        true => String::new(),
        false => format!(", arguments {}", Value::Object(of_table(arguments))),
    };
    format!("{durable}{auto_delete}{arguments}")
}
