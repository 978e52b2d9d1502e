//! Schedules: each moment gets its message once, through restarts, pauses and changes.

use crate::full::{fill, with_options};
use crate::support::*;
use millpond_broker::*;
use millpond_model::VhostName;
use millpond_model::properties::{Properties, RawProperties};
use millpond_store::fs::FakeFs;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// 14 November 2023, 22:13:20 UTC.
const BEGIN_MS: u64 = 1_700_000_000_000;

fn broker() -> (TestBroker, Clock) {
    let clock = Clock::fake(BEGIN_MS);
    (TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() }), clock)
}

fn root() -> VhostName {
    VhostName::new("/").unwrap()
}

/// To queue `q` through the default exchange.
fn spec(cron: &str, missed: Missed) -> ScheduleSpec {
    ScheduleSpec {
        name: "tick".into(),
        cron: cron.into(),
        zone: "UTC".into(),
        exchange: exchange(""),
        routing_key: b"q"[..].into(),
        properties: Properties::default(),
        body: b"tock"[..].into(),
        missed,
    }
}

fn set(broker: &TestBroker, spec: ScheduleSpec) -> bool {
    let (changed, saved) = broker.broker().set_schedule(&root(), spec).unwrap();
    saved.wait().unwrap();
    changed
}

fn info(broker: &TestBroker) -> ScheduleInfo {
    broker.broker().list_schedules(&root()).unwrap().remove(0)
}

/// Waits until the schedule waits for a moment after now.
fn settle(broker: &TestBroker, clock: &Clock) {
    let started = Instant::now();
    while info(broker).next_ms.is_some_and(|next_ms| next_ms <= clock.now_ms()) {
        assert!(started.elapsed() < PATIENCE, "it does not fire");
        std::thread::yield_now();
    }
}

/// The moments of the messages in the queue, in seconds since the test's begin.
fn moments(client: &mut Client) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some(got) = client.get("q", true) {
        let message = got.delivery.message;
        let headers = RawProperties::from_checked(message.properties()).headers().unwrap();
        let due_ms = headers.get("x-schedule-due-ms").and_then(|value| value.as_i64()).unwrap();
        found.push((due_ms as u64 - BEGIN_MS) / 1000);
    }
    found
}

#[test]
fn every_moment_gets_its_message_and_says_which_it_is() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    client.declare("q", "d");
    assert!(set(&broker, spec("* * * * *", Missed::Once)));
    assert_eq!(info(&broker).next_ms, Some(BEGIN_MS + 40_000));
    clock.advance(39_999);
    assert_eq!(client.ready("q"), 0);
    clock.advance(1);
    settle(&broker, &clock);
    let message = client.get("q", true).unwrap().delivery.message;
    assert_eq!(message.body(), b"tock");
    assert!(message.is_persistent());
    let properties = RawProperties::from_checked(message.properties());
    assert_eq!(properties.message_id(), Some(&b"tick/1700000040000"[..]));
    assert_eq!(properties.timestamp(), Some(1_700_000_040));
    let headers = properties.headers().unwrap();
    assert_eq!(headers.get("x-schedule").and_then(|it| it.as_long_str()), Some(&b"tick"[..]));
    for _ in 0..3 {
        clock.advance(60_000);
        settle(&broker, &clock);
    }
    assert_eq!(moments(&mut client), [100, 160, 220]);
    let info = info(&broker);
    assert_eq!((info.fired, info.unrouted, info.last_ms), (4, 0, Some(BEGIN_MS + 220_000)));
}

