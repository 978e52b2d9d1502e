//! Publisher confirms: which publishes wait for which commit, and the acks and nacks that answer them.
//!
//! Answers of a channel leave in the order of its publishes, so `multiple` may always be set: nothing before an
//! answered publish is unanswered.

use super::channel::{Channel, Channels};
use super::outbox::Outbox;
use millpond_amqp_codec::{encode_ack, encode_nack};
use millpond_broker::Count;
use std::collections::VecDeque;

/// Publishes of one channel that share a fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) channel: u16,
    /// Which opening of that channel number.
    pub(crate) epoch: u32,
    /// First and last publish, numbered from 1.
    pub(crate) first: u64,
    pub(crate) last: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    range: Range,
    token: u64,
    refused: bool,
}

/// What waits, in the order of its tokens.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    waiting: VecDeque<Waiting>,
}

impl Confirms {
    /// Whether no publish waits for its answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// These publishes are answered when the commit of that token is.
    pub(crate) fn wait(&mut self, range: Range, token: u64) {
        if let Some(last) = self.waiting.back_mut()
            && (last.token, last.range.channel, last.range.epoch, last.refused)
                == (token, range.channel, range.epoch, false)
            && last.range.last + 1 == range.first
        {
            last.range.last = range.last;
            return;
        }
        self.waiting.push_back(Waiting { range, token, refused: false });
    }

    /// These publishes can be answered as soon as those before them on their channel are.
    pub(crate) fn resolve(&mut self, range: Range, refused: bool, channels: &Channels, out: &mut Outbox) {
        let same =
            |waiting: &Waiting| (waiting.range.channel, waiting.range.epoch) == (range.channel, range.epoch);
        match self.waiting.back() {
            Some(last) if self.waiting.iter().any(same) => {
                let token = last.token;
                self.waiting.push_back(Waiting { range, token, refused });
            }
            _ => answer(range, refused, channels, out),
        }
    }

    /// Commits up to that token have come to their end.
    pub(crate) fn committed(&mut self, token: u64, durable: bool, channels: &Channels, out: &mut Outbox) {
        while let Some(first) = self.waiting.front().copied().filter(|first| first.token <= token) {
            self.waiting.pop_front();
            let failed = first.refused || !durable;
            let mut range = first.range;
            // Neighbours with the same answer become one.
            while let Some(next) = self.waiting.front().filter(|next| {
                next.token <= token
                    && (next.refused || !durable) == failed
                    && (next.range.channel, next.range.epoch) == (range.channel, range.epoch)
            }) {
                range.last = next.range.last;
                self.waiting.pop_front();
            }
            answer(range, failed, channels, out);
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 1024 {
            self.waiting = VecDeque::new();
        }
    }
}

fn answer(range: Range, failed: bool, channels: &Channels, out: &mut Outbox) {
    // The channel may be closed, or closed and opened anew.
    let is_there = |channel: &&Channel| channel.epoch == range.epoch && !channel.is_closing();
    let Some(channel) = channels.get(range.channel).filter(is_there) else { return };
    channel.state.count(if failed { Count::Nack } else { Count::Confirm }, range.last - range.first + 1);
    let multiple = range.last > range.first;
    if failed {
        encode_nack(out.buffer(), range.channel, range.last, multiple);
    } else {
        encode_ack(out.buffer(), range.channel, range.last, multiple);
    }
}

/// Cuts ranges so that each of `ones`, single publishes in the same order, is a range of its own.
#[cold]
pub(crate) fn cut_out(ranges: &mut Vec<Range>, ones: impl Iterator<Item = Range>) {
    let mut from = 0;
    for one in ones {
        let holds = |range: &Range| {
            (range.channel, range.epoch) == (one.channel, one.epoch)
                && (range.first..=range.last).contains(&one.first)
        };
        let Some(at) = ranges[from..].iter().position(holds) else { continue };
        from += at;
        let whole = ranges[from];
        let parts = [Range { last: one.first - 1, ..whole }, one, Range { first: one.first + 1, ..whole }];
        ranges.splice(from..=from, parts.into_iter().filter(|part| part.first <= part.last));
    }
}
