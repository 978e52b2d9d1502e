//! Delayed messages as an operator sees them: which exchanges hold how many, the next ones due, and one taken back.

use super::{CancelDelayedError, VhostMissing};
use crate::audit::AuditObject;
use crate::delayed::Cancelled;
use crate::{Broker, DelayedMessage, Saved};
use millpond_model::{ExchangeName, VhostName};

/// An exchange at which messages wait, or have waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedExchange {
    /// Its name.
    pub exchange: ExchangeName,
    /// Messages that wait.
    pub waiting: u64,
    /// When the next one is due, in milliseconds since 1970.
    pub next_due_ms: Option<u64>,
}

impl Broker {
    /// Every exchange of a vhost at which a message has waited since it was declared, by name.
    pub fn list_delayed_exchanges(&self, vhost: &VhostName) -> Result<Vec<DelayedExchange>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        let described = vhost.delays.all().into_iter().map(|(exchange, cell)| {
            let (waiting, next_due_ms) = cell.figures();
            DelayedExchange { exchange, waiting, next_due_ms }
        });
        Ok(described.collect())
    }

    /// The first `count_max` messages that wait at an exchange, in the order in which they are due; none if nothing
    /// was ever delayed there. Contents that are on disk are left out and read, so that asking again shows them.
    pub fn list_delayed(
        &self,
        vhost: &VhostName,
        exchange: &ExchangeName,
        count_max: usize,
    ) -> Result<Vec<DelayedMessage>, VhostMissing> {
        let vhost = self.vhost(vhost)?;
        Ok(vhost.delays.get(exchange.as_str()).map(|cell| cell.list(count_max)).unwrap_or_default())
    }

    /// Takes back all messages with this property `message_id` that wait at an exchange: they are not released any
    /// more. How many there were.
    pub fn cancel_delayed_named(
        &self,
        vhost: &VhostName,
        exchange: &ExchangeName,
        message_id: &[u8],
    ) -> Result<(u64, Saved), CancelDelayedError> {
        self.core.check_writable()?;
        let vhost = self.vhost(vhost)?;
        let cell = vhost.delays.get(exchange.as_str());
        let (cancelled, batch) = self
            .core
            .with_batch(|work| cell.map_or(Cancelled::Nothing, |cell| cell.cancel_named(message_id, work)));
        match cancelled {
            Cancelled::Some(count) => {
                let message_id = String::from_utf8_lossy(message_id);
                let detail = format!("{count} with message_id '{message_id}'");
                self.audit(
                    "delayed.cancelled",
                    AuditObject::in_vhost("exchange", &vhost.name, exchange.as_str()),
                    &detail,
                );
                Ok((count, self.core.save(batch)))
            }
            Cancelled::Nothing => Err(CancelDelayedError::Unnamed {
                exchange: exchange.clone(),
                message_id: String::from_utf8_lossy(message_id).into_owned(),
            }),
            Cancelled::Unknown => Err(CancelDelayedError::Loading { exchange: exchange.clone() }),
        }
    }

    /// Takes a delayed message back: it is not released any more. `id` is that of the listing.
    pub fn cancel_delayed(
        &self,
        vhost: &VhostName,
        exchange: &ExchangeName,
        id: u64,
    ) -> Result<Saved, CancelDelayedError> {
        self.core.check_writable()?;
        let vhost = self.vhost(vhost)?;
        let cell = vhost.delays.get(exchange.as_str());
        let (cancelled, batch) = self.core.with_batch(|work| cell.is_some_and(|cell| cell.cancel(id, work)));
        if !cancelled {
            return Err(CancelDelayedError::Missing { exchange: exchange.clone(), id });
        }
        let object = AuditObject::in_vhost("exchange", &vhost.name, exchange.as_str());
        self.audit("delayed.cancelled", object, &format!("message {id}"));
        Ok(self.core.save(batch))
    }
}
