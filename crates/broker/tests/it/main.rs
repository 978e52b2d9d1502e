//! The broker through its public door, on a real store.
#![allow(clippy::unwrap_used, clippy::panic)]

mod admin;
mod alarms;
mod consume;
mod dead_letters;
mod dedup;
mod definitions;
mod delayed;
mod delayed_cancel;
mod events_exchange;
mod flow;
mod full;
mod groups;
mod histories;
mod histories_of_deaths;
mod messages;
mod priorities;
mod publish;
mod recent_history;
mod replies;
mod restart;
mod retained;
mod schedules;
mod streams;
mod support;
mod timing;
