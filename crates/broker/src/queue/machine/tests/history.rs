//! Random histories: the machine beside a model that does everything the slow and obvious way.

use crate::queue::machine::{ConsumerKey, Machine, OwnerKey, Reason, Return, Terms};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone)]
struct ModelConsumer {
    key: u64,
    terms: Terms,
    open: bool,
}

/// Who has a message and what it went through.
#[derive(Clone, Copy)]
struct Held {
    owner: u64,
    /// The consumer it counts against.
    consumer: Option<u64>,
    deliveries: u32,
}

#[derive(Default)]
struct Model {
    ready: BTreeMap<u64, u32>,
    unacked: BTreeMap<u64, Held>,
    /// Those with credit in the order of their turns, then the others.
    consumers: Vec<ModelConsumer>,
    round: Vec<u64>,
    /// Failed deliveries by message.
    failed: BTreeMap<u64, u32>,
    dying: Vec<(u64, Reason)>,
    parked: Vec<(u64, Reason)>,
    gone: u64,
    dead: u64,
    next_seq: u64,
}

/// Failed deliveries that a message bears.
const LIMIT: u32 = 2;

impl Model {
    fn eligible(&self, consumer: &ModelConsumer) -> bool {
        let held = self.unacked.values().filter(|held| held.consumer == Some(consumer.key)).count();
        let terms = &consumer.terms;
        consumer.open && (terms.no_ack || terms.prefetch == 0 || held < terms.prefetch as usize)
    }

    /// Whoever got credit joins the end of the round, whoever lost it leaves.
    fn refresh(&mut self) {
        let eligible: Vec<u64> = self.consumers.iter().filter(|c| self.eligible(c)).map(|c| c.key).collect();
        self.round.retain(|key| eligible.contains(key));
        for key in eligible {
            if !self.round.contains(&key) {
                self.round.push(key);
            }
        }
    }

    /// The next message and whom it goes to.
    fn next(&mut self) -> Option<(u64, u64, bool)> {
        let consumer = |key: &u64| self.consumers.iter().find(|c| c.key == *key).expect("in the round");
        let top = self.round.iter().map(|key| consumer(key).terms.priority).max()?;
        let key = *self.round.iter().find(|key| consumer(key).terms.priority == top)?;
        let terms = consumer(&key).terms;
        let (seq, deliveries) = self.ready.pop_first()?;
        if terms.no_ack {
            self.gone += 1;
        } else {
            self.unacked.insert(seq, Held { owner: terms.owner.0, consumer: Some(key), deliveries });
        }
        self.round.retain(|k| *k != key);
        self.round.push(key);
        self.refresh();
        Some((seq, key, deliveries != 0))
    }

    fn back(&mut self, owner: u64, seqs: Range<u64>, how: Return) -> u64 {
        let mine: Vec<u64> =
            self.unacked.range(seqs).filter(|(_, held)| held.owner == owner).map(|(seq, _)| *seq).collect();
        for seq in &mine {
            let held = self.unacked.remove(seq).expect("just seen");
            let failed = self.failed.entry(*seq).or_default();
            *failed += u32::from(how == Return::Failed);
            if how == Return::Failed && *failed > LIMIT {
                self.dying.push((*seq, Reason::DeliveryLimit));
            } else {
                self.ready.insert(*seq, held.deliveries + u32::from(how != Return::Untouched));
            }
            self.refresh();
        }
        mine.len() as u64
    }
}

struct History {
    machine: Machine,
    model: Model,
    random: StdRng,
    next_consumer: u64,
}

impl History {
    fn any_seqs(&mut self) -> Range<u64> {
        let held: Vec<u64> = self.model.unacked.keys().copied().collect();
        let start = held.choose(&mut self.random).copied().unwrap_or(0);
        let most = if self.random.random_bool(0.5) { 1 } else { 90 };
        start..start + self.random.random_range(1..=most)
    }

    fn any_consumer(&mut self) -> Option<usize> {
        let n = self.model.consumers.len();
        (n != 0).then(|| self.random.random_range(0..n))
    }

    fn step(&mut self) {
        let owner = self.random.random_range(1..=3);
        match self.random.random_range(0..100) {
            dice @ 33..46 => self.change_consumer(dice),
            dice @ 66..80 => self.bring_back(owner, dice),
            dice @ 92..100 => self.die(owner, dice),
            0..25 => {
                let gap = u64::from(self.random.random_bool(0.1));
                let start = self.model.next_seq + gap;
                let end = start + self.random.random_range(0..40);
                self.machine.enqueued(start..end);
                self.model.ready.extend((start..end).map(|seq| (seq, 0)));
                self.model.next_seq = end.max(start);
            }
            25..33 if self.model.consumers.len() < 6 => self.consume(owner),
            46..66 => self.settle(owner),
            80..81 => {
                let purged: Vec<u64> = self.machine.purge().into_iter().flatten().collect();
                assert!(purged.iter().eq(self.model.ready.keys()));
                self.model.gone += purged.len() as u64;
                self.model.ready.clear();
            }
            81..86 => self.get(owner),
            86..90 => self.try_and_give_back(),
            90..92 => self.remove_ready(),
            _ => {}
        }
        self.model.refresh();
    }

