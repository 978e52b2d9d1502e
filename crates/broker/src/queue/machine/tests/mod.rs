//! The machine as tables and as random histories.

mod history;
mod pages;
mod table;
