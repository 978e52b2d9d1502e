//! Delayed messages: what is published to a delayed exchange with a header `x-delay` waits in a log of its own and
//! is routed when its time has come (contract M7).
//!
//! The log is a queue's, so what is confirmed survives a kill; when a message is due follows from its record alone
//! (its stamp and the header), so the schedule is rebuilt from the log at the start. Being released is one batch:
//! out of the log and into the queues that the exchange leads to at that moment, or neither.

mod cell;
mod schedule;
mod sorted;

use crate::core::Core;
use crate::definition::{delay_key, encode_delay};
use crate::error::PublishError;
use crate::vhost::Vhost;
pub(crate) use cell::{Cancelled, DelayCell};
pub use cell::{DelayedContent, DelayedMessage};
use hashbrown::HashMap;
use millpond_model::ExchangeName;
use millpond_model::properties::RawProperties;
use millpond_model::table::{RawTable, RawValue, TableBuf, Value};
use millpond_store::Batch;
use parking_lot::RwLock;
use std::sync::Arc;

/// The header that says for how long, in milliseconds.
const DELAY: &str = "x-delay";

/// The header that says which messages are taken back: those with this `message_id`.
const CANCEL: &str = "x-delay-cancel";

/// Where a message was asked to wait first: its delay. `None`: it goes on at once (missing, no whole number, not
/// positive).
pub(crate) fn delay_ms(headers: RawTable<'_>) -> Option<u64> {
    let stated = match headers.get(DELAY)? {
        RawValue::LongStr(text) => std::str::from_utf8(text).ok()?.parse::<i64>().ok()?,
        number => number.as_i64()?,
    };
    u64::try_from(stated).ok().filter(|ms| *ms > 0)
}

/// The `message_id` of the messages that a publish takes back, if it does.
pub(crate) fn cancels(headers: RawTable<'_>) -> Result<Option<Box<[u8]>>, PublishError> {
    match headers.get(CANCEL) {
        None => Ok(None),
        Some(RawValue::LongStr(id)) if !id.is_empty() => Ok(Some(id.into())),
        Some(other) => {
            let found = match other {
                RawValue::LongStr(_) => "an empty text".to_owned(),
                other => format!("a {}", other.to_value().type_name()),
            };
            let reason = format!("expected the message_id of what is to be cancelled, got {found}");
            Err(PublishError::BadProperty { property: CANCEL, reason })
        }
    }
}

/// When a message is due that was stamped and asked to wait so. The stamp is the begun millisecond: one more, and no
/// message comes early.
fn due_ms(published_ms: u64, delay_ms: u64) -> u64 {
    published_ms.saturating_add(delay_ms).saturating_add(1)
}

/// The properties of a message that has waited: the delay is negative, as RabbitMQ's plugin has it, so that it does
/// not wait again.
fn waited(properties: &RawProperties<'_>, delay_ms: u64) -> Vec<u8> {
    let headers = properties.headers().unwrap_or_default();
    let mut without = TableBuf::without(headers, DELAY);
    let negative = 0 - i64::try_from(delay_ms).unwrap_or(i64::MAX);
    let value = i32::try_from(negative).map_or(Value::I64(negative), Value::I32);
    // A short name and a number have an encoding.
    let _ = without.push_value(DELAY, &value);
    properties.with_headers(Some(without.as_raw()))
}

/// The delay logs of a vhost, by exchange. An exchange has one from its first delayed message on.
#[derive(Debug, Default)]
pub(crate) struct Delays(RwLock<HashMap<ExchangeName, Arc<DelayCell>>>);

impl Delays {
    pub(crate) fn get(&self, exchange: &str) -> Option<Arc<DelayCell>> {
        self.0.read().get(exchange).cloned()
    }

    /// All of them, by exchange.
    pub(crate) fn all(&self) -> Vec<(ExchangeName, Arc<DelayCell>)> {
        let mut all: Vec<_> = self.0.read().iter().map(|(name, cell)| (name.clone(), cell.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// One that was recovered.
    pub(crate) fn restore(&self, cell: Arc<DelayCell>) {
        self.0.write().insert(cell.exchange().clone(), cell);
    }

    /// The log of an exchange. The caller holds the topology, so that none is made for an exchange that goes.
    pub(crate) fn get_or_begin(
        &self,
        core: &Core,
        vhost: &Arc<Vhost>,
        exchange: &ExchangeName,
        durable: bool,
    ) -> Arc<DelayCell> {
        if let Some(cell) = self.get(exchange.as_str()) {
            return cell;
        }
        let mut cells = self.0.write();
        if let Some(cell) = cells.get(exchange.as_str()) {
            return cell.clone();
        }
        let id = core.next_queue_ids(1);
        if durable {
            // Submitted before any batch with a message in it: the log keeps the order.
            let mut batch = core.store.begin();
            batch.put(&delay_key(&vhost.name, exchange), &encode_delay(id));
            core.store.commit(batch, None);
        }
        let log = core.store.create_queue(id, durable);
        let cell = DelayCell::new(exchange.clone(), Arc::downgrade(vhost), core.this(), log, None);
        cells.insert(exchange.clone(), cell.clone());
        cell
    }

    /// The vhost goes.
    pub(crate) fn forget_all(&self, vhost: &Vhost, batch: &mut Batch) {
        for (exchange, _) in self.all() {
            self.forget(vhost, &exchange, batch);
        }
    }

    /// The exchange goes, and what waits for it.
    pub(crate) fn forget(&self, vhost: &Vhost, exchange: &ExchangeName, batch: &mut Batch) {
        if let Some(cell) = self.0.write().remove(exchange.as_str()) {
            cell.delete(batch);
            batch.delete(&delay_key(&vhost.name, exchange));
        }
    }
}
