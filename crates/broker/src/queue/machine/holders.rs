//! Who may hold messages: consumers and those who get; credit, priorities, and whose turn it is.

mod standing;

use super::pace::{Pace, PaceFigures, Rate};
use super::sac::{Change, SingleActive};
use super::{ConsumerKey, OwnerKey, Terms};
use hashbrown::HashMap;
use std::collections::{BTreeSet, VecDeque};

#[cfg(test)]
mod check;
mod out_of_turn;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// One that unacked messages refer to. It outlives its consumer until the last of them is settled.
#[derive(Debug)]
struct Holder {
    owner: OwnerKey,
    unacked: u64,
    role: Role,
}

#[derive(Debug)]
enum Role {
    Consumer(Consumer),
    /// Takes by `basic.get`.
    Getter,
    /// A consumer that is gone.
    Former,
}

#[derive(Debug)]
struct Consumer {
    key: ConsumerKey,
    terms: Terms,
    /// Why it gets nothing whatever its credit: bits of `block`.
    blocks: u8,
    in_round: bool,
    pace: Option<Box<Pace>>,
}

/// Why a consumer gets nothing.
mod block {
    /// There is no room in its inbox.
    pub(super) const CLOSED: u8 = 1;
    /// Another is the single active one.
    pub(super) const STANDBY: u8 = 2;
    /// It is to hand over to another and still holds messages.
    pub(super) const DRAINING: u8 = 4;
    /// It is too early by its pace.
    pub(super) const PACED: u8 = 8;
    /// An operator paused it.
    pub(super) const PAUSED: u8 = 16;
}

impl Consumer {
    /// How many more it may be given now.
    #[inline]
    fn credit(&self, unacked: u64) -> u64 {
        match self.terms.prefetch {
            _ if self.blocks != 0 => 0,
            0 => u64::MAX,
            _ if self.terms.no_ack => u64::MAX,
            prefetch => u64::from(prefetch).saturating_sub(unacked),
        }
    }

    #[inline]
    fn turn(&self, slot: u32, limit: u64, at_front: bool) -> Turn {
        let Terms { no_ack, lease_ms, .. } = self.terms;
        Turn { slot, consumer: self.key, no_ack, lease_ms, limit, at_front }
    }

    /// It was given `n`: until when its pace blocks it now, if it does.
    #[inline]
    fn paced_after(&mut self, n: u64, now_ms: u64) -> Option<u64> {
        let pace = self.pace.as_mut()?;
        pace.take(n, now_ms);
        if pace.allowance(now_ms) != 0 {
            return None;
        }
        self.blocks |= block::PACED;
        Some(pace.next_ms())
    }
}

/// Consumers of one priority.
#[derive(Debug)]
struct Level {
    priority: i64,
    members: usize,
    /// Slots of those with credit, the next first.
    round: VecDeque<u32>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) slot: u32,
    pub(super) consumer: ConsumerKey,
    pub(super) no_ack: bool,
    /// What it asked for itself.
    pub(super) lease_ms: Option<u64>,
    /// Most messages it may be given before the turn passes; at least 1.
    pub(super) limit: u64,
    /// It is the next in its round.
    pub(super) at_front: bool,
}

/// A consumer in figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ConsumerFigures {
    pub(crate) key: ConsumerKey,
    pub(crate) terms: Terms,
    pub(crate) unacked: u64,
    /// It does not stand by for another.
    pub(crate) active: bool,
    /// An operator paused it.
    pub(crate) paused: bool,
    pub(crate) pace: Option<PaceFigures>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holders {
    slots: Vec<Option<Holder>>,
    free: Vec<u32>,
    consumers: Map<ConsumerKey, u32>,
    getters: Map<OwnerKey, u32>,
    /// Highest priority first.
    levels: Vec<Level>,
    /// No level before this one has anybody in its round.
    top: usize,
    single: Option<Box<SingleActive>>,
    /// Those blocked by their pace: the moment at which they are not any more, and their slots.
    paced: BTreeSet<(u64, u32)>,
}

impl Holders {
    #[cfg(test)]
    pub(super) fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// Only one consumer at a time is given anything. Before the first consumer comes.
    pub(super) fn set_single_active(&mut self, takeover: bool) {
        self.single = Some(Box::new(SingleActive::new(takeover)));
    }

