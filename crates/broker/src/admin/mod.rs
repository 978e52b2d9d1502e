//! What an operator asks of the broker: users, vhosts, policies, limits, what queues there are and what they act by.
//!
//! The operations of `Session` belong to a connection in a vhost; these belong to nobody's, and are as durable:
//! each answers with a [`Saved`](crate::Saved) to wait for.

mod browse;
mod connections;
mod consumers;
mod delayed;
mod error;
mod exchanges;
mod explain;
mod figures;
mod filter;
mod limits;
mod messages;
mod pages;
mod parameters;
mod policies;
mod queues;
mod replay;
mod schedules;
mod statistics;
mod users;
mod vhosts;

use crate::Broker;
pub use crate::queue::retained::RetainedFigures;
use crate::vhost::Vhost;
pub use browse::{Browse, Browsed};
pub use connections::{ClientFacts, ConnectionInfo};
pub use consumers::{ConsumerChange, ConsumersMeant};
pub use delayed::DelayedExchange;
pub use error::*;
pub use exchanges::{BindingPage, ExchangeInfo};
pub use explain::{ExplainError, ExplainRequest, Explanation, Publisher, QueueReason};
pub use figures::{ConsumerFigures, GroupFigures, PaceFigures, QueueFigures};
pub use filter::MessageFilter;
pub use messages::{Transfer, TransferError, TransferOf, TransferReport, TransferRequest, TransferTo};
use millpond_model::VhostName;
pub use pages::{QueueOrder, QueueOrderBy, QueuePage};
pub(crate) use parameters::Parameters;
pub use parameters::{CLUSTER_NAME, Keeper, Parameter, ParameterError};
pub use queues::{QueueInfo, QueueType, Totals};
pub use replay::{Remembered, ReplayPeriod};
pub use schedules::ScheduleError;
use std::sync::Arc;
pub use users::{NewPassword, UserError, UserInfo, UserSpec};
pub(crate) use vhosts::forget_vhost;
pub use vhosts::{VhostInfo, VhostSpec};

/// For the audit log.
fn show_limits(limits: [(&str, Option<u64>); 2]) -> String {
    let shown = limits.map(|(name, limit)| match limit {
        Some(limit) => format!("{name} {limit}"),
        None => format!("{name} none"),
    });
    shown.join(", ")
}

impl Broker {
    fn vhost(&self, name: &VhostName) -> Result<Arc<Vhost>, VhostMissing> {
        self.core.vhost(name).ok_or_else(|| VhostMissing { vhost: name.clone() })
    }
}