#[test]
fn the_message_is_routed_at_its_moment_and_may_wait_or_expire_as_any_other() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    client.declare_exchange("topics", "topic", "d");
    client.declare_exchange("inside", "fanout", "di");
    let mut spec = ScheduleSpec {
        exchange: exchange("topics"),
        routing_key: b"a.b"[..].into(),
        ..spec("* * * * *", Missed::Once)
    };
    spec.properties.expiration = Some("500".into());
    set(&broker, spec.clone());
    clock.advance(40_000);
    settle(&broker, &clock);
    assert_eq!(info(&broker).unrouted, 1);
    client.declare("q", "d");
    client.bind("topics", "q", "*.b");
    clock.advance(60_000);
    settle(&broker, &clock);
    assert_eq!(moments(&mut client), [100]);
    clock.advance(60_000);
    settle(&broker, &clock);
    assert_eq!(client.ready("q"), 1);
    clock.advance(501);
    let started = Instant::now();
    while client.ready("q") > 0 {
        assert!(started.elapsed() < PATIENCE, "it does not expire");
    }
    let missing = ScheduleSpec { exchange: exchange("nobody's"), ..spec };
    let error = broker.broker().set_schedule(&root(), missing).unwrap_err().to_string();
    assert_eq!(error, "schedule 'tick': there is no exchange 'nobody's' in vhost '/': declare it first");
}

#[test]
fn what_was_missed_while_the_broker_was_down_is_made_up_for_as_the_schedule_says() {
    for (missed, wanted) in [
        (Missed::Skip, &[40, 280][..]),
        (Missed::Once, &[40, 220, 280]),
        (Missed::All, &[40, 100, 160, 220, 280]),
    ] {
        let (mut broker, clock) = broker();
        let mut client = broker.session();
        client.declare("q", "d");
        set(&broker, spec("* * * * *", missed));
        clock.advance(45_000);
        settle(&broker, &clock);
        drop(client);
        broker.reopen_after(|| clock.advance(200_000));
        settle(&broker, &clock);
        clock.advance(40_000);
        settle(&broker, &clock);
        assert_eq!(moments(&mut broker.session()), wanted, "{missed}");
    }
}

#[test]
fn what_was_missed_while_the_store_was_full_is_made_up_for_as_the_schedule_says() {
    for (missed, wanted) in
        [(Missed::Skip, &[220][..]), (Missed::Once, &[160, 220]), (Missed::All, &[40, 100, 160, 220])]
    {
        let (fs, clock) = (FakeFs::new(1), Clock::fake(BEGIN_MS));
        let broker = with_options(&fs, BrokerOptions { clock: clock.clone(), ..options() });
        let mut client = broker.session();
        client.declare("q", "d");
        set(&broker, spec("* * * * *", missed));
        fs.set_capacity_bytes(Some(fs.used_bytes() + (300 << 10)));
        fill(&mut client);
        clock.advance(200_000);
        settle(&broker, &clock);
        fs.set_capacity_bytes(None);
        block_on(|cx| client.session.poll_publish_ready(cx));
        client.drain("q");
        clock.advance(1000);
        settle(&broker, &clock);
        clock.advance(40_000);
        settle(&broker, &clock);
        assert_eq!(moments(&mut client), wanted, "{missed}");
    }
}

#[test]
fn a_pause_leaves_out_what_comes_meanwhile_and_outlasts_a_restart() {
    let (mut broker, clock) = broker();
    let mut client = broker.session();
    client.declare("q", "d");
    set(&broker, spec("* * * * *", Missed::All));
    let pause = |broker: &TestBroker, paused| {
        broker.broker().pause_schedule(&root(), "tick", paused).unwrap().wait().unwrap();
    };
    pause(&broker, true);
    assert_eq!(info(&broker).next_ms, None);
    clock.advance(100_000);
    drop(client);
    broker.reopen_after(|| clock.advance(100_000));
    assert!(info(&broker).paused);
    pause(&broker, false);
    clock.advance(60_000);
    settle(&broker, &clock);
    assert_eq!(moments(&mut broker.session()), [220]);
}

