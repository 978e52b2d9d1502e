//! Single active consumers, leases, paces and delayed retries, with a clock that is turned by hand.

use crate::support::*;
use millpond_broker::*;
use millpond_model::VhostName;
use millpond_model::table::Value;
use std::task::{Context, Waker};

struct Timed {
    broker: TestBroker,
    clock: Clock,
}

impl Timed {
    fn new() -> Self {
        let clock = Clock::fake(1_000_000);
        Self { broker: TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() }), clock }
    }

    fn figures(&self, name: &str) -> QueueFigures {
        self.broker.broker().queue_figures(&VhostName::new("/").unwrap(), &queue(name)).unwrap()
    }
}

fn declare(client: &mut Client, name: &str, with: &[(&str, Value)]) {
    let request = DeclareQueue { arguments: arguments(with), ..queue_request(name, "d") };
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
}

fn consume(
    client: &mut Client,
    name: &str,
    cookie: u64,
    prefetch: u32,
    with: &[(&str, Value)],
) -> ConsumerId {
    let request = ConsumeRequest { prefetch, arguments: arguments(with), ..consume_request(name, cookie) };
    client.session.consume(request).unwrap()
}

/// Waits for the end of leases; how many.
fn leases_ended(client: &mut Client) -> u64 {
    loop {
        let found = client.events.iter().position(|it| matches!(it, SessionEvent::LeasesEnded { .. }));
        if let Some(at) = found {
            let SessionEvent::LeasesEnded { seqs, .. } = client.events.remove(at) else { unreachable!() };
            return seqs.iter().map(|range| range.end - range.start).sum();
        }
        client.wait_events();
    }
}

#[test]
fn one_consumer_is_active_and_the_next_follows() {
    let timed = Timed::new();
    let (mut first, mut second) = (timed.broker.session(), timed.broker.session());
    declare(&mut first, "q", &[("x-single-active-consumer", Value::Bool(true))]);
    let active = consume(&mut first, "q", 1, 0, &[]);
    consume(&mut second, "q", 2, 0, &[]);
    first.publish("", "q", &["a", "b"]);
    assert_eq!(bodies(&first.deliveries(2)), ["a", "b"]);
    let states: Vec<_> = timed.figures("q").consumers.iter().map(|it| (it.active, it.unacked)).collect();
    assert_eq!(states, [(true, 2), (false, 0)]);
    first.session.cancel(active);
    first.publish("", "q", &["c"]);
    assert_eq!(bodies(&second.deliveries(1)), ["c"]);
    drop(first);
    let again = second.deliveries(2);
    assert_eq!(bodies(&again), ["a", "b"]);
    assert!(again.iter().all(|seen| seen.redelivered));
}

#[test]
fn nobody_consumes_exclusively_where_one_is_active() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    declare(&mut client, "q", &[("x-single-active-consumer", Value::Bool(true))]);
    let request = ConsumeRequest { exclusive: true, ..consume_request("q", 1) };
    assert!(matches!(client.session.consume(request), Err(ConsumeError::ExclusiveUse { .. })));
}

#[test]
fn a_lease_that_ends_gives_the_message_to_another_and_its_late_ack_is_nothing() {
    let timed = Timed::new();
    let (mut slow, mut quick) = (timed.broker.session(), timed.broker.session());
    declare(&mut slow, "q", &[]);
    consume(&mut slow, "q", 1, 1, &[("x-consumer-timeout", Value::I32(500))]);
    slow.publish("", "q", &["a"]);
    let held = slow.deliveries(1);
    consume(&mut quick, "q", 2, 0, &[]);
    timed.clock.advance(499);
    slow.publish("", "q", &["b"]);
    assert_eq!(bodies(&quick.deliveries(1)), ["b"]);
    timed.clock.advance(1);
    assert_eq!(leases_ended(&mut slow), 1);
    let again = quick.deliveries(1);
    assert_eq!((again[0].body.as_str(), again[0].redelivered), ("a", true));
    slow.settle(&held, Outcome::Accept);
    assert_eq!(timed.figures("q").unacked, 2);
    quick.settle(&again, Outcome::Accept);
    assert_eq!(timed.figures("q").unacked, 1);
}

