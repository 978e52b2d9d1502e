//! Dead-lettering: what queues have let go of goes to their dead-letter exchanges, in the batch that takes it out of
//! the queue. So a message is never in both and never in neither, whenever the process is killed.
//!
//! A queue machine says which messages die; its cell reads their content and puts them in the list of the work in
//! hand (`Scratch::dead`). Here, without any queue's lock, each is routed and published, and settled where it was.
//! Publishing may let further messages die (a dead-letter queue that is too long, a time to live of 0): the list is
//! worked off until it is empty, which ends because a message does not come to a queue again in which it died,
//! unless a client rejected it in between (X7).

mod death;

use crate::error::PublishError;
use crate::queue::machine::Reason;
use crate::queue::settings::DeadLetterTo;
use crate::queue::{QueueCell, Work};
use crate::routing::Resolution;
use crate::vhost::Vhost;
use death::Death;
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use std::ops::Range;
use std::sync::Arc;

/// A message that its queue has let go of. It is still in the queue's log.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) cell: Arc<QueueCell>,
    pub(crate) seq: u64,
    pub(crate) reason: Reason,
    pub(crate) message: Message,
}

/// Messages for one queue, in order.
type Targets = Vec<(Arc<QueueCell>, Vec<Message>)>;

/// Moves all that has died in this work.
pub(crate) fn carry_out(work: &mut Work<'_>) {
    let now_ms = work.core.options.clock.now_ms();
    while !work.scratch.dead.is_empty() {
        let mut dead = std::mem::take(&mut work.scratch.dead);
        let mut targets = Targets::new();
        let mut settled: Vec<Range<u64>> = Vec::new();
        for of_one in dead.chunk_by(|a, b| Arc::ptr_eq(&a.cell, &b.cell)) {
            settled.clear();
            let cell = &of_one[0].cell;
            let way = cell.dead_letter_to().zip(cell.vhost());
            for one in of_one {
                let buried = match &way {
                    Some((to, vhost)) => bury(one, to, vhost, now_ms, &mut targets, work),
                    None => Ok(()),
                };
                match buried {
                    Ok(()) => {
                        settled.push(one.seq..one.seq + 1);
                        cell.meter(work.core).add_shared(one.reason.count(), 1);
                    }
                    Err(Missing) => cell.park(one.seq, one.reason, work),
                }
            }
            cell.forget(&settled, work);
        }
        for (cell, messages) in targets {
            cell.put(&mut messages.into_iter(), work);
        }
        for of_one in dead.chunk_by(|a, b| Arc::ptr_eq(&a.cell, &b.cell)) {
            of_one[0].cell.moved(work);
        }
        dead.clear();
        if work.scratch.dead.is_empty() {
            work.scratch.dead = dead;
        }
    }
}

/// The dead-letter exchange is not there.
struct Missing;

/// Adds a dead message to what its dead-letter exchange's queues get.
fn bury(
    dead: &Dead,
    to: &DeadLetterTo,
    vhost: &Arc<Vhost>,
    now_ms: u64,
    targets: &mut Targets,
    work: &mut Work<'_>,
) -> Result<(), Missing> {
    let spec = dead.cell.spec();
    let death = Death { queue: &spec.name, reason: dead.reason, now_ms, to };
    let (message, history) = death.of(&dead.message);
    let mut found = Resolution::default();
    let properties = RawProperties::from_checked(message.properties());
    let routed =
        vhost.read().route_inside(message.exchange(), message.routing_key(), &properties, &mut found);
    match routed {
        Ok(()) => {}
        // A queue that is too long cannot keep what it has to let go of.
        Err(PublishError::ExchangeMissing { .. }) if dead.reason != Reason::MaxLength => return Err(Missing),
        Err(error) => {
            tracing::warn!(queue = %spec.name, %error, "a dead message is dropped");
            return Ok(());
        }
    }
    for name in &found.histories {
        let router = vhost.read();
        if let Some(history) = vhost.history(&router, name) {
            history.remember(&message);
        }
    }
    for (name, delay_ms) in &found.delays {
        let cell = vhost.delay_cell(&vhost.read(), work.core, name);
        if let Some(cell) = cell {
            cell.hold(message.clone(), *delay_ms, work);
        }
    }
    for queue in found.queues {
        let name = queue.0.spec().name.clone();
        if history.is_cycle(name.as_str()) {
            tracing::warn!(
                queue = %spec.name, target = %name,
                "a dead message is not put in a queue again in which it died, without a reject between"
            );
            continue;
        }
        match targets.iter_mut().find(|(cell, _)| Arc::ptr_eq(cell, &queue.0)) {
            Some((_, messages)) => messages.push(message.clone()),
            None => targets.push((queue.0.clone(), vec![message.clone()])),
        }
    }
    Ok(())
}
