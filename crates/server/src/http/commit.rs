//! Waiting for what a request changed to be durable.

use super::refusal::Refusal;
use millpond_broker::{Durability, Saved, Session, SessionEvent, WriteRefused};
use std::future::poll_fn;

/// Waits until a change by a session is durable.
pub(super) async fn durable(session: &mut Session, durability: Durability) -> Result<(), Refusal> {
    let Durability::Pending(token) = durability else { return Ok(()) };
    let mut told = Vec::new();
    loop {
        poll_fn(|cx| session.poll_events(cx, &mut told)).await;
        for event in told.drain(..) {
            match event {
                SessionEvent::Committed { token: ended, result } if ended == token => {
                    return result.map_err(|error| WriteRefused::Store(error).into());
                }
                SessionEvent::Shutdown => return Err(Refusal::unavailable("the broker shuts down")),
                SessionEvent::Closed { reason } => return Err(Refusal::unavailable(&*reason)),
                _ => {}
            }
        }
    }
}

/// Waits until a change of definitions is durable.
pub(super) async fn saved(saved: Saved) -> Result<(), Refusal> {
    saved.await.map_err(|error| WriteRefused::Store(error).into())
}
