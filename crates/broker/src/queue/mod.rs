//! Queues: the machine that decides, and what carries its decisions out.

pub(crate) mod machine;