    pub(super) fn add(&mut self, key: ConsumerKey, terms: Terms, now_ms: u64) {
        self.remove(key);
        let at = match self.level_position(terms.priority) {
            Ok(at) => at,
            Err(at) => {
                let level = Level { priority: terms.priority, members: 0, round: VecDeque::new() };
                self.levels.insert(at, level);
                // Levels behind moved by one; looking from the start again is never wrong.
                self.top = 0;
                at
            }
        };
        self.levels[at].members += 1;
        let blocks = if self.single.is_some() { block::STANDBY } else { 0 };
        let pace = terms.rate.map(|rate| Box::new(Pace::new(rate, now_ms)));
        let role = Role::Consumer(Consumer { key, terms, blocks, in_round: false, pace });
        let slot = self.insert(Holder { owner: terms.owner, unacked: 0, role });
        self.consumers.insert(key, slot);
        self.refresh(slot);
        let change = self.single.as_mut().and_then(|single| single.add(terms.priority, key));
        self.elect(change);
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, key: ConsumerKey) -> bool {
        let Some(slot) = self.consumers.remove(&key) else { return false };
        let Some(holder) = self.slots[slot as usize].as_mut() else { return false };
        let Role::Consumer(consumer) = std::mem::replace(&mut holder.role, Role::Former) else {
            return false;
        };
        if let Ok(at) = self.level_position(consumer.terms.priority) {
            let level = &mut self.levels[at];
            level.members -= 1;
            if consumer.in_round {
                level.round.retain(|s| *s != slot);
            }
            if level.members == 0 {
                self.levels.remove(at);
                self.top = 0;
            }
        }
        if let (true, Some(pace)) = (consumer.blocks & block::PACED != 0, &consumer.pace) {
            self.paced.remove(&(pace.next_ms(), slot));
        }
        self.drop_if_done(slot);
        let change = self.single.as_mut().and_then(|single| single.remove(consumer.terms.priority, key));
        self.elect(change);
        true
    }

    /// Carries out who is to be the single active consumer.
    fn elect(&mut self, mut change: Option<Change>) {
        while let Some(one) = change.take() {
            match one {
                Change::Activate(key) => {
                    self.change(key, |consumer| consumer.blocks &= !(block::STANDBY | block::DRAINING));
                }
                Change::Drain(key) => {
                    let slot = self.consumers.get(&key).copied();
                    let holder = slot.and_then(|slot| self.slots[slot as usize].as_ref());
                    if holder.is_some_and(|holder| holder.unacked != 0) {
                        self.change(key, |consumer| consumer.blocks |= block::DRAINING);
                    } else {
                        self.change(key, |consumer| {
                            consumer.blocks = consumer.blocks & !block::DRAINING | block::STANDBY;
                        });
                        change = self.single.as_mut().and_then(|single| single.drained());
                    }
                }
            }
        }
    }

    pub(super) fn set_prefetch(&mut self, key: ConsumerKey, prefetch: u32) {
        self.change(key, |consumer| consumer.terms.prefetch = prefetch);
    }

    pub(super) fn set_open(&mut self, key: ConsumerKey, open: bool) {
        let bit = if open { 0 } else { block::CLOSED };
        self.change(key, |consumer| consumer.blocks = consumer.blocks & !block::CLOSED | bit);
    }

    /// Whether an operator lets a consumer have nothing.
    pub(super) fn set_paused(&mut self, key: ConsumerKey, paused: bool) {
        let bit = if paused { block::PAUSED } else { 0 };
        self.change(key, |consumer| consumer.blocks = consumer.blocks & !block::PAUSED | bit);
    }

    /// Changes a consumer's pace; the schedule goes on.
    pub(super) fn set_rate(&mut self, key: ConsumerKey, rate: Option<Rate>, now_ms: u64) {
        let Some(&slot) = self.consumers.get(&key) else { return };
        self.unblock_paced(slot);
        self.change(key, |consumer| {
            consumer.terms.rate = rate;
            match (&mut consumer.pace, rate) {
                (Some(pace), Some(rate)) => pace.change(rate, now_ms),
                (pace, rate) => *pace = rate.map(|rate| Box::new(Pace::new(rate, now_ms))),
            }
        });
        self.block_paced(slot, now_ms);
    }

    /// Changes how long a consumer may hold what it is given from now on.
    pub(super) fn set_lease(&mut self, key: ConsumerKey, lease_ms: Option<u64>) {
        self.change(key, |consumer| consumer.terms.lease_ms = lease_ms);
    }

