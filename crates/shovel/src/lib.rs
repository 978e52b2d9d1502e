//! Shovels: each moves messages from a queue to a queue or an exchange, one of the two or both at another broker.
//!
//! A shovel is a runtime parameter of the component `shovel`, as RabbitMQ's dynamic shovels are. The broker keeps it;
//! this room is told when one is set or cleared ([`millpond_broker::Keeper`]) and runs a task for each.
//!
//! A side whose URI has no host is this broker, by a session of the process in the shovel's own vhost. With both
//! sides here a message is moved in one commit; otherwise it is acked where it came from once it is safe where it
//! went (`on-confirm`): it may come twice after a broken connection, and is never lost.

mod bridge;
mod dest;
mod error;
mod local;
mod properties;
mod room;
mod run;
mod source;
mod spec;
mod state;

pub use error::ShovelError;
pub use room::{COMPONENT, Shovels};
pub use spec::{AckMode, BadShovel, DeleteAfter, From, Place, ShovelSpec, To};
pub use state::{ShovelState, ShovelStatus};
