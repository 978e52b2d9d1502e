//! Exchanges and bindings as an operator sees them.

use super::VhostMissing;
use crate::Broker;
use crate::policy::Subject;
use crate::queue::handle::QueueHandle;
use crate::request::{Binding, Destination};
use crate::routing::{ExchangeKind, ExchangeSpec, Router};
use crate::vhost::Vhost;
use millpond_model::table::Table;
use millpond_model::{ExchangeName, QueueName, VhostName};
use std::ops::Range;

/// An exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeInfo {
    /// Its name; the default exchange has the empty one.
    pub name: ExchangeName,
    /// `direct`, `topic`...
    pub kind: &'static str,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when its last outgoing binding goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// As the client declared them.
    pub arguments: Table,
    /// The policy in force.
    pub policy: Option<Box<str>>,
}

impl ExchangeInfo {
    /// Whether every vhost has it from the start.
    pub fn is_built_in(&self) -> bool {
        self.name.is_empty() || self.name.as_str().starts_with("amq.")
    }
}

/// A page of bindings.
#[derive(Debug, Clone, PartialEq)]
pub struct BindingPage {
    /// All bindings.
    pub total: usize,
    /// Those asked for, each with its vhost.
    pub bindings: Vec<(VhostName, Binding)>,
}

impl BindingPage {
    /// Which of so many further bindings are in a range of all.
    fn cut(&mut self, range: &Range<usize>, count: usize) -> Range<usize> {
        let before = self.total;
        self.total += count;
        let within = |place: usize| place.saturating_sub(before).min(count);
        within(range.start)..within(range.end)
    }
}

impl Broker {
    /// Every exchange of a vhost, by name; the default one first.
    pub fn list_exchanges(&self, vhost: &VhostName) -> Result<Vec<ExchangeInfo>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let mut all: Vec<_> = {
            let router = vhost.read();
            router.exchanges().map(|(name, spec)| describe(&vhost, name, spec)).collect()
        };
        all.extend(default_exchange());
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// One exchange; the empty name is the default one. `None`: there is none of that name.
    pub fn exchange(
        &self,
        vhost: &VhostName,
        name: &ExchangeName,
    ) -> Result<Option<ExchangeInfo>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        if name.is_empty() {
            return Ok(default_exchange());
        }
        let router = vhost.read();
        Ok(router.exchange(name.as_str()).map(|spec| describe(&vhost, name, spec)))
    }

    /// Every binding of a vhost, by source, destination and key; first those that every queue has to the default
    /// exchange, by its name.
    pub fn list_bindings(&self, vhost: &VhostName) -> Result<Vec<Binding>, VhostMissing> {
        Ok(self
            .page_bindings(std::slice::from_ref(vhost), 0..usize::MAX)?
            .bindings
            .into_iter()
            .map(|it| it.1)
            .collect())
    }

    /// The bindings that clients made, by source, destination and key.
    pub fn list_made_bindings(&self, vhost: &VhostName) -> Result<Vec<Binding>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let router = vhost.read();
        let mut names = router.exchange_names();
        names.sort();
        Ok(names.iter().flat_map(|name| router.bindings_from(name.as_str())).collect())
    }

    /// Of the bindings of these vhosts, in the order of [`Self::list_bindings`], those in `range`. One behind the end
    /// is empty.
    pub fn page_bindings(
        &self,
        vhosts: &[VhostName],
        range: Range<usize>,
    ) -> Result<BindingPage, VhostMissing> {
        let mut page = BindingPage { total: 0, bindings: Vec::new() };
        for name in vhosts {
            let vhost = self.vhost(name)?;
            let router = vhost.read();
            let named = |binding| (name.clone(), binding);
            let own = page.cut(&range, router.queues().len());
            page.bindings
                .extend(router.queue_names().skip(own.start).take(own.len()).filter_map(by_name).map(named));
            let mut names = router.exchange_names();
            names.sort();
            for exchange in names {
                let wanted = page.cut(&range, router.binding_count(exchange.as_str()));
                if !wanted.is_empty() {
                    let found = router.bindings_from(exchange.as_str());
                    page.bindings.extend(found.into_iter().skip(wanted.start).take(wanted.len()).map(named));
                }
            }
        }
        Ok(page)
    }

    /// Bindings whose source is that exchange.
    pub fn bindings_from(
        &self,
        vhost: &VhostName,
        source: &ExchangeName,
    ) -> Result<Vec<Binding>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let router = vhost.read();
        Ok(match source.is_empty() {
            true => of_default_exchange(&router),
            false => router.bindings_from(source.as_str()),
        })
    }

    /// Bindings that lead there, a queue's own to the default exchange included.
    pub fn bindings_to(
        &self,
        vhost: &VhostName,
        destination: &Destination,
    ) -> Result<Vec<Binding>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let router = vhost.read();
        let mut all = Vec::new();
        if let Destination::Queue(queue) = destination
            && router.queue(queue.as_str()).is_some()
        {
            all.extend(by_name(queue));
        }
        all.extend(router.bindings_to(destination));
        Ok(all)
    }
}

fn describe(vhost: &Vhost, name: &ExchangeName, spec: &ExchangeSpec) -> ExchangeInfo {
    let policies = vhost.policies();
    let policy =
        policies.best(Subject::Exchange, name.as_str()).policy.map(|policy| policy.spec.name.clone());
    ExchangeInfo {
        name: name.clone(),
        kind: spec.kind.as_str(),
        durable: spec.durable,
        auto_delete: spec.auto_delete,
        internal: spec.internal,
        arguments: spec.arguments.clone(),
        policy,
    }
}

fn default_exchange() -> Option<ExchangeInfo> {
    Some(ExchangeInfo {
        name: ExchangeName::new("").ok()?,
        kind: ExchangeKind::Direct.as_str(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
        policy: None,
    })
}

fn of_default_exchange(router: &Router<QueueHandle>) -> Vec<Binding> {
    router.queue_names().filter_map(by_name).collect()
}

fn by_name(queue: &QueueName) -> Option<Binding> {
    Some(Binding {
        source: ExchangeName::new("").ok()?,
        destination: Destination::Queue(queue.clone()),
        key: queue.as_str().as_bytes().into(),
        arguments: Table::new(),
    })
}
