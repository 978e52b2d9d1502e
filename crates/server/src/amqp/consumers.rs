//! Consumers of a connection, found by the cookie that comes with their deliveries.

use millpond_broker::ConsumerId;
use millpond_model::ConsumerTag;

/// Who takes deliveries.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) channel: u16,
    pub(crate) tag: ConsumerTag,
    pub(crate) no_ack: bool,
    pub(crate) kind: Kind,
}

/// From where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A queue.
    Queue(ConsumerId),
    /// Direct reply-to.
    Replies,
    /// It is being started.
    Starting,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    consumer: Option<Consumer>,
}

/// Slots are used again; a generation in the cookie tells their consumers apart.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Consumers {
    /// Puts one in; its slot and its cookie.
    pub(crate) fn insert(&mut self, consumer: Consumer) -> (u32, u64) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.consumer = Some(consumer);
        (index, u64::from(slot.generation) << 32 | u64::from(index))
    }

    /// The one of that cookie, if it is still there.
    #[inline]
    pub(crate) fn by_cookie(&self, cookie: u64) -> Option<(u32, &Consumer)> {
        let index = cookie as u32;
        let slot = self.slots.get(index as usize)?;
        let consumer = slot.consumer.as_ref().filter(|_| u64::from(slot.generation) == cookie >> 32)?;
        Some((index, consumer))
    }

    /// The one in that slot.
    pub(crate) fn get(&self, slot: u32) -> Option<&Consumer> {
        self.slots.get(slot as usize)?.consumer.as_ref()
    }

    /// As [`Self::get`].
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Consumer> {
        self.slots.get_mut(slot as usize)?.consumer.as_mut()
    }

    /// The cookie of that slot's consumer.
    pub(crate) fn cookie(&self, slot: u32) -> u64 {
        let generation = self.slots.get(slot as usize).map_or(0, |slot| slot.generation);
        u64::from(generation) << 32 | u64::from(slot)
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, index: u32) -> Option<Consumer> {
        let slot = self.slots.get_mut(index as usize)?;
        let consumer = slot.consumer.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(consumer)
    }
}
