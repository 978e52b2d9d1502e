//! The event bus: the exchange that sources publish events to, and rules take them from.

use crate::topology::BUS;
use millpond_broker::{
    Broker, DeclareExchange, DeclareExchangeError, Durability, OpenSession, OpenSessionError, SessionEvent,
};
use millpond_model::table::Table;
use millpond_model::{ExchangeName, VhostName};
use std::future::poll_fn;

/// The type of the bus.
pub(crate) const BUS_TYPE: &str = "x-events";

/// Why there is no bus.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// No session.
    #[error(transparent)]
    Session(#[from] OpenSessionError),
    /// The broker refused it: it is there as something else.
    #[error(transparent)]
    Refused(#[from] DeclareExchangeError),
    /// It did not reach the disk.
    #[error("the exchange '{BUS}' could not be kept: {reason}")]
    NotKept {
        /// Why.
        reason: String,
    },
}

/// Declares the bus and waits until it is durable; nothing happens if it is there.
pub(crate) async fn declare(broker: &Broker, vhost: &VhostName) -> Result<(), BusError> {
    let request = OpenSession { login: broker.internal_login(), vhost: vhost.clone(), name: "bus".into() };
    let mut session = broker.open_session(request)?;
    let durability = session.declare_exchange(&DeclareExchange {
        name: ExchangeName::new(BUS).expect("a short name"),
        kind: BUS_TYPE.into(),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    })?;
    let Durability::Pending(wanted) = durability else { return Ok(()) };
    let not_kept = |reason: String| BusError::NotKept { reason };
    let mut events = Vec::new();
    loop {
        poll_fn(|cx| session.poll_events(cx, &mut events)).await;
        for event in events.drain(..) {
            match event {
                SessionEvent::Committed { token, result } if token == wanted => {
                    return result.map_err(|error| not_kept(error.to_string()));
                }
                SessionEvent::Shutdown => return Err(not_kept("the broker shuts down".to_owned())),
                SessionEvent::Closed { reason } => return Err(not_kept(reason.to_string())),
                _ => {}
            }
        }
    }
}