    fn change_consumer(&mut self, dice: u32) {
        match dice {
            33..36 => {
                if let Some(at) = self.any_consumer() {
                    let consumer = self.model.consumers.remove(at);
                    assert!(self.machine.remove_consumer(ConsumerKey(consumer.key)));
                    assert!(!self.machine.remove_consumer(ConsumerKey(consumer.key)));
                }
            }
            36..40 => {
                if let Some(at) = self.any_consumer() {
                    let prefetch = self.random.random_range(0..20);
                    let consumer = &mut self.model.consumers[at];
                    consumer.terms.prefetch = prefetch;
                    self.machine.set_prefetch(ConsumerKey(consumer.key), prefetch);
                }
            }
            40..46 => {
                if let Some(at) = self.any_consumer() {
                    let consumer = &mut self.model.consumers[at];
                    consumer.open = !consumer.open;
                    self.machine.set_open(ConsumerKey(consumer.key), consumer.open);
                }
            }
            _ => {}
        }
    }

    fn bring_back(&mut self, owner: u64, dice: u32) {
        match dice {
            66..74 => {
                let seqs = self.any_seqs();
                let how = if self.random.random_bool(0.5) { Return::Given } else { Return::Failed };
                assert_eq!(
                    self.machine.requeue(OwnerKey(owner), seqs.clone(), how),
                    self.model.back(owner, seqs, how)
                );
            }
            74..78 => {
                let seqs = self.any_seqs();
                assert_eq!(
                    self.machine.requeue(OwnerKey(owner), seqs.clone(), Return::Untouched),
                    self.model.back(owner, seqs, Return::Untouched)
                );
            }
            78..80 => {
                self.model.consumers.retain(|c| c.terms.owner.0 != owner);
                assert_eq!(
                    self.machine.close_owner(OwnerKey(owner)),
                    self.model.back(owner, 0..u64::MAX, Return::Failed)
                );
            }
            _ => {}
        }
    }

    fn die(&mut self, owner: u64, dice: u32) {
        match dice {
            92..94 => self.doom(owner),
            94..96 => {
                let n = self.random.random_range(0..9);
                let doomed = self.machine.doom_ready(n, Reason::MaxLength);
                assert!(doomed <= n);
                for _ in 0..doomed {
                    let (seq, _) = self.model.ready.pop_first().expect("the machine has it");
                    self.model.dying.push((seq, Reason::MaxLength));
                }
            }
            96..97 => {
                let seqs = self.model.next_seq..self.model.next_seq + self.random.random_range(1..4);
                self.machine.stillborn(seqs.clone(), Reason::MaxLength);
                self.model.next_seq = seqs.end;
                self.model.dying.extend(seqs.map(|seq| (seq, Reason::MaxLength)));
            }
            97..99 => self.bury(),
            _ => {
                assert_eq!(self.machine.has_parked(), !self.model.parked.is_empty());
                self.machine.retry_parked();
                self.model.dying.append(&mut self.model.parked);
            }
        }
    }

    fn consume(&mut self, owner: u64) {
        self.next_consumer += 1;
        let terms = Terms {
            owner: OwnerKey(owner),
            priority: self.random.random_range(-1..=1),
            prefetch: self.random.random_range(0..8),
            no_ack: self.random.random_bool(0.2),
            lease_ms: None,
            rate: None,
        };
        self.machine.add_consumer(ConsumerKey(self.next_consumer), terms);
        self.model.consumers.push(ModelConsumer { key: self.next_consumer, terms, open: true });
    }

    fn settle(&mut self, owner: u64) {
        let seqs = self.any_seqs();
        let mut settled = Vec::new();
        self.machine.settle(OwnerKey(owner), seqs.clone(), &mut settled);
        let mine = |seq: &u64, held: &Held| seqs.contains(seq) && held.owner == owner;
        let wanted: Vec<u64> =
            self.model.unacked.iter().filter(|(seq, held)| mine(seq, held)).map(|(seq, _)| *seq).collect();
        for seq in &wanted {
            self.model.unacked.remove(seq);
            self.model.refresh();
        }
        self.model.gone += wanted.len() as u64;
        assert!(settled.windows(2).all(|w| w[0].end < w[1].start), "not joined: {settled:?}");
        assert_eq!(settled.into_iter().flatten().collect::<Vec<_>>(), wanted);
    }

