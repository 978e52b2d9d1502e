//! What the front end tells of a channel: what it counts, how it stands.

use crate::stats::{Count, Figures, Meter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed};

/// What answers publishes on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ChannelMode {
    /// Nothing.
    #[default]
    Plain,
    /// Confirms.
    Confirm,
    /// Transactions.
    Transaction,
}

/// A channel, written by the front end that has it and read by whoever asks. Values are set once a batch.
#[derive(Debug)]
pub struct ChannelState {
    meter: Arc<Meter>,
    mode: AtomicU8,
    prefetch: AtomicU16,
    prefetch_shared: AtomicBool,
    unacked: AtomicU64,
    consumers: AtomicU64,
    uncommitted: AtomicU64,
    acks_uncommitted: AtomicU64,
}

impl ChannelState {
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        Self {
            meter,
            mode: AtomicU8::new(ChannelMode::Plain as u8),
            prefetch: AtomicU16::new(0),
            prefetch_shared: AtomicBool::new(false),
            unacked: AtomicU64::new(0),
            consumers: AtomicU64::new(0),
            uncommitted: AtomicU64::new(0),
            acks_uncommitted: AtomicU64::new(0),
        }
    }

    /// Counts `n` more.
    #[inline]
    pub fn count(&self, count: Count, n: u64) {
        self.meter.add(count, n);
    }

    /// What answers publishes now.
    pub fn set_mode(&self, mode: ChannelMode) {
        self.mode.store(mode as u8, Relaxed);
    }

    /// What basic.qos said.
    pub fn set_prefetch(&self, prefetch: u16, shared: bool) {
        self.prefetch.store(prefetch, Relaxed);
        self.prefetch_shared.store(shared, Relaxed);
    }

    /// Deliveries that it has not settled.
    #[inline]
    pub fn set_unacked(&self, count: usize) {
        self.unacked.store(count as u64, Relaxed);
    }

    /// Its consumers.
    pub fn set_consumers(&self, count: usize) {
        self.consumers.store(count as u64, Relaxed);
    }

    /// What its transaction holds: publishes, and settled deliveries.
    pub fn set_uncommitted(&self, publishes: usize, acks: usize) {
        self.uncommitted.store(publishes as u64, Relaxed);
        self.acks_uncommitted.store(acks as u64, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.meter.end();
    }

    pub(crate) fn info(&self, number: u16, figures: Figures) -> ChannelInfo {
        let answered = figures.get(Count::Confirm) + figures.get(Count::Nack);
        ChannelInfo {
            number,
            mode: match self.mode.load(Relaxed) {
                1 => ChannelMode::Confirm,
                2 => ChannelMode::Transaction,
                _ => ChannelMode::Plain,
            },
            prefetch: self.prefetch.load(Relaxed),
            prefetch_shared: self.prefetch_shared.load(Relaxed),
            unacked: self.unacked.load(Relaxed),
            consumers: self.consumers.load(Relaxed),
            unconfirmed: figures.get(Count::ToConfirm).saturating_sub(answered),
            uncommitted: self.uncommitted.load(Relaxed),
            acks_uncommitted: self.acks_uncommitted.load(Relaxed),
            figures,
        }
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

/// A channel as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its number on the connection.
    pub number: u16,
    /// What answers its publishes.
    pub mode: ChannelMode,
    /// What basic.qos said; 0: no limit.
    pub prefetch: u16,
    /// It was said for all consumers together.
    pub prefetch_shared: bool,
    /// Deliveries that it has not settled.
    pub unacked: u64,
    /// Its consumers.
    pub consumers: u64,
    /// Publishes that are not answered.
    pub unconfirmed: u64,
    /// Publishes in its transaction.
    pub uncommitted: u64,
    /// Settled deliveries in its transaction.
    pub acks_uncommitted: u64,
    /// What was counted.
    pub figures: Figures,
}
