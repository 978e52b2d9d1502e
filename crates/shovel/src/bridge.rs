//! The work of a shovel one of whose sides is elsewhere: take, publish, wait for what became of it, ack.

use crate::dest::{Dest, Settled};
use crate::error::ShovelError;
use crate::run::{End, Job};
use crate::source::{Source, Taken};
use crate::spec::AckMode;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Messages that are put at once at most.
const BATCH_MAX: usize = 500;

/// How long nothing is taken after the destination has refused a message.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// How often a destination without room is looked at again.
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// How long a shovel that is stopped waits for what is on its way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A message on its way, by its number at the destination.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// At the source.
    tag: u64,
    state: State,
}

/// What became of a message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unsettled,
    Safe,
    GivenBack,
}

struct Bridge<'j> {
    job: &'j Job,
    source: Source,
    dest: Dest,
    slots: VecDeque<Slot>,
    /// The number of the first of them.
    first: u64,
    /// Of those, how many are not settled.
    unsettled: u64,
    paused_until: Option<Instant>,
}

/// Works until it is to stop, all that was wanted is moved, or something breaks.
pub(crate) async fn run(
    job: &Job,
    source: Source,
    dest: Dest,
    stop: &mut watch::Receiver<bool>,
) -> Result<End, ShovelError> {
    let slots = VecDeque::new();
    let mut bridge = Bridge { job, source, dest, slots, first: 1, unsettled: 0, paused_until: None };
    let end = bridge.work(stop).await?;
    // The last acks and, without confirms, the last messages are sent with the goodbye. First where they go.
    bridge.dest.close().await?;
    bridge.source.close().await?;
    Ok(end)
}

/// Waits for messages, or only lives on where there is no room for any.
async fn take_or_live(
    source: &mut Source,
    batch: &mut Vec<Taken>,
    may_take: bool,
) -> Result<(), ShovelError> {
    match may_take {
        true => source.next(batch, BATCH_MAX).await,
        false => Err(source.keep_alive().await),
    }
}

impl Bridge<'_> {
    async fn work(&mut self, stop: &mut watch::Receiver<bool>) -> Result<End, ShovelError> {
        let mut stopping: Option<Instant> = None;
        let mut batch = Vec::new();
        loop {
            let is_satisfied = self.is_satisfied();
            let end = if stopping.is_some() { End::Stopped } else { End::Done };
            if (is_satisfied || stopping.is_some()) && self.unsettled == 0 {
                return Ok(end);
            }
            let is_paused = self.paused_until.is_some_and(|until| Instant::now() < until);
            let has_room = self.dest.has_room();
            let may_take = !is_satisfied && stopping.is_none() && !is_paused && has_room;
            let look = if is_paused { REFUSED_PAUSE } else { ROOM_LOOK };
            let Self { source, dest, .. } = &mut *self;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop), if stopping.is_none() => {
                    stopping = Some(Instant::now() + STOP_GRACE);
                }
                () = tokio::time::sleep_until(stopping.unwrap_or_else(Instant::now)), if stopping.is_some() => {
                    return Ok(End::Stopped);
                }
                settled = dest.settled() => self.settle(settled?)?,
                taken = take_or_live(source, &mut batch, may_take) => {
                    taken?;
                    self.forward(&mut batch)?;
                }
                () = tokio::time::sleep(look), if is_paused || !has_room => {}
            }
        }
    }

    /// Whether what is on its way is all that was wanted.
    fn is_satisfied(&self) -> bool {
        self.job.status.remaining().is_some_and(|left| self.unsettled >= left)
    }

    fn forward(&mut self, batch: &mut Vec<Taken>) -> Result<(), ShovelError> {
        let job = self.job;
        if let Some(left) = job.status.remaining() {
            // What is beyond stays unacked, and is ready again when the connection is closed.
            batch.truncate(usize::try_from(left - self.unsettled).unwrap_or(usize::MAX));
        }
        let Some(last) = batch.last().map(|taken| taken.tag) else { return Ok(()) };
        let count = batch.len() as u64;
        self.dest.put(batch, &job.spec.to, &job.painter, job.now_ms())?;
        match job.spec.ack_mode {
            AckMode::OnConfirm => {
                self.slots.extend(batch.iter().map(|taken| Slot { tag: taken.tag, state: State::Unsettled }));
                self.unsettled += count;
                job.status.set_pending(self.unsettled);
            }
            AckMode::OnPublish => {
                self.source.accept(last)?;
                job.status.moved(count);
            }
            AckMode::NoAck => job.status.moved(count),
        }
        batch.clear();
        Ok(())
    }

    fn settle(&mut self, settled: Settled) -> Result<(), ShovelError> {
        let Some(last) = (settled.number + 1).checked_sub(self.first) else { return Ok(()) };
        let last = (last as usize).min(self.slots.len());
        let range = if settled.multiple { 0..last } else { last.saturating_sub(1)..last };
        let mut safe = 0;
        for slot in self.slots.range_mut(range) {
            if slot.state != State::Unsettled {
                continue;
            }
            self.unsettled -= 1;
            if settled.is_safe {
                slot.state = State::Safe;
                safe += 1;
            } else {
                slot.state = State::GivenBack;
                self.source.give_back(slot.tag)?;
                self.paused_until = Some(Instant::now() + REFUSED_PAUSE);
            }
        }
        let mut up_to = None;
        while self.slots.front().is_some_and(|slot| slot.state != State::Unsettled)
            && let Some(slot) = self.slots.pop_front()
        {
            // The source does not know a tag any more that was given back: an ack that names it costs the channel.
            if slot.state == State::Safe {
                up_to = Some(slot.tag);
            }
            self.first += 1;
        }
        if let Some(tag) = up_to {
            self.source.accept(tag)?;
        }
        self.job.status.moved(safe);
        self.job.status.set_pending(self.unsettled);
        Ok(())
    }
}
