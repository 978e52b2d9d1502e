//! Channels of a connection and what each remembers.

use super::publish::Assembly;
use super::transaction::Transaction;
use super::unacked::Unacked;
use millpond_broker::ChannelState;
use millpond_model::QueueName;
use std::sync::Arc;

/// What answers publishes on a channel.
#[derive(Debug)]
pub(crate) enum Mode {
    Plain,
    /// confirm.select; holds the number of the last publish.
    Confirm(u64),
    /// tx.select.
    Transaction(Box<Transaction>),
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) number: u16,
    /// Which opening of a channel on this connection; tells a number's channels apart.
    pub(crate) epoch: u32,
    pub(crate) mode: Mode,
    /// channel.close was sent: all is ignored until it is confirmed.
    closing: bool,
    last_delivery_tag: u64,
    pub(crate) unacked: Unacked,
    /// For consumers started later.
    pub(crate) prefetch: u16,
    /// It was asked for the channel as a whole.
    pub(crate) prefetch_shared: bool,
    /// Slots in the connection's table.
    pub(crate) consumers: Vec<u32>,
    /// The cookie of its direct reply-to consumer.
    pub(crate) replies: Option<u64>,
    /// What an empty queue name stands for.
    pub(crate) last_queue: Option<QueueName>,
    /// A publish whose content has not come whole.
    pub(crate) assembly: Option<Box<Assembly>>,
    /// What the broker is told of it, for those who watch.
    pub(crate) state: Arc<ChannelState>,
}

impl Channel {
    fn new(number: u16, epoch: u32, state: Arc<ChannelState>) -> Self {
        Self {
            number,
            epoch,
            state,
            mode: Mode::Plain,
            closing: false,
            last_delivery_tag: 0,
            unacked: Unacked::default(),
            prefetch: 0,
            prefetch_shared: false,
            consumers: Vec::new(),
            replies: None,
            last_queue: None,
            assembly: None,
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// From now on all is ignored; what it held was given back before.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.assembly = None;
        self.mode = Mode::Plain;
    }

    #[inline]
    pub(crate) fn next_delivery_tag(&mut self) -> u64 {
        self.last_delivery_tag += 1;
        self.last_delivery_tag
    }
}

/// All channels of a connection; few, and the same one nearly always.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// By number.
    #[expect(clippy::vec_box, reason = "opening a channel in the middle moves pointers only")]
    sorted: Vec<Box<Channel>>,
    /// Index of the one asked for last.
    recent: usize,
    epochs: u32,
}

impl Channels {
    #[inline]
    fn find(&self, number: u16) -> Result<usize, usize> {
        match self.sorted.get(self.recent) {
            Some(channel) if channel.number == number => Ok(self.recent),
            _ => self.sorted.binary_search_by_key(&number, |channel| channel.number),
        }
    }

    /// The channel of that number, open or closing.
    #[inline]
    pub(crate) fn get(&self, number: u16) -> Option<&Channel> {
        self.find(number).ok().map(|index| &*self.sorted[index])
    }

    /// As [`Self::get`].
    #[inline]
    pub(crate) fn get_mut(&mut self, number: u16) -> Option<&mut Channel> {
        let index = self.find(number).ok()?;
        self.recent = index;
        Some(&mut self.sorted[index])
    }

    /// Opens a channel; false if the number is taken.
    pub(crate) fn open(&mut self, number: u16, state: Arc<ChannelState>) -> bool {
        let Err(index) = self.find(number) else { return false };
        self.epochs += 1;
        self.sorted.insert(index, Box::new(Channel::new(number, self.epochs, state)));
        self.recent = index;
        true
    }

    /// Forgets a channel.
    pub(crate) fn remove(&mut self, number: u16) {
        if let Ok(index) = self.find(number) {
            self.sorted.remove(index);
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.sorted.iter_mut().map(|channel| &mut **channel)
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }
}
