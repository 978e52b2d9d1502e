//! What was promised and what came, over all rounds.

use crate::stream::Offsets;
use anyhow::{Result, bail, ensure};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;

/// The queues that messages come out of, by index.
pub(crate) const QUEUES: [&str; 15] = [
    "crash.a",
    "crash.b",
    "crash.c",
    "crash.urgent",
    "crash.moved",
    "crash.copied",
    "crash.work",
    "crash.dead",
    "crash.brief",
    "crash.expired",
    "crash.due",
    "crash.once",
    "crash.kept",
    "crash.replayed",
    "crash.stream",
];

/// The first so many of [`QUEUES`] are bound to the fanout exchange.
pub(crate) const BOUND: usize = 3;

/// The first so many of [`QUEUES`] are consumed in every round, and what comes is noted. The others are read at the
/// end only, when nobody is killed any more, so that none of their messages may come twice, flagged or not.
pub(crate) const PUBLISHED: usize = 4;

/// A queue with priorities; a message's is its number modulo [`PRIORITIES`].
pub(crate) const URGENT: usize = 3;
pub(crate) const PRIORITIES: u64 = 10;

/// Its consumer rejects some, which go to the queue behind it, and acks others.
pub(crate) const WORK: usize = 6;

/// Its messages expire, and go to the queue behind it.
pub(crate) const BRIEF: usize = 8;

/// Messages come here from an exchange at which they waited, in the order of their delays.
pub(crate) const DUE: usize = 10;

/// It takes each id once, and its publisher repeats those of which it does not know whether they were taken.
pub(crate) const ONCE: usize = 11;

/// Its consumer acks some, which it remembers; at the end those are brought to the queue behind it.
pub(crate) const KEPT: usize = 12;

/// Not emptied by reading: see [`crate::stream`].
pub(crate) const STREAM: usize = 14;

/// A message's number, unique over the whole run; the body carries it.
pub(crate) type Number = u64;

/// How a message was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To one queue.
    Single(usize),
    /// To all queues through a fanout exchange.
    Fanout,
    /// To queues 0 and 1 in one transaction.
    Transaction,
    /// To the queue of a rule, which publishes it to queues 4 and 5 in one commit with its ack.
    Rule,
    /// To a queue from which it goes to another one if it is rejected.
    Rejectable,
    /// To a queue from which it goes to another one when it expires.
    Mortal,
    /// To an exchange at which it waits.
    Delayed,
    /// To a queue that takes each id once.
    Once,
    /// To a queue that remembers what was acked.
    Kept,
    /// To a stream.
    Streamed,
}

impl Kind {
    /// Where it belongs: everywhere in this list, and there in one of these queues, never in two.
    fn places(self) -> &'static [&'static [usize]] {
        match self {
            Kind::Single(0) => &[&[0]],
            Kind::Single(1) => &[&[1]],
            Kind::Single(2) => &[&[2]],
            Kind::Single(_) => &[&[URGENT]],
            Kind::Fanout => &[&[0], &[1], &[2]],
            Kind::Transaction => &[&[0], &[1]],
            Kind::Rule => &[&[4], &[5]],
            Kind::Rejectable => &[&[WORK, WORK + 1]],
            Kind::Mortal => &[&[BRIEF, BRIEF + 1]],
            Kind::Delayed => &[&[DUE]],
            Kind::Once => &[&[ONCE]],
            Kind::Kept => &[&[KEPT, KEPT + 1]],
            Kind::Streamed => &[&[STREAM]],
        }
    }
}

#[derive(Debug)]
struct Sent {
    kind: Kind,
    producer: u64,
    confirmed: bool,
    /// A consumer acked it, so it need not come again.
    acked: bool,
    round: u32,
}

#[derive(Debug, Default)]
struct Came {
    times: u32,
    /// In which round it came last.
    round: u32,
}

#[derive(Debug, Default)]
struct Books {
    sent: HashMap<Number, Sent>,
    next: Number,
    /// Kills so far.
    round: u32,
    /// Queue and number: how often it came.
    came: HashMap<(usize, Number), Came>,
    /// Queue, producer and priority: the highest number that came unflagged this round, on that queue's one consumer.
    last: HashMap<(usize, u64, u64), Number>,
    faults: Vec<String>,
    redelivered: u64,
    /// What was read in the stream so far.
    stream: Offsets,
}

/// Shared by all clients; a lock, since this is not the program that is measured.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Books>);

/// The sum at the end.
#[derive(Debug)]
pub(crate) struct Report {
    sent: usize,
    /// Confirmed or committed.
    pub(crate) confirmed: usize,
    came: usize,
    redelivered: u64,
    /// Those that were in a queue for dead messages.
    pub(crate) dead: usize,
    /// Of those that wait, come once, are remembered and brought again, or stay in a stream: how many came.
    pub(crate) special: [usize; 4],
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, confirmed, came, redelivered, dead, special } = self;
        let [due, once, replayed, streamed] = special;
        write!(
            f,
            "{sent} sent, {confirmed} confirmed, {came} received, {redelivered} redelivered, {dead} dead, \
             {due} delayed, {once} once, {replayed} replayed, {streamed} in the stream, 0 lost, 0 doubled"
        )
    }
}

