//! What was promised and what came, over all rounds.

use anyhow::{Result, bail, ensure};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;

/// The queues that messages come out of, by index.
pub(crate) const QUEUES: [&str; 5] = ["crash.a", "crash.b", "crash.c", "crash.moved", "crash.copied"];

/// Clients publish into the first so many of [`QUEUES`], and consume them in every round. Into the others a rule
/// publishes; they are read at the end only, when nobody is killed any more, so that none of their messages may come
/// twice, flagged or not.
pub(crate) const PUBLISHED: usize = 3;

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
    /// To the queue of a rule, which publishes it to queues 3 and 4 in one commit with its ack.
    Rule,
}

impl Kind {
    /// The queues it belongs in.
    fn queues(self) -> &'static [usize] {
        match self {
            Kind::Single(0) => &[0],
            Kind::Single(1) => &[1],
            Kind::Single(_) => &[2],
            Kind::Fanout => &[0, 1, 2],
            Kind::Transaction => &[0, 1],
            Kind::Rule => &[3, 4],
        }
    }
}

#[derive(Debug)]
struct Sent {
    kind: Kind,
    producer: u64,
    confirmed: bool,
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
    /// Queue and producer: the highest number that came unflagged this round, on that queue's one consumer.
    last: HashMap<(usize, u64), Number>,
    faults: Vec<String>,
    redelivered: u64,
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
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, confirmed, came, redelivered } = self;
        write!(
            f,
            "{sent} sent, {confirmed} confirmed, {came} received, {redelivered} redelivered, 0 lost, 0 doubled"
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
        books.sent.insert(number, Sent { kind, producer, confirmed: false, round });
        number
    }

    /// The broker promised to keep it.
    pub(crate) fn confirm(&self, number: Number) {
        if let Some(sent) = self.0.lock().sent.get_mut(&number) {
            sent.confirmed = true;
        }
    }

    /// A message came out of a queue.
    pub(crate) fn receive(&self, queue: usize, number: Number, redelivered: bool) {
        let books = &mut *self.0.lock();
        let Some(sent) = books.sent.get(&number) else {
            books.faults.push(format!("{}: number {number} was never published", QUEUES[queue]));
            return;
        };
        if !sent.kind.queues().contains(&queue) {
            books.faults.push(format!(
                "{}: number {number} belongs in {:?}",
                QUEUES[queue],
                sent.kind.queues()
            ));
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
        let last = books.last.entry((queue, sent.producer)).or_default();
        if number < *last {
            books
                .faults
                .push(format!("{}: number {number} came after {last} of the same producer", QUEUES[queue]));
        }
        *last = number;
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
        if let Some((number, kind, queue)) = torn(&books) {
            bail!("{kind:?} {number} is there after a kill, and not in {queue}");
        }
        Ok(Report {
            sent: books.sent.len(),
            confirmed: books.sent.values().filter(|sent| sent.confirmed).count(),
            came: books.came.len(),
            redelivered: books.redelivered,
        })
    }
}

/// A message that survived a kill in one of its queues and not in another, named.
fn torn(books: &Books) -> Option<(Number, Kind, &'static str)> {
    books.sent.iter().find_map(|(number, sent)| {
        // Deliveries do not wait for the disk: what came in the round it was sent in may have been lost with it.
        let came = sent.kind.queues().iter().map(|queue| (*queue, books.came.get(&(*queue, *number))));
        let survived = came.clone().any(|(_, came)| came.is_some_and(|came| came.round > sent.round));
        let (queue, _) = came.clone().find(|(_, came)| survived && came.is_none())?;
        Some((*number, sent.kind, QUEUES[queue]))
    })
}

/// Confirmed messages that have not come out of a queue they belong in.
fn missing(books: &Books) -> Vec<(&'static str, Number, Kind)> {
    let confirmed = books.sent.iter().filter(|(_, sent)| sent.confirmed);
    let due = confirmed
        .flat_map(|(number, sent)| sent.kind.queues().iter().map(|queue| (*queue, *number, sent.kind)));
    due.filter(|(queue, number, _)| !books.came.contains_key(&(*queue, *number)))
        .map(|(queue, number, kind)| (QUEUES[queue], number, kind))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Kind, Ledger};

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
        twice.receive(3, number, true);
        twice.receive(4, number, true);
        twice.verify_all().unwrap();
        twice.receive(4, number, true);
        assert!(twice.verify_so_far().unwrap_err().to_string().starts_with("1 faults, first: crash.copied"));
    }
}
