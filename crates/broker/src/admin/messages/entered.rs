//! What a transfer enters into the audit log.

use super::{Transfer, TransferOf, TransferTo};
use crate::audit::AuditObject;

impl Drop for Transfer {
    fn drop(&mut self) {
        self.enter_audit();
    }
}

impl Transfer {
    /// What was done, also of one that was not brought to its end.
    fn enter_audit(&self) {
        if self.report.went == 0 || self.request.dry_run {
            return;
        }
        let operation = match &self.request.to {
            TransferTo::WhereItDied => "queue.messages.redriven",
            _ if self.request.of != TransferOf::Ready => "queue.messages.replayed",
            _ if self.request.keep => "queue.messages.copied",
            _ => "queue.messages.moved",
        };
        let object = AuditObject::in_vhost("queue", &self.vhost.name, self.request.from.as_str());
        self.broker.audit(operation, object, &format!("{} messages to {}", self.report.went, self.target()));
    }

    fn target(&self) -> String {
        let elsewhere = match self.stays() {
            true => String::new(),
            false => format!(" in vhost '{}'", self.to_vhost.name),
        };
        match &self.request.to {
            TransferTo::Queue(queue) => format!("queue '{queue}'{elsewhere}"),
            TransferTo::Exchange(exchange, _) => format!("exchange '{exchange}'{elsewhere}"),
            TransferTo::WhereItDied => "where each died".to_owned(),
        }
    }
}
