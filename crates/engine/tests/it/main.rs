//! The engine through its public door, on a real broker and store.

mod applying;
mod checking;
mod docs;
mod events;
mod outside;
mod rules;
mod support;
mod trying;
