//! Random histories of several sessions.
