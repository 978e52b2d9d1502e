//! Topology and routing as tables, and topic matching beside a naive matcher.

mod events;
mod headers;
mod history;
mod kinds;
mod table;
mod topic;
