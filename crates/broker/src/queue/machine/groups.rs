//! Message groups: what has the same group goes, in order, to one consumer at a time, while other groups flow.
//!
//! A group is *in use* by the holder that has unacked messages of it, and then its next ones go only there. When the
//! last of them has come back it is free, and whoever's turn it is gets the next. While a message of a group waits
//! out a delayed retry, the group waits with it: what follows may not overtake it. What is settled by being handed
//! out (no-ack) uses no group.
//!
//! The machine does not see what a message's group is, so it asks: `wants_groups` names the messages, `learn` brings
//! the answer. It asks only when somebody has credit and nothing that it knows of can go to them, and knows at most
//! `window` ready messages, the lowest ones: a backlog behind them costs nothing. If the whole window is of groups in
//! use, what lies behind waits until there is room in it.
//!
//! Memory: some 60 bytes a ready message in the window and an unacked one of a group, some 100 a group with such.

use super::holders::Turn;
use super::ready::{Piece, Ready};
use super::{Machine, OwnerKey, Run};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Groups in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupFigures {
    /// Groups of which somebody holds messages.
    pub(crate) in_use: u64,
    /// Ready messages whose group is known.
    pub(crate) looked_at: u64,
    /// How many those may be.
    pub(crate) window: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Groups {
    window: usize,
    /// Ready messages whose group was not told. None is handed out before those below it are known.
    unknown: Ready,
    /// The other ready ones with their group, if they have one.
    known: BTreeMap<u64, Option<u64>>,
    /// Messages with a group that are held, or wait out a delay.
    away: Map<u64, u64>,
    groups: Map<u64, Group>,
    /// Messages that may go to anybody: those without a group, and the first one of each free group.
    free: BTreeSet<u64>,
    /// By the slot of their holder, the first one of each group in use. No set is empty.
    bound: BTreeMap<u32, BTreeSet<u64>>,
}

/// A group that has known messages.
#[derive(Debug, Default)]
struct Group {
    /// Ready and known, ascending.
    ready: VecDeque<u64>,
    /// The slot of who holds messages of it.
    holder: Option<u32>,
    /// How many.
    held: u32,
    /// Messages that wait out a delay.
    waiting: u32,
}

impl Group {
    /// Its next message, and the only one who may have it, if that is so; `None`: nothing of it may go now.
    fn next(&self) -> Option<(Option<u32>, u64)> {
        let seq = self.ready.front().filter(|_| self.waiting == 0)?;
        Some((self.holder, *seq))
    }

    fn is_forgotten(&self) -> bool {
        self.ready.is_empty() && self.held == 0 && self.waiting == 0
    }

    fn one_less_held(&mut self) {
        self.held -= 1;
        if self.held == 0 {
            self.holder = None;
        }
    }

    fn add_ready(&mut self, seq: u64) {
        let at = self.ready.partition_point(|other| *other < seq);
        self.ready.insert(at, seq);
    }

    fn remove_ready(&mut self, seq: u64) {
        if let Ok(at) = self.ready.binary_search(&seq) {
            self.ready.remove(at);
        }
    }
}

impl Groups {
    /// Over what is ready; of nothing the group is known.
    fn new(window: usize, ready: &Ready) -> Self {
        let mut this = Self {
            window,
            unknown: Ready::default(),
            known: BTreeMap::new(),
            away: Map::default(),
            groups: Map::default(),
            free: BTreeSet::new(),
            bound: BTreeMap::new(),
        };
        ready.pieces().for_each(|piece| this.came(piece.start..piece.end));
        this
    }

    /// These are ready, and their group is not known.
    pub(super) fn came(&mut self, seqs: Range<u64>) {
        self.unknown.insert(Piece { start: seqs.start, end: seqs.end, ..Piece::default() });
    }

    /// These are not ready any more, without having been handed out.
    pub(super) fn removed(&mut self, seqs: Range<u64>) {
        self.unknown.remove(seqs.clone());
        let known: Vec<u64> = self.known.range(seqs).map(|(seq, _)| *seq).collect();
        known.into_iter().for_each(|seq| self.forget(seq));
    }

    /// What was held has left the queue.
    pub(super) fn left(&mut self, seqs: Range<u64>) {
        for seq in seqs {
            if let Some(group) = self.away.remove(&seq) {
                self.change(group, Group::one_less_held);
            }
        }
    }

    /// What was held is ready again.
    pub(super) fn returned(&mut self, seqs: Range<u64>) {
        for seq in seqs {
            self.is_ready(seq, Group::one_less_held);
        }
    }

    /// What was held waits out a delay.
    pub(super) fn waits(&mut self, seqs: Range<u64>) {
        for seq in seqs {
            if let Some(group) = self.away.get(&seq).copied() {
                self.change(group, |group| {
                    group.one_less_held();
                    group.waiting += 1;
                });
            }
        }
    }

    /// What waited is ready again.
    pub(super) fn waited(&mut self, seq: u64) {
        self.is_ready(seq, |group| group.waiting -= 1);
    }

    /// What waited has left the queue.
    pub(super) fn gave_up(&mut self, seq: u64) {
        if let Some(group) = self.away.remove(&seq) {
            self.change(group, |group| group.waiting -= 1);
        }
    }

    fn is_ready(&mut self, seq: u64, back: impl FnOnce(&mut Group)) {
        let Some(group) = self.away.remove(&seq) else { return self.came(seq..seq + 1) };
        self.known.insert(seq, Some(group));
        self.change(group, |group| {
            back(group);
            group.add_ready(seq);
        });
        self.cut_window();
    }

    /// Of `seqs`, which were asked for, these have these groups; the others have none.
    fn learn(&mut self, seqs: Range<u64>, groups: &[(u64, u64)]) {
        let mut groups = groups.iter().peekable();
        for seq in self.unknown.remove(seqs).into_iter().flatten() {
            while groups.next_if(|(of, _)| *of < seq).is_some() {}
            let group = groups.next_if(|(of, _)| *of == seq).map(|(_, group)| *group);
            self.known.insert(seq, group);
            match group {
                Some(group) => self.change(group, |group| group.add_ready(seq)),
                None => {
                    self.free.insert(seq);
                }
            }
        }
        self.cut_window();
    }

    /// Those of the window's end for which there is no room are not known any more.
    fn cut_window(&mut self) {
        while self.known.len() > self.window
            && let Some((seq, _)) = self.known.last_key_value()
        {
            let seq = *seq;
            self.forget(seq);
            self.came(seq..seq + 1);
        }
    }

    fn forget(&mut self, seq: u64) {
        match self.known.remove(&seq).flatten() {
            Some(group) => self.change(group, |group| group.remove_ready(seq)),
            None => {
                self.free.remove(&seq);
            }
        }
    }

    /// One that may go is handed out: to be held under `slot`, or settled.
    fn take(&mut self, seq: u64, slot: Option<u32>) {
        let group = self.known.remove(&seq).flatten();
        let Some(group) = group else {
            self.free.remove(&seq);
            return;
        };
        self.change(group, |group| {
            group.remove_ready(seq);
            if slot.is_some() {
                group.holder = slot;
                group.held += 1;
            }
        });
        if slot.is_some() {
            self.away.insert(seq, group);
        }
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut Group)) {
        let group = self.groups.entry(id).or_default();
        let before = group.next();
        change(group);
        let after = group.next();
        if group.is_forgotten() {
            self.groups.remove(&id);
        }
        if before == after {
            return;
        }
        match before {
            Some((None, seq)) => {
                self.free.remove(&seq);
            }
            Some((Some(slot), seq)) => {
                if let Some(heads) = self.bound.get_mut(&slot) {
                    heads.remove(&seq);
                    if heads.is_empty() {
                        self.bound.remove(&slot);
                    }
                }
            }
            None => {}
        }
        match after {
            Some((None, seq)) => {
                self.free.insert(seq);
            }
            Some((Some(slot), seq)) => {
                self.bound.entry(slot).or_default().insert(seq);
            }
            None => {}
        }
    }

    /// The lowest message whose group is not known: from there on nothing goes.
    fn known_to(&self) -> u64 {
        self.unknown.first().map_or(u64::MAX, |piece| piece.start)
    }

    /// The lowest message that may go to that slot.
    fn pick(&self, slot: Option<u32>) -> Option<u64> {
        let own = slot.and_then(|slot| self.bound.get(&slot)?.first());
        let seq = self.free.first().into_iter().chain(own).min()?;
        (*seq < self.known_to()).then_some(*seq)
    }

    /// Whose turn it is. A message that may go to anybody follows the round. One that may go only to its group's
    /// holder is nobody else's loss: of such, the lowest is first.
    fn turn(&self, machine: &Machine) -> Option<Turn> {
        let known_to = self.known_to();
        if self.free.first().is_some_and(|seq| *seq < known_to) {
            return machine.holders.turn(machine.now_ms);
        }
        let heads = |slot: u32| Some((*self.bound.get(&slot)?.first()?, slot));
        let holders = &machine.holders;
        let next = if self.bound.len() <= holders.in_rounds() {
            self.bound.keys().filter(|slot| holders.is_in_round(**slot)).filter_map(|slot| heads(*slot)).min()
        } else {
            holders.rounds().filter_map(heads).min()
        };
        let (_, slot) = next.filter(|(seq, _)| *seq < known_to)?;
        machine.holders.turn_of(slot, machine.now_ms)
    }

    /// What should be asked for if nothing that is known may go.
    fn unasked(&self) -> Option<Range<u64>> {
        let piece = self.unknown.first()?;
        match self.known.last_key_value() {
            // Behind the window, while there is room in it.
            Some((last, _)) if *last < piece.start => {
                let room = self.window.saturating_sub(self.known.len()) as u64;
                let end = piece.end.min(piece.start.saturating_add(room));
                (piece.start < end).then_some(piece.start..end)
            }
            Some((last, _)) => Some(piece.start..piece.end.min(*last)),
            None => Some(piece.start..piece.end.min(piece.start.saturating_add(self.window as u64))),
        }
    }

    /// Whether something below others is not known: nothing above it may go.
    fn has_gap(&self) -> bool {
        self.known.last_key_value().is_some_and(|(last, _)| *last > self.known_to())
    }
}