#[test]
fn a_renewed_lease_begins_anew() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    declare(&mut client, "q", &[("x-consumer-timeout", Value::I32(500))]);
    client.publish("", "q", &["a", "b"]);
    let got: Vec<_> = (0..2).map(|_| client.get("q", false).unwrap()).collect();
    timed.clock.advance(400);
    client.session.renew(&[DeliveryId { queue: got[0].queue, seq: got[0].delivery.seq }]);
    timed.clock.advance(100);
    assert_eq!(leases_ended(&mut client), 1);
    assert_eq!(timed.figures("q").unacked, 1);
    timed.clock.advance(400);
    assert_eq!(leases_ended(&mut client), 1);
    assert_eq!((timed.figures("q").ready, timed.figures("q").unacked), (2, 0));
}

#[test]
fn leases_that_end_too_often_end_in_the_dead_letter_queue() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    declare(&mut client, "dead", &[]);
    declare(
        &mut client,
        "q",
        &[
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "dead".into()),
            ("x-delivery-limit", Value::I32(1)),
            ("x-consumer-timeout", Value::I32(100)),
        ],
    );
    consume(&mut client, "q", 1, 1, &[]);
    client.publish("", "q", &["a"]);
    for redelivered in [false, true] {
        let seen = client.deliveries(1);
        assert_eq!((seen[0].body.as_str(), seen[0].redelivered), ("a", redelivered));
        timed.clock.advance(100);
        assert_eq!(leases_ended(&mut client), 1);
    }
    consume(&mut client, "dead", 2, 0, &[]);
    assert_eq!(bodies(&client.deliveries(1)), ["a"]);
}

#[test]
fn a_consumer_gets_messages_at_its_pace_and_the_figures_say_so() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    declare(&mut client, "q", &[]);
    let with = [("x-rate", Value::I32(10)), ("x-rate-window", Value::I32(500))];
    let consumer = consume(&mut client, "q", 1, 0, &with);
    client.publish("", "q", &["a", "b", "c", "d", "e", "f", "g", "h"]);
    assert_eq!(bodies(&client.deliveries(1)), ["a"]);
    for wanted in ["b", "c"] {
        timed.clock.advance(100);
        assert_eq!(bodies(&client.deliveries(1)), [wanted]);
    }
    let figures = timed.figures("q");
    assert_eq!((figures.ready, figures.promised_per_s, figures.drain_ms), (5, Some(10.0), Some(500)));
    client.session.change_consumer(consumer, &arguments(&[("x-rate", Value::F64(0.5))])).unwrap();
    timed.clock.advance(100);
    assert_eq!(bodies(&client.deliveries(1)), ["d"]);
    timed.clock.advance(1999);
    assert_eq!(timed.figures("q").ready, 4);
    let changed = timed.broker.broker().change_consumers(
        &VhostName::new("/").unwrap(),
        ConsumersMeant { queue: Some(&queue("q")), tag: Some("tag"), ..ConsumersMeant::default() },
        &ConsumerChange {
            arguments: arguments(&[("x-rate", Value::I32(1000))]),
            ..ConsumerChange::default()
        },
    );
    assert_eq!(changed.unwrap(), 1);
    timed.clock.advance(1);
    assert_eq!(bodies(&client.deliveries(1)), ["e"]);
    let pace = timed.figures("q").consumers[0].pace.unwrap();
    assert_eq!((pace.promised_per_s, pace.window_ms), (1000.0, 1000));
}

#[test]
fn a_queues_pace_is_shared_by_its_consumers() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    declare(&mut client, "q", &[("x-rate", Value::I32(10))]);
    consume(&mut client, "q", 1, 0, &[]);
    consume(&mut client, "q", 2, 0, &[]);
    client.publish("", "q", &["a", "b", "c", "d"]);
    assert_eq!(client.deliveries(1).len(), 1);
    for _ in 0..3 {
        assert_eq!(client.take_deliveries().len(), 0);
        timed.clock.advance(100);
        assert_eq!(client.deliveries(1).len(), 1);
    }
}

