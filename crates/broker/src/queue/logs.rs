//! The log of a queue; a log a priority for a queue that has priorities.
//!
//! A priority's log keeps its messages in order and pages them out by itself, so a backlog of any size is read back
//! in the order in which it is delivered. The queue sees one space of sequence numbers: the level in the top bits
//! (0 = the highest priority), the number in the level's log below. The lowest number goes first, so the machine
//! needs to know nothing of priorities.

use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_store::{Batch, Fetch, QueueId, QueueLog};
use std::ops::Range;
use std::sync::OnceLock;

/// Bits of a sequence number below the level.
const LEVEL_SHIFT: u32 = 56;

/// Which priorities a queue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Priorities {
    /// The highest; 0: none at all.
    pub(crate) max: u8,
    /// Of a message that names none.
    pub(crate) default: u8,
}

impl Priorities {
    pub(crate) const NONE: Self = Self { max: 0, default: 0 };

    /// How many logs they take.
    pub(crate) fn levels(self) -> u16 {
        u16::from(self.max) + 1
    }

    fn level_of(self, message: &Message) -> usize {
        let named = RawProperties::from_checked(message.properties()).priority();
        usize::from(self.max - named.unwrap_or(self.default).min(self.max))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) enum Logs {
    One(QueueLog),
    Levels(Levels),
}

/// Logs that are made when their first message comes.
#[derive(Debug)]
pub(crate) struct Levels {
    priorities: Priorities,
    logs: Box<[OnceLock<QueueLog>]>,
}

/// The numbers of messages that were appended.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    /// All of a queue without priorities.
    pub(super) first: Range<u64>,
    pub(super) more: Vec<Range<u64>>,
}

impl Appended {
    /// As `ranges`, to look at.
    pub(super) fn all(&self) -> impl Iterator<Item = Range<u64>> {
        std::iter::once(self.first.clone()).chain(self.more.iter().cloned())
    }

    /// How many messages.
    pub(crate) fn count(&self) -> u64 {
        self.all().map(|seqs| seqs.end.saturating_sub(seqs.start)).sum()
    }

    pub(crate) fn ranges(self) -> impl Iterator<Item = Range<u64>> {
        std::iter::once(self.first).chain(self.more)
    }
}

/// Splits a number: level, and number in the level's log.
fn split(seq: u64) -> (usize, u64) {
    ((seq >> LEVEL_SHIFT) as usize, seq & ((1 << LEVEL_SHIFT) - 1))
}

/// The part of `seqs` that is of the level of its start.
fn within(seqs: &Range<u64>) -> (usize, Range<u64>) {
    let (level, start) = split(seqs.start);
    (level, start..seqs.end.saturating_sub(Logs::base_of(level)).min(1 << LEVEL_SHIFT))
}

impl Logs {
    /// The first number of a level.
    pub(crate) fn base_of(level: usize) -> u64 {
        (level as u64) << LEVEL_SHIFT
    }

    /// `logs`: those that there are, by level.
    pub(crate) fn with_priorities(priorities: Priorities, logs: Vec<(usize, QueueLog)>) -> Self {
        let levels: Box<[OnceLock<QueueLog>]> = (0..priorities.levels()).map(|_| OnceLock::new()).collect();
        for (level, log) in logs {
            // Each level comes once.
            let _ = levels[level].set(log);
        }
        Self::Levels(Levels { priorities, logs: levels })
    }

    /// The number of a level's log in the store.
    pub(crate) fn id(base: QueueId, level: usize) -> QueueId {
        QueueId(base.0 + level as u64)
    }