impl Ledger {
    /// A number for a message about to be published.
    pub(crate) fn send(&self, producer: u64, kind: Kind) -> Number {
        let mut books = self.0.lock();
        books.next += 1;
        let number = books.next;
        let round = books.round;
        books.sent.insert(number, Sent { kind, producer, confirmed: false, acked: false, round });
        number
    }

    /// The broker promised to keep it.
    pub(crate) fn confirm(&self, number: Number) {
        if let Some(sent) = self.0.lock().sent.get_mut(&number) {
            sent.confirmed = true;
        }
    }

    /// A consumer is about to ack it in a queue that is read at the end.
    pub(crate) fn ack(&self, number: Number) {
        if let Some(sent) = self.0.lock().sent.get_mut(&number) {
            sent.acked = true;
        }
    }

    /// A message came out of a queue.
    pub(crate) fn receive(&self, queue: usize, number: Number, redelivered: bool) {
        let books = &mut *self.0.lock();
        let Some(sent) = books.sent.get(&number) else {
            books.faults.push(format!("{}: number {number} was never published", QUEUES[queue]));
            return;
        };
        if !sent.kind.places().concat().contains(&queue) {
            books
                .faults
                .push(format!("{}: number {number}, a {:?}, does not belong here", QUEUES[queue], sent.kind));
        }
        let came = books.came.entry((queue, number)).or_default();
        came.times += 1;
        came.round = books.round;
        let times = came.times;
        if times > 1 && (!redelivered || queue >= PUBLISHED) {
            books.faults.push(format!(
                "{}: number {number} came {times} times, redelivered={redelivered}",
                QUEUES[queue]
            ));
        }
        if redelivered {
            books.redelivered += 1;
            return;
        }
        if [DUE, KEPT + 1].contains(&queue) {
            // In the order of their delays, and of their acks.
            return;
        }
        let priority = if queue == URGENT { number % PRIORITIES } else { 0 };
        let last = books.last.entry((queue, sent.producer, priority)).or_default();
        if number < *last {
            books
                .faults
                .push(format!("{}: number {number} came after {last} of the same producer", QUEUES[queue]));
        }
        *last = number;
    }

    /// Those of a kind of which nobody knows whether they were taken, ascending.
    pub(crate) fn unsure(&self, kind: Kind) -> Vec<Number> {
        let books = self.0.lock();
        let unsure = books.sent.iter().filter(|(_, sent)| sent.kind == kind && !sent.confirmed);
        let mut numbers: Vec<Number> = unsure.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// A message was read in the stream, which is read again from time to time.
    pub(crate) fn read(&self, offset: u64, number: Number) {
        let books = &mut *self.0.lock();
        let Some(sent) = books.sent.get(&number) else {
            books.faults.push(format!("{}: number {number} was never published", QUEUES[STREAM]));
            return;
        };
        if sent.kind != Kind::Streamed {
            books.faults.push(format!("{}: number {number} does not belong here", QUEUES[STREAM]));
        }
        let confirmed = |number| books.sent.get(&number).is_some_and(|sent| sent.confirmed);
        books.faults.extend(books.stream.note(offset, number, confirmed));
        let came = books.came.entry((STREAM, number)).or_default();
        *came = Came { times: came.times + 1, round: books.round };
    }

    /// The last offset of the stream that is sure to be there after a kill.
    pub(crate) fn sure_offset(&self) -> Option<u64> {
        let books = self.0.lock();
        books.stream.last_with(|number| books.sent.get(&number).is_some_and(|sent| sent.confirmed))
    }

    /// Connections are gone: order starts anew.
    pub(crate) fn end_round(&self) {
        let books = &mut *self.0.lock();
        books.last.clear();
        books.round += 1;
    }

    /// Faults that show at once.
    pub(crate) fn verify_so_far(&self) -> Result<()> {
        let books = self.0.lock();
        ensure!(books.faults.is_empty(), "{} faults, first: {}", books.faults.len(), books.faults[0]);
        Ok(())
    }

    /// Whether every confirmed message has come, and of the others none in parts; asked while draining.
    pub(crate) fn is_complete(&self) -> bool {
        let books = self.0.lock();
        missing(&books).is_empty() && torn(&books).is_none()
    }

    /// How many deliveries there were.
    pub(crate) fn deliveries(&self) -> u64 {
        self.0.lock().came.values().map(|came| u64::from(came.times)).sum()
    }

    /// All promises, after the queues were drained.
    pub(crate) fn verify_all(&self) -> Result<Report> {
        self.verify_so_far()?;
        let books = self.0.lock();
        let missing = missing(&books);
        ensure!(missing.is_empty(), "{} lost, first: {:?}", missing.len(), missing[0]);
        if let Some((number, kind, both)) = doubled(&books) {
            bail!("{kind:?} {number} is in {} and in {}", both[0], both[1]);
        }
        if let Some((number, kind, queue)) = torn(&books) {
            bail!("{kind:?} {number} is there after a kill, and not in {queue}");
        }
        Ok(Report {
            sent: books.sent.len(),
            confirmed: books.sent.values().filter(|sent| sent.confirmed).count(),
            came: books.came.len(),
            redelivered: books.redelivered,
            dead: books.came_out(WORK + 1) + books.came_out(BRIEF + 1),
            special: [DUE, ONCE, KEPT + 1, STREAM].map(|queue| books.came_out(queue)),
        })
    }
}

impl Books {
    /// How many came out of a queue.
    fn came_out(&self, queue: usize) -> usize {
        self.came.keys().filter(|(from, _)| *from == queue).count()
    }

