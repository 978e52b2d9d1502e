//! Queues: the machine that decides, and what carries its decisions out.

mod append;
pub(crate) mod arguments;
pub(crate) mod browse;
mod care;
pub(crate) mod cell;
pub(crate) mod consumers;
pub(crate) mod dedup;
mod effective;
pub(crate) mod end;
pub(crate) mod get;
pub(crate) mod grouping;
pub(crate) mod handle;
mod intake;
pub(crate) mod logs;
pub(crate) mod machine;
mod meter;
mod pump;
pub(crate) mod retained;
pub(crate) mod settings;
mod standing;
mod tick;
pub(crate) mod timing;

pub(crate) use cell::QueueCell;
pub(crate) use pump::{Scratch, Work};
pub(crate) use standing::{Found, Look};
pub(crate) use tick::Getter;
