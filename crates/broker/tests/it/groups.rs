//! Message groups: what has the same value of a header or property goes in order to one consumer at a time.

use crate::support::*;
use millpond_broker::*;
use millpond_model::VhostName;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};

fn declare(client: &mut Client, name: &str, with: &[(&str, Value)]) {
    let request = DeclareQueue { arguments: arguments(with), ..queue_request(name, "d") };
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
}

fn by_customer() -> (&'static str, Value) {
    ("x-group-by", "customer".into())
}

fn of(customer: &str) -> Properties {
    let headers: Table = [("customer", Value::from(customer))].into_iter().collect();
    Properties { headers, ..persistent() }
}

/// Publishes bodies such as `a1`: the letter is the customer, `-` none.
fn publish(client: &mut Client, name: &str, names: &[&str]) {
    for body in names {
        let properties = if body.starts_with('-') { persistent() } else { of(&body[..1]) };
        let durability = client.publish_with("", name, &[body], &properties);
        client.wait_commit(durability);
    }
}

fn consume(client: &mut Client, name: &str, prefetch: u32) -> ConsumerId {
    client.session.consume(ConsumeRequest { prefetch, ..consume_request(name, 1) }).unwrap()
}

fn figures(broker: &TestBroker, name: &str) -> QueueFigures {
    broker.broker().queue_figures(&VhostName::new("/").unwrap(), &queue(name)).unwrap()
}

#[test]
fn a_group_goes_in_order_to_one_consumer_while_others_flow() {
    let broker = TestBroker::new();
    let (mut first, mut second) = (broker.session(), broker.session());
    declare(&mut first, "q", &[by_customer()]);
    publish(&mut first, "q", &["a1", "a2", "b1", "-1", "a3", "b2"]);
    consume(&mut first, "q", 1);
    consume(&mut second, "q", 0);
    let a1 = first.deliveries(1);
    assert_eq!(bodies(&a1), ["a1"]);
    let others = second.deliveries(3);
    assert_eq!(bodies(&others), ["b1", "-1", "b2"]);
    let groups = figures(&broker, "q").groups.unwrap();
    assert_eq!((groups.in_use, groups.looked_at), (2, 2));
    first.settle(&a1, Outcome::Accept);
    second.settle(&others, Outcome::Accept);
    let mut rest = first.take_deliveries();
    rest.extend(second.deliveries(2 - rest.len()));
    assert_eq!(bodies(&rest), ["a2", "a3"]);
}