    /// Time has passed: who was held up by their pace only joins the round again.
    pub(super) fn advance(&mut self, now_ms: u64) {
        while let Some((at_ms, slot)) = self.paced.first().copied()
            && at_ms <= now_ms
        {
            self.unblock_paced(slot);
        }
    }

    /// The moment at which `advance` will free a consumer.
    pub(super) fn next_paced_ms(&self) -> Option<u64> {
        self.paced.first().map(|(at_ms, _)| *at_ms)
    }

    fn unblock_paced(&mut self, slot: u32) {
        let Some(Holder { role: Role::Consumer(consumer), .. }) = &mut self.slots[slot as usize] else {
            return;
        };
        if let (true, Some(pace)) = (consumer.blocks & block::PACED != 0, &consumer.pace) {
            consumer.blocks &= !block::PACED;
            self.paced.remove(&(pace.next_ms(), slot));
            self.refresh(slot);
        }
    }

    fn block_paced(&mut self, slot: u32, now_ms: u64) {
        let Some(Holder { role: Role::Consumer(consumer), .. }) = &mut self.slots[slot as usize] else {
            return;
        };
        if let Some(pace) = consumer.pace.as_ref().filter(|pace| pace.allowance(now_ms) == 0) {
            consumer.blocks |= block::PACED;
            self.paced.insert((pace.next_ms(), slot));
            self.refresh(slot);
        }
    }

    fn change(&mut self, key: ConsumerKey, change: impl FnOnce(&mut Consumer)) {
        let Some(&slot) = self.consumers.get(&key) else { return };
        if let Some(Holder { role: Role::Consumer(consumer), .. }) = &mut self.slots[slot as usize] {
            change(consumer);
            self.refresh(slot);
        }
    }

    /// Whose turn it is; moves nothing.
    #[inline]
    pub(super) fn turn(&self, now_ms: u64) -> Option<Turn> {
        let level = self.levels.get(self.top..)?.iter().find(|level| !level.round.is_empty())?;
        let slot = *level.round.front()?;
        let holder = self.slots[slot as usize].as_ref()?;
        let Role::Consumer(consumer) = &holder.role else { return None };
        let mut limit = if level.round.len() == 1 { consumer.credit(holder.unacked) } else { 1 };
        if let Some(pace) = &consumer.pace {
            limit = limit.min(pace.allowance(now_ms));
        }
        Some(consumer.turn(slot, limit, true))
    }

    /// The consumer whose turn it is was given `n` messages, of which it holds `held`; the next is on.
    #[inline]
    pub(super) fn given(&mut self, n: u64, held: u64, now_ms: u64) {
        while self.levels.get(self.top).is_some_and(|level| level.round.is_empty()) {
            self.top += 1;
        }
        let Some(level) = self.levels.get_mut(self.top) else { return };
        let Some(&slot) = level.round.front() else { return };
        let Some(Holder { unacked, role: Role::Consumer(consumer), .. }) = &mut self.slots[slot as usize]
        else {
            return;
        };
        *unacked += held;
        self.paced.extend(consumer.paced_after(n, now_ms).map(|at_ms| (at_ms, slot)));
        if consumer.credit(*unacked) == 0 {
            consumer.in_round = false;
            level.round.pop_front();
        } else if level.round.len() > 1 {
            level.round.rotate_left(1);
        }
    }

    /// The last `n` of what a consumer was given did not go: its pace does not count them.
    pub(super) fn not_given(&mut self, key: ConsumerKey, n: u64) {
        let Some(&slot) = self.consumers.get(&key) else { return };
        self.unblock_paced(slot);
        if let Some(Holder { role: Role::Consumer(Consumer { pace: Some(pace), .. }), .. }) =
            &mut self.slots[slot as usize]
        {
            pace.untake(n);
        }
    }

    /// What a consumer was given was taken back: it is its turn again.
    pub(super) fn return_turn(&mut self, key: ConsumerKey) {
        let Some(&slot) = self.consumers.get(&key) else { return };
        let Some(Holder { role: Role::Consumer(consumer), .. }) = &self.slots[slot as usize] else { return };
        if consumer.in_round
            && let Ok(at) = self.level_position(consumer.terms.priority)
        {
            let round = &mut self.levels[at].round;
            round.retain(|s| *s != slot);
            round.push_front(slot);
        }
    }

