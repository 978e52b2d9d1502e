//! The machine as tables and as random histories.

mod groups;
mod history;
mod history_groups;
mod history_timed;
mod pace;
mod pages;
mod questions;
mod table;
mod time;
