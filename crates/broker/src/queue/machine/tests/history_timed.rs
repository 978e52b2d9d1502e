//! Random histories with everything that needs time: single active consumers, leases, paces, delayed retries. Beside
//! the machine stands a map that says where each message is; after every step each is in exactly one place.

use crate::queue::machine::{
    Backoff, ConsumerKey, Machine, OwnerKey, Rate, Retry, RetryOn, Return, Terms, TimedSettings,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Ready,
    /// Its holder, and when the lease ends.
    Held(u64, Option<u64>),
    /// Until when.
    Waiting(u64),
    Gone,
}

struct History {
    machine: Machine,
    places: Vec<(Place, u16)>,
    consumers: BTreeMap<u64, Terms>,
    next_consumer: u64,
    settings: TimedSettings,
    single: bool,
    now_ms: u64,
    random: StdRng,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut machine = Machine::default();
        let single = random.random_bool(0.4);
        if single {
            machine.set_single_active(random.random_bool(0.5));
        }
        Self {
            machine,
            places: Vec::new(),
            consumers: BTreeMap::new(),
            next_consumer: 0,
            settings: TimedSettings::default(),
            single,
            now_ms: 0,
            random,
        }
    }

    fn seqs(&mut self) -> Range<u64> {
        let start = self.random.random_range(0..=self.places.len() as u64);
        start..start + self.random.random_range(1..30)
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
        self.random.random_bool(0.5).then(|| value(&mut self.random))
    }

    fn rate(random: &mut StdRng) -> Rate {
        Rate::new(random.random_range(1.0..500.0), random.random_range(10..2000)).expect("within bounds")
    }

    fn settings(&mut self) -> TimedSettings {
        let retry = |random: &mut StdRng| {
            let min_ms = random.random_range(0..300);
            Retry {
                on: [RetryOn::All, RetryOn::Failed, RetryOn::Returned][random.random_range(0..3)],
                backoff: [Backoff::Fixed, Backoff::Linear, Backoff::Exponential][random.random_range(0..3)],
                min_ms,
                max_ms: min_ms * random.random_range(0..5),
                jitter_percent: random.random_range(0..=100),
            }
        };
        let lease_ms = self.maybe(|random| random.random_range(1..400));
        let rate = self.maybe(Self::rate);
        TimedSettings { lease_ms, rate, retry: self.maybe(retry) }
    }

    /// Those of `seqs` that an owner holds, in order.
    fn held(&self, owner: u64, seqs: Range<u64>) -> Vec<u64> {
        let of = |seq: &u64| matches!(self.places[*seq as usize].0, Place::Held(by, _) if by == owner);
        (seqs.start..seqs.end.min(self.places.len() as u64)).filter(of).collect()
    }

    fn returns(&mut self, seqs: &[u64], why: Return) {
        for seq in seqs {
            let (place, deliveries) = &mut self.places[*seq as usize];
            *deliveries += u16::from(why != Return::Untouched);
            let delay = self.settings.retry.and_then(|retry| retry.delay_ms(why, *seq, *deliveries));
            *place = delay.map_or(Place::Ready, |ms| Place::Waiting(self.now_ms + ms));
        }
    }

    fn step(&mut self) {
        let owner = self.random.random_range(1..=3);
        match self.random.random_range(0..100) {
            0..20 => {
                let start = self.places.len() as u64;
                let n = self.random.random_range(0..20);
                self.machine.enqueued(start..start + n);
                self.places.extend((0..n).map(|_| (Place::Ready, 0)));
            }
            20..30 if self.consumers.len() < 6 => self.consume(owner),
            30..36 => {
                if let Some((key, _)) = self.consumers.pop_first() {
                    assert!(self.machine.remove_consumer(ConsumerKey(key)));
                }
            }
            36..42 => self.change_consumer(),
            42..55 => self.settle(owner),
            55..68 => {
                let seqs = self.seqs();
                let why = [Return::Given, Return::Failed, Return::Untouched][self.random.random_range(0..3)];
                let held = self.held(owner, seqs.clone());
                assert_eq!(self.machine.requeue(OwnerKey(owner), seqs, why), held.len() as u64);
                self.returns(&held, why);
            }
            68..72 => {
                self.consumers.retain(|_, terms| terms.owner.0 != owner);
                let held = self.held(owner, 0..u64::MAX);
                assert_eq!(self.machine.close_owner(OwnerKey(owner)), held.len() as u64);
                self.returns(&held, Return::Failed);
            }
            72..75 => {
                self.settings = self.settings();
                self.machine.apply(self.settings);
            }
            75..77 => {
                let seqs = if self.random.random_bool(0.5) { 0..u64::MAX } else { self.seqs() };
                let gone = match seqs.end {
                    u64::MAX => self.machine.purge(),
                    _ => self.machine.remove_ready(seqs.clone()),
                };
                let there = |at: &usize| matches!(self.places[*at].0, Place::Ready | Place::Waiting(_));
                let wanted: Vec<usize> =
                    (0..self.places.len()).filter(|at| seqs.contains(&(*at as u64))).filter(there).collect();
                assert!(gone.into_iter().flatten().eq(wanted.iter().map(|at| *at as u64)));
                wanted.iter().for_each(|at| self.places[*at].0 = Place::Gone);
            }
            77..82 => self.renew(owner),
            82..85 => {
                if let Some(taken) = self.machine.get(OwnerKey(owner), false) {
                    self.given(taken.seq, owner, None, taken.past.handed != 0);
                }
            }
            _ => self.advance(),
        }
    }

    fn consume(&mut self, owner: u64) {
        self.next_consumer += 1;
        let terms = Terms {
            owner: OwnerKey(owner),
            priority: self.random.random_range(-1..=1),
            prefetch: self.random.random_range(0..8),
            no_ack: self.random.random_bool(0.2),
            lease_ms: self.maybe(|random| random.random_range(1..400)),
            rate: self.maybe(Self::rate),
        };
        self.machine.add_consumer(ConsumerKey(self.next_consumer), terms);
        self.consumers.insert(self.next_consumer, terms);
    }

    fn change_consumer(&mut self) {
        let (rate, lease_ms) = (self.maybe(Self::rate), self.maybe(|random| random.random_range(1..400)));
        let kind = self.random.random_range(0..4);
        let Some(mut entry) = self.consumers.last_entry() else { return };
        let key = ConsumerKey(*entry.key());
        match kind {
            0 => self.machine.set_open(key, rate.is_some()),
            1 => self.machine.set_prefetch(key, 3),
            2 => self.machine.set_rate(key, rate),
            _ => {
                entry.get_mut().lease_ms = lease_ms;
                self.machine.set_lease(key, lease_ms);
            }
        }
    }

    fn settle(&mut self, owner: u64) {
        let seqs = self.seqs();
        let held = self.held(owner, seqs.clone());
        let mut settled = Vec::new();
        self.machine.settle(OwnerKey(owner), seqs, &mut settled);
        assert_eq!(settled.into_iter().flatten().collect::<Vec<_>>(), held);
        held.iter().for_each(|seq| self.places[*seq as usize].0 = Place::Gone);
    }

    /// Every lease is renewed for the length it has; the map learns the new ends from the machine's next deadline
    /// being no earlier, and from what ends when.
    fn renew(&mut self, owner: u64) {
        let seqs = self.seqs();
        let leased = |seq: &u64| matches!(self.places[*seq as usize].0, Place::Held(_, Some(_)));
        let held: Vec<u64> = self.held(owner, seqs.clone()).into_iter().filter(leased).collect();
        assert_eq!(self.machine.renew(OwnerKey(owner), seqs), held.len() as u64);
        for seq in held {
            let due_ms = self.machine.lease_due_ms(seq);
            let (Place::Held(_, Some(before_ms)), _) = self.places[seq as usize] else { unreachable!() };
            assert!(due_ms.is_some_and(|due_ms| due_ms >= before_ms));
            self.places[seq as usize].0 = Place::Held(owner, due_ms);
        }
    }

    fn given(&mut self, seq: u64, owner: u64, lease_ms: Option<u64>, redelivered: bool) {
        let (place, deliveries) = &mut self.places[seq as usize];
        assert_eq!((*place, redelivered), (Place::Ready, *deliveries != 0), "{seq}");
        let due_ms = lease_ms.or(self.settings.lease_ms).map(|ms| self.now_ms + ms);
        *place = Place::Held(owner, due_ms);
    }

    fn advance(&mut self) {
        let next = self.machine.next_deadline_ms();
        self.now_ms = match next.filter(|_| self.random.random_bool(0.5)) {
            Some(next) => next.max(self.now_ms),
            None => self.now_ms + self.random.random_range(0..200),
        };
        let mut ended = Vec::new();
        self.machine.advance(self.now_ms, &mut ended);
        let mut ended: Vec<(u64, u64)> =
            ended.into_iter().flat_map(|end| end.seqs.map(move |seq| (seq, end.owner.0))).collect();
        ended.sort_unstable();
        let mut wanted = Vec::new();
        for (seq, (place, _)) in self.places.iter_mut().enumerate() {
            match *place {
                Place::Held(owner, Some(due_ms)) if due_ms <= self.now_ms => wanted.push((seq as u64, owner)),
                Place::Waiting(due_ms) if due_ms <= self.now_ms => *place = Place::Ready,
                _ => {}
            }
        }
        assert_eq!(ended, wanted);
        let seqs: Vec<u64> = wanted.into_iter().map(|(seq, _)| seq).collect();
        self.returns(&seqs, Return::Failed);
    }

    fn pump(&mut self) {
        for _ in 0..self.random.random_range(0..20) {
            let has_work = self.machine.has_work();
            let active: Vec<_> =
                self.machine.figures(self.now_ms).consumers.into_iter().filter(|c| c.active).collect();
            assert!(!self.single || active.len() == 1.min(self.consumers.len()), "{active:?}");
            let run = self.machine.next_run(self.random.random_range(1..50));
            assert_eq!(run.is_some(), has_work);
            let Some(mut run) = run else { return };
            assert!(active.iter().any(|figures| figures.key == run.consumer));
            if self.random.random_bool(0.2) {
                let kept = self.random.random_range(run.seqs.clone());
                self.machine.give_back(&run, kept);
                run.seqs.end = kept;
            }
            let terms = self.consumers[&run.consumer.0];
            for seq in run.seqs.clone() {
                self.given(seq, terms.owner.0, terms.lease_ms, run.redelivered());
                if terms.no_ack {
                    self.places[seq as usize].0 = Place::Gone;
                }
            }
        }
    }

    fn compare(&mut self) {
        self.machine.check_conservation().expect("the law holds");
        let count = |is: fn(&Place) -> bool| self.places.iter().filter(|(place, _)| is(place)).count() as u64;
        assert_eq!(self.machine.ready_count(), count(|place| *place == Place::Ready));
        assert_eq!(self.machine.unacked_count(), count(|place| matches!(place, Place::Held(..))));
        assert_eq!(self.machine.waiting_count(), count(|place| matches!(place, Place::Waiting(_))));
    }
}

#[test]
fn random_histories_in_time_lose_nothing_and_end_what_is_due() {
    super::play(60, 800, History::new, |history| {
        history.step();
        history.compare();
        history.pump();
        history.compare();
    });
}