#[test]
fn a_session_that_dies_hands_its_groups_over_in_order() {
    let broker = TestBroker::new();
    let (mut first, mut second) = (broker.session(), broker.session());
    declare(&mut first, "q", &[by_customer()]);
    consume(&mut first, "q", 2);
    publish(&mut first, "q", &["a1", "a2", "a3"]);
    assert_eq!(bodies(&first.deliveries(2)), ["a1", "a2"]);
    consume(&mut second, "q", 0);
    publish(&mut second, "q", &["b1"]);
    assert_eq!(bodies(&second.deliveries(1)), ["b1"]);
    drop(first);
    let rest = second.deliveries(3);
    assert_eq!(bodies(&rest), ["a1", "a2", "a3"]);
    assert_eq!(rest.iter().map(|seen| seen.redelivered).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn a_get_takes_what_nobody_is_at() {
    let broker = TestBroker::new();
    let (mut first, mut second) = (broker.session(), broker.session());
    declare(&mut first, "q", &[by_customer()]);
    publish(&mut first, "q", &["a1", "a2", "b1"]);
    let a1 = first.get("q", false).unwrap();
    let b1 = second.get("q", false).unwrap();
    assert_eq!((a1.delivery.message.body(), b1.delivery.message.body()), (&b"a1"[..], &b"b1"[..]));
    assert_eq!(b1.ready, 1);
    assert!(second.get("q", false).is_none());
    assert_eq!(first.get("q", false).unwrap().delivery.message.body(), b"a2");
}

/// A backlog that is on disk, read back while a group is blocked, also after a restart.
#[test]
fn groups_hold_over_a_backlog_on_disk_and_over_a_restart() {
    let mut broker = TestBroker::paging(options());
    let mut client = broker.session();
    declare(&mut client, "q", &[by_customer()]);
    let filler = "x".repeat(500);
    let names: Vec<String> =
        (0..200).map(|n| format!("{}{n} {filler}", ["a", "b", "c", "-"][n % 4])).collect();
    publish(&mut client, "q", &names.iter().map(String::as_str).collect::<Vec<_>>());
    consume(&mut client, "q", 30);
    assert!(client.deliveries(1)[0].body.starts_with("a0 "));
    drop(client);
    broker.reopen();
    let (mut slow, mut quick) = (broker.session(), broker.session());
    consume(&mut slow, "q", 1);
    let held = slow.deliveries(1);
    assert!(held[0].body.starts_with("a0 "), "{}", held[0].body);
    consume(&mut quick, "q", 20);
    let others = settled(&mut quick, 150);
    assert!(others.iter().eq(names.iter().filter(|name| !name.starts_with('a'))), "{others:?}");
    assert_eq!(figures(&broker, "q").ready, 49);
    slow.settle(&held, Outcome::Accept);
    drop(slow);
    let rest = settled(&mut quick, 49);
    assert!(rest.iter().eq(names.iter().filter(|name| name.starts_with('a')).skip(1)), "{rest:?}");
    assert_eq!(figures(&broker, "q").unacked, 0);
}

/// The bodies of so many deliveries, each settled when it came.
fn settled(client: &mut Client, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    while got.len() < count {
        let some = client.deliveries(1);
        got.extend(some.iter().map(|seen| seen.body.clone()));
        client.settle(&some, Outcome::Accept);
    }
    got
}

#[test]
fn what_has_expired_behind_a_blocked_group_is_dropped_where_it_is() {
    let clock = Clock::fake(1_000_000);
    let broker = TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() });
    let (mut first, mut second) = (broker.session(), broker.session());
    declare(
        &mut first,
        "q",
        &[by_customer(), ("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", "dead".into())],
    );
    declare(&mut first, "dead", &[]);
    consume(&mut first, "q", 1);
    publish(&mut first, "q", &["a1", "a2"]);
    let a1 = first.deliveries(1);
    let expiring = Properties { expiration: Some("500".into()), ..of("b") };
    let durability = first.publish_with("", "q", &["b1", "b2"], &expiring);
    first.wait_commit(durability);
    publish(&mut first, "q", &["b3"]);
    clock.advance(600);
    consume(&mut second, "q", 1);
    assert_eq!(bodies(&second.deliveries(1)), ["b3"]);
    first.settle(&a1, Outcome::Accept);
    assert_eq!(bodies(&first.deliveries(1)), ["a2"]);
    assert_eq!(first.drain("dead"), ["b1", "b2"]);
}

#[test]
fn what_a_limit_pushes_out_makes_room_in_the_window() {
    let broker = TestBroker::new();
    let (mut first, mut second) = (broker.session(), broker.session());
    let terms = [by_customer(), ("x-group-window", Value::I32(2)), ("x-max-length", Value::I32(4))];
    declare(&mut first, "q", &terms);
    consume(&mut first, "q", 1);
    consume(&mut second, "q", 1);
    publish(&mut first, "q", &["a1"]);
    let mut seen = first.take_deliveries();
    seen.extend(second.take_deliveries());
    assert_eq!(bodies(&seen), ["a1"]);
    publish(&mut first, "q", &["a2", "a3", "a4", "b1"]);
    assert_eq!(figures(&broker, "q").groups.unwrap().looked_at, 2);
    publish(&mut first, "q", &["a5"]);
    assert_eq!(figures(&broker, "q").unacked, 1);
    // a2 and then a3 are pushed out: b1 comes into the window of two.
    publish(&mut first, "q", &["a6"]);
    let mut other = first.take_deliveries();
    other.extend(second.take_deliveries());
    assert_eq!(bodies(&other), ["b1"]);
}

