//! The machine as tables and as random histories.

mod history;
mod history_timed;
mod pace;
mod pages;
mod table;
mod time;
