//! Random histories with message groups. Beside the machine stands a list that says where each message is and of which
//! group: nobody has messages of a group while another has, a group is handed out in order, and what could go goes.

use crate::queue::machine::{
    Backoff, ConsumerKey, Machine, OwnerKey, Reason, Retry, RetryOn, Return, Run, Terms, TimedSettings,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Range;

/// Who holds a message: a consumer (which may be gone), or a session that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Consumer(u64),
    Getter(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Held { owner: u64, by: Holder },
    Waiting,
    Gone,
}

struct Listed {
    seq: u64,
    place: Place,
    group: Option<u64>,
    failed: u16,
    /// Before this number of `History::era` it was handed out: its group was not known then.
    era: u64,
}

struct History {
    machine: Machine,
    list: Vec<Listed>,
    consumers: BTreeMap<u64, (Terms, bool)>,
    next_consumer: u64,
    next_seq: [u64; 2],
    window: usize,
    era: u64,
    retries: bool,
    now_ms: u64,
    random: StdRng,
}

const LIMIT: u16 = 3;

impl History {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut machine = Machine::default();
        machine.set_delivery_limit(Some(LIMIT));
        if random.random_bool(0.2) {
            machine.set_single_active(false);
        }
        let retries = random.random_bool(0.5);
        let retry =
            Retry { on: RetryOn::All, backoff: Backoff::Linear, min_ms: 50, max_ms: 200, jitter_percent: 50 };
        machine.apply(TimedSettings { retry: retries.then_some(retry), ..TimedSettings::default() });
        let mut this = Self {
            machine,
            list: Vec::new(),
            consumers: BTreeMap::new(),
            next_consumer: 0,
            next_seq: [1 << 20, 0],
            window: 0,
            era: 0,
            retries,
            now_ms: 0,
            random,
        };
        this.regroup();
        this
    }

    fn regroup(&mut self) {
        self.window = self.random.random_range(1..30);
        self.era += 1;
        self.machine.set_groups(Some(self.window));
    }

    fn enqueue(&mut self) {
        // Two priorities: the second's numbers are below all of the first's.
        let level = usize::from(self.random.random_bool(0.2));
        let start = self.next_seq[level];
        let n = self.random.random_range(0..20);
        self.next_seq[level] += n;
        self.machine.enqueued(start..start + n);
        for seq in start..start + n {
            let group = Some(self.random.random_range(0..6)).filter(|group| *group != 0);
            self.list.push(Listed { seq, place: Place::Ready, group, failed: 0, era: 0 });
        }
        self.list.sort_by_key(|one| one.seq);
    }

    fn any(&mut self) -> Range<u64> {
        if self.list.is_empty() {
            return 0..10;
        }
        let at = self.random.random_range(0..self.list.len());
        let start = self.list[at].seq;
        start..start + self.random.random_range(1..12)
    }

    fn changed(&mut self, seqs: &Range<u64>, is: impl Fn(&Place) -> bool, to: Place) -> u64 {
        let mut n = 0;
        for one in self.list.iter_mut().filter(|one| seqs.contains(&one.seq) && is(&one.place)) {
            one.place = to;
            n += 1;
        }
        n
    }

    fn back(&mut self, seqs: &Range<u64>, owner: u64, how: Return) -> u64 {
        let mut n = 0;
        for one in self.list.iter_mut().filter(|one| seqs.contains(&one.seq)) {
            if !matches!(one.place, Place::Held { owner: of, .. } if of == owner) {
                continue;
            }
            n += 1;
            one.failed += u16::from(how == Return::Failed);
            one.place = match how {
                Return::Failed if one.failed > LIMIT => Place::Gone,
                Return::Untouched => Place::Ready,
                _ if self.retries => Place::Waiting,
                _ => Place::Ready,
            };
        }
        n
    }

    fn step(&mut self) {
        let owner = self.random.random_range(1..=4);
        let seqs = self.any();
        let held = |place: &Place| matches!(place, Place::Held { owner: of, .. } if *of == owner);
        match self.random.random_range(0..100) {
            0..22 => self.enqueue(),
            22..32 if self.consumers.len() < 7 => self.consume(owner),
            32..36 => {
                if let Some((key, _)) = self.consumers.pop_first() {
                    assert!(self.machine.remove_consumer(ConsumerKey(key)));
                }
            }
            36..42 => self.change_consumer(),
            42..60 => {
                let mut settled = Vec::new();
                self.machine.settle(OwnerKey(owner), seqs.clone(), &mut settled);
                let n: u64 = settled.iter().map(|range| range.end - range.start).sum();
                assert_eq!(n, self.changed(&seqs, held, Place::Gone));
            }
            60..72 => {
                let how = [Return::Given, Return::Failed, Return::Untouched][self.random.random_range(0..3)];
                let n = self.machine.requeue(OwnerKey(owner), seqs.clone(), how);
                assert_eq!(n, self.back(&seqs, owner, how));
            }
            72..75 => {
                self.consumers.retain(|_, (terms, _)| terms.owner.0 != owner);
                let n = self.machine.close_owner(OwnerKey(owner));
                assert_eq!(n, self.back(&(0..u64::MAX), owner, Return::Failed));
            }
            75..77 => {
                let n = self.machine.doom(OwnerKey(owner), seqs.clone(), Reason::Rejected);
                assert_eq!(n, self.changed(&seqs, held, Place::Gone));
            }
            77..79 => {
                self.machine.doom_range(seqs.clone(), Reason::Expired);
                self.changed(&seqs, |place| *place == Place::Ready, Place::Gone);
            }
            79..81 => self.drop_first(),
            81..83 => self.purge(seqs),
            83..88 => self.get(owner),
            88..89 => self.regroup(),
            _ => self.advance(),
        }
    }

    fn consume(&mut self, owner: u64) {
        self.next_consumer += 1;
        let terms = Terms {
            owner: OwnerKey(owner),
            priority: self.random.random_range(-1..=1),
            prefetch: self.random.random_range(0..6),
            no_ack: self.random.random_bool(0.15),
            lease_ms: None,
            rate: None,
        };
        self.machine.add_consumer(ConsumerKey(self.next_consumer), terms);
        self.consumers.insert(self.next_consumer, (terms, true));
    }

    fn change_consumer(&mut self) {
        let n = self.random.random_range(0..7);
        let prefetch = self.random.random_range(0..6);
        let Some((key, (terms, open))) = self.consumers.iter_mut().nth(n) else { return };
        if prefetch > 2 {
            *open = !*open;
            self.machine.set_open(ConsumerKey(*key), *open);
        } else {
            terms.prefetch = prefetch;
            self.machine.set_prefetch(ConsumerKey(*key), prefetch);
        }
    }

    fn drop_first(&mut self) {
        let n = self.random.random_range(0..5);
        for _ in 0..self.machine.doom_ready(n, Reason::MaxLength) {
            let first = self.list.iter_mut().find(|one| one.place == Place::Ready);
            first.expect("the machine has it").place = Place::Gone;
        }
    }

    fn purge(&mut self, seqs: Range<u64>) {
        let all = self.random.random_bool(0.2);
        let seqs = if all { 0..u64::MAX } else { seqs };
        if !all && self.random.random_bool(0.5) {
            return self.transfer(seqs);
        }
        let gone = if all { self.machine.purge() } else { self.machine.remove_ready(seqs.clone()) };
        let n: u64 = gone.iter().map(|range| range.end - range.start).sum();
        let there = |place: &Place| matches!(place, Place::Ready | Place::Waiting);
        assert_eq!(n, self.changed(&seqs, there, Place::Gone));
    }

    /// Those that are ready go elsewhere, or stay where they are for want of room there.
    fn transfer(&mut self, seqs: Range<u64>) {
        let is_elsewhere = self.random.random_bool(0.5);
        let held: Vec<u64> =
            seqs.clone().filter(|seq| self.machine.hold(OwnerKey::TRANSFERS, *seq)).collect();
        let ready = self.list.iter().filter(|one| seqs.contains(&one.seq) && one.place == Place::Ready);
        assert!(ready.map(|one| one.seq).eq(held.iter().copied()));
        for seq in held {
            if is_elsewhere {
                self.machine.settle(OwnerKey::TRANSFERS, seq..seq + 1, &mut Vec::new());
            } else {
                self.machine.requeue(OwnerKey::TRANSFERS, seq..seq + 1, Return::Untouched);
            }
        }
        if is_elsewhere {
            self.changed(&seqs, |place| *place == Place::Ready, Place::Gone);
        }
    }

    fn advance(&mut self) {
        self.now_ms += self.random.random_range(0..100);
        let before = self.machine.waiting_count();
        self.machine.advance(self.now_ms, &mut Vec::new());
        if self.machine.waiting_count() == before {
            return;
        }
        // Which were due follows from a jitter: the machine says what is ready now.
        for one in self.list.iter_mut().filter(|one| one.place == Place::Waiting) {
            if self.machine.ready_from(one.seq).is_some_and(|ready| ready.start == one.seq) {
                one.place = Place::Ready;
            }
        }
    }

    fn learn(&mut self, wanted: Range<u64>) {
        let end = wanted.end.min(wanted.start + self.random.random_range(1..10));
        let asked = self.list.iter().filter(|one| (wanted.start..end).contains(&one.seq));
        let found: Vec<_> = asked.filter_map(|one| Some((one.seq, one.group?))).collect();
        self.machine.learn(wanted.start..end, &found);
    }

    /// What is given may be given: it is ready, nobody else is at its group, and nothing of its group comes before it.
    fn given(&mut self, seq: u64, owner: u64, by: Holder, settled: bool) {
        let at = self.list.iter().position(|one| one.seq == seq).expect("it came");
        assert_eq!(self.list[at].place, Place::Ready, "{seq}");
        let era = self.era;
        if let Some(group) = self.list[at].group {
            for other in self.list.iter().filter(|one| one.group == Some(group)) {
                match other.place {
                    Place::Held { by: other_by, .. } if other.era == era => {
                        assert_eq!(other_by, by, "{} is held, {seq} is of the same group", other.seq);
                    }
                    Place::Waiting if other.era == era => panic!("{} waits, {seq} overtakes it", other.seq),
                    Place::Ready => assert!(other.seq >= seq, "{} is ready, {seq} overtakes it", other.seq),
                    _ => {}
                }
            }
        }
        self.list[at].era = era;
        self.list[at].place = if settled { Place::Gone } else { Place::Held { owner, by } };
    }

    fn get(&mut self, owner: u64) {
        while let Some(wanted) = self.machine.wants_groups_to_get(OwnerKey(owner)) {
            self.learn(wanted);
        }
        let no_ack = self.random.random_bool(0.3);
        match self.machine.get(OwnerKey(owner), no_ack) {
            Some(taken) => self.given(taken.seq, owner, Holder::Getter(owner), no_ack),
            None => self.nothing_for(Holder::Getter(owner)),
        }
    }

    fn take_run(&mut self, mut run: Run) {
        if self.random.random_bool(0.1) {
            let kept = self.random.random_range(run.seqs.clone());
            self.machine.give_back(&run, kept);
            run.seqs.end = kept;
        }
        let terms = self.consumers[&run.consumer.0].0;
        for seq in run.seqs {
            self.given(seq, terms.owner.0, Holder::Consumer(run.consumer.0), terms.no_ack);
        }
    }

    fn pump(&mut self) {
        for _ in 0..self.random.random_range(0..60) {
            while let Some(wanted) = self.machine.wants_groups() {
                self.learn(wanted);
            }
            let has_work = self.machine.has_work();
            let run = self.machine.next_run(self.random.random_range(1..20));
            assert_eq!(run.is_some(), has_work);
            let Some(run) = run else { return self.is_content() };
            self.take_run(run);
        }
    }

    /// Whoever has credit can have nothing within the window.
    fn is_content(&mut self) {
        let figures = self.machine.figures(self.now_ms);
        for of in figures.consumers {
            let (terms, open) = self.consumers[&of.key.0];
            let credit = terms.no_ack || terms.prefetch == 0 || of.unacked < u64::from(terms.prefetch);
            if open && of.active && credit {
                self.nothing_for(Holder::Consumer(of.key.0));
            }
        }
    }

    fn nothing_for(&self, who: Holder) {
        let window = self.list.iter().filter(|one| one.place == Place::Ready).take(self.window);
        for one in window {
            let group = one.group.unwrap_or_else(|| panic!("{who:?} could have {}", one.seq));
            let others = self.list.iter().filter(|other| other.group == Some(group) && other.era == self.era);
            let blocks = |place: Place| match place {
                Place::Held { by, .. } => by != who,
                place => place == Place::Waiting,
            };
            let blocked = others.map(|other| other.place).any(blocks);
            assert!(blocked, "{who:?} could have {} of {group}", one.seq);
        }
    }

    fn compare(&self) {
        self.machine.check_conservation().expect("the law holds");
        let count = |is: fn(&Place) -> bool| self.list.iter().filter(|one| is(&one.place)).count() as u64;
        assert_eq!(self.machine.ready_count(), count(|place| *place == Place::Ready));
        assert_eq!(self.machine.unacked_count(), count(|place| matches!(place, Place::Held { .. })));
        assert_eq!(self.machine.waiting_count(), count(|place| *place == Place::Waiting));
    }
}

#[test]
fn random_histories_keep_groups_together_and_in_order() {
    super::play(80, 400, History::new, |history| {
        history.step();
        history.compare();
        history.pump();
        history.compare();
    });
}