    /// All logs that there are, with the first number of each.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &QueueLog)> {
        let (one, levels) = match self {
            Self::One(log) => (Some(log), &[][..]),
            Self::Levels(levels) => (None, &levels.logs[..]),
        };
        let levels = levels.iter().enumerate();
        let levels = levels.filter_map(|(level, log)| Some((Logs::base_of(level), log.get()?)));
        one.into_iter().map(|log| (0, log)).chain(levels)
    }

    /// The spaces of numbers in which messages are in order: one a priority.
    pub(crate) fn spaces(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let levels = match self {
            Self::One(_) => 1,
            Self::Levels(levels) => levels.logs.len(),
        };
        (0..levels).map(move |level| {
            if levels == 1 { 0..u64::MAX } else { Logs::base_of(level)..Logs::base_of(level + 1) }
        })
    }

    fn of(&self, level: usize) -> Option<&QueueLog> {
        match self {
            Self::One(log) => Some(log),
            Self::Levels(levels) => levels.logs.get(level)?.get(),
        }
    }

    /// As [`QueueLog::fetch`].
    #[inline]
    pub(crate) fn fetch(&self, seqs: Range<u64>, bytes_max: usize, out: &mut Vec<(u64, Message)>) -> Fetch {
        if let Self::One(log) = self {
            return log.fetch(seqs, bytes_max, out);
        }
        self.in_level(seqs, out, |log, seqs, out| log.fetch(seqs, bytes_max, out))
    }

    /// As [`QueueLog::peek`].
    pub(crate) fn peek(&self, seqs: Range<u64>, count_max: usize, out: &mut Vec<(u64, Message)>) -> Fetch {
        self.in_level(seqs, out, |log, seqs, out| log.peek(seqs, count_max, out))
    }

    fn in_level(
        &self,
        seqs: Range<u64>,
        out: &mut Vec<(u64, Message)>,
        look: impl FnOnce(&QueueLog, Range<u64>, &mut Vec<(u64, Message)>) -> Fetch,
    ) -> Fetch {
        let (level, seqs) = within(&seqs);
        let Some(log) = self.of(level) else { return Fetch::Complete };
        let before = out.len();
        let fetch = look(log, seqs, out);
        out[before..].iter_mut().for_each(|(seq, _)| *seq += Logs::base_of(level));
        fetch
    }

    /// As [`QueueLog::settle`].
    #[inline]
    pub(crate) fn settle(&self, batch: &mut Batch, seqs: &[Range<u64>]) {
        if let Self::One(log) = self {
            return log.settle(batch, seqs);
        }
        for range in seqs {
            let (level, range) = within(range);
            if let Some(log) = self.of(level) {
                log.settle(batch, &[range]);
            }
        }
    }

    /// Drops everything.
    pub(crate) fn delete(&self, batch: &mut Batch) {
        self.all().for_each(|(_, log)| log.delete(batch));
    }

    /// Message bytes held in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match self {
            Self::One(log) => log.memory_bytes(),
            Self::Levels(_) => self.all().map(|(_, log)| log.memory_bytes()).sum(),
        }
    }

    /// As [`QueueLog::is_over`].
    pub(crate) fn is_over(&self) -> bool {
        self.all().any(|(_, log)| log.is_over())
    }
}

impl Levels {
    /// Messages by level, in order in each; `make` is for the first message of a level.
    pub(crate) fn append(
        &self,
        batch: &mut Batch,
        messages: &mut dyn Iterator<Item = Message>,
        make: impl Fn(usize) -> QueueLog,
    ) -> Vec<Range<u64>> {
        let mut by_level: Vec<(usize, Vec<Message>)> = Vec::new();
        let count = messages.size_hint().0;
        for message in messages {
            let level = self.priorities.level_of(&message);
            if let Some((last, messages)) = by_level.last_mut()
                && *last == level
            {
                messages.push(message);
                continue;
            }
            match by_level.iter_mut().find(|(of, _)| *of == level) {
                Some((_, messages)) => messages.push(message),
                None => {
                    let mut messages = Vec::with_capacity(count.max(1));
                    messages.push(message);
                    by_level.push((level, messages));
                }
            }
        }
        let append = |(level, messages): (usize, Vec<Message>)| {
            let log = self.logs[level].get_or_init(|| make(level));
            let seqs = log.append(batch, &mut messages.into_iter());
            Logs::base_of(level) + seqs.start..Logs::base_of(level) + seqs.end
        };
        by_level.into_iter().map(append).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_a_priority_has_the_default_and_one_above_the_highest_has_the_highest() {
        let of = |priorities: Priorities, named: Option<u8>| {
            let properties = match named {
                Some(named) => vec![0x08, 0x00, named],
                None => vec![0, 0],
            };
            priorities.level_of(&Message::new(b"", b"", &properties, false, b""))
        };
        let classic = Priorities { max: 9, default: 0 };
        let quorum = Priorities { max: 31, default: 4 };
        let table =
            [(classic, None, 9), (classic, Some(0), 9), (classic, Some(9), 0), (classic, Some(200), 0)];
        for (priorities, named, level) in table.into_iter().chain([(quorum, None, 27), (quorum, Some(31), 0)])
        {
            assert_eq!(of(priorities, named), level, "{priorities:?} {named:?}");
        }
    }

    #[test]
    fn numbers_of_levels_do_not_meet() {
        for level in [0, 1, 31, 255] {
            assert_eq!(split(Logs::base_of(level) + 7), (level, 7));
            assert_eq!(within(&(Logs::base_of(level) + 3..Logs::base_of(level) + 9)), (level, 3..9));
        }
    }
}
