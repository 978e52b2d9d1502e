//! What was promised and what came. Only what is open is remembered, so that hours cost nothing.

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use std::collections::HashMap;

/// A message's number in its lane; they ascend.
pub(crate) type Number = u64;

/// How a delivery was flagged, and where it came out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flags {
    pub(crate) redelivered: bool,
    /// It came out of a queue for dead letters, or of a stream that is read again: how often is not known.
    pub(crate) aside: bool,
}

#[derive(Debug)]
struct Open {
    confirmed: bool,
    received: bool,
    /// It was published again, and may have been done with before.
    repeated: bool,
}

/// One lane: what is published to one place and comes out of one queue, or of that for dead letters.
#[derive(Debug, Default)]
struct Lane {
    name: &'static str,
    next: Number,
    open: HashMap<Number, Open>,
    confirmed: u64,
    done: u64,
    redelivered: u64,
    highest_confirmed: Number,
    /// Up to this one they may come again unflagged: the kill undid how they were brought to the queue.
    undone: Number,
}

#[derive(Debug, Default)]
struct Books {
    lanes: Vec<Lane>,
    faults: Vec<String>,
}

/// Shared by all clients.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Books>);

/// Sums over all lanes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) sent: u64,
    pub(crate) confirmed: u64,
    pub(crate) done: u64,
    pub(crate) redelivered: u64,
    /// Confirmed and not come out yet.
    pub(crate) owed: u64,
}

impl Ledger {
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let lanes = names.iter().map(|name| Lane { name, ..Lane::default() }).collect();
        Self(Mutex::new(Books { lanes, faults: Vec::new() }))
    }

    /// A number for a message about to be published.
    pub(crate) fn send(&self, lane: usize) -> Number {
        let lane = &mut self.0.lock().lanes[lane];
        lane.next += 1;
        lane.open.insert(lane.next, Open { confirmed: false, received: false, repeated: false });
        lane.next
    }

    /// A message is about to be published again, because nobody knows whether it was taken.
    pub(crate) fn repeat(&self, lane: usize, number: Number) {
        let lane = &mut self.0.lock().lanes[lane];
        match lane.open.get_mut(&number) {
            Some(open) => open.received = false,
            None => {
                lane.open.insert(number, Open { confirmed: false, received: false, repeated: true });
            }
        }
    }

    /// The broker promised to keep it.
    pub(crate) fn confirm(&self, lane: usize, number: Number) {
        let lane = &mut self.0.lock().lanes[lane];
        lane.confirmed += 1;
        lane.highest_confirmed = lane.highest_confirmed.max(number);
        if let Some(open) = lane.open.get_mut(&number) {
            open.confirmed = true;
        }
    }

    /// It was rolled back: it must never come.
    pub(crate) fn take_back(&self, lane: usize, number: Number) {
        self.0.lock().lanes[lane].open.remove(&number);
    }

    /// It came out of a queue.
    pub(crate) fn receive(&self, lane: usize, number: Number, flags: Flags) {
        let books = &mut *self.0.lock();
        let Some(of) = books.lanes.get_mut(lane) else {
            return books.faults.push(format!("lane {lane}, number {number}: was never published"));
        };
        if number > of.next {
            return books.faults.push(format!("{}: number {number} was never published", of.name));
        }
        of.redelivered += u64::from(flags.redelivered);
        if flags.aside || flags.redelivered || number <= of.undone {
            of.open.entry(number).and_modify(|open| open.received = true);
            return;
        }
        match of.open.get_mut(&number) {
            Some(open) if !open.received => open.received = true,
            Some(_) => books.faults.push(format!("{}: number {number} came again unflagged", of.name)),
            None => books.faults.push(format!("{}: number {number} came after its ack, unflagged", of.name)),
        }
    }

    /// A consumer is about to ack it.
    pub(crate) fn done(&self, lane: usize, number: Number) {
        if let Some(lane) = self.0.lock().lanes.get_mut(lane) {
            lane.done += u64::from(lane.open.remove(&number).is_some());
        }
    }

    /// The broker was killed. Deliveries do not wait for the disk: what it had brought to this lane's queue itself, it
    /// may bring again.
    pub(crate) fn undone(&self, lane: usize) {
        let lane = &mut self.0.lock().lanes[lane];
        lane.undone = lane.next;
    }

    /// Something is wrong that no lane knows of.
    pub(crate) fn fault(&self, text: String) {
        self.0.lock().faults.push(text);
    }

    /// The highest number of a lane that was confirmed.
    pub(crate) fn highest_confirmed(&self, lane: usize) -> Number {
        self.0.lock().lanes[lane].highest_confirmed
    }

    pub(crate) fn sums(&self) -> Sums {
        let books = self.0.lock();
        let mut sums = Sums::default();
        for lane in &books.lanes {
            sums.sent += lane.next;
            sums.confirmed += lane.confirmed;
            sums.done += lane.done;
            sums.redelivered += lane.redelivered;
            sums.owed += lane.owed().count() as u64;
        }
        sums
    }

    /// Faults that show at once.
    pub(crate) fn verify_so_far(&self) -> Result<()> {
        let books = self.0.lock();
        let few: Vec<_> = books.faults.iter().take(5).cloned().collect();
        ensure!(few.is_empty(), "{} faults, the first: {}", books.faults.len(), few.join("; "));
        Ok(())
    }

    /// All promises, after the queues were drained.
    pub(crate) fn verify_all(&self) -> Result<()> {
        self.verify_so_far()?;
        let books = self.0.lock();
        let lost: Vec<String> = books
            .lanes
            .iter()
            .filter_map(|lane| {
                let mut owed: Vec<_> = lane.owed().collect();
                owed.sort_unstable();
                Some(format!("{}: {} lost, the first {}", lane.name, owed.len(), owed.first()?))
            })
            .collect();
        ensure!(lost.is_empty(), "{}", lost.join("; "));
        for lane in &books.lanes {
            ensure!(lane.done > 0, "{}: nothing came out, so nothing was tried", lane.name);
        }
        Ok(())
    }
}