#[test]
fn the_same_again_changes_nothing_and_another_time_counts_from_now_on() {
    let (mut broker, clock) = broker();
    let mut client = broker.session();
    client.declare("q", "d");
    let mut spec = spec("* * * * *", Missed::All);
    spec.properties.headers.push("number", 5);
    assert!(set(&broker, spec.clone()));
    assert!(!set(&broker, spec.clone()));
    drop(client);
    broker.reopen();
    assert!(!set(&broker, spec.clone()), "read back as it was written");
    clock.advance(40_000);
    settle(&broker, &clock);
    assert!(set(&broker, ScheduleSpec { body: b"other"[..].into(), ..spec.clone() }));
    assert!(set(&broker, ScheduleSpec { cron: "@hourly".into(), ..spec }));
    assert_eq!(info(&broker).next_ms, Some(BEGIN_MS + 2_800_000));
    broker.broker().remove_schedule(&root(), "tick").unwrap().wait().unwrap();
    let error = broker.broker().remove_schedule(&root(), "tick").unwrap_err().to_string();
    assert_eq!(error, "no schedule 'tick' in vhost '/'");
    broker.reopen_after(|| clock.advance(4_000_000));
    assert!(broker.broker().list_schedules(&root()).unwrap().is_empty());
    assert_eq!(moments(&mut broker.session()), [40]);
}

#[test]
fn what_is_no_schedule_is_refused() {
    let (broker, _) = broker();
    let good = spec("* * * * *", Missed::Once);
    for (bad, wanted) in [
        (ScheduleSpec { name: "".into(), ..good.clone() }, "cannot be the name"),
        (ScheduleSpec { cron: "* * *".into(), ..good.clone() }, "no cron expression"),
        (ScheduleSpec { zone: "Mars/Base".into(), ..good.clone() }, "there is no time zone 'Mars/Base'"),
        (ScheduleSpec { routing_key: vec![b'k'; 256].into(), ..good.clone() }, "256 bytes is over 255"),
        (ScheduleSpec { body: vec![0; (1 << 20) + 1].into(), ..good.clone() }, "is over 1048576"),
        (
            ScheduleSpec {
                properties: Properties { message_id: Some("m".repeat(256).into()), ..Properties::default() },
                ..good
            },
            "message-id",
        ),
    ] {
        let error = broker.broker().set_schedule(&root(), bad).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let nowhere = VhostName::new("nowhere").unwrap();
    assert!(broker.broker().list_schedules(&nowhere).is_err());
}

#[test]
fn schedules_go_with_their_vhost() {
    let (mut broker, clock) = broker();
    let vhost = VhostName::new("team").unwrap();
    let add = |broker: &TestBroker| {
        let spec = VhostSpec::new(vhost.clone());
        broker.broker().set_vhost(&spec).unwrap().1.wait().unwrap();
    };
    add(&broker);
    let (_, saved) = broker.broker().set_schedule(&vhost, spec("* * * * *", Missed::All)).unwrap();
    saved.wait().unwrap();
    broker.broker().delete_vhost(&vhost).unwrap().wait().unwrap();
    add(&broker);
    clock.advance(100_000);
    broker.reopen();
    assert!(broker.broker().list_schedules(&vhost).unwrap().is_empty());
}

#[test]
fn in_random_histories_every_moment_has_its_message_once() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut broker, clock) = broker();
        let mut client = broker.session();
        client.declare("q", "d");
        set(&broker, spec("*/7 * * * * *", Missed::All));
        let mut paused = false;
        let mut wanted = BTreeSet::new();
        let every = millpond_calendar::Calendar::new("*/7 * * * * *", "UTC").unwrap();
        for _ in 0..80 {
            let from_ms = clock.now_ms();
            let by_ms = random.random_range(1..30_000);
            match random.random_range(0..10) {
                0..6 => clock.advance(by_ms),
                6..8 => {
                    drop(client);
                    broker.reopen_after(|| clock.advance(by_ms));
                    client = broker.session();
                }
                _ => {
                    paused = !paused;
                    broker.broker().pause_schedule(&root(), "tick", paused).unwrap().wait().unwrap();
                }
            }
            settle(&broker, &clock);
            let moments = std::iter::successors(every.next_after(from_ms), |at| every.next_after(*at));
            let passed = moments.take_while(|at| *at <= clock.now_ms() && !paused);
            wanted.extend(passed.map(|at| (at - BEGIN_MS) / 1000));
        }
        assert!(moments(&mut client).iter().eq(&wanted), "seed {seed}");
    }
}
