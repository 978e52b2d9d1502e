//! Messages that come to a queue: numbered, weighed, refused where there is no room, dropped if they came before.

use super::cell::{QueueCell, State};
use super::logs::{Appended, Logs};
use super::machine::Reason;
use super::pump::Work;
use super::settings::Overflow;
use millpond_model::Message;
use std::sync::Arc;

impl State {
    /// Whether one more message with a body of this size may come.
    pub(super) fn has_room(&self, size_bytes: usize) -> bool {
        let settings = &self.settings;
        settings.max_length.is_none_or(|max| self.machine.ready_count() < max)
            && settings
                .max_length_bytes
                .is_none_or(|max| self.machine.ready_bytes() + size_bytes as u64 <= max)
    }
}

impl QueueCell {
    /// Appends messages and hands out what can be.
    #[inline]
    pub(super) fn append(
        self: &Arc<Self>,
        state: &mut State,
        messages: &mut dyn Iterator<Item = Message>,
        work: &mut Work<'_>,
    ) -> Appended {
        let was_empty = state.machine.ready_count() == 0;
        let mut expiring = false;
        let mut sizes = Vec::new();
        let weighing = state.machine.is_weighing();
        let mut looked_at = messages.inspect(|message| {
            expiring |= message.has_expiration();
            if weighing {
                sizes.push(message.body_size_bytes() as u32);
            }
        });
        let seqs = self.log_messages(&mut looked_at, work);
        state.care.may_expire |= expiring;
        if weighing {
            let numbers = seqs.all().flatten();
            sizes.iter().zip(numbers).for_each(|(size, seq)| state.machine.set_size(seq, *size));
        }
        seqs.all().for_each(|range| state.machine.enqueued(range));
        state.care.fresh = was_empty;
        self.hand_out(state, work);
        state.care.fresh = false;
        self.tend(state, work);
        seqs
    }

    #[inline]
    fn log_messages(
        self: &Arc<Self>,
        messages: &mut dyn Iterator<Item = Message>,
        work: &mut Work<'_>,
    ) -> Appended {
        match &self.log {
            Logs::One(log) => Appended { first: log.append(work.batch, messages), more: Vec::new() },
            Logs::Levels(levels) => {
                let more = levels.append(work.batch, messages, |level| self.make_log(level, work.core));
                Appended { first: 0..0, more }
            }
        }
    }

    /// Appends what has not come before.
    #[cold]
    pub(super) fn publish_once(
        self: &Arc<Self>,
        state: &mut State,
        messages: &mut dyn Iterator<Item = Message>,
        work: &mut Work<'_>,
    ) -> Appended {
        let now_ms = work.core.options.clock.now_ms();
        let mut taken = Appended::default();
        for message in messages {
            let settings = state.settings.clone();
            let (Some(dedup), Some(terms)) = (&state.care.dedup, &settings.dedup) else { break };
            let (id, is_known) = dedup.look(terms, &message, now_ms);
            if is_known {
                tracing::debug!(queue = %self.spec().name, "a message came again and is dropped");
                continue;
            }
            let one = self.publish_any(state, &mut std::iter::once(message), work);
            for range in one.ranges().filter(|range| !range.is_empty()) {
                if let (Some(dedup), Some(id)) = (&mut state.care.dedup, &id) {
                    dedup.note(terms, id.clone(), range.start, now_ms, work.batch);
                }
                taken.more.push(range);
            }
        }
        taken
    }

    /// Appends what there is room for.
    #[inline]
    pub(super) fn publish_any(
        self: &Arc<Self>,
        state: &mut State,
        messages: &mut dyn Iterator<Item = Message>,
        work: &mut Work<'_>,
    ) -> Appended {
        if state.care.refuses {
            self.publish_bounded(state, messages, work)
        } else {
            self.append(state, messages, work)
        }
    }

    /// As [`Self::append`], to a queue that refuses what it has no room for (T5).
    #[cold]
    pub(super) fn publish_bounded(
        self: &Arc<Self>,
        state: &mut State,
        messages: &mut dyn Iterator<Item = Message>,
        work: &mut Work<'_>,
    ) -> Appended {
        let mut taken = Appended::default();
        let dead_letters =
            state.settings.overflow == Overflow::RejectPublishDlx && state.settings.dead_letter.is_some();
        for message in messages {
            if state.has_room(message.body_size_bytes()) {
                let one = self.append(state, &mut std::iter::once(message), work);
                one.ranges().filter(|range| !range.is_empty()).for_each(|range| taken.more.push(range));
                continue;
            }
            work.scratch.refused += 1;
            if dead_letters {
                for seqs in self.log_messages(&mut std::iter::once(message), work).ranges() {
                    state.machine.stillborn(seqs, Reason::MaxLength);
                }
            }
        }
        self.tend(state, work);
        taken
    }
}
