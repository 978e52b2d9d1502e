//! Which entries somebody wants to see.

use super::AuditEntry;
use crate::Broker;
use std::sync::Arc;

/// What must hold of an entry; what is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// By this user.
    pub user: Option<String>,
    /// This operation, or all that begin so: `queue` stands for `queue.created` and `queue.deleted`.
    pub operation: Option<String>,
    /// About something of this kind.
    pub kind: Option<String>,
    /// About something in this vhost, or the vhost itself.
    pub vhost: Option<String>,
    /// About something of this name.
    pub object: Option<String>,
    /// `done` or `refused`.
    pub result: Option<String>,
    /// Through this door: `amqp`, `management`.
    pub front_end: Option<String>,
    /// Not before. Milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Not after.
    pub until_ms: Option<u64>,
    /// Only those with a higher number: what is new since then.
    pub after_id: Option<u64>,
}

/// Milliseconds since 1970 of a moment as RFC 3339 has it; `None`: it is none.
pub fn read_time_ms(text: &str) -> Option<u64> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok()
}

impl AuditQuery {
    fn fits(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|it| it == found);
        let object = &entry.object;
        let operation = self.operation.as_ref().is_none_or(|wanted| {
            let rest = entry.operation.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || wanted.ends_with('.'))
        });
        let vhost = match object.kind.as_ref() {
            "vhost" => Some(&*object.name),
            _ => object.vhost.as_deref(),
        };
        operation
            && is(&self.user, &entry.actor.user)
            && is(&self.kind, &object.kind)
            && is(&self.object, &object.name)
            && is(&self.result, entry.result.as_str())
            && is(&self.front_end, entry.actor.front_end.as_str())
            && self.vhost.as_ref().is_none_or(|wanted| vhost == Some(wanted))
            && self.since_ms.is_none_or(|since_ms| entry.at_ms >= since_ms)
            && self.until_ms.is_none_or(|until_ms| entry.at_ms <= until_ms)
            && self.after_id.is_none_or(|id| entry.id > id)
    }
}

impl Broker {
    /// Those of the entries in memory that fit, the newest first, and how many there are in memory. Older ones are in
    /// the file.
    pub fn audit_entries(&self, query: &AuditQuery) -> (Vec<Arc<AuditEntry>>, usize) {
        let audit = &self.core.audit;
        audit.settle_refusals(false);
        let state = audit.state.lock();
        let fitting = state.ring.iter().rev().filter(|entry| query.fits(entry)).cloned().collect();
        (fitting, state.ring.len())
    }
}