/// A queue that looks at one message ahead, which is of a group that `getter` is at; another is behind it.
fn with_a_full_window(getter: &mut Client, name: &str) {
    declare(getter, name, &[by_customer(), ("x-group-window", Value::I32(1))]);
    publish(getter, name, &["b1", "b2", "c1"]);
    assert_eq!(getter.get(name, false).unwrap().delivery.message.body(), b"b1");
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_get_that_makes_room_in_the_window_wakes_whoever_is_given_what_follows() {
    let broker = TestBroker::new();
    let (mut consumer, mut getter) = (broker.session(), broker.session());
    with_a_full_window(&mut getter, "q");
    consume(&mut consumer, "q", 0);
    let woken = Arc::new(Flag(AtomicBool::new(false)));
    let waker = woken.clone().into();
    assert!(
        consumer.session.poll_events(&mut Context::from_waker(&waker), &mut consumer.events).is_pending()
    );
    assert_eq!(getter.get("q", false).unwrap().delivery.message.body(), b"b2");
    assert!(woken.0.load(Ordering::SeqCst));
    assert_eq!(bodies(&consumer.deliveries(1)), ["c1"]);
}

#[test]
fn a_move_that_makes_room_in_the_window_begins_the_lease_of_what_follows() {
    let clock = Clock::fake(1_000_000);
    let broker = TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() });
    let (mut consumer, mut getter) = (broker.session(), broker.session());
    with_a_full_window(&mut getter, "q");
    declare(&mut getter, "other", &[]);
    let lease = arguments(&[("x-consumer-timeout", Value::I32(500))]);
    let request = ConsumeRequest { arguments: lease, ..consume_request("q", 1) };
    consumer.session.consume(request).unwrap();
    let request = TransferRequest {
        to_vhost: None,
        from: queue("q"),
        to: TransferTo::Queue(queue("other")),
        of: TransferOf::Ready,
        keep: false,
        filter: MessageFilter::default(),
        limit: Some(1),
        dry_run: false,
    };
    assert_eq!(transfer(&broker, request).moved_count(), 1);
    assert_eq!(bodies(&consumer.deliveries(1)), ["c1"]);
    clock.advance(500);
    while !consumer.events.iter().any(|event| matches!(event, SessionEvent::LeasesEnded { .. })) {
        consumer.wait_events();
    }
}

#[test]
fn a_policy_groups_a_queue_that_is_in_use_and_lets_go_of_it() {
    let broker = TestBroker::new();
    let (mut first, mut second) = (broker.session(), broker.session());
    declare(&mut first, "q", &[]);
    let root = VhostName::new("/").unwrap();
    let alter = |value: Value| {
        let changes = arguments(&[("x-group-by", value)]);
        broker.broker().alter_queue(&root, &queue("q"), &changes).unwrap().wait().unwrap();
    };
    publish(&mut first, "q", &["a1", "a2", "b1"]);
    alter("header:customer".into());
    consume(&mut first, "q", 1);
    consume(&mut second, "q", 0);
    let a1 = first.deliveries(1);
    assert_eq!((bodies(&a1), bodies(&second.deliveries(1))), (vec!["a1"], vec!["b1"]));
    assert_eq!(figures(&broker, "q").ready, 1);
    alter(Value::Void);
    assert_eq!(bodies(&second.deliveries(1)), ["a2"]);
    assert_eq!(figures(&broker, "q").groups, None);
}

#[test]
fn another_window_leaves_a_group_where_it_is() {
    let broker = TestBroker::new();
    let (mut first, mut second) = (broker.session(), broker.session());
    declare(&mut first, "q", &[by_customer()]);
    publish(&mut first, "q", &["a1", "a2", "a3", "b1"]);
    consume(&mut first, "q", 1);
    let a1 = first.deliveries(1);
    for window in [3, 1, 100] {
        let changes = arguments(&[("x-group-window", Value::I32(window))]);
        broker
            .broker()
            .alter_queue(&VhostName::new("/").unwrap(), &queue("q"), &changes)
            .unwrap()
            .wait()
            .unwrap();
        let groups = figures(&broker, "q").groups.unwrap();
        assert_eq!((groups.in_use, groups.window), (1, window as u64));
        assert!(groups.looked_at <= groups.window, "{groups:?}");
    }
    consume(&mut second, "q", 0);
    assert_eq!(bodies(&second.deliveries(1)), ["b1"]);
    assert_eq!(figures(&broker, "q").ready, 2);
    first.settle(&a1, Outcome::Accept);
    drop(first);
    assert_eq!(settled(&mut second, 2), ["a2", "a3"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    let table = [
        (vec![("x-group-by", Value::from("user-id"))], "header or a property"),
        (vec![("x-group-by", Value::from("property:colour"))], "is not message-id"),
        (vec![("x-group-by", Value::I32(1))], "longstr"),
        (vec![by_customer(), ("x-group-window", Value::I32(0))], "not within 1..="),
        (vec![by_customer(), ("x-queue-type", "stream".into())], "not supported by streams"),
    ];
    for (with, wanted) in table {
        let request = DeclareQueue { arguments: arguments(&with), ..queue_request("q", "d") };
        let refused = client.session.declare_queue(&request).unwrap_err().to_string();
        assert!(refused.contains(wanted), "{refused}");
    }
}