impl Machine {
    /// What has the same group goes to one consumer at a time from now on, with so many messages looked at ahead; or
    /// there are no groups any more. What is held or waits is of no group from now on.
    pub(crate) fn set_groups(&mut self, window: Option<usize>) {
        self.groups = window.map(|window| Box::new(Groups::new(window.max(1), &self.ready)));
    }

    /// So many messages are looked at ahead from now on.
    pub(crate) fn set_group_window(&mut self, window: usize) {
        if let Some(groups) = &mut self.groups {
            groups.window = window.max(1);
            groups.cut_window();
        }
    }

    /// Whether there are groups, and `wants_groups` is to be asked.
    #[inline]
    pub(crate) fn is_grouped(&self) -> bool {
        self.groups.is_some()
    }

    /// Ready messages whose groups must be known before anything more can be handed out, though somebody has credit.
    pub(crate) fn wants_groups(&self) -> Option<Range<u64>> {
        let groups = self.groups.as_ref()?;
        let unasked = groups.unasked()?;
        if !self.is_someone_open() || !groups.has_gap() && groups.turn(self).is_some() {
            return None;
        }
        Some(unasked)
    }

    /// As [`Self::wants_groups`], before a get of that owner.
    pub(crate) fn wants_groups_to_get(&self, owner: OwnerKey) -> Option<Range<u64>> {
        let groups = self.groups.as_ref()?;
        let unasked = groups.unasked().filter(|_| !self.paused)?;
        (groups.has_gap() || groups.pick(self.holders.getter(owner)).is_none()).then_some(unasked)
    }