#[test]
fn what_is_rejected_waits_out_its_delay_and_blocks_nobody() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    let with = [
        ("x-delayed-retry-type", "all".into()),
        ("x-delayed-retry-min", Value::I32(100)),
        ("x-delayed-retry-max", Value::I32(1000)),
        ("x-delayed-retry-backoff", "exponential".into()),
    ];
    declare(&mut client, "q", &with);
    consume(&mut client, "q", 1, 1, &[]);
    client.publish("", "q", &["a", "b"]);
    let a = client.deliveries(1);
    client.settle(&a, Outcome::Fail);
    let b = client.deliveries(1);
    assert_eq!(bodies(&b), ["b"]);
    client.settle(&b, Outcome::Accept);
    for delay_ms in [100, 200, 400, 800, 1000, 1000] {
        assert_eq!((timed.figures("q").waiting, timed.figures("q").ready), (1, 0));
        timed.clock.advance(delay_ms - 1);
        assert_eq!(timed.figures("q").waiting, 1);
        timed.clock.advance(1);
        let again = client.deliveries(1);
        assert_eq!((again[0].body.as_str(), again[0].redelivered), ("a", true));
        client.settle(&again, Outcome::Requeue);
    }
    assert_eq!(client.session.purge_queue(&queue("q")).unwrap().0, 1);
    assert_eq!(timed.figures("q").waiting, 0);
}

#[test]
fn a_delivery_given_back_for_a_time_waits_as_long_as_it_says_whatever_the_queue_says() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    declare(&mut client, "plain", &[]);
    let with = [
        ("x-delayed-retry-type", "all".into()),
        ("x-delayed-retry-min", Value::I32(60_000)),
        ("x-max-priority", Value::I32(3)),
        ("x-group-by", "property:app-id".into()),
    ];
    declare(&mut client, "own", &with);
    for name in ["plain", "own"] {
        let consumer = consume(&mut client, name, 1, 1, &[]);
        client.publish("", name, &["a", "b"]);
        let a = client.deliveries(1);
        client.settle(&a, Outcome::Retry { delay_ms: 250 });
        let b = client.deliveries(1);
        assert_eq!(bodies(&b), ["b"], "{name}: nobody waits behind it");
        client.settle(&b, Outcome::Accept);
        assert_eq!((timed.figures(name).waiting, timed.figures(name).ready), (1, 0));
        timed.clock.advance(249);
        assert_eq!(timed.figures(name).waiting, 1);
        timed.clock.advance(1);
        let again = client.deliveries(1);
        assert_eq!((again[0].body.as_str(), again[0].redelivered), ("a", true));
        client.settle(&again, Outcome::Retry { delay_ms: 86_400_000 });
        assert_eq!(timed.figures(name).waiting, 1);
        assert_eq!(client.session.purge_queue(&queue(name)).unwrap().0, 1);
        client.session.cancel(consumer);
    }
    // Of no time: at once.
    consume(&mut client, "plain", 1, 1, &[]);
    client.publish("", "plain", &["c"]);
    let c = client.deliveries(1);
    client.settle(&c, Outcome::Retry { delay_ms: 0 });
    assert!(client.deliveries(1)[0].redelivered);
}

#[test]
fn bad_arguments_are_refused_with_their_names() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    declare(&mut client, "q", &[]);
    for (with, wanted) in [
        (vec![("x-rate", Value::I32(0))], "x-rate"),
        (vec![("x-rate", Value::from("ten"))], "x-rate"),
        (vec![("x-rate-window", Value::I32(1000))], "x-rate-window"),
        (vec![("x-rate", Value::I32(1)), ("x-rate-window", Value::I32(1))], "x-rate-window"),
        (vec![("x-consumer-timeout", Value::from("1s"))], "x-consumer-timeout"),
        (vec![("x-consumer-timeout", Value::I32(-1))], "x-consumer-timeout"),
    ] {
        let request = ConsumeRequest { arguments: arguments(&with), ..consume_request("q", 1) };
        let error = client.session.consume(request).unwrap_err();
        assert!(
            matches!(&error, ConsumeError::BadArgument { argument, .. } if argument == wanted),
            "{error}"
        );
    }
    let kind = ("x-delayed-retry-type", Value::from("all"));
    let exponential = ("x-delayed-retry-backoff", Value::from("exponential"));
    let (min, less) = (("x-delayed-retry-min", Value::I32(10)), ("x-delayed-retry-max", Value::I32(5)));
    for with in [
        vec![kind.clone()],
        vec![kind.clone(), min.clone(), less],
        vec![kind.clone(), min, exponential],
        vec![("x-delayed-retry-type", Value::from("some"))],
        vec![("x-delayed-retry-jitter", Value::I32(101))],
        vec![("x-rate", Value::Bool(true))],
    ] {
        let request = DeclareQueue { arguments: arguments(&with), ..queue_request("bad", "") };
        assert!(client.session.declare_queue(&request).is_err(), "{with:?}");
    }
}