impl Lane {
    fn owed(&self) -> impl Iterator<Item = Number> {
        self.open.iter().filter(|(_, open)| open.confirmed && !open.repeated).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::{Flags, Ledger};

    const PLAIN: Flags = Flags { redelivered: false, aside: false };
    const AGAIN: Flags = Flags { redelivered: true, aside: false };

    #[test]
    fn a_ledger_finds_what_is_lost_doubled_invented_or_rolled_back() {
        let check = |story: fn(&Ledger), error: &str| {
            let ledger = Ledger::new(&["q"]);
            story(&ledger);
            let verdict = ledger.verify_all();
            let text = verdict.err().map(|it| it.to_string()).unwrap_or_default();
            assert!(text == error || (!error.is_empty() && text.contains(error)), "'{text}', not '{error}'");
        };
        check(|it| it.confirm(0, it.send(0)), "q: 1 lost, the first 1");
        check(
            |it| {
                it.confirm(0, it.send(0));
                it.receive(0, 1, PLAIN);
                it.receive(0, 1, AGAIN);
                it.done(0, 1);
                it.receive(0, 1, AGAIN);
            },
            "",
        );
        check(
            |it| {
                it.send(0);
                it.receive(0, 1, PLAIN);
                it.receive(0, 1, PLAIN);
            },
            "came again unflagged",
        );
        check(|it| it.receive(0, 1, PLAIN), "was never published");
        check(
            |it| {
                it.send(0);
                it.take_back(0, 1);
                it.receive(0, 1, PLAIN);
            },
            "came after its ack",
        );
        check(
            |it| {
                it.send(0);
                it.receive(0, 1, PLAIN);
                it.done(0, 1);
                // A kill: nobody knows whether it was taken, and it is not owed any more.
                it.repeat(0, 1);
                it.confirm(0, 1);
            },
            "",
        );
    }
}