    /// Of the messages `seqs`, which were wanted from their start on, these have a group: (number, group), ascending.
    /// The others have none.
    pub(crate) fn learn(&mut self, seqs: Range<u64>, found: &[(u64, u64)]) {
        if let Some(groups) = &mut self.groups {
            groups.learn(seqs, found);
        }
    }

    /// The message that a get of that owner would take.
    pub(crate) fn next_to_get(&self, owner: OwnerKey) -> Option<u64> {
        match &self.groups {
            _ if self.paused => None,
            None => self.ready.first().map(|piece| piece.start),
            Some(groups) => groups.pick(self.holders.getter(owner)),
        }
    }

    /// Groups in figures, if there are any.
    pub(crate) fn group_figures(&self) -> Option<GroupFigures> {
        let groups = self.groups.as_ref()?;
        let in_use = groups.groups.values().filter(|group| group.holder.is_some()).count() as u64;
        Some(GroupFigures { in_use, looked_at: groups.known.len() as u64, window: groups.window as u64 })
    }

    /// Whether some consumer may have something of what is known.
    pub(super) fn has_grouped_work(&self) -> bool {
        self.groups.as_ref().is_some_and(|groups| groups.turn(self).is_some())
    }

    /// As `next_run`, where there are groups.
    pub(super) fn next_grouped_run(&mut self, max: u32) -> Option<Run> {
        let turn = self.groups.as_ref()?.turn(self)?;
        let mut most = turn.limit.min(max.into());
        if let Some(timed) = &self.timed {
            most = most.min(timed.allowance(self.now_ms));
        }
        let groups = self.groups.as_mut()?;
        let start = groups.pick(Some(turn.slot)).filter(|_| most != 0)?;
        let piece = self.ready.from(start)?;
        let slot = (!turn.no_ack).then_some(turn.slot);
        let mut end = start;
        while end - start < most && end < piece.end && groups.pick(Some(turn.slot)) == Some(end) {
            groups.take(end, slot);
            end += 1;
        }
        self.ready.take(start..end);
        Some(self.hand(&turn, start..end, piece.past))
    }