    fn doom(&mut self, owner: u64) {
        let seqs = self.any_seqs();
        let held = |held: &Held| held.owner == owner;
        let mine: Vec<u64> =
            self.model.unacked.range(seqs.clone()).filter(|(_, it)| held(it)).map(|(seq, _)| *seq).collect();
        assert_eq!(self.machine.doom(OwnerKey(owner), seqs, Reason::Rejected), mine.len() as u64);
        for seq in mine {
            self.model.unacked.remove(&seq);
            self.model.dying.push((seq, Reason::Rejected));
            self.model.refresh();
        }
    }

    /// Takes some of the dying away, of which some have nowhere to go.
    fn bury(&mut self) {
        while let Some((seqs, reason)) = self.machine.first_dying() {
            let to = self.random.random_range(seqs.start + 1..=seqs.end);
            self.machine.buried(to);
            for seq in seqs.start..to {
                assert_eq!(self.model.dying.remove(0), (seq, reason));
                if self.random.random_bool(0.2) {
                    self.machine.park(seq..seq + 1, reason);
                    self.model.parked.push((seq, reason));
                } else {
                    self.model.dead += 1;
                }
            }
            if self.random.random_bool(0.2) {
                return;
            }
        }
        assert!(self.model.dying.is_empty());
    }

    fn remove_ready(&mut self) {
        let start = self.random.random_range(0..=self.model.next_seq);
        let seqs = start..start + self.random.random_range(0..100);
        let gone = self.machine.remove_ready(seqs.clone());
        assert!(gone.windows(2).all(|w| w[0].end < w[1].start), "not joined: {gone:?}");
        let wanted: Vec<u64> = self.model.ready.range(seqs).map(|(seq, _)| *seq).collect();
        assert_eq!(gone.into_iter().flatten().collect::<Vec<_>>(), wanted);
        self.model.ready.retain(|seq, _| !wanted.contains(seq));
        self.model.gone += wanted.len() as u64;
    }

    fn get(&mut self, owner: u64) {
        let no_ack = self.random.random_bool(0.3);
        let taken = self.machine.get(OwnerKey(owner), no_ack);
        let wanted = self.model.ready.pop_first();
        assert_eq!(taken.map(|t| (t.seq, t.past.handed != 0)), wanted.map(|(seq, n)| (seq, n != 0)));
        match wanted {
            Some((seq, deliveries)) if !no_ack => {
                self.model.unacked.insert(seq, Held { owner, consumer: None, deliveries });
            }
            Some(_) => self.model.gone += 1,
            None => {}
        }
    }

    /// A whole run given back leaves no trace; the model is not told.
    fn try_and_give_back(&mut self) {
        let max = self.random.random_range(1..50);
        if let Some(run) = self.machine.next_run(max) {
            self.machine.give_back(&run, run.seqs.start);
        }
    }

    /// Hands out some, and compares each message with the model's.
    fn pump(&mut self) {
        for _ in 0..self.random.random_range(0..30) {
            let has_work = self.machine.has_work();
            let run = self.machine.next_run(self.random.random_range(1..50));
            assert_eq!(run.is_some(), has_work);
            let Some(mut run) = run else {
                assert!(self.model.next().is_none(), "the machine is content, the model is not");
                return;
            };
            let kept = match self.random.random_bool(0.1) && run.seqs.end - run.seqs.start > 1 {
                true => self.random.random_range(run.seqs.start + 1..run.seqs.end),
                false => run.seqs.end,
            };
            self.machine.give_back(&run, kept);
            run.seqs.end = kept;
            for seq in run.seqs.clone() {
                assert_eq!(self.model.next(), Some((seq, run.consumer.0, run.redelivered())));
            }
        }
    }

    fn compare(&self) {
        self.machine.check_conservation().expect("the law holds");
        let (machine, model) = (&self.machine, &self.model);
        assert_eq!(machine.ready_count(), model.ready.len() as u64);
        assert_eq!(machine.unacked_count(), model.unacked.len() as u64);
        assert_eq!(machine.consumer_count(), model.consumers.len());
        assert_eq!(machine.settled + machine.purged, model.gone);
        assert_eq!(machine.dying.count(), (model.dying.len() + model.parked.len()) as u64);
        assert_eq!(machine.dead, model.dead);
        assert!(machine.ready.pieces().flat_map(|p| p.start..p.end).eq(model.ready.keys().copied()));
        for (seq, held) in &model.unacked {
            assert!(machine.owns(OwnerKey(held.owner), *seq));
        }
    }
}

#[test]
fn random_histories_agree_with_the_model_after_every_step() {
    let begin = |seed| {
        let mut machine = Machine::default();
        machine.set_delivery_limit(Some(LIMIT as u16));
        History { machine, model: Model::default(), random: StdRng::seed_from_u64(seed), next_consumer: 0 }
    };
    super::play(40, 1500, begin, |history| {
        history.step();
        history.compare();
        history.pump();
        history.compare();
    });
}