#[test]
fn publishers_are_held_to_the_rate_of_their_queue() {
    let timed = Timed::new();
    let (mut fast, mut other) = (timed.broker.session(), timed.broker.session());
    declare(&mut fast, "q", &[("x-publish-rate", Value::I32(10))]);
    declare(&mut fast, "free", &[]);
    let ready = |client: &mut Client| {
        client.session.poll_publish_ready(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    fast.publish("", "q", &["x"; 5]);
    assert!(ready(&mut fast), "nothing came in the second before");
    fast.publish("", "q", &["x"; 25]);
    assert!(!ready(&mut fast), "two seconds ahead");
    other.publish("", "free", &["x"; 1000]);
    assert!(ready(&mut other), "another queue");
    other.publish("", "q", &["x"]);
    assert!(!ready(&mut other), "the rate is for all publishers together");
    assert_eq!(timed.figures("q").publish_rate_per_s, Some(10.0));
    timed.clock.advance(2000);
    assert!(!ready(&mut fast));
    timed.clock.advance(100);
    block_on(|cx| fast.session.poll_publish_ready(cx));
    assert!(ready(&mut other));
    let unmoved = timed.figures("q");
    assert_eq!((unmoved.ready, unmoved.promised_per_s), (31, None), "deliveries are not paced");
}

#[test]
fn a_publisher_that_waits_is_woken_when_its_moment_comes_or_the_rate_is_lifted() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    declare(&mut client, "q", &[]);
    let (vhost, name) = (VhostName::new("/").unwrap(), queue("q"));
    let alter = |value: Value| {
        let changes = arguments(&[("x-publish-rate", value)]);
        drop(timed.broker.broker().alter_queue(&vhost, &name, &changes).unwrap());
    };
    alter(Value::F64(0.5));
    client.publish("", "q", &["x"; 3]);
    let clock = timed.clock.clone();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| block_on(|cx| client.session.poll_publish_ready(cx)));
        while !waits.is_finished() {
            clock.advance(500);
            std::thread::yield_now();
        }
    });
    client.publish("", "q", &["x"; 100_000]);
    std::thread::scope(|scope| {
        scope.spawn(|| block_on(|cx| client.session.poll_publish_ready(cx)));
        alter(Value::Void);
    });
    assert_eq!(timed.figures("q").publish_rate_per_s, None);
}

#[test]
fn a_publish_rate_is_a_number_above_nothing() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    for (value, reason) in [
        (Value::I32(0), "value 0 is not within 0.001..=1000000 messages a second"),
        (Value::F64(f64::NAN), "value NaN is not within 0.001..=1000000 messages a second"),
        (Value::from("ten"), "unacceptable type longstr: a number of messages a second is needed"),
    ] {
        let request =
            DeclareQueue { arguments: arguments(&[("x-publish-rate", value)]), ..queue_request("q", "d") };
        let error = client.session.declare_queue(&request).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn what_a_commit_settles_may_wait_a_time_of_its_own() {
    let timed = Timed::new();
    let mut client = timed.broker.session();
    declare(&mut client, "q", &[]);
    consume(&mut client, "q", 1, 3, &[]);
    client.publish("", "q", &["a", "b", "c"]);
    let seen = client.deliveries(3);
    let outcomes = [Outcome::Retry { delay_ms: 500 }, Outcome::Accept, Outcome::Retry { delay_ms: 250 }];
    let settles: Vec<_> = seen.iter().map(|seen| seen.id).zip(outcomes).collect();
    let durability = client.session.transact(&mut Vec::new(), &settles, &[]).unwrap();
    client.wait_commit(durability);
    let figures = timed.figures("q");
    assert_eq!((figures.ready, figures.waiting, figures.unacked), (0, 2, 0));
    timed.clock.advance(250);
    assert_eq!(bodies(&client.deliveries(1)), ["c"]);
    timed.clock.advance(250);
    assert_eq!(bodies(&client.deliveries(1)), ["a"]);
}
