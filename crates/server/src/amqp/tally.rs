//! What is counted of publishes, before their channel is told.

use super::channel::{Channels, Mode};
use millpond_broker::Count;

/// Publishes of one channel, counted until another's come.
#[derive(Debug, Default)]
pub(super) struct Tally {
    channel: u16,
    pub(super) published: u64,
    pub(super) to_confirm: u64,
    pub(super) returned: u64,
    pub(super) dropped: u64,
}

impl Tally {
    /// What is counted next is of this channel.
    #[inline]
    pub(super) fn is_of(&mut self, channel: u16, channels: &Channels) {
        if self.channel != channel {
            self.tell(channels);
            self.channel = channel;
        }
    }

    /// Tells what was counted, and begins anew.
    pub(super) fn tell(&mut self, channels: &Channels) {
        let Self { channel, published, to_confirm, returned, dropped } = std::mem::take(self);
        let Some(channel) = channels.get(channel).filter(|_| published != 0) else { return };
        let state = &channel.state;
        state.count(Count::Publish, published);
        state.count(Count::ToConfirm, to_confirm);
        state.count(Count::ReturnUnroutable, returned);
        state.count(Count::DropUnroutable, dropped);
        if let Mode::Transaction(transaction) = &channel.mode {
            let (publishes, acks) = transaction.counts();
            state.set_uncommitted(publishes, acks);
        }
    }
}