    /// The slot under which an owner holds what it gets; one more is noted there.
    pub(super) fn got(&mut self, owner: OwnerKey) -> u32 {
        let slot = match self.getters.get(&owner) {
            Some(slot) => *slot,
            None => {
                let slot = self.insert(Holder { owner, unacked: 0, role: Role::Getter });
                self.getters.insert(owner, slot);
                slot
            }
        };
        if let Some(holder) = &mut self.slots[slot as usize] {
            holder.unacked += 1;
        }
        slot
    }

    /// `n` messages left this slot.
    #[inline]
    pub(super) fn returned(&mut self, slot: u32, n: u64) {
        let Some(holder) = &mut self.slots[slot as usize] else { return };
        holder.unacked -= n;
        match &holder.role {
            Role::Consumer(consumer) if consumer.in_round => {}
            Role::Consumer(consumer) if consumer.blocks & block::DRAINING != 0 && holder.unacked == 0 => {
                let key = consumer.key;
                self.elect(Some(Change::Drain(key)));
            }
            Role::Consumer(_) => self.refresh(slot),
            Role::Getter | Role::Former => self.drop_if_done(slot),
        }
    }

    #[inline]
    pub(super) fn owner(&self, slot: u32) -> Option<OwnerKey> {
        self.slots.get(slot as usize)?.as_ref().map(|holder| holder.owner)
    }

    /// Keys of an owner's consumers.
    pub(super) fn consumers_of(&self, owner: OwnerKey) -> Vec<ConsumerKey> {
        let of = |holder: &Holder| match &holder.role {
            Role::Consumer(consumer) if holder.owner == owner => Some(consumer.key),
            _ => None,
        };
        self.slots.iter().flatten().filter_map(of).collect()
    }

    /// All consumers, in the order in which they came.
    pub(super) fn figures(&mut self, now_ms: u64) -> Vec<ConsumerFigures> {
        let of = |holder: &mut Holder| match &mut holder.role {
            Role::Consumer(consumer) => Some(ConsumerFigures {
                key: consumer.key,
                terms: consumer.terms,
                unacked: holder.unacked,
                active: consumer.blocks & block::STANDBY == 0,
                paused: consumer.blocks & block::PAUSED != 0,
                pace: consumer.pace.as_mut().map(|pace| pace.figures(now_ms)),
            }),
            Role::Getter | Role::Former => None,
        };
        let mut all: Vec<_> = self.slots.iter_mut().flatten().filter_map(of).collect();
        all.sort_unstable_by_key(|figures| figures.key);
        all
    }

    /// How many messages an owner holds.
    pub(super) fn unacked_of(&self, owner: OwnerKey) -> u64 {
        self.slots.iter().flatten().filter(|holder| holder.owner == owner).map(|holder| holder.unacked).sum()
    }

    /// Puts a consumer into its round or takes it out, as its credit says.
    fn refresh(&mut self, slot: u32) {
        let Some(Holder { unacked, role: Role::Consumer(consumer), .. }) = &mut self.slots[slot as usize]
        else {
            return;
        };
        let eligible = consumer.credit(*unacked) != 0;
        if eligible == consumer.in_round {
            return;
        }
        consumer.in_round = eligible;
        let priority = consumer.terms.priority;
        if let Ok(at) = self.level_position(priority) {
            if eligible {
                self.levels[at].round.push_back(slot);
                self.top = self.top.min(at);
            } else {
                self.levels[at].round.retain(|s| *s != slot);
            }
        }
    }

    fn level_position(&self, priority: i64) -> Result<usize, usize> {
        self.levels.binary_search_by(|level| priority.cmp(&level.priority))
    }

    fn insert(&mut self, holder: Holder) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(holder);
            return slot;
        }
        self.slots.push(Some(holder));
        (self.slots.len() - 1) as u32
    }

    /// Forgets a getter or former consumer that holds nothing.
    fn drop_if_done(&mut self, slot: u32) {
        let Some(holder) = &self.slots[slot as usize] else { return };
        if holder.unacked != 0 || matches!(holder.role, Role::Consumer(_)) {
            return;
        }
        if matches!(holder.role, Role::Getter) {
            self.getters.remove(&holder.owner);
        }
        self.slots[slot as usize] = None;
        self.free.push(slot);
    }
}
