//! CloudEvents 1.0 and the messages that carry them.
//!
//! An event travels as a message in *binary mode*: its attributes are headers `cloudEvents:NAME`, its data is the
//! body, its type the routing key ([`CloudEvent::to_message`]). Any other message is an event too: what it does not
//! say follows from its properties and its way ([`Origin::read`]). A message in *structured mode*, whose body is
//! the whole event as JSON, is read as that.
//!
//! Sources: CloudEvents 1.0.2, its JSON format, its AMQP and HTTP bindings.

mod check;
mod cloud_event;
mod read;
mod time;

pub use check::EventError;
pub use cloud_event::{CloudEvent, EventMessage, take_data};
pub use read::{Data, Origin, is_structured, json_of_header, json_of_table, media_type, put_data, text_of};
pub use time::show_time;

/// Prefix of the headers that hold attributes, as it is written.
pub const HEADER_PREFIX: &str = "cloudEvents:";

/// The other prefix that the AMQP binding allows.
pub const HEADER_PREFIX_ALTERNATIVE: &str = "cloudEvents_";

/// Content type of an event as JSON, alone.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// Content type of a list of events as JSON.
pub const BATCH: &str = "application/cloudevents-batch+json";

/// Version of CloudEvents spoken here.
pub const SPEC_VERSION: &str = "1.0";
