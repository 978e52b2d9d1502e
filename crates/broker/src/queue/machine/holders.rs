//! Who may hold messages: consumers and those who get; credit, priorities, and whose turn it is.

use super::{ConsumerKey, OwnerKey, Terms};
use hashbrown::HashMap;
use std::collections::VecDeque;

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
    open: bool,
    in_round: bool,
}

impl Consumer {
    /// How many more it may be given now.
    #[inline]
    fn credit(&self, unacked: u64) -> u64 {
        match self.terms.prefetch {
            _ if !self.open => 0,
            0 => u64::MAX,
            _ if self.terms.no_ack => u64::MAX,
            prefetch => u64::from(prefetch).saturating_sub(unacked),
        }
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
    /// Most messages it may be given before the turn passes; at least 1.
    pub(super) limit: u64,
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
}

impl Holders {
    #[cfg(test)]
    pub(super) fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    pub(super) fn add(&mut self, key: ConsumerKey, terms: Terms) {
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
        let role = Role::Consumer(Consumer { key, terms, open: true, in_round: false });
        let slot = self.insert(Holder { owner: terms.owner, unacked: 0, role });
        self.consumers.insert(key, slot);
        self.refresh(slot);
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
        self.drop_if_done(slot);
        true
    }

    pub(super) fn set_prefetch(&mut self, key: ConsumerKey, prefetch: u32) {
        self.change(key, |consumer| consumer.terms.prefetch = prefetch);
    }

    pub(super) fn set_open(&mut self, key: ConsumerKey, open: bool) {
        self.change(key, |consumer| consumer.open = open);
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
    pub(super) fn turn(&self) -> Option<Turn> {
        let level = self.levels.get(self.top..)?.iter().find(|level| !level.round.is_empty())?;
        let slot = *level.round.front()?;
        let holder = self.slots[slot as usize].as_ref()?;
        let Role::Consumer(consumer) = &holder.role else { return None };
        let limit = if level.round.len() == 1 { consumer.credit(holder.unacked) } else { 1 };
        Some(Turn { slot, consumer: consumer.key, no_ack: consumer.terms.no_ack, limit })
    }

    /// The consumer whose turn it is was given messages, of which it holds `held`; the next is on.
    #[inline]
    pub(super) fn given(&mut self, held: u64) {
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
        if consumer.credit(*unacked) == 0 {
            consumer.in_round = false;
            level.round.pop_front();
        } else if level.round.len() > 1 {
            level.round.rotate_left(1);
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

    /// What is wrong in here, if anything.
    #[cfg(test)]
    pub(super) fn check(&self, unacked: u64) -> Result<(), String> {
        let held: u64 = self.slots.iter().flatten().map(|holder| holder.unacked).sum();
        if held != unacked {
            return Err(format!("holders have {held} unacked, pages {unacked}"));
        }
        for (slot, holder) in self.slots.iter().enumerate() {
            let Some(holder) = holder else { continue };
            let Role::Consumer(consumer) = &holder.role else {
                if holder.unacked == 0 {
                    return Err(format!("slot {slot} holds nothing and is kept"));
                }
                continue;
            };
            let at = self.level_position(consumer.terms.priority).map_err(|_| "no level".to_string())?;
            let times = self.levels[at].round.iter().filter(|s| **s == slot as u32).count();
            let wanted = usize::from(consumer.credit(holder.unacked) != 0);
            if times != wanted || consumer.in_round != (wanted == 1) {
                return Err(format!("{:?} is {times} times in its round, wanted {wanted}", consumer.key));
            }
        }
        if self.levels.iter().take(self.top).any(|level| !level.round.is_empty()) {
            return Err("a level above the top has consumers in its round".into());
        }
        Ok(())
    }
}