    /// A message was taken by a get.
    pub(super) fn got_grouped(&mut self, seq: u64, slot: Option<u32>) {
        if let Some(groups) = &mut self.groups {
            groups.take(seq, slot);
        }
    }
}

/// Questions of tests.
#[cfg(test)]
impl Machine {
    /// What is wrong with the groups, if anything is.
    pub(super) fn check_groups(&self) -> Result<(), String> {
        let Some(groups) = &self.groups else { return Ok(()) };
        let mut all: Vec<u64> = groups.unknown.pieces().flat_map(|piece| piece.start..piece.end).collect();
        all.extend(groups.known.keys());
        all.sort_unstable();
        if !self.ready.pieces().flat_map(|piece| piece.start..piece.end).eq(all) {
            return Err("known and unknown are not what is ready".into());
        }
        if groups.known.len() > groups.window {
            return Err(format!("{} are known, the window is {}", groups.known.len(), groups.window));
        }
        let away: u64 = groups.groups.values().map(|group| u64::from(group.held + group.waiting)).sum();
        if away != groups.away.len() as u64 {
            return Err(format!("groups miss {away}, {} are away", groups.away.len()));
        }
        for (seq, id) in &groups.away {
            let holder = groups.groups.get(id).and_then(|group| group.holder);
            if let Some(slot) = self.unacked.holder(*seq)
                && Some(slot) != holder
            {
                return Err(format!("{seq} is held by {slot}, its group {id} by {holder:?}"));
            }
        }
        let mut free: BTreeSet<u64> =
            groups.known.iter().filter(|(_, id)| id.is_none()).map(|(s, _)| *s).collect();
        let mut bound: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for (id, group) in &groups.groups {
            let of = |(_, of): &(&u64, &Option<u64>)| **of == Some(*id);
            if !groups.known.iter().filter(of).map(|(seq, _)| seq).eq(&group.ready) {
                return Err(format!("group {id} does not have its ready messages"));
            }
            if group.holder.is_some() != (group.held != 0) || group.is_forgotten() {
                return Err(format!("group {id} is {group:?}"));
            }
            match group.next() {
                Some((None, seq)) => free.insert(seq),
                Some((Some(slot), seq)) => bound.entry(slot).or_default().insert(seq),
                None => true,
            };
        }
        if free != groups.free || bound != groups.bound {
            return Err(format!(
                "free {:?}, wanted {free:?}; bound {:?}, wanted {bound:?}",
                groups.free, groups.bound
            ));
        }
        Ok(())
    }
}
