//! What becomes of a message: each action begins, ends well or fails; at the end there is an ack or a parking queue.

use super::held::{Held, Now};
use super::ledger::{self, Record};
use super::outside::RETRY_AFTER_MAX;
use super::{WAITING_MAX_BYTES, WAITING_STEP, Worker, add, parking};
use crate::action::{Answer, Step};
use crate::plan::Place;
use millpond_broker::{Delivery, DeliveryId};
use std::time::Duration;

impl Worker<'_> {
    /// Begins an action on the outside, or lets it wait for its target.
    pub(super) fn start(&mut self, mut held: Held, first: bool) {
        let size_bytes = held.delivery.message.size_bytes();
        let waits = self.outside.waiting() >= WAITING_STEP;
        if waits && !held.released && self.released_bytes + size_bytes <= WAITING_MAX_BYTES {
            held.released = true;
            self.released_bytes += size_bytes;
            self.session.deliveries_written(size_bytes);
        }
        self.outside.start(held, first);
    }

    /// All actions are done.
    pub(super) fn end(&mut self, mut held: Held) {
        match self.commits.publish(&mut self.session, &mut held) {
            Ok(()) => {
                add(&self.vitals.acted, 1);
                self.gone(&held);
            }
            Err(error) => {
                if let Some(entry) = held.unrecorded.take() {
                    held.record.keys.push(entry.key.clone());
                    self.commits.keep(entry);
                }
                if error.is_retryable() && held.attempts + 1 < self.rule.retry.attempts_max {
                    return self.again(held, &error.to_string(), None);
                }
                // Those before it are published, those behind it are not.
                let at = error.number.min(held.publishes.len());
                let place = held.publishes.drain(at..).next().map(|(_, place)| place);
                self.failed(held, place.as_ref(), &error);
            }
        }
    }

    /// An action has failed for good: the rule goes on with its `on_error`, or gives the message up.
    fn failed(&mut self, mut held: Held, place: Option<&Place>, error: &dyn std::fmt::Display) {
        let (reason, attempts) = (error.to_string(), held.attempts + 1);
        if place.is_some_and(|place| held.progress.failed(self.rule, place, &reason, attempts)) {
            held.todo.clear();
            held.attempts = 0;
            self.ready.push_back(held);
        } else {
            self.give_up(held, &reason);
        }
    }

    /// A message is out of hand; the next of its key may begin.
    fn gone(&mut self, held: &Held) {
        self.in_hand -= 1;
        if held.released {
            self.released_bytes -= held.delivery.message.size_bytes();
        }
        self.ready.extend(self.order.leave(held.order.as_deref()));
    }

    pub(super) fn outside_done(&mut self, mut held: Held, result: Answer) {
        let Some(Now { step, place }) = held.now.take() else { return };
        match result {
            Ok(answer) => {
                let answer = ledger::bounded(answer);
                let entry = ledger::entry(self.rule, &held, &place, &answer);
                held.progress.done(&place, answer);
                let is_last = held.progress.is_at_end(self.rule)
                    && held.todo.iter().all(|todo| matches!(todo.step, Step::Publish(_)));
                if is_last {
                    // The ack follows at once, and says as much.
                    held.unrecorded = Some(entry);
                    self.ready.push_back(held);
                } else {
                    held.record.keys.push(entry.key.clone());
                    self.commits.keep_first(entry, held);
                }
            }
            Err(error) if error.is_retryable() && held.attempts + 1 < self.rule.retry.attempts_max => {
                let has_target = step.target().is_some();
                held.now = Some(Now { step, place });
                if error.is_of_target() && has_target {
                    held.attempts += 1;
                    self.note_retry(held.attempts, &error.to_string());
                    return self.start(held, true);
                }
                self.again(held, &error.to_string(), error.retry_after());
            }
            Err(error) => self.failed(held, Some(&place), &error),
        }
    }

    fn note_retry(&self, attempts: u32, reason: &str) {
        add(&self.vitals.retried, 1);
        self.vitals.failures.add(self.clock.now_ms(), reason, attempts, false);
    }

    /// An attempt failed: again later.
    fn again(&mut self, mut held: Held, reason: &str, asked: Option<Duration>) {
        held.attempts += 1;
        self.note_retry(held.attempts, reason);
        let asked = asked.unwrap_or_default().min(RETRY_AFTER_MAX);
        let wait = self.rule.retry.wait(held.attempts, rand::random()).max(asked);
        let (attempts, wait_ms) = (held.attempts, wait.as_millis() as u64);
        tracing::debug!(rule = %self.rule.name, attempts, wait_ms, reason, "an action failed and is tried again");
        self.retries.put(tokio::time::Instant::now() + wait, held);
    }

    pub(super) fn give_up(&mut self, mut held: Held, reason: &dyn std::fmt::Display) {
        let record = std::mem::take(&mut held.record);
        self.park(held.id, &held.delivery, held.attempts + 1, reason, held.held_bytes(), record);
        self.in_hand += 1;
        self.gone(&held);
    }

    pub(super) fn park(
        &mut self,
        id: DeliveryId,
        delivery: &Delivery,
        attempts: u32,
        reason: &dyn std::fmt::Display,
        held_bytes: usize,
        record: Record,
    ) {
        let reason = reason.to_string();
        tracing::warn!(rule = %self.rule.name, attempts, reason, "the rule gives a message up: it is parked");
        add(&self.vitals.failed, 1);
        self.vitals.failures.add(self.clock.now_ms(), &reason, attempts, true);
        let parked = parking::message(self.rule, delivery, attempts, &reason);
        self.in_hand -= 1;
        self.commits.park(parked, id, held_bytes, record.keys);
    }
}
