//! What queues count: after each step of a story, the counts that moved and by how much.

use crate::support::*;
use Count::*;
use millpond_broker::*;
use millpond_model::VhostName;
use millpond_model::properties::Properties;
use millpond_model::table::Value;

type Step = fn(&mut Story);

struct Story {
    broker: TestBroker,
    client: Client,
    clock: Clock,
    seen: Vec<Seen>,
}

impl Story {
    fn counts(&self, name: &str) -> Option<Figures> {
        self.broker.broker().queue(&VhostName::new("/").unwrap(), &queue(name)).unwrap().unwrap().counts
    }

    fn count(&self, name: &str, count: Count) -> u64 {
        self.counts(name).map_or(0, |figures| figures.get(count))
    }

    /// The counts of the queue that are not levels.
    fn all(&self, name: &str) -> Vec<(Count, u64)> {
        let levels = [Ready, Unacked, Waiting, Consumers];
        let Some(figures) = self.counts(name) else { return Vec::new() };
        let counted = figures.counts().iter().filter(|count| !levels.contains(count));
        counted.map(|count| (*count, figures.get(*count))).filter(|(_, value)| *value > 0).collect()
    }

    fn declare(&mut self, name: &str, args: &[(&str, Value)]) {
        let request = DeclareQueue { arguments: arguments(args), ..queue_request(name, "d") };
        let (_, durability) = self.client.session.declare_queue(&request).unwrap();
        self.client.wait_commit(durability);
    }

    fn settle(&mut self, outcome: Outcome) {
        let seen = std::mem::take(&mut self.seen);
        self.client.settle(&seen, outcome);
    }

    /// Consumes until so many came.
    fn consume(&mut self, no_ack: bool, count: usize) {
        let request = ConsumeRequest { no_ack, ..consume_request("q", 1) };
        let consumer = self.client.session.consume(request).unwrap();
        self.seen = self.client.deliveries(count);
        self.client.session.cancel(consumer);
    }
}

fn story(args: &[(&str, Value)]) -> Story {
    let clock = Clock::fake(1_700_000_000_000);
    let broker = TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() });
    let client = broker.session();
    let mut story = Story { broker, client, clock, seen: Vec::new() };
    story.declare("grave", &[]);
    story.declare("q", args);
    story
}

/// Each step adds to the counts of queue `q` exactly what stands beside it.
fn tell(name: &str, args: &[(&str, Value)], steps: &[(Step, &[(Count, u64)])]) {
    let mut story = story(args);
    let mut expected: Vec<(Count, u64)> = Vec::new();
    for (at, (step, adds)) in steps.iter().enumerate() {
        step(&mut story);
        for (count, by) in *adds {
            match expected.iter_mut().find(|(it, _)| it == count) {
                Some((_, value)) => *value += by,
                None => expected.push((*count, *by)),
            }
        }
        // What expires is told by the timer's thread.
        let began = std::time::Instant::now();
        let is_told = |story: &Story| expected.iter().all(|(it, value)| story.count("q", *it) >= *value);
        while !is_told(&story) && began.elapsed() < std::time::Duration::from_secs(10) {
            std::thread::yield_now();
        }
        let (mut found, mut wanted) = (story.all("q"), expected.clone());
        found.sort_by_key(|(count, _)| *count as u8);
        wanted.sort_by_key(|(count, _)| *count as u8);
        assert_eq!(found, wanted, "{name}, step {at}");
    }
}

fn publish_three(story: &mut Story) {
    story.client.publish("", "q", &["a", "b", "c"]);
}

fn dead_to_grave(more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let mut args = vec![("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", "grave".into())];
    args.extend(more.iter().cloned());
    args
}

#[test]
fn deliveries_and_what_becomes_of_them_are_counted() {
    tell(
        "settled",
        &[],
        &[
            (publish_three, &[(Publish, 3)]),
            (|it| it.consume(false, 3), &[(Deliver, 3)]),
            (|it| it.settle(Outcome::Requeue), &[(Requeue, 3)]),
            (|it| it.consume(false, 3), &[(Deliver, 3), (Redeliver, 3)]),
            (|it| it.settle(Outcome::Accept), &[(Ack, 3)]),
            (publish_three, &[(Publish, 3)]),
            (|it| it.consume(true, 3), &[(DeliverNoAck, 3)]),
        ],
    );
}

#[test]
fn single_messages_that_are_taken_are_counted_apart() {
    tell(
        "taken",
        &[],
        &[
            (|it| assert!(it.client.get("q", true).is_none()), &[(GetEmpty, 1)]),
            (publish_three, &[(Publish, 3)]),
            (|it| drop(it.client.get("q", true).unwrap()), &[(GetNoAck, 1)]),
            (|it| drop(it.client.get("q", false).unwrap()), &[(Get, 1)]),
        ],
    );
}

#[test]
fn messages_that_die_are_counted_by_reason() {
    let expiring = |it: &mut Story| {
        let properties = Properties { expiration: Some("1000".into()), ..persistent() };
        let durability = it.client.publish_with("", "q", &["a"], &properties);
        it.client.wait_commit(durability);
    };
    tell(
        "rejected",
        &dead_to_grave(&[]),
        &[
            (publish_three, &[(Publish, 3)]),
            (|it| it.consume(false, 3), &[(Deliver, 3)]),
            (|it| it.settle(Outcome::Reject), &[(Reject, 3), (DeadRejected, 3)]),
        ],
    );
    tell(
        "too many",
        &dead_to_grave(&[("x-max-length", 1i64.into())]),
        &[(publish_three, &[(Publish, 3), (DeadMaxLength, 2)])],
    );
    tell(
        "too old",
        &dead_to_grave(&[]),
        &[(expiring, &[(Publish, 1)]), (|it| it.clock.advance(2000), &[(Expired, 1), (DeadExpired, 1)])],
    );
    tell(
        "too old, for nobody",
        &[],
        &[(expiring, &[(Publish, 1)]), (|it| it.clock.advance(2000), &[(Expired, 1), (Dropped, 1)])],
    );
    tell(
        "too many, for nobody",
        &[("x-max-length", 1i64.into())],
        &[(publish_three, &[(Publish, 3), (Dropped, 2)])],
    );
}

#[test]
fn a_broker_that_did_nothing_shows_no_counts_and_the_store_shows_its_work() {
    let mut story = story(&[]);
    assert_eq!(story.all("grave"), []);
    let before = story.broker.broker().store_figures();
    story.client.publish("", "q", &["a"]);
    let after = story.broker.broker().store_figures();
    assert!(after.batches > before.batches && after.groups > before.groups, "{before:?} {after:?}");
    assert!(after.log_bytes > before.log_bytes && after.syncs > before.syncs, "{before:?} {after:?}");
    assert!(after.memory_bytes > before.memory_bytes, "{before:?} {after:?}");
}
