//! A store that takes no writes.
