//! Refusals of one address counted together: the first few are entries of their own, the others of a minute are one.

use super::entry::{AuditEntry, FrontEnd, LOGIN_REFUSED};
use hashbrown::HashMap;
use std::borrow::Cow;
use std::net::IpAddr;

/// How long refusals are counted together. Milliseconds.
const WINDOW_MS: u64 = 60_000;
/// Refusals of one kind within that time that are entries of their own.
const EACH_MAX: u64 = 5;
/// Kinds that are told apart at once; what comes beyond is counted by operation alone.
const KINDS_MAX: usize = 1_000;

/// What is counted together: logins by address, whoever they claim to be, for who guesses guesses users too; operations
/// by user and address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    operation: Cow<'static, str>,
    front_end: FrontEnd,
    peer: Option<IpAddr>,
    user: Box<str>,
}

impl Kind {
    fn of(entry: &AuditEntry) -> Self {
        let user = if entry.operation == LOGIN_REFUSED { Box::default() } else { entry.actor.user.clone() };
        let (operation, actor) = (entry.operation.clone(), &entry.actor);
        Self { operation, front_end: actor.front_end, peer: actor.peer, user }
    }

    /// That of all for whom there is no room.
    fn others(&self) -> Self {
        Self { peer: None, user: Box::default(), ..self.clone() }
    }
}

#[derive(Debug)]
struct Counted {
    since_ms: u64,
    entered: u64,
    /// The last one that is no entry, with how many there are.
    held: Option<AuditEntry>,
    /// Those that are held are not all of one user.
    several_users: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<Kind, Counted>);

impl Refusals {
    /// Takes one in; what is to be entered now.
    pub(super) fn take(&mut self, entry: AuditEntry, now_ms: u64) -> Vec<AuditEntry> {
        let mut kind = Kind::of(&entry);
        let mut ready = Vec::new();
        if self.0.len() >= KINDS_MAX && !self.0.contains_key(&kind) {
            ready = self.settle(now_ms, false);
            if self.0.len() >= KINDS_MAX {
                kind = kind.others();
            }
        }
        let new = || Counted { since_ms: now_ms, entered: 0, held: None, several_users: false };
        let counted = self.0.entry(kind).or_insert_with(new);
        if is_over(counted, now_ms) {
            let over = std::mem::replace(counted, new());
            ready.extend(sum(over));
        }
        if counted.entered < EACH_MAX {
            counted.entered += 1;
            ready.push(entry);
            return ready;
        }
        let before = counted.held.as_ref();
        let count = before.map_or(0, |held| held.count) + 1;
        counted.several_users |= before.is_some_and(|held| held.actor.user != entry.actor.user);
        counted.held = Some(AuditEntry { count, ..entry });
        ready
    }

    /// The sums of those whose time is over, or of all.
    pub(super) fn settle(&mut self, now_ms: u64, all: bool) -> Vec<AuditEntry> {
        let mut ready = Vec::new();
        self.0.retain(|_, counted| {
            let stays = !all && !is_over(counted, now_ms);
            if !stays {
                ready.extend(counted.held.take().map(|held| said(held, counted.several_users)));
            }
            stays
        });
        ready
    }
}

fn is_over(counted: &Counted, now_ms: u64) -> bool {
    now_ms >= counted.since_ms.saturating_add(WINDOW_MS)
}

fn sum(counted: Counted) -> Option<AuditEntry> {
    counted.held.map(|held| said(held, counted.several_users))
}

/// An entry that stands for as many as it counts: the last of them, and what it says besides.
fn said(held: AuditEntry, several_users: bool) -> AuditEntry {
    let users = if several_users { ", as several users" } else { "" };
    let more = if held.detail.is_empty() { String::new() } else { format!("; the last: {}", held.detail) };
    let detail = format!("{} further refusals within {}s{users}{more}", held.count, WINDOW_MS / 1000);
    AuditEntry { detail: detail.into(), ..held }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Actor, AuditObject, AuditResult};
    use super::*;

    fn login(peer: u32, user: &str, at_ms: u64) -> AuditEntry {
        let peer = Some(IpAddr::from(peer.to_be_bytes()));
        let actor = Actor { user: user.into(), front_end: FrontEnd::Amqp, peer, ..Actor::inside() };
        AuditEntry::new(at_ms, LOGIN_REFUSED, AuditResult::Refused, &actor, AuditObject::named("user", user))
    }

    #[test]
    fn refused_logins_of_one_address_become_one_entry_a_minute() {
        let mut refusals = Refusals::default();
        let mut entered = Vec::new();
        for n in 0..1000 {
            entered.extend(refusals.take(login(1, &format!("u{}", n % 3), n), n));
        }
        assert_eq!(entered.len() as u64, EACH_MAX);
        assert_eq!(refusals.take(login(2, "u", 1000), 1000).len(), 1, "another address is another kind");
        assert!(refusals.settle(WINDOW_MS - 1, false).is_empty());
        let sums = refusals.settle(WINDOW_MS, false);
        assert_eq!(sums.iter().map(|it| it.count).collect::<Vec<_>>(), [1000 - EACH_MAX]);
        assert_eq!(&*sums[0].detail, "995 further refusals within 60s, as several users");
        assert_eq!(refusals.take(login(1, "u", WINDOW_MS), WINDOW_MS).len(), 1, "a new minute begins anew");
    }

    #[test]
    fn a_sum_comes_before_the_first_of_the_next_minute() {
        let mut refusals = Refusals::default();
        (0..7).for_each(|n| drop(refusals.take(login(1, "u", n), n)));
        let entered = refusals.take(login(1, "u", WINDOW_MS), WINDOW_MS);
        assert_eq!(entered.iter().map(|it| it.count).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn attackers_from_everywhere_are_counted_together() {
        let mut refusals = Refusals::default();
        let many = 3 * KINDS_MAX as u32;
        let entered: usize = (0..many).map(|n| refusals.take(login(n, "u", 0), 0).len()).sum();
        assert_eq!(entered, KINDS_MAX + EACH_MAX as usize);
        assert!(refusals.0.len() <= KINDS_MAX + 1);
        let held: u64 = refusals.settle(0, true).iter().map(|it| it.count).sum();
        assert_eq!(held + entered as u64, u64::from(many), "none is forgotten");
    }
}
