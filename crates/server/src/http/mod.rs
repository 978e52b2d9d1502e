//! HTTP front end.

pub(crate) mod health;