    /// In which of these queues it came, and the last round it did.
    fn came_in(&self, place: &'static [usize], number: Number) -> impl Iterator<Item = (usize, u32)> {
        place.iter().filter_map(move |queue| Some((*queue, self.came.get(&(*queue, number))?.round)))
    }
}

/// A message that survived a kill in one of its places and not in another, named.
fn torn(books: &Books) -> Option<(Number, Kind, &'static str)> {
    books.sent.iter().find_map(|(number, sent)| {
        // Deliveries do not wait for the disk: what came in the round it was sent in may have been lost with it.
        let places = sent.kind.places();
        let survived = places
            .iter()
            .any(|place| books.came_in(place, *number).any(|(_, last_round)| last_round > sent.round));
        let absent = places.iter().find(|place| books.came_in(place, *number).next().is_none())?;
        (survived && !sent.acked).then_some((*number, sent.kind, QUEUES[absent[0]]))
    })
}

/// A message that is in two queues of which it belongs in one.
fn doubled(books: &Books) -> Option<(Number, Kind, [&'static str; 2])> {
    books.sent.iter().find_map(|(number, sent)| {
        sent.kind.places().iter().find_map(|place| {
            let mut came = books.came_in(place, *number).map(|(queue, _)| QUEUES[queue]);
            Some((*number, sent.kind, [came.next()?, came.next()?]))
        })
    })
}

/// Confirmed messages that have not come out where they belong, and that nobody acked before.
fn missing(books: &Books) -> Vec<(&'static str, Number, Kind)> {
    let promised = books.sent.iter().filter(|(_, sent)| sent.confirmed && !sent.acked);
    let due = promised
        .flat_map(|(number, sent)| sent.kind.places().iter().map(|place| (*place, *number, sent.kind)));
    due.filter(|(place, number, _)| books.came_in(place, *number).next().is_none())
        .map(|(place, number, kind)| (QUEUES[place[0]], number, kind))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{BRIEF, Kind, Ledger, QUEUES, WORK};

    #[test]
    fn a_ledger_finds_what_is_lost_doubled_invented_or_split() {
        let lost = Ledger::default();
        lost.confirm(lost.send(1, Kind::Single(0)));
        assert!(lost.verify_all().unwrap_err().to_string().starts_with("1 lost"));

        let doubled = Ledger::default();
        let number = doubled.send(1, Kind::Single(0));
        doubled.receive(0, number, false);
        doubled.receive(0, number, true);
        doubled.verify_so_far().unwrap();
        doubled.receive(0, number, false);
        assert!(doubled.verify_so_far().unwrap_err().to_string().contains("came 3 times"));

        let invented = Ledger::default();
        invented.receive(0, 7, false);
        assert!(invented.verify_so_far().unwrap_err().to_string().contains("never published"));

        let split = Ledger::default();
        let number = split.send(1, Kind::Transaction);
        split.receive(1, number, false);
        split.verify_all().unwrap();
        split.end_round();
        split.receive(1, number, true);
        let error = split.verify_all().unwrap_err().to_string();
        assert_eq!(error, "Transaction 1 is there after a kill, and not in crash.a");

        let twice = Ledger::default();
        let number = twice.send(1, Kind::Rule);
        twice.end_round();
        twice.receive(4, number, true);
        twice.receive(5, number, true);
        twice.verify_all().unwrap();
        twice.receive(5, number, true);
        assert!(twice.verify_so_far().unwrap_err().to_string().starts_with("1 faults, first: crash.copied"));
    }
    #[test]
    fn a_ledger_wants_a_dead_message_in_one_of_both_queues_or_acked() {
        for (kind, source) in [(Kind::Rejectable, WORK), (Kind::Mortal, BRIEF)] {
            let ledger = Ledger::default();
            let number = ledger.send(1, kind);
            ledger.confirm(number);
            assert!(ledger.verify_all().unwrap_err().to_string().starts_with("1 lost"), "{kind:?}");
            ledger.receive(source + 1, number, true);
            ledger.verify_all().unwrap();
            ledger.receive(source, number, true);
            let error = ledger.verify_all().unwrap_err().to_string();
            assert_eq!(error, format!("{kind:?} 1 is in {} and in {}", QUEUES[source], QUEUES[source + 1]));
        }
        let acked = Ledger::default();
        let number = acked.send(1, Kind::Rejectable);
        acked.confirm(number);
        acked.ack(number);
        acked.verify_all().unwrap();
    }
}
